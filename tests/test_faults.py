"""Faults that really happen: of numbers, clocks, threads, data, servers; the book has the whole table."""

import http.server
import os
import shutil
import ssl
import subprocess
import sys
import threading
import warnings
import zipfile

import numpy as np
import pytest
import torch
from test_store import TINY

from subspace_lib import data
from subspace_lib.data import download
from subspace_lib.data.download import Download, fetch, kept
from subspace_lib.experiment import Experiment
from subspace_lib.objective import Hessian
from subspace_lib.results import store as store_module
from subspace_lib.results.checkpoint import decode_checkpoint, write_checkpoint
from subspace_lib.results.files import Corrupted
from subspace_lib.results.store import Store
from subspace_lib.runs.trainer import Trainer
from subspace_lib.runs.training import Run

E = Experiment.parse(**TINY)


def test_a_product_that_is_not_a_number_ends_the_run_and_keeps_its_rows(tmp_path, monkeypatch):
    product = Hessian.__matmul__
    monkeypatch.setattr(
        Hessian,
        "__matmul__",
        lambda self, block: product(self, block) * (torch.nan if run.step == 8 else 1.0),
    )
    run = Run(E.model_copy(update={"refresh_every": 1}))
    run.train()
    assert run.status == "diverged at step 8"
    assert run.table()["step"].tolist() == [4]
    assert np.isfinite(run.table()["train_loss"]).all()


def test_a_gradient_of_zero_moves_nothing_and_is_no_error(tmp_path, monkeypatch):
    gradient = Trainer.gradient
    monkeypatch.setattr(Trainer, "gradient", lambda *args: torch.zeros_like(gradient(*args)))
    run = Run(E)
    begin = run.theta
    run.train()
    assert run.status == "complete"
    assert torch.equal(run.theta, begin)
    assert run.table()["batch_alignment"].isna().all()  # a zero vector lies nowhere


def test_at_a_saddle_with_dead_units_training_goes_on(tmp_path):
    """All weights zero: no unit answers, only the outputs' biases have a gradient."""
    run = Run(E)
    run.trainer.theta = torch.zeros_like(run.theta)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run.train()
    table = run.table()
    assert run.status == "complete" and np.isfinite(table["train_loss"]).all()
    assert table["train_loss"].iloc[-1] <= table["train_loss"].iloc[0]


def test_a_clock_that_goes_backwards_loses_nothing(tmp_path, monkeypatch):
    times = iter(range(10**6, 0, -100))
    monkeypatch.setattr(store_module.time, "monotonic", lambda: float(next(times)))
    found = Store(tmp_path / "back").run(E)
    monkeypatch.undo()
    expected = Store(tmp_path / "alone").run(E)
    assert found.table.drop(columns="seconds").equals(expected.table.drop(columns="seconds"))


