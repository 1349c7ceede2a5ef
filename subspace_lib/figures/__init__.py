"""Figures: a study in, a picture out."""

from subspace_lib.figures.alignment import (
    by_classes,
    changes,
    class_spans,
    gradients,
    loss_change_table,
    outliers,
    turning,
)
from subspace_lib.figures.batches import (
    alignment_by_size,
    by_batch_size,
    from_the_start,
    learning,
    single_sample_noise,
    there_and_back,
)
from subspace_lib.figures.edge import cycles, rates, sharpness, valley
from subspace_lib.figures.momentum import (
    amplified,
    amplified_adaptive,
    bulk_adam,
    ratios,
    transfer,
)
from subspace_lib.figures.sam import ascents, edges, rhos
from subspace_lib.figures.style import INK, Picture
from subspace_lib.figures.switch import (
    alignments,
    angles,
    compare,
    losses,
    spectra,
    test_losses,
)
from subspace_lib.figures.toy import valley_paths
from subspace_lib.figures.valley_toy import (
    regression_settled,
    toy_alignment,
    toy_batch_sizes,
    toy_losses,
    toy_there_and_back,
    valley_moments,
    valley_plane,
    valley_settled,
)

__all__ = [
    "INK",
    "Picture",
    "alignment_by_size",
    "alignments",
    "amplified",
    "amplified_adaptive",
    "angles",
    "ascents",
    "bulk_adam",
    "by_batch_size",
    "by_classes",
    "changes",
    "class_spans",
    "compare",
    "cycles",
    "edges",
    "from_the_start",
    "gradients",
    "learning",
    "loss_change_table",
    "losses",
    "outliers",
    "rates",
    "ratios",
    "regression_settled",
    "rhos",
    "sharpness",
    "single_sample_noise",
    "spectra",
    "test_losses",
    "there_and_back",
    "toy_alignment",
    "toy_batch_sizes",
    "toy_losses",
    "toy_there_and_back",
    "transfer",
    "turning",
    "valley",
    "valley_moments",
    "valley_paths",
    "valley_plane",
    "valley_settled",
]
