"""Every number that decides a verdict, each with the date when it was fixed and whose demand it is.

"paper": what the paper states; the number is our reading of it. "own": what we ask beyond the paper.
After the colon stands a clause, which the front page quotes: "the paper's statement, that …".
Sentences that quote a number are made from here. A claim (C1 … C8) is judged by what the paper states; what
we ask beyond it is a finding (F1 …) with a criterion of its own. C5 alone asks two things of ours too:
closed forms, and the same in a regression.
"""

from __future__ import annotations

from dataclasses import replace

from subspace_lib.evidence.criterion import Criterion
from subspace_lib.evidence.windows import (
    AGAIN as AGAIN,
    AGAIN_WINDOW as AGAIN_WINDOW,
    BEFORE_WINDOW as BEFORE_WINDOW,
    TAIL as TAIL,
    WITHOUT_NOISE as WITHOUT_NOISE,
    WITHOUT_NOISE_TAIL as WITHOUT_NOISE_TAIL,
)

MINIMUM_SEEDS = 3  # fewer are inconclusive
CONFIDENCE = 0.95  # of the Student-t interval over seeds
PILOT_SEED = 0  # of pilots, seen before the criteria were fixed: never judged
_FIXED = "2026-11-25"

# Progress, (L_s − L_Y)/(L_s − L_X)
PROGRESS_CLIP = (-1.0, 2.0)
DIVERGED_PROGRESS = -1.0  # of a branch that diverged
MINIMUM_GAIN = 0.1  # of L_s: an X that gained less made no progress, and there is no verdict

# C1
ALIGNED = Criterion(
    _FIXED,
    "paper: gradients align with the dominant subspace",
    at_least=0.8,
    marks=("rev", "cap"),
)
GAP = Criterion(_FIXED, "paper: k eigenvalues stand out", at_least=2.0, marks=("rev", "cap"))

# C2, C3, the same on other networks (C2b, C3b, C2c, C3c), and the same parts of C5 to C8
DOM_PROGRESS = Criterion(
    _FIXED, "paper: Dom-X stops decreasing the loss", at_most=0.1, marks=("rev", "cap")
)
BULK_PROGRESS = Criterion(
    _FIXED, "paper: Bulk-X is as effective as X", at_least=0.9, marks=("rev", "cap")
)

# C4, from the SGD point at the switch: SGD up to it, GD at the same η, SGD again; over which steps says
# ``windows``
ALIGNED_BEFORE = Criterion(
    _FIXED, "paper: under SGD the gradient is aligned", at_least=0.8, marks=("rev",)
)
UNALIGNED = Criterion(
    _FIXED, "paper: without noise the alignment goes", at_most=0.1, marks=("rev",)
)
ALIGNED_AGAIN = Criterion(
    _FIXED, "paper: with the noise the alignment comes back", at_least=0.8, marks=("rev",)
)

# C5
CLOSED_FORM = Criterion(_FIXED, "own: simulated variances are those in closed form", at_most=0.05)

# C6
EDGE = Criterion(
    _FIXED, "paper: λ₁ hovers at 2/η", at_least=0.9, at_most=1.15, marks=("rev", "cap")
)
EDGE_ALIGNED = Criterion(
    _FIXED, "paper: the gradient aligns without noise", at_least=0.9, marks=("rev", "cap")
)
EDGE_WINDOW = 100  # steps before the switch, every one, over which both are averaged
EDGE_START = 10  # steps up to the switch over which L_s is averaged: the loss bounces
BOUNCE = (100, 200)  # steps after the switch: Dom-GD's own level, its bounce having died out
DOM_EDGE_GAIN = Criterion(
    _FIXED,
    "paper: Dom-GD stops decreasing the loss, here from its level after the bounce",
    at_most=0.1,
    marks=("rev", "cap"),
)

# C7: the same bounds of C2, C3 and C6; that they hold for SAM is known from the reviews
SAM_DOM = replace(DOM_PROGRESS, source="paper: Dom-SAM stops decreasing the loss", marks=("rev",))
SAM_BULK = replace(BULK_PROGRESS, source="paper: Bulk-SAM is as effective as SAM", marks=("rev",))
SAM_EDGE_GAIN = replace(
    DOM_EDGE_GAIN,
    source="paper: Dom-SAM stops decreasing the loss, here from its level after the bounce",
    marks=("rev",),
)

# C7, the choice of ρ by a pilot; it decides no verdict
SAM_LOWERS = 0.2  # share of SGD's λ₁ at the switch by which SAM's is to be lower

# C8, over the first 1,000 steps of each rule
TABLE_STEPS = 1000
FACTOR = 1.3  # by which Bulk-LR/Dom-LR is to exceed SGD's
AMPLIFIED = Criterion(
    _FIXED,
    "paper: the rule amplifies the bulk part of the update; that is, mean Bulk-LR is at least "
    f"{FACTOR:g} × SGD's Bulk-LR/Dom-LR × mean Dom-LR",
    at_least=0.0,
    marks=("rev", "code"),
)

DOM_RULES = Criterion(
    _FIXED,
    "paper: projected on the dominant part, the rule stops decreasing the loss",
    at_most=DOM_PROGRESS.at_most,
    marks=("rep",),
)

# F1
F1_SMALL, F1_LARGE = (10, 50), (1000, 5000)  # batch sizes
F1_FALLING = Criterion(
    _FIXED,
    "own: the late alignment at small batch sizes is above that at large ones by so much",
    at_least=0.2,
)
F1_SHAPED = Criterion(
    _FIXED, "own: Gaussian noise of SGD's covariance aligns the gradient", at_least=0.8
)
F1_ISOTROPIC = Criterion(_FIXED, "own: isotropic noise of the same trace does not", at_most=0.5)

