"""Whatever is typed, and whatever a file has become: accepted and run, or refused with one sentence.

Every test: no traceback, no hang, no memory above 6 GiB. A seeded part of it here, all 2,000 sets of
parameters and 200 damaged files in ``make test-slow``.
"""

import dataclasses
import os
import random
import re
import resource
import shutil
import signal
import warnings
from contextlib import contextmanager

import numpy as np
import pytest
from test_store import TINY

from subspace_lib import data
from subspace_lib.chapters import registered
from subspace_lib.chapters.kit.study import Plan
from subspace_lib.data import images
from subspace_lib.experiment import Experiment, Phase
from subspace_lib.parameters import InvalidParameter
from subspace_lib.results import memory, repeat
from subspace_lib.results.files import Corrupted, StoreError
from subspace_lib.results.store import NAME, MissingRun, Store
from subspace_lib.runs import KINDS, start

SECONDS, WAITED = 60, 1200  # of the processor, and by the clock, after which something hangs
MEMORY = 6 * 2**30
NUMBERS = (
    0,
    1,
    2,
    3,
    5,
    9,
    20,
    100,
    301,
    -1,
    10**6,
    10**9,
    10**12,
    10**30,
    0.5,
    0.05,
    1.5,
    1e-9,
    5e-324,
)
NUMBERS += (1e300, -0.0, 1.999999999, float("inf"), float("nan"), True, False)
WORDS = (
    "",
    "none",
    "None",
    "full",
    "adaptive",
    "5",
    " 7 ",
    "1e-3",
    "1,2",
    "[3, 1]",
    "0x10",
    "1_000",
    "½",
)
WORDS += (
    "bulk",
    "sam",
    "adam",
    "sgd",
    "mse",
    "cuda",
    "../../etc",
    "$(touch x)",
    "; rm -rf /",
    "a\nb",
    "\x00",
)
WORDS += ("x" * 5000, "k=3", "quick", "digits_300", "mlp_small", "os:system", "🜁")
OTHERS = (
    None,
    [],
    [0],
    [1, 1],
    [5, 3],
    [[3, 9]],
    [[9, 3]],
    [[]],
    {},
    {"until": 3},
    [{"until": 3}],
    [None],
)
OTHERS += (
    b"bytes",
    3 + 4j,
    object,
    [[1, 2], [2, 9]],
    [True],
    list(range(3000)),
    ("a", "b"),
    {1, 2},
)
# Whatever is not fuzzed is small, so that what is accepted can be run.
FEW = {"dataset": "digits_300", "model": "mlp_small", "k": 2, "steps": 6, "target_angle": 0.5}
SIMULATED = {"steps": 120, "switch_step": 100, "paths": 2, "settle_paths": 2}
OWN = {
    "training": FEW,
    "survey": FEW | {"anchors": (1, 3)},
    "curvature": FEW | {"anchors": (1, 3), "lanczos_steps": 4, "probes": 2},
    "weighted": FEW | {"switch_step": 1},
    "averaged": FEW | {"switch_step": 1, "batch_size": 300},
    "trials": FEW | {"anchors": (1, 3), "batches": 2},
    "pair": FEW | {"projection": "bulk", "switch_step": 2},
    "substitute": FEW | {"projection": "dominant", "switch_step": 2, "space": "hessian"},
    "rates": FEW,
    "amplification": FEW | {"anchors": (1,), "window": 2, "directions": 2},
    "valley": SIMULATED,
    "regression": SIMULATED | {"settle_steps": 4, "dimension": 12, "samples": 40, "outliers": 2},
}


class Hangs(BaseException):  # nobody catches it by the way
    """It has taken too long."""


