"""``python -m subspace_lib.chapters.dom_vs_bulk FILE``: the README's picture, from the stored results."""

import sys
from pathlib import Path

from subspace_lib.chapters.dom_vs_bulk import CHAPTER
from subspace_lib.chapters.kit.switch.figures import losses

study = CHAPTER.study(CHAPTER.parameters, compute=False)
Path(sys.argv[1]).write_bytes(losses(study).png())
