"""The training loss of any model on any data, with its derivatives: autograd is used nowhere else."""

from subspace_lib.objective.curvature import GaussNewton, Graph, Hessian
from subspace_lib.objective.losses import LOSSES, cross_entropy, mse
from subspace_lib.objective.objective import Objective

__all__ = ["LOSSES", "GaussNewton", "Graph", "Hessian", "Objective", "cross_entropy", "mse"]
