"""Sentences of tokens: the exact ids, whole files only, and a vocabulary cut down without any change."""

import hashlib
import io
import itertools
import os
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch

from subspace_lib import data
from subspace_lib.data import download, source, text
from subspace_lib.data.download import Download
from subspace_lib.data.text import ARCHIVE, NAMES, PIECES, SOURCES, VOCABULARY
from subspace_lib.experiment import Experiment
from subspace_lib.models.transformer import Transformer
from subspace_lib.objective import mse
from subspace_lib.parameters import InvalidParameter

HELD = Path(os.environ.get("SUBSPACE_DATA", "/nonexistent"))
needs_tokens = pytest.mark.skipif(
    not (HELD / "sst2_1k.npz").exists(), reason="needs SST2-1k in $SUBSPACE_DATA"
)


@pytest.fixture(scope="module")
def raw():
    with np.load(HELD / "sst2_1k.npz") as archive:
        return {name: archive[name] for name in archive.files}


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """A folder of one's own and an empty cache."""
    monkeypatch.setenv("SUBSPACE_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(source.platformdirs, "user_cache_path", lambda name: tmp_path / "cache")
    (tmp_path / "data").mkdir()
    return tmp_path


@needs_tokens
def test_tokens_are_the_files_ids_mapped_onto_those_that_occur(raw):
    found = data.load("sst2_1k")
    assert found.shape == data.shape("sst2_1k") == (66, 5821)
    assert [len(x) for x in (found.train_inputs, found.test_inputs)] == [1000, 872]
    ids = torch.from_numpy(raw["token_ids"].astype(np.int64))
    assert torch.equal(ids[found.train_inputs], torch.from_numpy(raw["x_train"].astype(np.int64)))
    padded = np.pad(raw["x_test"], ((0, 0), (0, 66 - raw["x_test"].shape[1])))
    glue = torch.from_numpy(padded.astype(np.int64)[np.argsort(raw["glue_val_row"])])
    assert torch.equal(ids[found.test_inputs], glue)
    # the first sentence, by its README
    words = raw["token_strings"][found.train_inputs[0, :10].numpy()]
    assert " ".join(words) == "[CLS] hide new secret ##ions from the parental units [SEP]"
    assert found.train_labels.bincount().tolist() == [458, 542]
    assert found.test_labels.bincount().tolist() == [428, 444]


@needs_tokens
def test_leaving_out_embedding_rows_that_do_not_occur_changes_nothing(raw):
    """Against all 30,522 rows, in float64: the same loss and gradient, zero on the rows left out."""
    compact, rows = data.load("sst2_1k"), slice(0, 40)
    torch.manual_seed(0)
    sizes = {"width": 4, "heads": 2, "hidden": 8}
    whole = Transformer(30_522, 66, 2, **sizes).double()
    part = Transformer(5821, 66, 2, **sizes).double()
    ids = torch.from_numpy(raw["token_ids"].astype(np.int64))
    state = whole.state_dict() | {"embedding.weight": whole.embedding.weight[ids]}
    part.load_state_dict(state)
    labels, tokens = compact.train_labels[rows], torch.from_numpy(raw["x_train"].astype(np.int64))
    losses = (
        mse(whole(tokens[rows]), labels),
        mse(part(compact.train_inputs[rows]), labels),
    )
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-13, atol=0)
    ours, theirs = (
        dict(
            zip(dict(m.named_parameters()), torch.autograd.grad(loss, m.parameters()), strict=True)
        )
        for m, loss in ((part, losses[1]), (whole, losses[0]))
    )
    full = theirs.pop("embedding.weight")
    short = ours.pop("embedding.weight")
    torch.testing.assert_close(full[ids], short, rtol=1e-11, atol=1e-15)
    assert short.abs().max() > 1e-4
    left = torch.ones(30_522, dtype=torch.bool)
    left[ids] = False
    assert int(left.sum()) == 30_522 - 5821 and not full[left].any()
    for name, gradient in theirs.items():
        torch.testing.assert_close(gradient, ours[name], rtol=1e-10, atol=1e-15)


def changed(**changes):
    return lambda raw: raw | {name: change(raw[name]) for name, change in changes.items()}


def set_at(place, value):
    def change(array):
        array = array.copy()
        array[place] = value
        return array

    return change


