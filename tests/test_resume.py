"""A run goes on from any of its states as if nothing had happened, also from the last."""

import pandas as pd
import pytest

from subspace_lib.experiment import Experiment
from subspace_lib.results.checkpoint import read_tensors, write_tensors
from subspace_lib.runs.amplification import Amplification, AmplificationRun
from subspace_lib.runs.curvature import Curvature, CurvatureRun
from subspace_lib.runs.pair import Pair, PairRun
from subspace_lib.runs.rates import EffectiveRates, RatesRun
from subspace_lib.runs.simulation import SimulationRun, ValleySimulation
from subspace_lib.runs.substitute import SPACES, Substitute, SubstituteRun
from subspace_lib.runs.survey import Survey, SurveyRun
from subspace_lib.runs.training import Run
from subspace_lib.runs.trials import Trials, TrialsRun
from subspace_lib.runs.weighted import Averaged, AveragedRun, Weighted, WeightedRun

pytestmark = pytest.mark.usefixtures("narrow_mlp")

SMALL = {
    "dataset": "digits",
    "k": 2,
    "classes": 2,
    "steps": 6,
    "record_every": 3,
    "spectrum_every": 300,
    "guards": 2,
    "target_angle": 0.2,
}
SWITCHED = SMALL | {"switch_step": 3, "projection": "bulk"}
FOLLOWED = {name: value for name, value in SWITCHED.items() if name != "spectrum_every"}
FOLLOWED |= {"projection": "dominant"}
BEFORE = [{"until": 3, "optimizer": "sgd", "learning_rate": 0.02}]
FULL = {"batch_size": 302, "learning_rate": 0.05}  # all samples of two classes of the digits
RUNS = {
    "plain": (Run, Experiment(**SMALL | {"spectrum_every": 6})),
    "watched": (Run, Experiment(**SMALL, watch_alignment=0.3, watch_from=1, switch_from=2)),
    "bulk": (Run, Experiment(**SWITCHED)),
    "dominant, even and odd apart": (
        Run,
        Experiment(**SWITCHED | {"projection": "dominant", "period": 2}),
    ),
    "rows in spans": (Run, Experiment(**SWITCHED, record_spans=[[3, 3], [6, 6]])),
    "heavy ball": (Run, Experiment(**SWITCHED, optimizer="momentum", before=BEFORE)),
    "adam, gradient projected": (
        Run,
        Experiment(**SWITCHED, optimizer="adam", learning_rate=1e-3, projected="gradient"),
    ),
    "sam": (Run, Experiment(**SWITCHED, optimizer="sam")),
    "rmsprop": (Run, Experiment(**SMALL, optimizer="rmsprop", learning_rate=1e-3)),
    "noisy": (
        Run,
        Experiment(**SWITCHED | {"classes": 10, "batch_size": 1500, "steps": 5}, noise="sgd"),
    ),
    "diverging": (Run, Experiment(**SWITCHED | {"learning_rate": 1e8})),
    "above its ceiling": (
        Run,
        Experiment(**SMALL | {"learning_rate": 3.0}, optimizer="adam", stop_above=1.5),
    ),
    "survey": (SurveyRun, Survey(**SMALL, anchors=(1, 4), lags=(2,), window=1)),
    "diverging survey": (
        SurveyRun,
        Survey(**SMALL | {"learning_rate": 1e4}, anchors=(1, 5), window=1),
    ),
    "curvature": (
        CurvatureRun,
        Curvature(**SMALL, anchors=(1, 4, 6), lanczos_steps=5, probes=2, pyhessian=1),
    ),
    "diverging curvature": (
        CurvatureRun,
        Curvature(**SMALL | {"learning_rate": 1e4}, anchors=(1, 5), lanczos_steps=3, probes=2),
    ),
    "pair": (PairRun, Pair(**SWITCHED | FULL | {"record_every": 2}, average=2)),
    "diverging pair": (PairRun, Pair(**SWITCHED | {"learning_rate": 1e4}, average=2)),
    **{
        f"{space} in the place of S_k": (
            SubstituteRun,
            Substitute(**FOLLOWED, space=space, batches=3, refresh_every=2),
        )
        for space in SPACES
    },
    "diverging in a random space": (
        SubstituteRun,
        Substitute(**FOLLOWED | {"learning_rate": 1e4, "projection": "bulk"}, space="random"),
    ),
    "simulation": (
        SimulationRun,
        ValleySimulation(paths=5, settle_paths=20, steps=300, switch_step=100),
    ),
    "rates": (
        RatesRun,
        EffectiveRates(**SMALL, optimizer="adam", learning_rate=1e-3, beta=0.0, refresh_every=2),
    ),
    "weighted": (WeightedRun, Weighted(**SMALL, switch_step=2, dominant=0.5, bulk=2.0)),
    "averaged": (
        AveragedRun,
        Averaged(**SMALL | {"classes": 10, "batch_size": 1500, "steps": 6}, switch_step=2, renew=2),
    ),
    "trials": (TrialsRun, Trials(**SMALL, anchors=(0, 2, 5), batches=2)),
    "windows": (
        AmplificationRun,
        Amplification(**SMALL, optimizer="adam", anchors=(1, 4), window=2, directions=3),
    ),
}


def through_a_file(path, state):
    write_tensors(path, state)
    return read_tensors(path)


# Each kind of run from every state; further settings from the last two, where the status is decided.
EVERY = (
    *(
        "bulk",
        "diverging",
        "survey",
        "curvature",
        "pair",
        "simulation",
        "rates",
        "trials",
        "windows",
    ),
    *("gauss_newton in the place of S_k", "adam_hessian in the place of S_k"),
)


@pytest.mark.parametrize("name", RUNS)
def test_a_run_resumes_from_its_states(name, tmp_path):
    kind, experiment = RUNS[name]
    whole, states = kind(experiment), []
    whole.train(lambda run: states.append(through_a_file(tmp_path / "state", run.state())))
    assert whole.status == "complete" or whole.status.startswith("diverged at step ")
    expected = whole.table().drop(columns="seconds", errors="ignore")
    for state in states if name in EVERY else states[-2:]:
        again = kind(experiment)
        again.load_state(state)
        again.train()
        assert again.status == whole.status
        assert (again.step, again.trigger_step) == (whole.step, whole.trigger_step)
        found = again.table().drop(columns="seconds", errors="ignore")
        pd.testing.assert_frame_equal(found, expected, check_exact=True)


def test_the_runs_above_end_in_both_ways():
    ends = {}
    for name in (
        "diverging",
        "above its ceiling",
        "diverging survey",
        "diverging curvature",
        "diverging pair",
    ):
        kind, experiment = RUNS[name]
        run = kind(experiment)
        run.train()
        ends[name] = run.status
    assert all(status.startswith("diverged at step ") for status in ends.values()), ends
