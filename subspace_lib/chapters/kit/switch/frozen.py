"""Dom-X with its subspace kept for some steps, or for good: whether its loss moves as that turns."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from subspace_lib.chapters.kit import says
from subspace_lib.chapters.kit.study import Plan, source
from subspace_lib.chapters.kit.switch.study import SwitchParameters, switch_step
from subspace_lib.experiment import Experiment
from subspace_lib.results.store import Store
from subspace_lib.trajectory import Trajectory, tail_loss

RISEN = 0.01  # of the loss at the switch: a rise that shows
TAKEN = 0.25  # of a rise of the loss: what may be left without its cause


def kept(run: Experiment, every: int, **more: Any) -> Experiment:
    """This run with one subspace, refreshed every so many steps from its switch on and for the last row."""
    fields = {name: getattr(run, name) for name in type(run).model_fields}
    end = ((run.steps, run.steps),)
    own = {"refresh_every": every, "fresh_spans": end, "period": 1, "budget": None}
    return Experiment.parse(**fields | own | more)


def frozen(run: Experiment) -> Experiment:
    """This run with the subspace of its switch to the end."""
    return kept(run, run.steps)


def frozen_apart(run: Experiment) -> Experiment:
    """This run with the subspaces that it follows in turn; it ends where all that was learned is lost."""
    return kept(run, run.steps, period=run.period, stop_above=1.0)


def frozen_runs(
    parameters: SwitchParameters,
    store: Store | None = None,
    *,
    compute: bool | Plan = True,
    how: Callable[[Experiment], Experiment] = frozen,
) -> dict[int, Trajectory]:
    """Dom-X by seed, with the subspace of the switch that X has found."""
    p, get = parameters, source(store, compute)
    plain = {seed: get(p.run(seed, "none")) for seed in p.seeds}
    return {
        seed: get(how(p.run(seed, "dominant", switch_step(p, run)[0])))
        for seed, run in plain.items()
    }


def frozen_apart_runs(
    parameters: SwitchParameters, store: Store | None = None, *, compute: bool | Plan = True
) -> dict[int, Trajectory]:
    """Dom-X by seed, with the subspaces of even and of odd steps frozen apart."""
    return frozen_runs(parameters, store, compute=compute, how=frozen_apart)


def what_is_left(triples: Iterable[tuple[float, Trajectory, Trajectory]]) -> str:
    """How much a frozen subspace leaves of the rise of Dom-X's loss, and so whether that needs the turn.

    Args:
        triples: loss at the switch, Dom-X, and the same with its subspace frozen; by seed.
    """
    each = list(triples)
    if not all(run.complete and still.complete for _, run, still in each):
        return "Not all of these runs, and of those with a frozen subspace, come to their end."
    if not all(risen(run, at) for at, run, _ in each):
        return "It does not rise in every seed, so nothing is said of why."
    left = [rise(still, at) / rise(run, at) for at, run, still in each]
    told = (
        f"With the subspace frozen at the switch, {says.mean_of(left, says.share)} of that rise is left. "
        f"From the switch to the last row the sharpness {sharpness(still for *_, still in each)} then, and "
        "the sine of the largest angle between the exact and the frozen subspace comes to "
        f"{says.mean_of(_turned(still) for *_, still in each)}. "
    )
    if all(share <= TAKEN for share in left):
        return f"{told}So most of the rise is due to the turn; chapter 07b has what that does."
    return f"{told}So the turn of the subspace is not the whole cause."


def risen(run: Trajectory, at: float | None = None) -> bool:
    """Whether the loss of Dom-X ends above that at the switch, its first row's by default."""
    at = _first(run) if at is None else at
    return run.complete and tail_loss(run) > (1 + RISEN) * at


def rise(run: Trajectory, at: float | None = None) -> float:
    """By how much the loss of Dom-X rises from that at the switch, its first row's by default."""
    return tail_loss(run) - (_first(run) if at is None else at)


def _first(run: Trajectory) -> float:
    return float(run.table["train_loss"].iloc[0])


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