DAMAGES = {
    "ids as floats": (changed(x_train=lambda x: x.astype(np.float32)), "x_train, y_train"),
    "a mask of numbers": (changed(mask_test=lambda m: m.astype(np.int8)), "mask_test are"),
    "an id out of range": (changed(x_train=set_at((0, 1), 30_000)), "ids that token_ids lacks"),
    "a negative id": (changed(x_test=set_at((3, 1), -7)), "ids that token_ids lacks"),
    "a mask that is not the tokens'": (
        changed(mask_train=set_at((5, 0), False)),
        "mask_train is not True just where x_train has a token",
    ),
    "a row too few": (changed(x_train=lambda x: x[1:]), "x_train has the shape (999, 66)"),
    "too wide": (changed(x_train=lambda x: np.pad(x, ((0, 0), (0, 1)))), "(1000, 67)"),
    "one sentence": (changed(x_test=lambda x: x[0]), "x_test has the shape (55,)"),
    "labels too few": (changed(y_test=lambda y: y[:5]), "mask_test and y_test have the shapes"),
    "a third class": (changed(y_train=set_at(7, 2)), "labels other than 0 and 1"),
    "no order of the vocabulary": (changed(token_ids=lambda v: v[::-1]), "token_ids are not"),
    "no order of the test": (changed(glue_val_row=set_at(0, 1)), "glue_val_row is no order"),
    "another word": (changed(x_train=set_at((0, 1), 2047)), "its SHA-256 is"),
}


