"""Chapter 03: full-batch gradient descent, and noise."""

from subspace_lib.chapters.full_batch_gd.judge import CLAIMS, judge
from subspace_lib.chapters.full_batch_gd.study import BatchParameters, batch_study, tasks
from subspace_lib.chapters.kit.chapter import Chapter

CHAPTER = Chapter("03_full_batch_gd", BatchParameters(), batch_study, judge, CLAIMS, tasks)
