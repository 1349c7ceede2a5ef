"""Watching the alignment of the full-batch gradient for the step at which training has settled."""

from __future__ import annotations

import math
from collections.abc import Sized

import torch
from torch import Tensor

EMA = 0.9  # factor per step of the moving average
EVERY = 10  # steps from one coarse look to the next
MARGIN = 0.02  # below the threshold: there the coarse average gives alarm
BACK = 100  # steps that are watched once more after an alarm, at least
CALM = 200  # steps without an average above that level, after which watching is coarse again


class Watch:
    """The moving average of χ_k(g), a full-batch gradient for each value, and when it exceeds a threshold.

    Far below the threshold every tenth step is looked at. Once that coarse average comes within 0.02 of
    the threshold, the last 100 to 200 steps are run once more and watched at every step, as those that
    follow: after 100 steps the average has forgotten how it began, so the step that is found is that of
    watching everywhere.

    Args:
        threshold: of the average; begin: first step watched.
        earliest: first step at which it may exceed; latest: step that counts where it has not.

    Attributes:
        average: the present one; dense: whether every step is watched.

    Source: the switch of Dom-SGD and Bulk-SGD, arXiv 2405.16002, section 3; its step by the public
    replication's threshold (0.95, factor 0.9).
    """

    def __init__(self, threshold: float, begin: int, earliest: int, latest: int | None):
        self.threshold, self.begin = threshold, begin
        self.earliest, self.latest = earliest, latest
        self.average, self.dense = math.nan, False
        self._last_high = -1  # last step with an average near the threshold

    def due(self, step: int) -> bool:
        """Whether the alignment is wanted at this step."""
        return step >= self.begin and (self.dense or (step - self.begin) % EVERY == 0)

    def keeps(self, step: int, kept: Sized) -> bool:
        """Whether watching may have to go on from this step once more, where these points are kept."""
        return not self.dense and (not kept or (step - self.begin) % BACK == 0)

    def note(self, step: int, alignment: float) -> bool:
        """Whether the average has exceeded the threshold at this step, which is watched densely."""
        factor = EMA if self.dense else EMA**EVERY
        old = alignment if math.isnan(self.average) else self.average
        self.average = factor * old + (1 - factor) * alignment
        if self.average > self.threshold - MARGIN:
            self._last_high = step
        if self.dense and step - self._last_high > CALM:
            self.dense = False
        return self.dense and step >= self.earliest and self.average > self.threshold

    @property
    def alarmed(self) -> bool:
        """Whether the last steps have to be watched once more, at every step."""
        return not self.dense and self.average > self.threshold - MARGIN

    def sharpen(self, step: int) -> None:
        """Watch every step from this one on."""
        self.dense, self._last_high = True, step
        if step == self.begin:
            self.average = math.nan

    def state(self) -> Tensor:
        """What the answers depend on, float64 (3,)."""
        return torch.tensor([self.average, self.dense, self._last_high], dtype=torch.float64)

    def load_state(self, state: Tensor) -> None:
        """Continue from ``state()``."""
        average, dense, last_high = state.tolist()
        self.average, self.dense, self._last_high = average, bool(dense), int(last_high)
