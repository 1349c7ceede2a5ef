"""Sentences of tokens, the same for everyone, checked by their SHA-256.

``sst2_1k`` is looked for in ``$SUBSPACE_DATA``, then in the user's cache, then downloaded as the GLUE
archive and tokenized with a WordPiece vocabulary. ``sentences`` are made by a rule and always there.

Token ids are mapped onto the entries of the vocabulary that occur. That is exact: rows of an embedding that
no token asks for have no gradient and no curvature, and change no output.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch

from subspace_lib.data import source as sources
from subspace_lib.data.dataset import Dataset, DataUnavailable
from subspace_lib.data.download import Download, fetch
from subspace_lib.data.source import Arrays

TOKENS = "tokens"  # the one preprocessing of sentences: none
PAD, SEPARATOR, START, UNKNOWN = "[PAD]", "[SEP]", "[CLS]", "[UNK]"
NAMES = ("x_train", "mask_train", "y_train", "x_test", "mask_test", "y_test", "glue_val_row")
VOCABULARY = "token_ids"


@dataclass(frozen=True)
class TextSource:
    """What a data set of sentences is.

    Attributes:
        file: its name in ``$SUBSPACE_DATA``; none where it is made.
        samples, test_samples: how many sentences; length: tokens in each, padding included.
        vocabulary: how many different tokens occur, padding included.
        sha256: digest of the arrays as they come out of ``load``.
    """

    file: str
    samples: int
    test_samples: int
    length: int
    vocabulary: int
    sha256: str
    classes: int = 2

    @property
    def shape(self) -> tuple[int, int]:
        """Of one sentence: (positions, vocabulary)."""
        return self.length, self.vocabulary

    @property
    def bytes(self) -> int:
        """At most of its arrays: eight a token and its mask, a vocabulary's pieces, and what is beside."""
        count = self.samples + self.test_samples
        return sources.SPARE + 8 * count * (2 + 2 * self.length) + 100 * self.vocabulary


ARCHIVE = Download(
    "https://dl.fbaipublicfiles.com/glue/data/SST-2.zip",
    "d67e16fb55739c1b32cdce9877596db1c127dc322d93c082281f64057c16deaa",
)
PIECES = Download(
    "https://huggingface.co/distilbert/distilbert-base-uncased/resolve/main/vocab.txt",
    "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
)
SOURCES = {
    "sst2_1k": TextSource(
        "sst2_1k.npz",
        1000,
        872,
        66,
        5821,
        "4951562ab6b09b7479c0afd80f0e413c8e002c458660643379fee423a4a884de",
    ),
    "sentences": TextSource(
        "",
        120,
        80,
        7,
        25,
        "b10ddc7c6649cbfccebfa36b52f2350fc9b6004e5cfc74e6b4b9490b70cb4191",
    ),
}


def load(name: str) -> Dataset:
    """Load sentences by the name of their set: inputs (N, length) int64, 0 where there is none.

    Raises:
        DataUnavailable: nowhere to be had, or damaged.
    """
    source = SOURCES[name]
    arrays, origin = _sentences() if name == "sentences" else _find(source)
    digest = sha256(arrays)
    if digest != source.sha256:
        raise _damaged(origin, name, f"its SHA-256 is {digest[:12]}…, not {source.sha256[:12]}…")
    x_train, y_train, x_test, y_test = (torch.from_numpy(array) for array in arrays.values())
    return Dataset(
        name, x_train, y_train, x_test, y_test, source.classes, digest, source.vocabulary
    )