@needs_tokens
@pytest.mark.parametrize(("damage", "says"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_refused_in_one_sentence(raw, nowhere, damage, says):
    path = nowhere / "data" / "sst2_1k.npz"
    np.savez(path, **damage({name: raw[name] for name in (*NAMES, VOCABULARY)}))
    with pytest.raises(data.DataUnavailable) as error:
        data.load("sst2_1k")
    message = str(error.value)
    assert message.startswith(f"{path} is not the sst2_1k") and says in message
    assert "\n" not in message and "SUBSPACE_DATA" in message


@needs_tokens
@pytest.mark.parametrize("damage", ["truncated", "an array less", "objects"])
def test_a_file_that_cannot_be_read_is_refused_in_one_sentence(raw, nowhere, damage):
    path = nowhere / "data" / "sst2_1k.npz"
    arrays = {name: raw[name] for name in (*NAMES, VOCABULARY)}
    if damage == "an array less":
        del arrays["mask_test"]
    elif damage == "objects":
        arrays["y_test"] = arrays["y_test"].astype(object)
    np.savez(path, **arrays)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(data.DataUnavailable, match=r"sst2_1k.npz cannot be read .*intact copy\.$"):
        data.load("sst2_1k")


def test_no_file_and_no_network_is_one_sentence_that_says_what_to_do(nowhere, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr(download, "build_opener", refuse)
    with pytest.raises(data.DataUnavailable) as error:
        data.load("sst2_1k")
    message = str(error.value)
    assert (
        message.startswith("sst2_1k.npz is not on this machine and https://")
        and "\n" not in message
    )
    assert "SUBSPACE_DATA" in message and "dataset = 'sentences'" in message


class Files(BaseHTTPRequestHandler):
    """Serves what ``files`` has."""

    files: dict[str, bytes]

    def do_GET(self):
        self.send_response(200 if self.path in self.files else 404)
        self.end_headers()
        self.wfile.write(self.files.get(self.path, b""))

    def log_message(self, *args):
        pass


@pytest.fixture
def web(raw, nowhere, monkeypatch):
    """The GLUE archive and a vocabulary on a server of one's own, put together from the held files.

    The vocabulary has only the pieces that occur at their ids. A piece is the longest one that matches: as
    none of the others is chosen with them all there, they are not missed.
    """
    train = [line.rsplit("\t", 1) for line in _lines("glue_train.tsv")[:1000]]
    dev = [line.rsplit("\t", 1) for line in _lines("dev.tsv")]
    dev = [dev[i] for i in np.argsort(raw["glue_val_row"])]
    spelt = {"-lrb-": "(", "-rrb-": ")", "\\/": "/"}  # where dev.tsv is not GLUE's, by its README
    for row in dev:
        for ours, theirs in spelt.items():
            row[0] = row[0].replace(ours, theirs)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as members:
        for name, rows in (("train", train), ("dev", dev)):
            lines = ["sentence\tlabel", *(f"{said} \t{label}" for said, label in rows)]
            members.writestr(f"SST-2/{name}.tsv", "\n".join(lines) + "\n")
    pieces = [f"[unused{i}]" for i in range(30_522)]
    for i, piece in zip(raw["token_ids"], raw["token_strings"], strict=True):
        pieces[i] = str(piece)
    pieces[100] = "[UNK]"
    files = {"/SST-2.zip": archive.getvalue(), "/vocab.txt": "\n".join(pieces).encode() + b"\n"}
    handler = type("Own", (Files,), {"files": files})
    server = HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(download, "SCHEME", "http")
    for name, path in (("ARCHIVE", "/SST-2.zip"), ("PIECES", "/vocab.txt")):
        digest = hashlib.sha256(files[path]).hexdigest()
        monkeypatch.setattr(text, name, Download(address + path, digest))
    yield handler.files, nowhere
    server.shutdown()
    server.server_close()
    thread.join()


def _lines(name):
    return (HELD / "sst2" / name).read_text().split("\n")[:-1]


needs_texts = pytest.mark.skipif(
    not (HELD / "sst2" / "glue_train.tsv").exists(), reason="needs SST-2 in $SUBSPACE_DATA"
)


@needs_tokens
@needs_texts
def test_a_download_gives_the_same_tokens_and_is_kept(web, monkeypatch):
    _, nowhere = web
    found = data.load("sst2_1k")
    assert found.sha256 == data.sha256("sst2_1k")
    assert (nowhere / "cache" / "sst2_1k.npz").exists()
    monkeypatch.setattr(download, "build_opener", None)  # anything but the cache would fail now
    assert torch.equal(data.load("sst2_1k").train_inputs, found.train_inputs)


@needs_tokens
@needs_texts
def test_a_download_of_something_else_is_refused_before_it_is_unpacked(web, monkeypatch):
    files, nowhere = web
    monkeypatch.setattr(zipfile, "ZipFile", None)
    files["/SST-2.zip"] = files["/SST-2.zip"][:-1]
    with pytest.raises(data.DataUnavailable, match=r"SST-2.zip is not what it was: its SHA-256"):
        data.load("sst2_1k")
    del files["/SST-2.zip"]
    with pytest.raises(data.DataUnavailable, match=r"could not be downloaded \(HTTPError\)"):
        data.load("sst2_1k")
    assert not (nowhere / "cache" / "sst2_1k.npz").exists()


def test_downloads_are_by_https_and_checked():
    for wanted in (ARCHIVE, PIECES, *itertools.chain(*download.ARCHIVES.values())):
        assert wanted.url.startswith("https://") and len(wanted.sha256) == 64


def test_made_up_sentences_follow_their_rule():
    found, source = data.load("sentences"), SOURCES["sentences"]
    arrays, _ = text._sentences()
    words = sorted(
        {w for part in (text.SUBJECTS, text.VERBS, text.DEGREES) for p in part for w in p.split()}
        | {*text.POSITIVE, *text.NEGATIVE}
    )
    words = ["[PAD]", "[CLS]", "[SEP]", *words]
    assert len(words) == source.vocabulary
    seen = set()
    for tokens, label in zip(
        torch.cat([found.train_inputs, found.test_inputs]),
        torch.cat([found.train_labels, found.test_labels]),
        strict=True,
    ):
        said = [words[int(t)] for t in tokens if t]
        assert said[0] == "[CLS]" and said[-1] == "[SEP]"
        assert bool(label) == (said[-2] in text.POSITIVE)
        seen.add(tuple(said))
    assert len(seen) == source.samples + source.test_samples  # no sentence twice
    assert 0.4 < float(found.train_labels.double().mean()) < 0.6
    assert arrays["x_train"].shape == (120, 7)


@pytest.mark.parametrize("name", ["unit", "standardized", "per_pixel"])
def test_sentences_have_no_pixels(name):
    says = f"'{name}' is for images, and sentences has sentences of tokens; choose one of tokens"
    with pytest.raises(InvalidParameter, match=says):
        Experiment.parse(dataset="sentences", model="transformer_small", preprocessing=name)
    with pytest.raises(InvalidParameter, match="is for sentences of tokens, and digits has images"):
        Experiment.parse(dataset="digits", preprocessing="tokens")
