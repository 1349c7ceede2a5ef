"""Chapter 10: test loss and accuracy of X, Dom-X and Bulk-X."""

from subspace_lib.chapters.generalization.judge import CLAIMS, judge
from subspace_lib.chapters.generalization.study import (
    GeneralizationParameters,
    generalization_study,
    tasks,
)
from subspace_lib.chapters.kit.chapter import Chapter

CHAPTER = Chapter(
    "10_generalization", GeneralizationParameters(), generalization_study, judge, CLAIMS, tasks
)
