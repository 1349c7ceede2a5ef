"""Chapter 12: what following the subspace costs, from ``results/benchmark.json``."""

from subspace_lib.chapters.cost.study import CostParameters, comparison
from subspace_lib.chapters.kit.chapter import Chapter

CHAPTER = Chapter("12_cost", CostParameters(), comparison)
