"""Training sets that stay bytes until their chunk is used: the same numbers, and memory that stays."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch

from subspace_lib import data, models
from subspace_lib.benchmark.growth import PeakMemory
from subspace_lib.data import images
from subspace_lib.experiment import Experiment
from subspace_lib.objective import Objective
from subspace_lib.results.memory import parts
from subspace_lib.results.store import Store
from subspace_lib.subspace import DominantSubspace

SOURCE = """
import torch

def pixels():
    torch.manual_seed(3)
    x = torch.randint(0, 256, (90, 3, 8, 8), dtype=torch.uint8)
    return x[:60], torch.arange(60) % 3, x[60:], torch.arange(30) % 3

def floats():
    x, y, x_test, y_test = pixels()
    return x / 255, y, x_test / 255, y_test
"""
_numbers = itertools.count()


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module of the user's own with the same images as bytes and as floats."""
    monkeypatch.syspath_prepend(tmp_path)
    name = f"bytes_{next(_numbers)}"
    (tmp_path / f"{name}.py").write_text(SOURCE)
    return name


@pytest.mark.parametrize(
    "model", ["mlp_small", "cnn_small", pytest.param("resnet8_quarter", marks=pytest.mark.whole)]
)
def test_bytes_give_the_run_of_their_floats_bit_by_bit(module, model, tmp_path):
    tables = []
    for name in ("pixels", "floats"):
        e = Experiment(
            dataset=f"{module}:{name}",
            model=model,
            projection="bulk",
            k=3,
            batch_size=20,
            chunk=25,
            steps=12,
            switch_step=3,
            record_every=4,
            spectrum_every=None,
        )
        tables.append(Store(tmp_path / name).run(e))
    one, other = (run.table for run in tables)
    columns = [c for c in one if "seconds" not in c]
    assert len(columns) > 15 and len(one["step"]) >= 3
    for column in columns:
        np.testing.assert_array_equal(one[column], other[column], err_msg=column)
    assert one["train_accuracy"].iloc[-1] > 0


def test_bytes_in_a_file_are_read_where_they_lie(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    np.save(tmp_path / "x.npy", np.arange(6000, dtype=np.uint8).reshape(60, 100))
    name = f"mapped_{next(_numbers)}"
    (tmp_path / f"{name}.py").write_text(
        "import numpy as np\n"
        f"def load():\n    x = np.load({str(tmp_path / 'x.npy')!r}, mmap_mode='c')\n"
        "    y = np.arange(60) % 4\n    return x, y, x[:8], y[:8]\n"
    )
    found = data.load(f"{name}:load")
    assert found.train_inputs.dtype == torch.uint8 and found.prepare is not None
    assert found.test_inputs.dtype == torch.float32 and float(found.test_inputs.max()) <= 1
    torch.testing.assert_close(found.prepare(found.train_inputs[:8]), found.test_inputs)


def test_the_whole_of_mnist_is_prepared_chunk_by_chunk(tmp_path, monkeypatch):
    generator = np.random.default_rng(0)
    arrays = {
        "x_train": generator.integers(0, 256, (50, 28, 28)).astype(np.uint8),
        "y_train": np.arange(50) % 10,
        "x_test": generator.integers(0, 256, (20, 28, 28)).astype(np.uint8),
        "y_test": np.arange(20) % 10,
    }
    np.savez_compressed(tmp_path / "mnist.npz", **arrays)
    monkeypatch.setenv("SUBSPACE_DATA", str(tmp_path))
    whole = images.SOURCES["mnist"]
    assert (whole.samples, whole.large) == (60_000, True)
    few = dataclasses.replace(whole, samples=50, test_samples=20, sha256=images.sha256(arrays))
    monkeypatch.setitem(images.SOURCES, "mnist", few)
    found = data.load("mnist")
    assert found.shape == (1, 28, 28) and found.train_inputs.dtype == torch.uint8
    expected = torch.from_numpy(arrays["x_train"]).float()[:, None]
    for name, mean, std in (("unit", 0.0, 1.0), ("standardized", 0.1307, 0.3081)):
        found = data.load("mnist", name)
        assert found.prepare is not None
        prepared = found.prepare(found.train_inputs)
        torch.testing.assert_close(prepared, (expected / 255 - mean) / std)


@pytest.mark.whole
def test_memory_of_a_refresh_does_not_grow_with_the_samples():
    peaks = {}
    for samples in (2_000, 20_000):
        raw = torch.randint(0, 256, (samples, 1, 28, 28), dtype=torch.uint8)
        labels = torch.arange(samples) % 10
        prepare = lambda x: x.float() / 255  # noqa: E731
        model = models.build("mlp_small", (1, 28, 28), 10, 0)
        o = Objective(
            model, "mse", raw, labels, prepare=prepare, chunk=500, graph_memory=0, check=False
        )
        theta = o.initial()
        with PeakMemory() as memory:
            tracker = DominantSubspace(o, 3, refresh_every=1)
            tracker.refresh(theta, 0, o.gradient(theta)[1])
            tracker.refresh(theta, 1, o.gradient(theta, torch.arange(50))[1])
        peaks[samples] = memory.peak - raw.nbytes - labels.nbytes
    assert peaks[20_000] < 1.01 * peaks[2_000]
    floats = 20_000 * 28 * 28 * 4
    assert peaks[20_000] < floats / 2  # so that the whole as floats would have been seen


def test_what_is_reckoned_before_a_run_counts_bytes_as_bytes():
    few, many = (parts(Experiment(dataset=name))["dataset"] for name in ("mnist5k", "mnist"))
    assert many < 2 * few  # of twelve times the samples


def test_data_without_labels_are_refused(digits):
    o = Objective(models.build("mlp_small", digits.shape, 10, 0), "mse", digits.train_inputs[:50],
                  digits.train_labels[:50])  # fmt: skip
    with pytest.raises(ValueError, match="labels"):
        o.evaluate(o.initial(), digits.train_inputs)
    assert o.evaluate(o.initial()) == o.evaluate(o.initial(), o.inputs, o.labels)
