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
from subspace_lib.chapters.kit.switch.study import SwitchParameters
from subspace_lib.data import download, images, preprocessing, source
from subspace_lib.experiment import Experiment
from subspace_lib.models import fitting
from subspace_lib.parameters import InvalidParameter

HELD = [
    name
    for name in ("mnist5k", "fashion_mnist5k", "cifar10_5k")
    if (Path(os.environ.get("SUBSPACE_DATA", "/nonexistent")) / images.SOURCES[name].file).exists()
]


@pytest.mark.parametrize("name", HELD)
def test_held_files_are_the_subsets_that_the_results_were_computed_with(name):
    dataset = data.load(name, "standardized")
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
    monkeypatch.setattr(source.platformdirs, "user_cache_path", lambda name: tmp_path / "cache")
    monkeypatch.setattr(download, "build_opener", refuse)
    return tmp_path


@pytest.fixture
def anything(monkeypatch):
    """Archives are there, whatever is in them: what torchvision makes of them is made up in the test."""
    monkeypatch.setattr(source, "kept", lambda *args: b"")


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


def test_a_download_is_cut_checked_and_kept_for_the_next_time(nowhere, anything, monkeypatch):
    class Fake:
        def __init__(self, root, train, download):
            count = 6000 if train else 10050
            self.data = np.arange(count * 4, dtype=np.uint8).reshape(count, 2, 2)
            self.targets = [i % 10 for i in range(count)]

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
    known = dataclasses.replace(images.SOURCES["mnist5k"], sha256=images.sha256(arrays))
    monkeypatch.setitem(images.SOURCES, "mnist5k", known)
    assert len(data.load("mnist5k").train_labels) == 5000
    monkeypatch.setattr(torchvision.datasets, "MNIST", None)
    assert data.load("mnist5k").test_inputs.shape == (10000, 1, 2, 2)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match="mnist5k, mnist, fashion_mnist5k, cifar10_5k, digits"):
        data.load("mnist50k")


def test_pixels_are_prepared_as_their_name_says():
    raw = sklearn.datasets.load_digits().images[:1500]
    unit, standardized = (data.load("digits", name) for name in ("unit", "standardized"))
    expected = torch.from_numpy(raw).float()[:, None] / 16
    torch.testing.assert_close(unit.train_inputs, expected)
    mean, std = (images.SOURCES["digits"].mean[0], images.SOURCES["digits"].std[0])
    torch.testing.assert_close(standardized.train_inputs, (expected - mean) / std)
    assert abs(float(standardized.train_inputs.mean())) < 1e-3
    with pytest.raises(ValueError, match="preprocessing = 'raw' is not known; choose one of unit"):
        data.load("digits", "raw")


def test_the_default_is_the_papers_for_the_data_set():
    fields = {
        name: {"dataset": name, "model": fitting(data.shape(name))[0]} for name in data.DATASETS
    }
    defaults = {name: Experiment(**fields[name]).preprocessing for name in data.DATASETS}
    assert {defaults.pop(name) for name in ("cifar10_5k", "cifar10_1k")} == {"per_pixel"}
    assert {defaults.pop(name) for name in ("sst2_1k", "sentences")} == {"tokens"}
    assert set(defaults.values()) == {"unit"}
    assert torch.equal(data.load("digits").train_inputs, data.load("digits", "unit").train_inputs)
    assert SwitchParameters(dataset="cifar10_5k").preprocessing == "per_pixel"
    keys = {Experiment(preprocessing=name).key for name in ("unit", "standardized")}
    assert len(keys) == 2 and Experiment().key in keys


@pytest.mark.skipif("cifar10_5k" not in HELD, reason="needs CIFAR-10 in $SUBSPACE_DATA")
def test_each_pixel_of_cifar_is_standardized_by_its_own_statistics():
    folder = Path(os.environ["SUBSPACE_DATA"])
    pixels = np.load(folder / "cifar10_5k.npz")["x_train"]
    known = np.load(folder / "cifar10_pixel_stats.npz")
    expected = (pixels / 255 - known["mean"]) / known["std"]
    found = data.load("cifar10_5k").train_inputs.permute(0, 2, 3, 1)
    np.testing.assert_allclose(found, expected, atol=2e-6)  # float32
    # of 3,072 pixels and channels; by its README, the subset's is 3,088.6
    assert float((found**2).sum((1, 2, 3)).mean()) == pytest.approx(3088.6, abs=0.1)


def test_pixel_statistics_are_those_of_a_direct_computation():
    images_ = np.random.default_rng(0).integers(0, 256, (5200, 3, 2, 3), dtype=np.uint8)
    found = preprocessing.pixel_statistics(images_)
    scaled = images_.astype(np.float64) / 255
    np.testing.assert_allclose(found["mean"], scaled.mean(0), atol=1e-12)
    np.testing.assert_allclose(found["std"], scaled.std(0), atol=1e-12)


