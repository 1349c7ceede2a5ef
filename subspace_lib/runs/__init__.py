"""Kinds of run, behind one protocol (``runs.protocol``): what is described, and what computes it."""

from __future__ import annotations

from typing import Any

from subspace_lib.experiment import SOURCES, Experiment, RunDescription
from subspace_lib.parameters import InvalidParameter
from subspace_lib.runs.amplification import Amplification, AmplificationRun
from subspace_lib.runs.curvature import Curvature, CurvatureRun
from subspace_lib.runs.pair import Pair, PairRun
from subspace_lib.runs.protocol import RunInProgress
from subspace_lib.runs.rates import EffectiveRates, RatesRun
from subspace_lib.runs.simulation import RegressionSimulation, SimulationRun, ValleySimulation
from subspace_lib.runs.substitute import Substitute, SubstituteRun
from subspace_lib.runs.survey import Survey, SurveyRun
from subspace_lib.runs.training import Run
from subspace_lib.runs.trials import Trials, TrialsRun
from subspace_lib.runs.weighted import Averaged, AveragedRun, Weighted, WeightedRun

__all__ = ["KINDS", "described", "start"]

# By ``kind``: the description, and the run in progress that it starts.
KINDS: dict[str, tuple[type[RunDescription], type[RunInProgress]]] = {
    description.kind: (description, run)
    for description, run in (
        (Experiment, Run),
        (Survey, SurveyRun),
        (Curvature, CurvatureRun),
        (Pair, PairRun),
        (Substitute, SubstituteRun),
        (EffectiveRates, RatesRun),
        (Amplification, AmplificationRun),
        (Weighted, WeightedRun),
        (Averaged, AveragedRun),
        (Trials, TrialsRun),
        (ValleySimulation, SimulationRun),
        (RegressionSimulation, SimulationRun),
    )
}


def start(experiment: RunDescription) -> RunInProgress:
    """The run that the description describes, at its beginning."""
    return KINDS[experiment.kind][1](experiment)


def described(description: dict[str, Any]) -> RunDescription:
    """What a ``description.json`` describes.

    Raises:
        InvalidParameter: it names no kind of run, or has other parameters than that kind; or it was
            described with functions of your own whose source is another by now.
    """
    fields = dict(description)
    for name in ("data_sha256", "numerics"):
        fields.pop(name, None)
    sources = fields.pop(SOURCES, {})
    kind = fields.pop("kind", None)
    if kind not in KINDS:
        raise InvalidParameter(
            f"kind = {kind!r} is not a kind of run; the kinds are {', '.join(KINDS)}."
        )
    found = KINDS[kind][0].parse(**fields)
    now = found.describe().get(SOURCES, {})
    for path, sha256 in sources.items():
        if now.get(path) != sha256:
            raise InvalidParameter(
                f"{path} has changed since this run was described: the source had the SHA-256 "
                f"{sha256[:12]}…; put that version back, or describe the run anew."
            )
    return found