@contextmanager
def in_time():
    def hang(*_):
        raise Hangs

    clocks = {
        signal.SIGPROF: (signal.ITIMER_PROF, SECONDS),
        signal.SIGALRM: (signal.ITIMER_REAL, WAITED),
    }
    before = {number: signal.signal(number, hang) for number in clocks}
    outer = signal.getitimer(signal.ITIMER_REAL)[0]  # that of the test itself
    for clock, seconds in clocks.values():
        signal.setitimer(
            clock, min(seconds, outer) if outer and clock == signal.ITIMER_REAL else seconds
        )
    try:
        yield
    finally:
        for clock, _ in clocks.values():
            signal.setitimer(clock, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
        if outer:
            signal.setitimer(signal.ITIMER_REAL, outer)


def sentence(error, typed):
    text = str(error)
    assert 0 < len(text) < 300 and "\n" not in text, typed
    assert text[-1] in ".!)", typed


def any_value(choose, field):
    if field is not None and not field.is_required() and choose.random() < 0.3:
        return field.get_default(call_default_factory=True, validated_data=FEW)
    value = choose.choice(choose.choice((NUMBERS, NUMBERS, WORDS, OTHERS)))
    return str(value) if choose.random() < 0.2 else value


def any_fields(choose, kind, own):
    names = [*kind.model_fields, "no_such_name"]
    chosen = choose.sample(names, choose.choice((1, 1, 2, 3)))
    return {**own, **{name: any_value(choose, kind.model_fields.get(name)) for name in chosen}}


def cheap(e):
    """Whether a first step takes a moment: no large block, no sharp target, no graph of a single sample."""
    return not hasattr(e, "k") or (
        getattr(e, "k", 1) <= 5
        and getattr(e, "guards", 1) <= 5
        and getattr(e, "target_angle", 1) >= 0.05
        and getattr(e, "chunk", 1000) >= 100
        and getattr(e, "lanczos_steps", 1) * getattr(e, "probes", 1) <= 200
        and getattr(e, "pyhessian", 0) <= 2
    )


def one_run(choose, whole):
    """A run of any kind, or a phase: refused, or begun and stepped twice, where that is cheap or wanted."""
    kind = choose.choice((*KINDS, "phase"))
    if kind == "phase":
        fields = any_fields(choose, Phase, {"until": 2})
        return fields, lambda: Phase.parse(**fields)
    described = KINDS[kind][0]
    fields = any_fields(choose, described, OWN[kind])

    def work():
        experiment = described.parse(**fields)
        assert NAME.fullmatch(experiment.key)
        memory.check(experiment)
        if experiment.kind in ("valley", "regression") and experiment != described.parse(
            **OWN[kind]
        ):
            return  # one step of it is the whole
        run = start(experiment)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for _ in range(2 if whole or cheap(experiment) else 0):
                if run.status == "running":
                    run.advance()

    return fields, work


def one_chapter(choose, folder):
    """A chapter's parameters: refused, or all of its runs are described."""
    chapter = choose.choice(list(registered().values()))
    kind = type(chapter.parameters)
    fields = any_fields(choose, kind, {"profile": "quick"})

    def work():
        parameters = kind.parse(**fields).resolved()
        if chapter.name != "12_cost":
            plan = Plan(Store(folder))
            chapter.study(parameters, plan.store, compute=plan)

    return (chapter.name, fields), work


def fuzz_parameters(count, seed, folder, whole=True):
    """How many of so many sets were accepted."""
    choose, accepted = random.Random(seed), 0
    for _ in range(count):
        typed, work = (
            one_run(choose, whole) if choose.random() < 0.6 else one_chapter(choose, folder)
        )
        try:
            with in_time():
                work()
            accepted += 1
        except (InvalidParameter, data.DataUnavailable) as error:
            sentence(error, typed)
        except BaseException as error:
            raise AssertionError(f"{type(error).__name__} for {typed}"[:2000]) from error
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 < MEMORY
    return accepted


def damage(choose, path):
    """Make something else of a file."""
    content = path.read_bytes()
    place = choose.randrange(len(content))
    how = choose.choice(
        ("byte", "cut", "empty", "zeros", "longer", "json", "folder", "fifo", "link", "none")
    )
    path.unlink()
    match how:
        case "byte":
            flipped = bytes([content[place] ^ 1 << choose.randrange(8)])
            path.write_bytes(content[:place] + flipped + content[place + 1 :])
        case "folder":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
        case "link":
            path.symlink_to(path.name)
        case "none":
            pass
        case _:
            others = {"cut": content[:place], "empty": b"", "zeros": bytes(len(content))}
            others |= {"longer": content + content, "json": b'{"kind": ["training"]}'}
            path.write_bytes(others[how])
    return how


def no_network(*_):
    raise OSError("no network")


def fuzz_files(count, seed, folder, monkeypatch):
    """How many of so many damaged files were refused: of a run, a checkpoint, a data set."""
    choose, refused = random.Random(seed), 0
    whole, experiment = Store(folder / "whole"), Experiment.parse(**TINY)
    expected = whole.run(experiment).table
    known = dataclasses.replace(
        images.SOURCES["mnist5k"], samples=20, test_samples=5, shape=(1, 2, 2)
    )
    pixels = np.random.default_rng(0).integers(0, 256, (25, 2, 2), dtype=np.uint8)
    arrays = {"x_train": pixels[:20], "y_train": np.arange(20) % 10}
    arrays |= {"x_test": pixels[20:], "y_test": np.arange(5)}
    known = dataclasses.replace(known, sha256=images.sha256(arrays))
    monkeypatch.setitem(images.SOURCES, "mnist5k", known)
    monkeypatch.setenv("SUBSPACE_DATA", str(folder / "data"))
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: folder / "cache")
    monkeypatch.setattr("subspace_lib.data.download.build_opener", no_network)
    for _ in range(count):
        shutil.rmtree(folder / "data", ignore_errors=True)
        (folder / "data").mkdir()
        np.savez_compressed(folder / "data/mnist5k.npz", **arrays)
        shutil.rmtree(folder / "now", ignore_errors=True)
        shutil.copytree(folder / "whole", folder / "now")
        files = [folder / "data/mnist5k.npz", *(folder / "now").glob("*/*.*")]
        victim = choose.choice(sorted(path for path in files if path.suffix != ".lock"))
        how = damage(choose, victim)
        try:
            with in_time():
                if victim.suffix == ".npz":
                    if how != "none":
                        data.load("mnist5k", "unit")
                else:
                    found = repeat.stored(Store(folder / "now"), experiment.key)
                    assert found.table.equals(Store(folder / "now").load(experiment).table)
                    assert found.table.drop(columns="seconds").equals(
                        expected.drop(columns="seconds")
                    )
        except (Corrupted, MissingRun, StoreError, InvalidParameter, data.DataUnavailable) as error:
            sentence(error, (victim.name, how))
            refused += 1
        except BaseException as error:
            raise AssertionError(f"{type(error).__name__} for {victim.name}: {how}") from error
    return refused


