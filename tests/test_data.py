"""Data: the right subset, from the first place that has it, or one clear sentence."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets
import torch
import torchvision

from subspace_lib import data
from subspace_lib.data import images

HELD = [
    name
    for name in ("mnist5k", "fashion_mnist5k", "cifar10_5k")
    if (Path(os.environ.get("SUBSPACE_DATA", "/nonexistent")) / images.SOURCES[name].file).exists()
]


@pytest.mark.parametrize("name", HELD)
def test_held_files_are_the_subsets_that_the_results_were_computed_with(name):
    dataset = data.load(name)
    assert len(dataset.train_labels) == 5000
    # scaled by the whole set's mean and deviation, so the subset's are near 0 and 1
    assert abs(float(dataset.train_inputs.mean())) < 0.01
    assert abs(float(dataset.train_inputs.std()) - 1) < 0.01
    assert dataset.train_labels.unique().tolist() == list(range(10))


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """No data here, and no network."""

    def refuse(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setenv("SUBSPACE_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(images.platformdirs, "user_cache_path", lambda name: tmp_path / "cache")
    monkeypatch.setattr(torchvision.datasets, "MNIST", refuse)
    return tmp_path


def test_no_data_and_no_network_is_one_sentence_that_says_what_to_do(nowhere):
    with pytest.raises(data.DataUnavailable) as error:
        data.load("mnist5k")
    message = str(error.value)
    assert "SUBSPACE_DATA" in message and "mnist5k.npz" in message and "digits" in message
    assert "\n" not in message


def test_other_pixels_and_broken_files_are_refused_by_name(nowhere):
    folder = nowhere / "data"
    folder.mkdir()
    zeros = {
        "x_train": np.zeros((5000, 28, 28), np.uint8),
        "y_train": np.zeros(5000, np.int64),
        "x_test": np.zeros((10, 28, 28), np.uint8),
        "y_test": np.zeros(10, np.int64),
    }
    np.savez(folder / "mnist5k.npz", **zeros)
    with pytest.raises(data.DataUnavailable, match=r"mnist5k.npz is not the mnist5k.*SHA-256"):
        data.load("mnist5k")
    (folder / "mnist5k.npz").write_bytes(b"PK")
    with pytest.raises(data.DataUnavailable, match=r"mnist5k.npz cannot be read"):
        data.load("mnist5k")


def test_a_download_is_cut_checked_and_kept_for_the_next_time(nowhere, monkeypatch):
    class Fake:
        def __init__(self, root, train, download):
            count = 6000 if train else 10050
            self.data = np.arange(count * 4, dtype=np.uint8).reshape(count, 2, 2)
            self.targets = [i % 10 for i in range(count)]

    (nowhere / "cache").mkdir()
    monkeypatch.setattr(torchvision.datasets, "MNIST", Fake)
    with pytest.raises(data.DataUnavailable, match="torchvision's MNIST is not the mnist5k"):
        data.load("mnist5k")
    fake = Fake(None, True, True), Fake(None, False, True)
    arrays = images._cut(
        fake[0].data,
        np.array(fake[0].targets),
        fake[1].data,
        np.array(fake[1].targets),
        images.SOURCES["mnist5k"],
    )
    source = dataclasses.replace(images.SOURCES["mnist5k"], sha256=images.sha256(arrays))
    monkeypatch.setitem(images.SOURCES, "mnist5k", source)
    assert len(data.load("mnist5k").train_labels) == 5000
    monkeypatch.setattr(torchvision.datasets, "MNIST", None)
    assert data.load("mnist5k").test_inputs.shape == (10000, 1, 2, 2)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match="mnist5k, fashion_mnist5k, cifar10_5k, digits"):
        data.load("mnist")


def test_pixels_are_prepared_as_their_name_says():
    raw = sklearn.datasets.load_digits().images[:1500]
    unit, standardized = (data.load("digits", name) for name in ("unit", "standardized"))
    expected = torch.from_numpy(raw).float()[:, None] / 16
    torch.testing.assert_close(unit.train_inputs, expected)
    mean, std = (images.SOURCES["digits"].mean[0], images.SOURCES["digits"].std[0])
    torch.testing.assert_close(standardized.train_inputs, (expected - mean) / std)
    assert abs(float(standardized.train_inputs.mean())) < 1e-3
    assert torch.equal(data.load("digits").train_inputs, standardized.train_inputs)
    with pytest.raises(ValueError, match="preprocessing = 'raw' is not known; choose one of stand"):
        data.load("digits", "raw")


def test_sizes_and_digests_are_known_without_the_data():
    assert [data.samples(name) for name in data.DATASETS] == [5000, 5000, 5000, 1500]
    assert data.sha256("digits") == data.load("digits").sha256
    with pytest.raises(ValueError, match="dataset = 'mnist' is not known"):
        data.samples("mnist")