def test_a_checkpoint_cut_at_any_byte_is_told_from_a_whole_one(tmp_path):
    run, path = Run(E), tmp_path / "checkpoint"
    run.advance()
    write_checkpoint(path, run)
    content = path.read_bytes()
    assert decode_checkpoint(content, "whole", E)
    for length in [*range(0, 100), *range(100, len(content), len(content) // 40), len(content) - 1]:
        with pytest.raises(Corrupted):
            decode_checkpoint(content[:length], "cut", E)


THREADS = """
import sys, torch
from subspace_lib.experiment import Experiment
from subspace_lib.results.store import Store
torch.set_num_threads(2)
Store(sys.argv[1]).run(Experiment(**{fields}))
"""


@pytest.mark.whole
def test_threads_change_rounding_alone_and_the_provenance_has_their_number(tmp_path):
    """Bit for bit with as many threads; with others sums have another order: 10⁻⁴ after 12 steps."""
    # Two threads that wait for each other by turning round would wait long on a busy machine.
    passive = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
    script = THREADS.replace("{fields}", str(TINY))
    subprocess.run([sys.executable, "-c", script, tmp_path / "two"], env=passive, check=True)
    found = {name: Store(tmp_path / name).run(E) for name in ("one", "again", "two")}
    own = {name: run.provenance["machine"]["threads"] for name, run in found.items()}
    assert own == {"one": torch.get_num_threads(), "again": torch.get_num_threads(), "two": 2}
    one, again, two = (run.table.drop(columns="seconds") for run in found.values())
    assert one.equals(again)
    for column in ("train_loss", "gradient_norm", "alignment", "eigenvalue_01"):
        np.testing.assert_allclose(two[column], one[column], rtol=1e-4, err_msg=column)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The only place where data are looked for; there is no network."""
    monkeypatch.setenv("SUBSPACE_DATA", str(tmp_path))
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: tmp_path / "cache")
    monkeypatch.setattr(download, "build_opener", None)
    return tmp_path


def test_a_pipe_in_the_place_of_data_is_not_waited_for(folder):
    os.mkfifo(folder / "mnist5k.npz")
    with pytest.raises(data.DataUnavailable, match=r"mnist5k\.npz cannot be read \(OSError\)"):
        data.load("mnist5k")


def test_an_archive_that_would_unpack_to_more_than_the_data_is_not_unpacked(folder, monkeypatch):
    with (
        zipfile.ZipFile(folder / "mnist5k.npz", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("x_train.npy", "w") as member,
    ):
        for _ in range(200):  # 200 MB of zeros in 0.2 MB
            member.write(bytes(10**6))
    assert (folder / "mnist5k.npz").stat().st_size < 10**6
    monkeypatch.setattr(np, "load", None)
    with pytest.raises(data.DataUnavailable, match=r"mnist5k\.npz cannot be read \(ValueError\)"):
        data.load("mnist5k")


class Server(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/away":
            self.send_response(302)
            self.send_header("Location", f"http://127.0.0.1:{self.server.server_port}/file")
        else:
            self.send_response(200)
        self.end_headers()
        self.server.asked.append(self.path)
        self.wfile.write(b"content")

    def log_message(self, *args):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    """An https server of one's own, whose certificate is trusted here."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl for a certificate")
    own = ["-keyout", tmp_path / "key", "-out", tmp_path / "cert", "-subj", "/CN=localhost"]
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "1",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            *own,
        ],
        check=True,
        capture_output=True,
    )
    found = http.server.HTTPServer(("127.0.0.1", 0), Server)
    found.asked = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    found.socket = context.wrap_socket(found.socket, server_side=True)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert"))
    thread = threading.Thread(target=found.serve_forever, daemon=True)
    thread.start()
    yield found
    found.shutdown()
    found.server_close()


DIGEST = "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73"  # of b"content"


def test_a_download_is_by_https_alone_of_the_right_bytes_and_into_its_folder(
    server, tmp_path, monkeypatch
):
    address = f"127.0.0.1:{server.server_port}"
    whole = Download(f"https://{address}/a/../../file?x=/../..", DIGEST)
    assert kept(whole, tmp_path / "kept", "file", "digits") == b"content"
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["file"]
    asked = len(server.asked)
    assert kept(whole, tmp_path / "kept", "file", "digits") == b"content"
    assert len(server.asked) == asked  # it is there
    (tmp_path / "kept" / "file").write_bytes(b"altered")
    assert kept(whole, tmp_path / "kept", "file", "digits") == b"content"
    for url, says in (
        (f"http://{address}/file", "could not be downloaded"),
        ("file:///etc/passwd", "could not be downloaded"),
        (f"https://{address}/away", "could not be downloaded"),  # to http
    ):
        with pytest.raises(data.DataUnavailable, match=says) as error:
            fetch(Download(url, DIGEST), "file", "digits")
        assert len(str(error.value)) < 300 and "\n" not in str(error.value)
    with pytest.raises(data.DataUnavailable, match="is not what it was: its SHA-256"):
        fetch(Download(whole.url, "0" * 64), "file", "digits")
    monkeypatch.setattr(download, "LARGEST", 3)
    with pytest.raises(data.DataUnavailable, match="could not be downloaded"):
        fetch(whole, "file", "digits")


def test_nothing_is_unpacked_before_its_digest_is_right(tmp_path, monkeypatch):
    monkeypatch.setenv("SUBSPACE_DATA", str(tmp_path / "none"))
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: tmp_path / "cache")
    monkeypatch.setattr("torchvision.datasets.CIFAR10", None)  # would unpickle
    wrong = tmp_path / "cache" / "download" / "cifar-10-python.tar.gz"
    wrong.parent.mkdir(parents=True)
    wrong.write_bytes(b"what somebody has put there")

    class Web:
        def open(self, url, timeout):
            from io import BytesIO

            return BytesIO(b"what somebody sends")

    monkeypatch.setattr(download, "build_opener", lambda *handlers: Web())
    with pytest.raises(data.DataUnavailable, match=r"cifar-10-python\.tar\.gz is not what it was"):
        data.load("cifar10_5k")
