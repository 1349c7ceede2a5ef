"""What would be computed to no end is refused before anything is: one sentence that names the parameter."""

import time

import pytest

from subspace_lib.chapters import registered
from subspace_lib.chapters.dominant_subspace.study import AlignmentParameters, alignment_study
from subspace_lib.chapters.edge_of_stability.study import EdgeParameters, edge_study
from subspace_lib.chapters.kit.study import Plan
from subspace_lib.chapters.kit.switch.study import SwitchParameters, switch_study
from subspace_lib.chapters.sam.study import SamParameters, sam_study
from subspace_lib.chapters.valley.study import ValleyParameters, valley_study
from subspace_lib.experiment import Experiment, Phase
from subspace_lib.parameters import InvalidParameter
from subspace_lib.results import memory
from subspace_lib.results.store import Store
from subspace_lib.results.sweep import run_all
from subspace_lib.runs.amplification import Amplification
from subspace_lib.runs.curvature import Curvature
from subspace_lib.runs.pair import Pair
from subspace_lib.runs.protocol import RunInProgress
from subspace_lib.runs.rates import EffectiveRates
from subspace_lib.runs.simulation import RegressionSimulation, ValleySimulation
from subspace_lib.runs.survey import Survey

FEW = {"dataset": "digits_300", "model": "mlp_small", "k": 3, "steps": 100}
NONSENSE = {
    "truth": (Experiment, {"k": True}, "k = True"),
    "truth in a list": (Survey, {"anchors": [True]}, "anchors = [True]"),
    "a step that rounding loses": (Experiment, {"learning_rate": 5e-324}, "learning_rate = 5e-324"),
    "a step that overflows": (Experiment, {"learning_rate": 1e300}, "learning_rate = 1e+300"),
    "a radius that rounding loses": (
        Experiment,
        {"optimizer": "sam", "rho": 1e-300},
        "rho = 1e-300",
    ),
    "an angle below rounding": (Experiment, {"target_angle": 1e-12}, "target_angle = 1e-12"),
    "a reversed span": (Experiment, {"record_spans": [[9, 3]]}, "record_spans = [(9, 3)]"),
    "spans that overlap": (Experiment, {"fresh_spans": [[1, 9], [9, 12]]}, "the span 9 … 12"),
    "a span past the end": (Experiment, {"record_spans": [[200, 300]]}, "steps = 100"),
    "a number beyond 64 bits": (Experiment, {"record_every": 10**30}, "record_every = 1000000"),
    "a chunk without end": (Experiment, {"chunk": 10**12}, "chunk = 1000000000000"),
    "more samples than there are": (Experiment, {"correction": 301}, "correction = 301 must be"),
    "nothing watched": (Experiment, {"watch_alignment": 0.9}, "watch_from = 900"),
    "a switch after the end": (
        Experiment,
        {"watch_alignment": 0.9, "switch_by": 101},
        "switch_by = 101 must be at most",
    ),
    "a phase of no steps": (Experiment, {"before": [{"until": 0}]}, "until = 0 is not allowed"),
    "a phase's step": (
        Experiment,
        {"before": [{"until": 5, "learning_rate": 5e-324}], "switch_step": 9},
        "learning_rate",
    ),
    "a phase's batch": (
        Experiment,
        {"before": [{"until": 5, "batch_size": 301}], "switch_step": 9},
        "batch_size of phase 1",
    ),
    "a phase's name": (
        Experiment,
        {"before": [{"untill": 5}], "switch_step": 9},
        "untill is not a parameter (did you mean until",
    ),
    "anchors past the end": (
        Survey,
        {"anchors": [200]},
        "anchors = [200] must lie below steps = 100",
    ),
    "an anchor of curvature past the end": (
        Curvature,
        {"anchors": [101]},
        "anchors = [101] must be at most steps = 100",
    ),
    "one probe, which has no spread": (Curvature, {"anchors": [1], "probes": 1}, "probes = 1"),
    "a lag of none": (Survey, {"anchors": [1], "lags": [0, 5]}, "lags = [0, 5]"),
    "lags past the end": (Survey, {"anchors": [50], "lags": [60]}, "lags = [60] must lie below"),
    "a survey's window": (
        Survey,
        {"anchors": [1], "window": 10**7},
        "window = 10000000 must be at most",
    ),
    "a survey of a branch": (Survey, {"anchors": [1], "projection": "bulk"}, "projection = 'bulk'"),
    "rates that are watched": (
        EffectiveRates,
        {"watch_alignment": 0.5, "switch_by": 9},
        "watch_alignment = 0.5",
    ),
    "windows that overlap": (
        Amplification,
        {"anchors": [10, 20], "window": 11, "directions": 3},
        "must be window = 11 steps apart",
    ),
    "a window past the end": (
        Amplification,
        {"anchors": [95], "window": 10, "directions": 3},
        "not beyond steps - window = 90",
    ),
    "noise on some classes, all samples": (
        Experiment,
        {"noise": "sgd", "classes": 3, "batch_size": 300},
        "noise = 'sgd' with classes = 3: it is added to full-batch gradients of all classes only",
    ),
    "noise on some classes, theirs": (
        Experiment,
        {"noise": "isotropic", "classes": 3, "batch_size": 90},
        "noise = 'isotropic' with classes = 3",
    ),
    "a pair of the same": (Pair, {}, "projection = 'none': a pair compares"),
    "an odd average": (Pair, {"projection": "bulk", "average": 3}, "average = 3"),
}
SIMULATED = {
    "2·10¹⁰ steps": (
        ValleySimulation,
        {"sharpnesses": [1.99995], "crosses": [0.1]},
        "sharpnesses = 1.99995",
    ),
    "no mean square": (
        ValleySimulation,
        {"sharpnesses": [1.999999999], "crosses": [3]},
        "ηκ = 1.999999999",
    ),
    "a valley without end": (
        ValleySimulation,
        {
            "sharpnesses": [0.1],
            "crosses": [3],
            "condition": 1e9,
            "learning_rate": 1e-10,
            "cross": 3,
        },
        "sharpnesses = 0.1",
    ),
    "a batch of 10⁹": (RegressionSimulation, {"batch_size": 10**9}, "must be at most 1000 samples"),
    "GD without end": (RegressionSimulation, {"learning_rate": 1e-9}, "learning_rate = 1e-09"),
    "an overflow": (ValleySimulation, {"sharpnesses": [0.1], "crosses": [1e300]}, "crosses"),
}


