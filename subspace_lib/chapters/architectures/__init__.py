"""Chapter 02b: Dom-SGD and Bulk-SGD on other architectures."""

from subspace_lib.chapters.architectures.judge import CLAIMS, judge
from subspace_lib.chapters.architectures.study import (
    ArchitecturesParameters,
    architectures_study,
    tasks,
)
from subspace_lib.chapters.kit.chapter import Chapter

CHAPTER = Chapter(
    "02b_architectures", ArchitecturesParameters(), architectures_study, judge, CLAIMS, tasks
)
