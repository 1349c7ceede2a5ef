"""Chapter 08: how many dimensions, and how exact they have to be."""

from subspace_lib.chapters.kit.chapter import Chapter
from subspace_lib.chapters.threshold.judge import CLAIMS, judge
from subspace_lib.chapters.threshold.study import ThresholdParameters, tasks, threshold_study

CHAPTER = Chapter("08_threshold", ThresholdParameters(), threshold_study, judge, CLAIMS, tasks)
