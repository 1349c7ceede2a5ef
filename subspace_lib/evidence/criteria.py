"""Every number that decides a verdict, each with the date when it was fixed and whose demand it is.

"paper": what the paper states, the number is our reading of it. "own": what we ask beyond the paper.
After the colon stands a clause, which the front page quotes: "the paper's statement, that …".
Sentences that quote a number are made from here.
"""

from __future__ import annotations

from subspace_lib.evidence.criterion import Criterion

MINIMUM_SEEDS = 3  # fewer are inconclusive
CONFIDENCE = 0.95  # of the Student-t interval over seeds

# C2, C3, and the same parts of C5 to C8
DOM_PROGRESS = Criterion("2026-11-22", "paper: Dom-X stops decreasing the loss", at_most=0.1)
BULK_PROGRESS = Criterion("2026-11-22", "paper: Bulk-X is as effective as X", at_least=0.9)
BULK_RULES = Criterion(
    BULK_PROGRESS.date,
    "own: Bulk-X is as effective as X for momentum and Adam too",
    at_least=BULK_PROGRESS.at_least,
)

# C1
ALIGNED = Criterion("2026-11-22", "paper: gradients align with the dominant subspace", at_least=0.8)
GAP = Criterion("2026-11-22", "paper: k eigenvalues stand out", at_least=2.0)

# C4 (and C5), together with ALIGNED
UNALIGNED = Criterion("2026-11-22", "paper: without noise the alignment goes", at_most=0.1)
UNALIGNED_WITHIN = 100  # steps after the change from SGD to GD
FALLING = Criterion(
    "2026-11-22", "own: the alignment falls from each batch size to the next", at_least=0.0
)

# C5
CLOSED_FORM = Criterion(
    "2026-11-22", "own: simulated variances are those in closed form", at_most=0.05
)

# C6
EDGE = Criterion("2026-11-22", "paper: λ₁ hovers at 2/η", at_least=0.9, at_most=1.15)
EDGE_ALIGNED = Criterion("2026-11-22", "paper: the gradient aligns without noise", at_least=0.9)
EDGE_WINDOW = 100  # steps before the switch over which both are averaged
BEYOND_EDGE = Criterion(
    "2026-11-22", "own: nothing holds the sharpness of Bulk-GD back", at_least=EDGE.at_most
)

# C8
AMPLIFIED = Criterion(
    "2026-11-22",
    "own: Bulk-LR/Dom-LR grows by this factor in late windows; the paper compares means over the first "
    "1,000 steps (by its reviews)",
    at_least=1.3,
)
