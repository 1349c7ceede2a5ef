"""The switch at the edge of stability: full-batch X, then Dom-X and Bulk-X (C6, and half of C7)."""

from __future__ import annotations

import math
from typing import Any, Literal

from IPython.display import Markdown
from pydantic import Field

from subspace_lib.chapters.kit.rows import rows, spans, thinned
from subspace_lib.chapters.kit.switch.judge import progress_part
from subspace_lib.chapters.kit.switch.study import SwitchParameters, SwitchStudy
from subspace_lib.chapters.kit.table import table
from subspace_lib.evidence import criteria
from subspace_lib.evidence.criterion import Criterion
from subspace_lib.evidence.verdicts import Part, part
from subspace_lib.experiment import Every, Experiment, Period, Rate, Steps
from subspace_lib.runs.training import SPECTRUM
from subspace_lib.trajectory import Trajectory, progress, tail_loss, window

# Eigenvalues are measured anew: of the rows all along, at one in so many; in the last 2%, steps apart.
ANEW, LATE = 3, 9


class EdgeSwitchParameters(SwitchParameters):
    """Parameters of a switch at the edge, at a fixed step.

    A row every ``record_every`` steps, an odd number, so that both phases of an oscillation of period 2 are
    seen; and at every step that a criterion averages over, or where these are a hundred, at one in
    ``window_every``, odd too.
    Eigenvalues are measured anew every ``sharpness_every`` steps before the switch, and now and then
    otherwise. At the edge the iterate bounces between the walls of a valley, so that the subspaces of even
    and of odd steps are followed apart (``period`` 2).
    """

    learning_rate: Rate = 0.1
    batch_size: int | Literal["full"] = "full"
    k: int = Field(10, ge=1, lt=SPECTRUM, description="below the length of a recorded spectrum")
    steps: Steps = 3600
    switch_alignment: None = None
    switch_step: int = Field(600, ge=1, le=1_000_000)
    record_every: Every = 25
    window_every: Every = 1
    sharpness_every: int = Field(1, ge=1, le=1_000_000)
    spectrum_every: int | None = None
    period: Period = 2

    def experiment(self, seed: int, **fields: Any) -> Experiment:
        """One run of the study, with its rows."""
        s, end, every = self.switch_step, fields.get("steps", self.steps), self.record_every
        before = (s - criteria.EDGE_WINDOW, s)
        bounce = (s + criteria.BOUNCE[0], s + criteria.BOUNCE[1])
        last = (math.ceil((1 - criteria.TAIL) * end), end)
        measured = [(step, step) for step in range(before[0], s + 1, self.sharpness_every)]
        measured += [(step, step) for step in range(*last, LATE)]
        long = [*thinned(self.window_every, before), *thinned(self.window_every, bounce)]
        start = (max(before[0], s - criteria.EDGE_START + 1), s)
        own = rows(every, (0, end), *long, start, last)
        own["fresh_spans"] = spans(ANEW * every, (0, end), *measured)
        return super().experiment(seed, **own | fields)


def level_at_switch(study: SwitchStudy, seed: int) -> float:
    """L_s of X: the mean loss over the 10 steps up to the switch, in which it bounces."""
    s = study.switch_steps[seed]
    run = study.trajectories["none", seed]
    return window(run, "train_loss", s - criteria.EDGE_START + 1, s)


def gains(plain: Trajectory, dom: Trajectory, start: float) -> tuple[float, float]:
    """Dom-X's gain as its bounce dies out, and from there to the end, over what X gains from L_s.

    (L_s − L_b)/(L_s − L_X) and (L_b − L_Dom)/(L_s − L_X), L_b the mean loss of Dom-X over the steps 100 …
    200 after the switch, L_X and L_Dom those over the last 2%. The second is clipped as ``progress`` is,
    and −1 where Dom-X diverged; both are NaN where X made no progress.
    """
    whole = progress(plain, dom, start)
    if math.isnan(whole):
        return math.nan, math.nan
    gained = start - tail_loss(plain)
    switch = dom.experiment.switch_step
    level = window(dom, "train_loss", *(switch + step for step in criteria.BOUNCE))
    share = (start - level) / gained
    if not dom.complete:
        return share, criteria.DIVERGED_PROGRESS
    low, high = criteria.PROGRESS_CLIP
    return share, min(high, max(low, (level - tail_loss(dom)) / gained))


def edge_parts(
    study: SwitchStudy,
    where: str = "",
    dom: Criterion = criteria.DOM_EDGE_GAIN,
    bulk: Criterion = criteria.BULK_PROGRESS,
) -> list[Part]:
    """Dom-X's gain once its bounce has died out, and Bulk-X's progress, one number per seed each."""
    starts = [level_at_switch(study, seed) for seed in study.parameters.seeds]
    pairs = zip(study.of("none"), study.of("dominant"), starts, strict=True)
    later = [gains(*pair)[1] for pair in pairs]
    says = f"gain of {study.name('dominant')} after its bounce, over that of {study.name('none')}"
    why = progress_part(study, "dominant", at_switch=starts).note
    return [
        part(f"{says}{where}", later, dom, why),
        progress_part(study, "bulk", where, bulk, at_switch=starts),
    ]


def bounce(study: SwitchStudy) -> Markdown:
    """By seed: L_s, Dom-X after its bounce and at the end, and its gains as parts of X's; see ``gains``."""
    dom, x, rows = study.name("dominant"), study.name("none"), []
    seeds = study.parameters.seeds
    for seed, plain, run in zip(seeds, study.of("none"), study.of("dominant"), strict=True):
        start, switch = level_at_switch(study, seed), study.switch_steps[seed]
        level = window(run, "train_loss", *(switch + step for step in criteria.BOUNCE))
        as_it_dies, later = gains(plain, run, start)
        rows.append(
            {
                "seed": seed,
                f"L({x}) up to the switch": f"{start:.4f}",
                f"L({dom}) after its bounce": f"{level:.4f}",
                f"L({dom}) at the end": f"{tail_loss(run):.4f}",
                f"L({x}) at the end": f"{tail_loss(plain):.4f}",
                f"gain of {dom} as the bounce dies out": f"{as_it_dies:.3f}",
                "gain after that": f"{later:.3f}",
            }
        )
    first, last = criteria.BOUNCE
    return table(
        rows,
        note=f"Up to the switch: mean over {criteria.EDGE_START} steps. After its bounce: over the steps "
        f"{first} … {last} after the switch. At the end: over the last {criteria.TAIL:.0%}. Gains over "
        f"what {x} gains from the switch to the end.",
    )
