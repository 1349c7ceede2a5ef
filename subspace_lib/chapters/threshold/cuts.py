"""The switch with other k, all from the same point: that of the ordinary switch rule (Q2)."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from subspace_lib.chapters.kit import says
from subspace_lib.chapters.kit.rows import in_step
from subspace_lib.chapters.kit.study import Plan, Source, present, source
from subspace_lib.chapters.kit.switch.panel import (
    LOOSE,
    PanelParameters,
    angle_in_use,
    angles_in_use,
    unresolved,
)
from subspace_lib.chapters.kit.switch.study import SwitchStudy, switch_study
from subspace_lib.chapters.kit.typed import Budget
from subspace_lib.evidence.criteria import TAIL
from subspace_lib.experiment import Dimension, Experiment, Steps
from subspace_lib.results.store import MissingRun, Store
from subspace_lib.runs.amplification import Amplification
from subspace_lib.subspace.projection import PROJECTIONS
from subspace_lib.trajectory import Trajectory, progress, tail, until

GAP = "the largest gap"


class CutParameters(PanelParameters):
    """A switch study with the ``k`` that the switch is watched with, and ``cuts``, the k of the other runs.

    Those have ``cut_steps`` steps; what is as many dimensions as ``k`` is read off the study's own runs.
    With many more the spectrum has hardly a gap, and following the subspace as exactly as elsewhere has no
    end: from ``budget_from`` dimensions on ``cut_budget`` limits what it may cost.
    """

    cuts: tuple[Dimension, ...] = Field(min_length=1)
    cut_steps: Steps
    cut_budget: Budget = None
    budget_from: Dimension = 1

    def wide(self, k: int) -> bool:
        """Whether the budget is in force."""
        return self.cut_budget is not None and k >= self.budget_from and k != self.k

    def cut(self, seed: int, projection: str, k: int, switch: int) -> Experiment:
        """SGD, measured over its last steps alone, or Dom- or Bulk-SGD from the switch on."""
        end = self.cut_steps
        fields: dict[str, Any] = {"spectrum_every": None, "fresh_spans": ((end, end),)}
        begin = int((1 - TAIL) * end) if projection == "none" else switch
        fields |= {"k": k, "projection": projection, "switch_step": begin, "steps": end}
        if self.wide(k):
            fields["budget"] = self.cut_budget
        return self.experiment(seed, **fields)

    def spectrum(self, seed: int, switch: int) -> Amplification:
        """One eigenvalue more than the largest cut, a step after the switch."""
        fields = {"anchors": (switch,), "window": 2, "steps": switch + 2}
        fields |= {"directions": max(*self.cuts, self.k) + 1, "spectrum_every": None}
        return Amplification.parse(**self.fields(seed, **fields))


@dataclass(frozen=True)
class Case:
    """A network on a data set, cut at every k.

    Attributes:
        switch: the study that the switch is from.
        runs: as they are stored, by k, projection and seed; spectra: by seed.
    """

    parameters: CutParameters
    switch: SwitchStudy
    runs: dict[tuple[int, str, int], Trajectory]
    spectra: dict[int, Trajectory]

    def at(self, k: int) -> SwitchStudy:
        """SGD, Dom-SGD and Bulk-SGD with this k, up to the last step of the cuts."""
        p, base = self.parameters, self.switch
        p = p.model_copy(update={"k": k, "steps": p.cut_steps})
        found = {
            (side, seed): until(in_step(run) if side == "none" else run, p.steps)
            for (own, side, seed), run in self.runs.items()
            if own == k
        }
        return SwitchStudy(p, found, base.switch_steps, base.triggered)

    def pairs(self, k: int, side: str) -> list[tuple[Trajectory, Trajectory]]:
        """SGD and a branch, by seed."""
        at = self.at(k)
        return list(zip(at.of("none"), at.of(side), strict=True))

    def progress(self, k: int, side: str) -> list[float]:
        """Progress, by seed."""
        return [progress(*pair) for pair in self.pairs(k, side)]

    def alignment(self, k: int) -> list[float]:
        """Late share of SGD's full-batch gradient in S_k, by seed."""
        return [tail(run, "alignment") for run in self.at(k).of("none")]

    def plain_angle(self, k: int) -> float:
        """Median over rows of the angle in use of SGD, whose alignment that is; mean over seeds."""
        return says.mean([angle_in_use(run) for run in self.at(k).of("none")])

    def plain_unresolved(self) -> list[int]:
        """The k at which that angle was not near the target."""
        target = self.parameters.target_angle
        return [k for k in self.parameters.cuts if self.plain_angle(k) > LOOSE * target]

    def angle(self, k: int) -> list[float]:
        """Median over rows of the angle in use, Dom-SGD's and Bulk-SGD's, of every seed."""
        return angles_in_use(self.at(k))

    def only_near(self) -> str:
        """With which k alone the space in use is known to be near the exact one; "" where with all."""
        vague = self.unresolved()
        near = [str(k) for k in self.parameters.cuts if k not in vague]
        if not vague:
            return ""
        return f"with k = {says.listed(near)} only" if near else "with none of them"

    def unresolved(self) -> dict[int, float]:
        """The k at which the angle in use was not near the target, and its mean over branches and seeds."""
        return unresolved(
            {k: self.angle(k) for k in self.parameters.cuts}, self.parameters.target_angle
        )

    def spectrum(self, seed: int) -> list[float]:
        """The leading eigenvalues at the switch, descending; none where the solve has not converged."""
        table = self.spectra[seed].table
        found = table[table["quantity"] == "eigenvalue"].sort_values("index")
        values = [float(value) for value in found["value"]]
        return values if all(map(math.isfinite, values)) else []

    def rules(self, fractions: Sequence[float]) -> dict[str, list[int | None]]:
        """Where rules cut the spectrum, by seed: at a fraction of λ₁, where λ_j/λ_{j+1} is largest.

        None where the spectrum does not tell.
        """
        spectra = [self.spectrum(seed) for seed in self.parameters.seeds]
        found: dict[str, list[int | None]] = {
            f"λ ≥ {part:g} λ₁": [_at_least(part, s) for s in spectra] for part in fractions
        }
        return found | {GAP: [self._largest_gap(s) for s in spectra]}

    def _largest_gap(self, spectrum: list[float]) -> int | None:
        """Of the gaps from the smallest cut to the end of the spectrum, which is behind the largest."""
        ratios = {k: ratio(spectrum, k) for k in range(min(self.parameters.cuts), len(spectrum))}
        known = [k for k, value in ratios.items() if math.isfinite(value)]
        return max(known, key=lambda k: ratios[k]) if known else None

    def nearest(self, k: int) -> int:
        """The cut that was run nearest to a k."""
        return min(self.parameters.cuts, key=lambda cut: abs(cut - k))

    def stored(self) -> list[Trajectory]:
        """Every run."""
        return [*self.switch.trajectories.values(), *self.runs.values(), *self.spectra.values()]


