"""The dominant subspace of the loss Hessian: followed, certified, projected on."""

from subspace_lib.subspace.projection import PROJECTIONS, Projector, restrict
from subspace_lib.subspace.refresh import Look, Refresh
from subspace_lib.subspace.schedule import Adaptive, Every, Schedule
from subspace_lib.subspace.tracker import DominantSubspace

__all__ = [
    "PROJECTIONS",
    "Adaptive",
    "DominantSubspace",
    "Every",
    "Look",
    "Projector",
    "Refresh",
    "Schedule",
    "restrict",
]
