"""Chapter 06: SAM."""

from subspace_lib.chapters.kit.chapter import Chapter
from subspace_lib.chapters.sam.judge import CLAIMS, judge
from subspace_lib.chapters.sam.study import SamParameters, sam_study, tasks

CHAPTER = Chapter("06_sam", SamParameters(), sam_study, judge, CLAIMS, tasks)