def test_some_of_all_that_may_be_typed(tmp_path):
    accepted = fuzz_parameters(100, 1, tmp_path, whole=False)
    assert 5 < accepted < 80  # neither is everything refused, nor anything taken


def test_some_of_all_that_may_happen_to_a_file(tmp_path, monkeypatch):
    assert fuzz_files(30, 1, tmp_path, monkeypatch) > 20


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_two_thousand_sets_of_parameters(tmp_path, capsys):
    accepted = fuzz_parameters(2000, 2, tmp_path)
    with capsys.disabled():
        print(f"\n{accepted} of 2,000 sets of parameters were accepted, the others refused")
    assert 100 < accepted < 1600


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_hundred_damaged_files(tmp_path, monkeypatch, capsys):
    refused = fuzz_files(200, 2, tmp_path, monkeypatch)
    with capsys.disabled():
        print(f"\n{refused} of 200 damaged files were refused, the others did no harm")
    assert refused > 150


def test_no_parameter_leads_out_of_the_store_or_into_a_shell(tmp_path):
    """Every text of a description is one of a list of names: none is ever a path or a command."""
    for hostile in (
        "../../etc/passwd",
        "/tmp/x",
        "$(touch x)",
        "`touch x`",
        "; touch x",
        "a/b",
        "..",
        "a\x00b",
    ):
        for kind, (described, _) in KINDS.items():
            for name in described.model_fields:
                with pytest.raises(InvalidParameter):
                    described.parse(**{**OWN[kind], name: hostile})
        with pytest.raises(MissingRun):
            Store(tmp_path).of(hostile)
    assert not list(tmp_path.iterdir())
    assert re.fullmatch(NAME, Experiment.parse(**FEW).key)