def cut_study(p: CutParameters, store: Store | None = None, *, compute: bool | Plan = True) -> Case:
    """Load a case, or compute what is missing of it; raises as ``switch_study`` does."""
    found, lacking = _cut_study(p, store, compute)
    if lacking is not None:
        raise lacking
    return found


def some_cuts(p: CutParameters, store: Store | None = None) -> Case | None:
    """A stored case without the k that lack a run; None where no k but the study's own has all of them."""
    with contextlib.suppress(MissingRun):
        found, _ = _cut_study(p, store, False)
        return found if {*found.parameters.cuts} - {p.k} else None
    return None


def _cut_study(
    p: CutParameters, store: Store | None, compute: bool | Plan
) -> tuple[Case, MissingRun | None]:
    base, get = switch_study(p, store, compute=compute), source(store, compute)
    spectra = {seed: get(p.spectrum(seed, base.switch_steps[seed])) for seed in p.seeds}
    found, lacking = present({k: k for k in p.cuts}, lambda k: _branches(p, base, k, get))
    runs = {(k, side, seed): run for k, own in found.items() for (side, seed), run in own.items()}
    return Case(p.model_copy(update={"cuts": tuple(found)}), base, runs, spectra), lacking


def _branches(
    p: CutParameters, base: SwitchStudy, k: int, get: Source
) -> dict[tuple[str, int], Trajectory]:
    """The runs with one k, by projection and seed."""
    if k == p.k:
        return base.trajectories
    switches = base.switch_steps
    return {
        (side, seed): get(p.cut(seed, side, k, switches[seed]))
        for seed in p.seeds
        for side in PROJECTIONS
    }


def _at_least(part: float, spectrum: list[float]) -> int | None:
    """How many eigenvalues are at least so large a part of the first."""
    return sum(value >= part * spectrum[0] for value in spectrum) if spectrum else None


def height(spectrum: Sequence[float], k: int) -> float:
    """λ_k/λ₁; NaN where the spectrum has no λ_k."""
    return spectrum[k - 1] / spectrum[0] if len(spectrum) >= k else math.nan


def ratio(spectrum: Sequence[float], k: int) -> float:
    """λ_k/λ_{k+1}; NaN where the spectrum has not both, or the second is not positive."""
    return spectrum[k - 1] / spectrum[k] if len(spectrum) > k and spectrum[k] > 0 else math.nan