@pytest.mark.parametrize(("kind", "fields", "says"), NONSENSE.values(), ids=NONSENSE)
def test_what_leads_to_nothing_is_refused(kind, fields, says):
    refused(kind, FEW | fields, says)


@pytest.mark.parametrize(("kind", "fields", "says"), SIMULATED.values(), ids=SIMULATED)
def test_a_simulation_without_end_is_refused(kind, fields, says):
    refused(kind, fields, says)


OWN = {  # of kinds of run with measurements of their own: what they need
    Survey: {"anchors": [1]},
    Curvature: {"anchors": [1]},
    Amplification: {"anchors": [1], "window": 10, "directions": 3},
    EffectiveRates: {},
}
IGNORED = {
    "budget": 2.0,
    "stop_above": 3.0,
    "period": 2,
    "subset": 0,
    "record_spans": [[3, 9]],
    "fresh_spans": [[3, 9]],
}


@pytest.mark.parametrize("name", IGNORED)
@pytest.mark.parametrize("kind", OWN, ids=[kind.kind for kind in OWN])
def test_what_a_kind_of_run_would_ignore_is_refused_and_its_default_is_not(kind, name):
    refused(kind, FEW | OWN[kind] | {name: IGNORED[name]}, f"{name} = ")
    as_it_is = kind.parse(**FEW, **OWN[kind])
    typed = {name: getattr(as_it_is, name)} | {"record_every": 10, "spectrum_every": 20}
    assert getattr(kind.parse(**FEW, **OWN[kind], **typed), name) == typed[name]


@pytest.mark.parametrize("name", ["watch_alignment", "stop_above", "record_spans", "fresh_spans"])
def test_what_a_pair_would_ignore_is_refused(name):
    bulk = FEW | {"projection": "bulk", "switch_step": 20, "watch_from": 5, "switch_from": 5}
    refused(Pair, bulk | {name: IGNORED.get(name, 0.9)}, f"{name} ")
    assert Pair.parse(**bulk, record_every=10).kind == "pair"


def test_a_rule_that_diverges_before_its_switch_is_said_in_a_sentence(tmp_path):
    own = {"learning_rate": 1e4, "steps": 40, "switch_step": 30, "seeds": (3,)}
    with pytest.raises(
        InvalidParameter, match="SGD, seed 3, diverged before its switch at step 30; type"
    ):
        switch_study(SwitchParameters.parse(profile="quick", **own), Store(tmp_path))


WITH_PERIOD = ("01_dominant_subspace", "03_full_batch_gd", "07_momentum_adam", "13_follow_ups")


@pytest.mark.parametrize("name", WITH_PERIOD)
def test_a_chapter_with_another_period_still_describes_all_of_its_runs(name, tmp_path):
    """What has no period is described without; a frozen subspace is one for all steps."""
    chapter, plan = registered()[name], Plan(Store(tmp_path))
    parameters = chapter.parameters.parse(profile="quick", period=2)
    chapter.study(parameters, plan.store, compute=plan)
    trained = [run for run in plan.missing if run.kind == "training"]
    assert {run.period for run in trained if run.refresh_every != run.steps} == {2}


