"""``python -m subspace_lib.figures FILE``: the README's picture, from the stored results."""

import sys
from pathlib import Path

from subspace_lib.figures import losses
from subspace_lib.studies import BOOK
from subspace_lib.studies.switch import switch_study

study = switch_study(BOOK["02_dom_vs_bulk"], compute=False)
Path(sys.argv[1]).write_bytes(losses(study).png())
