"""Models and data of one's own, by import path: the right run under the right key, or one sentence."""

import itertools
import json
import math

import pytest
import torch

from subspace_lib.chapters.dom_vs_bulk import CHAPTER
from subspace_lib.chapters.kit import page
from subspace_lib.chapters.kit.study import DryRun
from subspace_lib.chapters.kit.switch.study import SwitchParameters
from subspace_lib.data import load
from subspace_lib.experiment import Experiment
from subspace_lib.objective import cross_entropy
from subspace_lib.own import find
from subspace_lib.parameters import InvalidParameter
from subspace_lib.results.repeat import main as repeat
from subspace_lib.results.store import Store
from subspace_lib.results.sweep import _compute
from subspace_lib.results.workers import pool
from subspace_lib.runs import described, start
from subspace_lib.runs.pair import Pair

SOURCE = """
import dataclasses
import torch
from torch import nn

WIDTH = {width}

@dataclasses.dataclass
class Sizes:
    width: int = WIDTH

def build(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(6, Sizes().width), nn.Tanh(), nn.Linear(WIDTH, classes))

def load():
    inputs = torch.randn(60, 2, 3)
    return inputs[:40], torch.arange(40) % 3, inputs[40:], torch.arange(20) % 3

def tokens():
    ids = torch.arange(200).reshape(40, 5) % 7
    return ids, torch.arange(40) % 2, ids[:9], torch.arange(9) % 2

def twelve():
    inputs, _, others, _ = load()
    return inputs, torch.arange(40) % 12, others, torch.arange(20) % 12

def pair(): return load()[:2]
def real(): return tuple(t.float() for t in load())
def whole(): return tuple((10 * t).short() for t in load())
def short(): return tuple(t[:7] if t.ndim == 1 else t for t in load())
def nan(): return torch.full((40, 2), torch.nan), *load()[1:]
def negative(): a, b, c, d = load(); return a, b - 1, c, d
def gone(): raise FileNotFoundError("no such file: x.npz")
def three(shape, classes): return 3
def narrow(shape, classes): return nn.Linear(3, 3)
def wide(shape, classes): return nn.Linear(5, 3)
def random(shape, classes): return nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(6, 3))
def no_gradient(shape, classes): return nn.Flatten()
"""
SHORT = {
    "steps": 12, "switch_step": 4, "k": 2, "batch_size": 10, "record_every": 4, "spectrum_every": None,
    "projection": "bulk", "learning_rate": 0.1,
}  # fmt: skip
names = (f"mine_{i}" for i in itertools.count())


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A function that writes a module into the working directory, and returns its name."""
    monkeypatch.chdir(tmp_path)
    name = next(names)

    def write(width=4, source=SOURCE):
        (tmp_path / f"{name}.py").write_text(source.replace("{width}", str(width)))
        return name

    return write


def experiment(name, **fields):
    typed = {"model": f"{name}:build", "dataset": f"{name}:load"}
    return Experiment.parse(**SHORT | typed | fields)


def test_a_run_is_that_of_the_network_and_the_data_that_the_functions_make(own, tmp_path):
    name = own()
    e = experiment(name, projection="none", loss="cross_entropy", batch_size=40, refresh_every=4)
    found = Store(tmp_path / "r").run(e)
    module = find("model", f"{name}:build").function.__globals__
    torch.manual_seed(0)
    model = module["build"]((2, 3), 3)
    torch.manual_seed(0)
    inputs, labels, others, known = module["load"]()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(e.steps):
        optimizer.zero_grad()
        cross_entropy(model(inputs), labels).backward()
        optimizer.step()
    last = found.table.iloc[-1]
    assert last["train_loss"] == pytest.approx(
        cross_entropy(model(inputs), labels).item(), rel=1e-4
    )
    assert last["test_loss"] == pytest.approx(cross_entropy(model(others), known).item(), rel=1e-4)


def test_an_edited_source_is_another_run_and_the_run_of_the_new_source(own, tmp_path):
    name = own(width=4)
    first = experiment(name)
    own(width=7)
    second = experiment(name)
    assert first.key != second.key
    assert start(first).theta.numel() == 4 * 7 + 5 * 3  # as it was described
    assert start(second).theta.numel() == 7 * 7 + 8 * 3
    own(width=4)
    assert experiment(name).key == first.key
    own(width=4, source=SOURCE + "# a comment\n")
    assert experiment(name).key != first.key


def test_a_pair_is_that_of_the_source_that_it_was_described_with(own, tmp_path):
    name = own(width=4)
    typed = {"model": f"{name}:build", "dataset": f"{name}:load"}
    pair = Pair.parse(**SHORT | typed)
    own(width=7)
    run = start(pair)
    assert run.bulk.theta.numel() == run.plain.theta.numel() == 4 * 7 + 5 * 3
    (tmp_path / f"{name}.py").unlink()
    run = start(pair)
    run.train()
    assert run.status == "complete" and run.bulk.theta.numel() == 4 * 7 + 5 * 3


def test_keys_of_runs_without_own_functions_say_nothing_of_them():
    assert "own_sha256" not in Experiment.parse(dataset="digits").describe()
    assert Experiment.parse(dataset="digits").classes == 10


def test_random_data_are_the_same_each_time_and_the_random_state_stays(own):
    name = own()
    first = load(f"{name}:load")
    own(source=SOURCE + "# read anew\n")
    torch.manual_seed(5)
    state = torch.get_rng_state()
    assert torch.equal(load(f"{name}:load").train_inputs, first.train_inputs)
    assert torch.equal(state, torch.get_rng_state())


def test_an_interrupted_run_goes_on_and_ends_as_if_it_had_not_been(own):
    e = experiment(own())
    whole, first, second = start(e), start(e), start(e)
    whole.train()
    for _ in range(7):
        first.advance()
    second.load_state(first.state())
    second.train()
    assert second.table().drop(columns="seconds").equals(whole.table().drop(columns="seconds"))


@pytest.mark.whole
def test_a_fresh_process_computes_them_under_the_same_key(own, tmp_path):
    e = experiment(own(), projection="none", steps=6)
    with pool(1) as workers:  # as ``run_all`` has several of
        workers.submit(_compute, str(tmp_path / "r"), e.describe()).result()
    assert Store(tmp_path / "r").load(e).status == "complete"


def test_a_stored_run_is_repeated_by_its_key_but_not_with_another_source(
    own, tmp_path, monkeypatch, capsys
):
    name = own()
    monkeypatch.setenv("SUBSPACE_RESULTS", str(tmp_path / "r"))
    key = Store().run(experiment(name)).experiment.key
    repeat([key])
    line = next(ln for ln in capsys.readouterr().out.splitlines() if "train_loss" in ln)
    assert float(line.split()[3]) == 0.0
    own(width=5)
    with pytest.raises(SystemExit):
        repeat([key])
    assert f"{name}:build has changed since" in capsys.readouterr().err
    description = json.loads((tmp_path / "r" / key / "description.json").read_text())
    with pytest.raises(InvalidParameter, match="put that version back"):
        described(description)


def test_all_own_classes_are_used_and_no_more_can_be_asked_for(own):
    name = own()
    twelve = experiment(name, dataset=f"{name}:twelve")
    assert twelve.classes == 12
    assert start(twelve).objective.labels.max() == 11
    assert start(experiment(name, classes=2)).objective.labels.max() == 1
    with pytest.raises(InvalidParameter, match="less than or equal to 3"):
        experiment(name, classes=4)


def test_named_networks_take_own_data_and_own_networks_named_data(own):
    name = own()
    words = experiment(name, dataset=f"{name}:tokens", model="transformer_small")
    assert start(words).objective.inputs.dtype == torch.int64
    source = "from torch import nn\ndef build(shape, classes):\n"
    source += "    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))\n"
    digits = experiment(own(source=source), dataset="digits", preprocessing="unit")
    assert digits.key.startswith(f"digits-{name}-build-bulk-sgd-s0-")
    assert math.isfinite(float(start(digits).objective.gradient(start(digits).theta)[0]))


REFUSED = {
    "no path": ({"model": "{name}:"}, "no import path; write 'module:function'"),
    "a dot": ({"model": "{name}.build"}, "or your own 'module:function'"),
    "no module": ({"model": "nowhere_{name}:build"}, "no module nowhere_.* PYTHONPATH"),
    "a misspelt one": ({"model": "{name}:biuld"}, "did you mean build"),
    "a number": ({"model": "{name}:WIDTH"}, "of type int .* give build.shape, classes."),
    "no source": ({"model": "math:sin"}, "has no source"),
    "arguments": ({"dataset": "{name}:build"}, "missing 2 required .* give load"),
    "fails": ({"dataset": "{name}:gone"}, "FileNotFoundError: no such file: x.npz; give load"),
    "two": ({"dataset": "{name}:pair"}, "length 2; give load"),
    "floats": ({"dataset": "{name}:real"}, "labels .* float32, not class numbers"),
    "pixels": ({"dataset": "{name}:whole"}, "int16, not floats"),
    "too few": ({"dataset": "{name}:short"}, "do not belong together"),
    "not finite": ({"dataset": "{name}:nan"}, "not finite"),
    "negative": ({"dataset": "{name}:negative"}, "labels from -1 to 2"),
    "pixels of others": ({"preprocessing": "unit"}, "choose one of none"),
    "of digits": (
        {"dataset": "digits", "preprocessing": "none"},
        "choose one of unit, standardized",
    ),
    "another shape": ({"model": "transformer"}, "inputs of shape .2, 3., .* give your own"),
    "samples": ({"samples": 300}, "samples is not a parameter"),
    "batch": ({"batch_size": 41}, "at most 40, the size of {name}:load"),
    "returns 3": ({"model": "{name}:three"}, "returned something of type int; give build"),
    "takes others": ({"model": "{name}:wide"}, "cannot take the inputs"),
    "returns others": ({"model": "{name}:narrow"}, "{name}:narrow': "),
    "dropout": ({"model": "{name}:random"}, r"call model.eval\(\) first"),
    "no parameters": ({"model": "{name}:no_gradient"}, "no parameter that requires a gradient"),
}


@pytest.mark.parametrize(("typed", "told"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_one_sentence(typed, told, own, tmp_path):
    name = own()
    typed = {n: v.format(name=name) if isinstance(v, str) else v for n, v in typed.items()}
    with pytest.raises(InvalidParameter, match=told.format(name=name)) as error:
        Store(tmp_path / "r").run(experiment(name, **typed))
    message = str(error.value)
    assert "\n" not in message and message.endswith(".") and len(message) < 300
    assert not list((tmp_path / "r").glob("*/description.json"))


def test_a_file_that_cannot_be_imported_is_one_sentence_and_can_be_mended(own):
    name = own(source="def build(shape, classes)\n")
    with pytest.raises(InvalidParameter, match="cannot be imported, by SyntaxError: expected ':'"):
        experiment(name)
    own()
    assert start(experiment(name)).status == "running"


def test_a_chapter_takes_them_and_says_first_what_it_would_compute(own, tmp_path):
    name = own()
    typed = {"model": f"{name}:build", "dataset": f"{name}:load", "steps": 60, "switch_step": 20}
    typed |= {"k": 2, "batch_size": 10, "seeds": [0], "dry_run": True}
    parameters = page.parameters(typed | {"In": []}, CHAPTER)
    assert parameters.preprocessing == "none"
    with pytest.raises(DryRun, match="runs are not stored: SGD"):
        page.study(CHAPTER, parameters, Store(tmp_path / "r"))
    quick = SwitchParameters.parse(profile="quick", model=f"{name}:build", dataset=f"{name}:load")
    assert quick.resolved().preprocessing == "none"
    assert not list(tmp_path.rglob("description.json"))


def test_more_dimensions_than_the_network_has_are_refused_before_anything_runs(own, tmp_path):
    name = own(width=1)  # D = 6 + 1 + 3 + 3
    with pytest.raises(InvalidParameter, match=f"k = 13 must be below 13, .* of {name}:build"):
        Store(tmp_path / "r").run(experiment(name, k=13))
    given = {"model": f"{name}:build", "dataset": f"{name}:load", "batch_size": 10, "k": 13}
    parameters = CHAPTER.parameters.parse(profile="quick", **given, dry_run=True)
    with pytest.raises(InvalidParameter, match="k = 13 must be below 13"):
        page.study(CHAPTER, parameters, Store(tmp_path / "r"))
    assert not (tmp_path / "r").exists() or not list((tmp_path / "r").glob("*/provenance.json"))
