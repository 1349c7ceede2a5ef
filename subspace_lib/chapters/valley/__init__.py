"""Chapter 04: the valley, and a regression."""

from subspace_lib.chapters.kit.chapter import Chapter
from subspace_lib.chapters.valley.judge import CLAIMS, judge
from subspace_lib.chapters.valley.study import ValleyParameters, tasks, valley_study

CHAPTER = Chapter("04_valley", ValleyParameters(), valley_study, judge, CLAIMS, tasks)
