"""Chapters 07 and 07b: momentum and Adam."""

from subspace_lib.chapters.kit.chapter import Chapter
from subspace_lib.chapters.momentum_adam.judge import CLAIMS, judge
from subspace_lib.chapters.momentum_adam.study import MomentumParameters, momentum_study, tasks

CHAPTER = Chapter("07_momentum_adam", MomentumParameters(), momentum_study, judge, CLAIMS, tasks)
