"""SGD, Dom-SGD and Bulk-SGD (C2, C3), and the same where the paper's settings are uncertain (F6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import Field

from subspace_lib.chapters.kit.chapter import Stages
from subspace_lib.chapters.kit.noise import (
    alignment_again,
    alignment_before,
    alignment_without,
    there_and_back,
)
from subspace_lib.chapters.kit.study import SMALL, Plan, by_seed, described_first, source
from subspace_lib.chapters.kit.switch.judge import late_gap
from subspace_lib.chapters.kit.switch.study import SwitchParameters, SwitchStudy, switch_study
from subspace_lib.evidence import criteria
from subspace_lib.experiment import Seed
from subspace_lib.results.store import MissingRun, Store
from subspace_lib.trajectory import Trajectory, progress, tail

PIXELS = {
    "unit": "pixels as they are",
    "standardized": "standardized pixels",
    "per_pixel": "by pixel",
    "tokens": "tokens",  # of which there is no other kind
    "none": "inputs as they are",
}
OTHER_PIXELS = {"unit": "standardized", "standardized": "unit", "per_pixel": "standardized"}
STALE = 500  # steps for which the stale basis is left as it is


class DomBulkParameters(SwitchParameters):
    """Parameters of chapter 02: those of a switch study, the seed of F6, and SGD's steps after GD there."""

    QUICK: ClassVar[dict[str, Any]] = {
        **SwitchParameters.QUICK,
        "model": SMALL,
        "learning_rate": 0.08,
        "switch_step": 250,
        "record_every": 50,
        "spectrum_every": 250,
        "setting_seed": 0,
        "again_steps": 100,
        "window_every": 10,
    }

    seeds: tuple[Seed, ...] = Field((11, 12, 13, 14, 15), min_length=1)
    setting_seed: Seed | None = Field(
        None,
        description="of the runs with other settings; None: the second of the seeds, or the only one",
    )
    other_settings: bool = True
    again_steps: int = Field(criteria.AGAIN, ge=1, le=1_000_000)
    window_every: int = Field(
        1, ge=1, le=1_000_000, description="steps between rows of F6's windows"
    )

    def label(self) -> str:
        """Pixels and learning rate."""
        return f"{PIXELS[self.preprocessing]}, η = {self.learning_rate:g}"


@dataclass(frozen=True)
class Setting:
    """One seed's runs with one preprocessing and learning rate: the switch, and C4's there and back."""

    switch: SwitchStudy
    noise: dict[str, Trajectory]

    def runs(self) -> list[Trajectory]:
        """Those of the switch, and those of C4."""
        return [*self.switch.trajectories.values(), *self.noise.values()]

    def quantities(self) -> dict[str, float]:
        """What C1 to C4 are judged by, by name."""
        (plain,), (dom,), (bulk,) = map(self.switch.of, ("none", "dominant", "bulk"))
        return {
            "late alignment": tail(plain, "alignment"),
            "late λₖ/λₖ₊₁": late_gap(plain),
            "progress(Dom-SGD)": progress(plain, dom),
            "progress(Bulk-SGD)": progress(plain, bulk),
            "alignment before GD (C4)": alignment_before(self.noise["before"]),
            "under GD (C4)": alignment_without(self.noise["GD"]),
            "under SGD again (C4)": alignment_again(self.noise["back"]),
        }


@dataclass(frozen=True)
class DomBulkStudy(SwitchStudy):
    """The switch study, and what is around it.

    Attributes:
        settings: by pixels and learning rate, the study's own first; empty where a run of them is missing.
        stale: Dom-SGD at the doubled learning rate with a basis that is left as it is for 500 steps.
    """

    parameters: DomBulkParameters
    settings: dict[str, Setting]
    stale: Trajectory | None

    def runs(self) -> list[Trajectory]:
        """Every run of the study, once."""
        found = list(self.trajectories.values())
        for setting in self.settings.values():
            found += setting.runs()
        found += [self.stale] if self.stale is not None else []
        return list({run.experiment.key: run for run in found}.values())

    def doubled(self) -> dict[str, Trajectory]:
        """Dom-SGD at the doubled learning rate by the kind of its basis: followed, or stale."""
        if self.stale is None:
            return {}
        *_, setting = self.settings.values()
        (followed,), every = setting.switch.of("dominant"), self.stale.experiment.refresh_every
        return {"followed": followed, f"refreshed every {every} steps": self.stale}


@described_first
def dom_bulk_study(
    parameters: DomBulkParameters, store: Store | None = None, *, compute: bool | Plan = True
) -> DomBulkStudy:
    """Load the study, or compute what is missing of it; raises as ``switch_study`` does.

    With ``compute=False`` C2 and C3 do not wait for F6: what that lacks is left out. Without
    ``other_settings`` F6 has no runs.
    """
    p = parameters.resolved()
    switch = switch_study(p, store, compute=compute)
    settings: dict[str, Setting] = {}
    stale = None
    if not p.other_settings:
        return DomBulkStudy(p, switch.trajectories, switch.switch_steps, switch.triggered, {}, None)
    try:
        settings = {q.label(): setting_study(q, store, compute=compute) for q in uncertain(p)}
        stale = stale_run(uncertain(p)[-1], store, compute=compute)
    except MissingRun:
        settings = {}
    return DomBulkStudy(
        p, switch.trajectories, switch.switch_steps, switch.triggered, settings, stale
    )


def uncertain(p: DomBulkParameters) -> list[DomBulkParameters]:
    """The parameters as they are, with other pixels, and with 2η, all for the one seed of F6.

    A loss without ½ at η is ours at 2η.
    """
    other = OTHER_PIXELS.get(p.preprocessing)
    pixels: list[dict[str, Any]] = [{"preprocessing": other}] if other else []
    changes = [{}, *pixels, {"learning_rate": 2 * p.learning_rate}]
    seed = p.setting_seed if p.setting_seed is not None else p.seeds[:2][-1]
    return [p.model_copy(update={"seeds": (seed,), **change}) for change in changes]


def setting_study(
    p: DomBulkParameters, store: Store | None = None, *, compute: bool | Plan = True
) -> Setting:
    """The runs of one setting."""
    switch, (seed,) = switch_study(p, store, compute=compute), p.seeds
    get, step = source(store, compute), switch.switch_steps[seed]
    return Setting(switch, there_and_back(p, get, seed, step, p.again_steps, p.window_every))


def stale_run(
    p: DomBulkParameters, store: Store | None = None, *, compute: bool | Plan = True
) -> Trajectory:
    """Dom-SGD from the same switch, its basis refreshed every 500 steps (a tenth of a short run)."""
    switch, (seed,) = switch_study(p, store, compute=compute), p.seeds
    rare = p.model_copy(update={"refresh_every": max(1, min(STALE, p.steps // 10))})
    return source(store, compute)(rare.run(seed, "dominant", switch.switch_steps[seed]))


def tasks(parameters: DomBulkParameters) -> Stages:
    """C2's and C3's runs seed by seed; then F6's, setting by setting; then the stale basis."""
    seeds = [(switch_study, p) for p in by_seed(parameters)]
    if not parameters.other_settings:
        return [seeds]
    settings = [(setting_study, p) for p in uncertain(parameters)]
    return seeds, settings, [(stale_run, uncertain(parameters)[-1])]