def refused(kind, fields, says):
    with pytest.raises(InvalidParameter) as error:
        kind.parse(**fields)
    message = str(error.value)
    assert says in message
    assert len(message) < 300 and "\n" not in message


def test_a_phase_by_itself_has_the_same_sentences():
    with pytest.raises(InvalidParameter, match="learning_rate = -1 is not allowed"):
        Phase.parse(until=3, learning_rate=-1)
    with pytest.raises(InvalidParameter, match="untill is not a parameter"):
        Phase.parse(untill=3)


def test_lags_are_read_as_text_and_their_faults_told():
    assert AlignmentParameters.parse(lags="1, 10").lags == (1, 10)
    for lags, says in (("one", "lags = 'one'"), ("10,1", "ascending"), ("0", "from 1 on")):
        with pytest.raises(InvalidParameter) as error:
            alignment_study(
                AlignmentParameters.parse(profile="quick", lags=lags),
                compute=Plan(Store("nowhere")),
            )
        assert "lags" in str(error.value) and says in str(error.value)


@pytest.mark.parametrize("jobs", [0, -1])
def test_no_process_is_no_number_of_processes(tmp_path, jobs):
    with pytest.raises(InvalidParameter, match=f"jobs = {jobs} must be at least 1"):
        run_all([], store=Store(tmp_path), jobs=jobs)


def never(*_):
    raise AssertionError("something was computed")


LATE = {
    "sam": (sam_study, SamParameters, {"steps": 20}, "steps = 20"),
    "edge": (edge_study, EdgeParameters, {"window": 10**7}, "window = 10000000"),
    "edge window": (edge_study, EdgeParameters, {"window": 999_999}, "steps"),
    "alignment": (alignment_study, AlignmentParameters, {"lags": (1, 300)}, "lags = "),
    "valley": (valley_study, ValleyParameters, {"regression_batch_size": 10**9}, "regression_"),
}


@pytest.mark.parametrize(("study", "kind", "fields", "says"), LATE.values(), ids=LATE)
def test_a_study_tells_a_bad_value_before_its_first_run(
    study, kind, fields, says, tmp_path, monkeypatch
):
    monkeypatch.setattr(RunInProgress, "train", never)
    with pytest.raises(InvalidParameter) as error:
        study(kind.parse(profile="quick", **fields), Store(tmp_path))
    assert says in str(error.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", [n for n in registered() if n not in ("12_cost",)])
def test_every_study_describes_all_of_its_runs_first(name, tmp_path, monkeypatch):
    """The last run that is described is refused: none has been computed by then."""
    chapter = registered()[name]
    parameters, plan = chapter.at("quick").resolved(), Plan(Store(tmp_path))
    chapter.study(parameters, plan.store, compute=plan)
    last = plan.missing[-1].key
    monkeypatch.setattr(RunInProgress, "train", never)

    def refuse(experiment):
        if experiment.key == last:
            raise InvalidParameter("the last one is refused.")

    monkeypatch.setattr(memory, "check", refuse)
    with pytest.raises(InvalidParameter, match="the last one is refused"):
        chapter.study(parameters, Store(tmp_path))


def test_a_run_that_does_not_fit_says_what_to_change(tmp_path, monkeypatch):
    monkeypatch.setattr(RunInProgress, "train", never)
    large = {
        "paths": RegressionSimulation.parse(
            dimension=2000, samples=100_000, batch_size=100_000, settle_paths=10_000
        ),
        "record_every": Experiment.parse(
            **FEW | {"steps": 1_000_000}, record_every=1, spectrum_every=None
        ),
    }
    monkeypatch.setattr(memory, "available", lambda device: 2.0 * memory.GIB)
    for name, experiment in large.items():
        with pytest.raises(InvalidParameter) as error:
            Store(tmp_path).run(experiment)
        message = str(error.value)
        assert "this machine has 2.0; choose smaller values of" in message or "larger" in message
        assert name in message and len(message) < 300
    assert not list(tmp_path.iterdir())


def test_the_estimate_is_that_of_the_graphs_and_quick():
    e = Experiment.parse(**FEW)
    begun = time.process_time()
    small = memory.needed(e)
    assert time.process_time() - begun < 5
    assert memory.LIBRARIES < small < 1.5 * memory.GIB  # measured: 0.6 GiB
    dim, graph = memory.size("mlp_small", "digits_300", "mse")
    assert dim == 64 * 32 + 32 + 32 * 32 + 32 + 32 * 10 + 10
    # Of a sample: pre-activations and activations of both layers, outputs, and what their slopes keep.
    assert 4 * (64 + 10) < graph < 100 * 4 * (64 + 64 + 10)
    memory.check(e)
