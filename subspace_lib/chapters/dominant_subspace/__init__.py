"""Chapter 01: the dominant subspace."""

from subspace_lib.chapters.dominant_subspace.judge import CLAIMS, judge
from subspace_lib.chapters.dominant_subspace.study import (
    AlignmentParameters,
    alignment_study,
    tasks,
)
from subspace_lib.chapters.kit.chapter import Chapter

CHAPTER = Chapter(
    "01_dominant_subspace", AlignmentParameters(), alignment_study, judge, CLAIMS, tasks
)
