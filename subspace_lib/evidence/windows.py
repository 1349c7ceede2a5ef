"""Over which steps it is measured what a criterion bounds; simulated runs are laid out by these numbers.

So they are in the hash of the modules that compute such runs (``results.modules``), and apart from the
criteria, of which a new one changes no run.
"""

from __future__ import annotations

TAIL = 0.02  # share of the steps, at the end, over which "at the end" is averaged

# C4, from the SGD point at the switch: SGD up to it, GD at the same η, SGD again
BEFORE_WINDOW = 100  # steps of SGD before the switch
WITHOUT_NOISE = 10.0  # steps of GD, in units of 1/(η λ_k) at the switch
WITHOUT_NOISE_TAIL = 0.1  # share of them, at the end
AGAIN = 1000  # steps of SGD after GD
AGAIN_WINDOW = 100  # of these, the last
