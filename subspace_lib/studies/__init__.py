"""Studies: the runs that one question needs, over methods and seeds, from validated parameters.

``BOOK`` names the studies that the chapters show; ``python -m subspace_lib.studies`` computes what is
missing of them.
"""

from subspace_lib.studies.alignment import AlignmentParameters
from subspace_lib.studies.batches import BatchParameters
from subspace_lib.studies.edge import EdgeParameters
from subspace_lib.studies.momentum import MomentumParameters
from subspace_lib.studies.sam import SamParameters
from subspace_lib.studies.switch import SwitchParameters
from subspace_lib.studies.toy import ToyParameters

BOOK = {
    "01_dominant_subspace": AlignmentParameters(),
    "02_dom_vs_bulk": SwitchParameters(),
    "03_full_batch_gd": BatchParameters(),
    "04_valley": ToyParameters(),
    "05_edge_of_stability": EdgeParameters(),
    "06_sam": SamParameters(),
    "07_momentum_adam": MomentumParameters(),
}
