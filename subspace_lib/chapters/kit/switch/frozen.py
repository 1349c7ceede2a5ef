"""Dom-X with its subspace kept for some steps, or for good: whether its loss moves as that turns."""

from __future__ import annotations

from collections.abc import Iterable

from subspace_lib.chapters.kit import says
from subspace_lib.chapters.kit.study import Plan, source
from subspace_lib.chapters.kit.switch.study import SwitchParameters, switch_step
from subspace_lib.evidence import criteria
from subspace_lib.experiment import Experiment
from subspace_lib.results.store import Store
from subspace_lib.trajectory import Trajectory, tail_loss

TAKEN = criteria.F8_LEFT.at_most  # of a rise of the loss: what may be left without its cause


def kept(run: Experiment, every: int) -> Experiment:
    """This run with one subspace, refreshed every so many steps from its switch on and for the last row."""
    fields = {name: getattr(run, name) for name in type(run).model_fields}
    end = ((run.steps, run.steps),)
    own = {"refresh_every": every, "fresh_spans": end, "period": 1, "budget": None}
    return Experiment.parse(**fields | own)


def frozen(run: Experiment) -> Experiment:
    """This run with the subspace of its switch to the end."""
    return kept(run, run.steps)


def frozen_runs(
    parameters: SwitchParameters, store: Store | None = None, *, compute: bool | Plan = True
) -> dict[int, Trajectory]:
    """Dom-X by seed, with the subspace of the switch that X has found."""
    p, get = parameters, source(store, compute)
    plain = {seed: get(p.run(seed, "none")) for seed in p.seeds}
    return {
        seed: get(frozen(p.run(seed, "dominant", switch_step(p, run)[0])))
        for seed, run in plain.items()
    }


def what_is_left(triples: Iterable[tuple[float, Trajectory, Trajectory]]) -> str:
    """How much a frozen subspace leaves of the rise of Dom-X's loss, and so whether the turn is its cause.

    Args:
        triples: loss at the switch, Dom-X, and the same with its subspace frozen; by seed.
    """
    whole = [each for each in triples if each[1].complete and each[2].complete]
    if not whole:
        return "With the subspace frozen at the switch it diverges."
    left = [(tail_loss(still) - at) / (tail_loss(run) - at) for at, run, still in whole]
    told = (
        f"With the subspace frozen at the switch, {says.mean_of(left, says.share)} of that rise is left, "
        f"and the sharpness {sharpness(still for *_, still in whole)}. At the end the exact subspace is "
        f"off the frozen one by a sine of {says.mean_of(_turned(still) for *_, still in whole)}. "
    )
    if all(share <= TAKEN for share in left):
        return told + (
            "So the loss rises because the projection turns with the subspace: chapter 07b "
            "derives how."
        )
    return told + "So the turn of the subspace is not the whole cause."


def rise(run: Trajectory) -> float:
    """By how much the loss of Dom-X rises from the switch to its end."""
    return tail_loss(run) - float(run.table["train_loss"].iloc[0])


def sharpness(runs: Iterable[Trajectory]) -> str:
    """How λ₁ moves from the first to the last row that has it, in the mean: "falls from 30 to 10"."""
    before, after = zip(*map(sharpness_ends, runs), strict=True)
    return says.moves(says.mean(before), says.mean(after))


def sharpness_ends(run: Trajectory) -> tuple[float, float]:
    """λ₁ at the first and at the last row that has it."""
    known = run.table["eigenvalue_01"].dropna()
    return float(known.iloc[0]), float(known.iloc[-1])


def _turned(run: Trajectory) -> float:
    """Sine of the angle between a frozen subspace and that of the refresh at the last row."""
    return float(run.table["turn"].iloc[-1])