def sha256(arrays: Arrays) -> str:
    """Digest of inputs and labels (dtype, shape and bytes), in the order in which they come."""
    digest = hashlib.sha256()
    for name, array in arrays.items():
        digest.update(f"{name}:{array.dtype}:{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _damaged(origin: str, name: str, why: str) -> DataUnavailable:
    return DataUnavailable(
        f"{origin} is not the {name} that the results were computed with: {why}; delete it or point "
        "SUBSPACE_DATA to an intact copy."
    )


def _find(source: TextSource) -> tuple[Arrays, str]:
    path = sources.find(source.file)
    if path is not None:
        raw, origin = sources.read(path, (*NAMES, VOCABULARY), source.bytes), str(path)
    else:
        raw, origin = _tokenized(source), "what was downloaded"
    why = fault(raw, source)
    if why:
        raise _damaged(origin, source.file.removesuffix(".npz"), why)
    arrays = _compact(raw, source.length)
    if path is None and sha256(arrays) == source.sha256:
        sources.keep(source.file, raw)
    return arrays, origin


def fault(raw: Arrays, source: TextSource) -> str:
    """What is wrong with the arrays of a file of tokens; empty where nothing is."""
    ids = raw[VOCABULARY]
    if ids.ndim != 1 or ids.dtype.kind not in "iu" or not np.all(np.diff(ids) > 0):
        return f"{VOCABULARY} are not different whole numbers in ascending order"
    for part, count in (("train", source.samples), ("test", source.test_samples)):
        x, mask, y = (raw[f"{name}_{part}"] for name in ("x", "mask", "y"))
        if x.dtype.kind not in "iu" or y.dtype.kind not in "iu" or mask.dtype != bool:
            kinds = f"{x.dtype}, {y.dtype}, {mask.dtype}"
            return f"x_{part}, y_{part}, mask_{part} are {kinds}, not whole numbers twice and bool"
        if x.ndim != 2 or len(x) != count or not 0 < x.shape[1] <= source.length:
            return f"x_{part} has the shape {x.shape}, not {count} sentences of at most {source.length}"
        if mask.shape != x.shape or y.shape != (count,):
            shapes = f"{mask.shape} and {y.shape}"
            return f"mask_{part} and y_{part} have the shapes {shapes}, x_{part} {x.shape}"
        if not np.array_equal(mask, x != 0):
            return f"mask_{part} is not True just where x_{part} has a token"
        if not np.isin(x, ids).all():
            return f"x_{part} has ids that {VOCABULARY} lacks"
        if not np.isin(y, range(source.classes)).all():
            return f"y_{part} has labels other than 0 and 1"
    if sorted(raw["glue_val_row"].ravel().tolist()) != list(range(source.test_samples)):
        return "glue_val_row is no order of the test sentences"
    return ""


def _compact(raw: Arrays, length: int) -> Arrays:
    """Ids as places among those that occur, padded to one length; test sentences in GLUE's order."""
    order, ids = np.argsort(raw["glue_val_row"]), raw[VOCABULARY]
    places = {
        part: np.searchsorted(ids, raw[f"x_{part}"]).astype(np.int64) for part in ("train", "test")
    }
    x_train, x_test = (np.pad(x, ((0, 0), (0, length - x.shape[1]))) for x in places.values())
    labels = raw["y_train"].astype(np.int64), raw["y_test"].astype(np.int64)[order]
    return {"x_train": x_train, "y_train": labels[0], "x_test": x_test[order], "y_test": labels[1]}


def _tokenized(source: TextSource) -> Arrays:
    """Both parts of the GLUE archive, tokenized; raises as ``fetch`` does, and on other contents."""
    archive, pieces = (fetch(wanted, source.file, "sentences") for wanted in (ARCHIVE, PIECES))
    vocabulary = pieces.decode().split("\n")
    found: Arrays = {}
    with zipfile.ZipFile(io.BytesIO(archive)) as members:
        for part, member, count in (
            ("train", "SST-2/train.tsv", source.samples),
            ("test", "SST-2/dev.tsv", source.test_samples),
        ):
            rows = members.read(member).decode().split("\n")[1 : count + 1]  # after the header
            texts, labels = zip(*(row.rsplit("\t", 1) for row in rows), strict=True)
            found[f"x_{part}"] = tokenize(texts, vocabulary)
            found[f"y_{part}"] = np.array(labels, dtype=np.int64)
            found[f"mask_{part}"] = found[f"x_{part}"] != 0
    found["glue_val_row"] = np.arange(source.test_samples, dtype=np.int32)
    occurring = np.concatenate([found["x_train"].ravel(), found["x_test"].ravel()])
    return found | {VOCABULARY: np.unique(occurring).astype(np.int32)}


def tokenize(texts: Sequence[str], vocabulary: Sequence[str]) -> np.ndarray:
    """WordPiece ids of texts, lower-cased, as int16 (n, longest): [CLS] … [SEP], then [PAD] = 0.

    Args:
        vocabulary: pieces in the order of their ids.

    Source: Devlin et al., BERT, 2019; done by the ``tokenizers`` library.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    ids = {piece: i for i, piece in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    rows = [[ids[START], *tokenizer.encode(text).ids, ids[SEPARATOR]] for text in texts]
    padded = np.full((len(rows), max(map(len, rows))), ids[PAD], np.int16)
    for line, row in zip(padded, rows, strict=True):
        line[: len(row)] = row
    return padded


# "the film is very good": positive where the word at the end is.
SUBJECTS = ("the film", "this story", "its plot", "the cast", "the music")
VERBS = ("is", "was", "seems")
DEGREES = ("", "very", "really", "quite")
POSITIVE = ("good", "funny", "moving", "clever")
NEGATIVE = ("bad", "dull", "flat", "clumsy")
STRIDE = 331  # takes the sentences in an order in which neighbours have little in common


def _sentences() -> tuple[Arrays, str]:
    """Sentences made by the rule above: their first as training data, the next as test data."""
    source = SOURCES["sentences"]
    every = list(product(SUBJECTS, VERBS, DEGREES, POSITIVE + NEGATIVE))
    count = source.samples + source.test_samples
    chosen = [every[i * STRIDE % len(every)] for i in range(count)]
    words = sorted({word for parts in every for part in parts for word in part.split()})
    ids = {word: i for i, word in enumerate((PAD, START, SEPARATOR, *words))}
    x = np.zeros((count, source.length), np.int64)
    for line, parts in zip(x, chosen, strict=True):
        tokens = [START, *" ".join(parts).split(), SEPARATOR]
        line[: len(tokens)] = [ids[token] for token in tokens]
    y = np.array([parts[-1] in POSITIVE for parts in chosen], dtype=np.int64)
    n = source.samples
    return {"x_train": x[:n], "y_train": y[:n], "x_test": x[n:], "y_test": y[n:]}, "the rule"