@pytest.fixture
def tiny_cifar(nowhere, anything, monkeypatch):
    """CIFAR-10 as torchvision would give it, 40 images of 2 × 2 pixels, of which the subset has 20."""
    pixels = np.random.default_rng(1).integers(0, 256, (40, 2, 2, 3), dtype=np.uint8)

    class Fake:
        def __init__(self, root, train, download):
            self.data, self.targets = pixels, [i % 10 for i in range(40)]

    labels = np.arange(40) % 10
    known = dataclasses.replace(images.SOURCES["cifar10_5k"], samples=20, test_samples=5)
    arrays = images._cut(pixels, labels, pixels, labels, known)
    statistics = preprocessing.pixel_statistics(pixels)
    known = dataclasses.replace(
        known,
        sha256=images.sha256(arrays),
        statistics_sha256=preprocessing.statistics_sha256(statistics),
    )
    monkeypatch.setitem(images.SOURCES, "cifar10_5k", known)
    monkeypatch.setattr(torchvision.datasets, "CIFAR10", Fake)
    return pixels, nowhere, monkeypatch


def test_without_the_file_statistics_come_from_the_whole_set_and_are_kept(tiny_cifar):
    pixels, nowhere, monkeypatch = tiny_cifar
    scaled = pixels.astype(np.float64) / 255
    expected = ((scaled - scaled.mean(0)) / scaled.std(0))[:20]
    found = data.load("cifar10_5k", "per_pixel").train_inputs.permute(0, 2, 3, 1)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    monkeypatch.setattr(torchvision.datasets, "CIFAR10", None)
    assert torch.equal(data.load("cifar10_5k", "per_pixel").train_inputs.permute(0, 2, 3, 1), found)
    kept = nowhere / "cache" / "cifar10_pixel_stats.npz"
    np.savez(kept, mean=scaled.mean(0) + 1e-5, std=scaled.std(0))
    with pytest.raises(data.DataUnavailable, match="mean and deviation by pixel that the results"):
        data.load("cifar10_5k", "per_pixel")


def test_statistics_that_are_nowhere_are_a_sentence(nowhere):
    with pytest.raises(data.DataUnavailable, match=r"cifar10_pixel_stats.npz is not on this") as e:
        preprocessing.per_pixel(torch.zeros(1, 3, 32, 32), images.SOURCES["cifar10_5k"])
    assert "SUBSPACE_DATA" in str(e.value) and "\n" not in str(e.value)


@pytest.mark.skipif("cifar10_5k" not in HELD, reason="needs CIFAR-10 in $SUBSPACE_DATA")
def test_a_subset_is_the_first_samples_of_the_whole_and_all_of_its_test_data():
    whole, part = data.load("cifar10_5k"), data.load("cifar10_1k")
    assert torch.equal(part.train_inputs, whole.train_inputs[:1000])
    assert torch.equal(part.train_labels, whole.train_labels[:1000])
    assert torch.equal(part.test_inputs, whole.test_inputs)
    assert (part.name, len(part.train_labels)) == ("cifar10_1k", data.samples("cifar10_1k"))
    assert data.sha256("cifar10_1k") == whole.sha256
    keys = {Experiment(dataset=name).key for name in ("cifar10_1k", "cifar10_5k")}
    assert len(keys) == 2


@pytest.mark.parametrize("name", [n for n in ("digits", "sentences", *HELD) if n in data.DATASETS])
def test_the_shape_of_an_input_is_known_without_the_data(name):
    assert data.shape(name) == data.load(name).shape


@pytest.mark.parametrize(
    ("dataset", "model", "says"),
    [
        (
            "sst2_1k",
            "cnn",
            "'cnn' does not take sentences of tokens, which sst2_1k has; choose one of trans",
        ),
        (
            "mnist5k",
            "transformer",
            "does not take images of (1, 28, 28), which mnist5k has; choose one of mlp",
        ),
        (
            "digits",
            "vgg11",
            "'vgg11' does not take images of (1, 8, 8), which digits has; choose one of mlp",
        ),
        (
            "cifar10_1k",
            "transformer_small",
            "does not take images of (3, 32, 32), which cifar10_1k has",
        ),
    ],
)
def test_a_network_that_does_not_take_what_the_data_have_is_refused_in_a_sentence(
    dataset, model, says
):
    with pytest.raises(InvalidParameter) as error:
        Experiment.parse(dataset=dataset, model=model)
    assert says in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["mnist5k", "digits"])
def test_a_data_set_without_statistics_refuses_them_in_a_sentence(name):
    says = f"'per_pixel' needs statistics of every pixel, which {name} does not have; choose one of unit"
    with pytest.raises(ValueError, match=says):
        data.load(name, "per_pixel")
    with pytest.raises(InvalidParameter, match=says):
        Experiment.parse(dataset=name, preprocessing="per_pixel")


def test_sizes_and_digests_are_known_without_the_data():
    found = {name: data.samples(name) for name in data.DATASETS}
    assert found == {
        "mnist5k": 5000,
        "mnist": 60000,
        "fashion_mnist5k": 5000,
        "cifar10_5k": 5000,
        "digits": 1500,
        "sst2_1k": 1000,
        "sentences": 120,
        "cifar10_1k": 1000,
        "digits_300": 300,
    }
    assert data.sha256("digits") == data.load("digits").sha256
    with pytest.raises(ValueError, match="dataset = 'mnist50k' is not known"):
        data.samples("mnist50k")
