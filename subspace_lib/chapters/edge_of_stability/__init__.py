"""Chapter 05: the edge of stability."""

from subspace_lib.chapters.edge_of_stability.judge import CLAIMS, judge
from subspace_lib.chapters.edge_of_stability.study import EdgeParameters, edge_study, tasks
from subspace_lib.chapters.kit.chapter import Chapter

CHAPTER = Chapter("05_edge_of_stability", EdgeParameters(), edge_study, judge, CLAIMS, tasks)
