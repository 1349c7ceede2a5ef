"""Chapter 09: other losses and networks."""

from subspace_lib.chapters.kit.chapter import Chapter
from subspace_lib.chapters.losses_and_networks.judge import CLAIMS, judge
from subspace_lib.chapters.losses_and_networks.study import (
    LossesParameters,
    losses_study,
    tasks,
)

CHAPTER = Chapter("09_losses_and_networks", LossesParameters(), losses_study, judge, CLAIMS, tasks)
