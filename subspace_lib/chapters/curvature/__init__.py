"""Chapter 11: the Gauss–Newton term or the functional Hessian; the whole spectrum."""

from subspace_lib.chapters.curvature.judge import CLAIMS, judge
from subspace_lib.chapters.curvature.study import CurvatureParameters, curvature_study, tasks
from subspace_lib.chapters.kit.chapter import Chapter

CHAPTER = Chapter("11_curvature", CurvatureParameters(), curvature_study, judge, CLAIMS, tasks)