# F3
F3_BULK = Criterion(
    _FIXED, "own: Bulk-X is as effective as X for momentum and Adam too", at_least=0.9
)

# F5
BEYOND_EDGE = Criterion(
    _FIXED, "own: nothing holds the sharpness of Bulk-GD back", at_least=EDGE.at_most
)

# F7, GD with a small η on its way to the edge
F7_SKIP = 0.1  # share of the steps before λ₁ reaches 2/η, at their beginning, that are left out
F7_BEFORE = Criterion(
    _FIXED, "own: below the edge GD's gradient is not aligned, on average", at_most=0.5
)
F7_WITHIN = 1000  # steps after λ₁ has reached 2/η
F7_AT_EDGE = Criterion(
    _FIXED,
    f"own: within {F7_WITHIN:,} steps at the edge the alignment has come",
    at_least=0.9,
)

# Q1, cross-entropy: what C2 and C3 ask of the squared loss, and what the paper's appendix shows besides
_Q1 = "2026-11-26"
Q1_DOM = Criterion(
    _Q1,
    "own: with cross-entropy too Dom-SGD does not lower the loss",
    at_most=DOM_PROGRESS.at_most,
)
Q1_RISES = Criterion(
    _Q1,
    "paper: with cross-entropy the loss rises under Dom-SGD; own reading: it loses at least a twentieth "
    "of what SGD gains",
    at_most=-0.05,
    marks=("rev", "cap"),
)
Q1_BULK = Criterion(
    _Q1,
    "own: with cross-entropy too Bulk-SGD is as effective as SGD",
    at_least=BULK_PROGRESS.at_least,
)

# Q4, on seeds that no earlier chapter uses
_Q4 = "2026-11-26"
Q4_ACCURACY = Criterion(
    _Q4,
    "own: at equal steps Bulk-SGD's test accuracy is not below SGD's by more than half a point",
    at_least=-0.005,
)
Q4_LOSS = Criterion(
    _Q4,
    "own: at equal training loss Bulk-SGD's test loss is not above SGD's by more than a fiftieth",
    at_most=1.02,
)

# Q6, Q8, Q9: what papers that followed say, on seeds that no earlier chapter uses
_FOLLOW = "2026-11-26"
Q6_FASTER = Criterion(
    _FOLLOW,
    "own: with twice the bulk part of its updates SGD gains at least a quarter more in as many steps",
    at_least=1.25,
)
Q8_TAIL = 0.1  # share of the steps after the switch, at the end, over which λ₁ is averaged
Q8_LOWER = Criterion(
    _FOLLOW, "own: the sharpness of SGD is at least a tenth below that of GD", at_most=0.9
)
Q8_SHARE = Criterion(
    _FOLLOW,
    "own: averaging over the noise in the dominant directions makes up at least half of the difference",
    at_least=0.5,
    at_most=1.5,
)
Q9_EARLY = 1000  # steps within which the alignment is lowest
Q9_FALLS = Criterion(
    _FOLLOW, "own: the alignment falls by at least a quarter of what it can be", at_least=0.25
)
Q9_RISES = Criterion(_FOLLOW, "own: after that it rises", at_least=ALIGNED.at_least)

# Q7, which part of the Hessian makes the dominant subspace: at the last anchor of each run
_Q7 = "2026-11-26"
Q7_OVERLAP = Criterion(
    _Q7,
    "own: the Gauss–Newton matrix has the dominant subspace of the Hessian (mean squared cosine)",
    at_least=0.9,
)
Q7_ALIGNED = Criterion(
    _Q7,
    "own: the gradient aligns with the dominant subspace of the Gauss–Newton matrix",
    at_least=ALIGNED.at_least,
)

# Q2, k other than the number of classes; what lies at other k is shown
_Q2 = "2026-11-26"
Q2_RATIOS = (0.5, 1.0, 2.0)  # k over the number of classes, at which Dom-SGD is judged
Q2_DOM = Criterion(
    _Q2,
    "own: with half, once and twice as many dimensions as classes Dom-SGD does not lower the loss",
    at_most=DOM_PROGRESS.at_most,
)
Q2_BULK = Criterion(
    _Q2,
    "own: with no more dimensions than classes Bulk-SGD is as effective as SGD",
    at_least=BULK_PROGRESS.at_least,
)

# Q5, other spaces in the place of S_k; judged are a stale basis and a Hessian of half the data
_Q5 = "2026-11-26"
Q5_KEPT = 100  # steps
Q5_SAMPLES = 2500
Q5_DOM = Criterion(
    _Q5,
    f"own: Dom-SGD does not lower the loss with a basis kept for {Q5_KEPT} steps, nor with the Hessian of "
    f"{Q5_SAMPLES:,} samples",
    at_most=DOM_PROGRESS.at_most,
)
Q5_BULK = Criterion(
    _Q5, "own: Bulk-SGD with them is as effective as SGD", at_least=BULK_PROGRESS.at_least
)
# Without it a random space would pass: it takes nothing away and leads nowhere.
Q5_INSIDE = Criterion(
    _Q5,
    "own: the full-batch gradient of such a Dom-SGD lies in the space that it may move in, late",
    at_least=0.8,
)
Q5_RANDOM = Criterion(_Q5, "own: that of Dom-SGD in a random space does not", at_most=0.2)
