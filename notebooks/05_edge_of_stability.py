# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 05 · The edge of stability

# %% tags=["parameters"]
dataset = "mnist5k"  # mnist5k, fashion_mnist5k, cifar10_5k, or digits, which needs no download
preprocessing = "unit"  # pixels in 0 … 1; or standardized, by channel; or per_pixel, for cifar10_5k
model = "mlp"  # mlp or cnn
loss = "mse"  # mse or cross_entropy
k = 10  # dimension of the dominant subspace
learning_rate = 0.1  # η; 2/η = 20
steps = 3600  # in all, the common part included
switch_step = 600
window = 100  # steps after the switch that are recorded one by one, first seed
approach_losses = ["mse", "mse", "cross_entropy", "cross_entropy"]  # of GD on its way to the edge,
approach_rates = [0.05, 0.02, 0.33, 0.1]  # its η, and
approach_steps = [4000, 12_000, 3000, 4000]  # its steps
approach_seeds = [12, 11, 13]  # of the largest η of each loss; the first of them for the others
seeds = [11, 12, 13, 14, 15]  # of initialisation
refresh_every = "adaptive"  # or a number of steps; the paper's is 1
target_angle = 0.05  # for "adaptive": sine of the largest principal angle aimed for
period = 2  # steps after which the subspace comes back
device = "cpu"  # or cuda
profile = "paper"  # or quick: about two minutes, on digits
dry_run = False  # True: say what would be computed, and stop

# %%
from subspace_lib.chapters.edge_of_stability import CHAPTER, figures, tables
from subspace_lib.chapters.kit import edge, page
from subspace_lib.chapters.kit.switch import figures as switch_figures, tables as switch_tables

study = page.study(CHAPTER, page.parameters(globals(), CHAPTER))  # loaded, or computed and kept
page.answer(CHAPTER, study)

# %% mystnb={"figure": {"caption": "Training loss (log scale), a line a seed, the first bold; dots: the switch. **What to see:** whether Dom-GD goes on falling once it has lost the energy of its bounce, and how Bulk-GD runs beside GD.", "name": "fig-edge-loss"}}
switch_figures.losses(study.switch)

# %% [markdown]
# **Claim** ({cite:t}`song2025`, section 5.1, as its public reviews tell it). Full-batch gradient descent sharpens until
# $\lambda_1$ hovers at $2/\eta$, the {term}`edge of stability` {cite:p}`cohen2021`. There is no noise here, yet the
# gradient lies almost wholly in the dominant subspace: the iterate bounces across the valley, and
# {term}`self-stabilization` {cite:p}`damian2023` keeps the bounce bounded. Again learning happens elsewhere: Dom-GD
# fails, Bulk-GD does as well as GD or better (C6).
#
# **Protocol.** GD from the initialisation at an $\eta$ for which $2/\eta$ lies below the sharpness that it would
# reach. At `switch_step` go on with GD, Dom-GD and Bulk-GD, $P_k$ always that of the current point. Sharpness and
# alignment are judged at every one of the 100 steps before the switch. $\eta$, switch and length are ours.

# %%
switch_tables.protocol(study.switch)

# %% [markdown]
# ## Verdict
#
# F5 and F7 are findings of ours beyond the paper, each with a criterion of its own.

# %%
page.verdict(CHAPTER, study)

# %% [markdown]
# At the edge the loss contains the energy of the bounce. Dom-GD, which cannot drift to sharper ground, lets it die out: its
# loss falls, and nothing is learned. So the bounce's share is shown apart, and C6 asks what Dom-GD gains *from there on*.

# %%
edge.bounce(study.switch)

# %% [markdown]
# ## Sharpness and alignment

# %% mystnb={"figure": {"caption": "Top: sharpness relative to 2/\u03b7. Bottom: alignment of the gradient. Mean and range over seeds; dotted: the edge and the switch. **What to see:** when GD comes to the edge and its alignment with it, Bulk-GD's sharpness after the switch, and the alignment of Dom-GD.", "name": "fig-edge-sharpness"}}
figures.sharpness(study.switch)

# %% [markdown]
# ## How sharp does Bulk-GD get? (F5)
#
# Bulk-GD never moves along the dominant directions, so no instability there can stop the sharpness from growing. The
# first direction that it does move along is that of $\lambda_{k+1}$: it can be unstable only once $\lambda_{k+1}$ passes $2/\eta$.

# %% mystnb={"figure": {"caption": "The largest eigenvalue of Bulk-GD and those at the cut, relative to 2/\u03b7 (dotted), mean and range over seeds. **What to see:** how far the first goes past the edge, and whether \u03bb at k + 1 comes up to it.", "name": "fig-beyond"}}
figures.beyond(study)

# %% [markdown]
# ## Self-stabilization, step by step
#
# Above the edge each step overshoots by more than it corrects: the gradient along the top eigenvector changes
# its sign at every step and grows. A large bounce lowers the sharpness, by the third derivative of the loss;
# below the edge the bounce shrinks, the sharpness rises, and so on.

# %% mystnb={"figure": {"caption": "GD after the switch, every step, first seed: gradient along the top eigenvector (its sign kept from step to step), the two largest eigenvalues relative to 2/\u03b7, and the loss. **What to see:** whether the sign alternates, and whether the sharpness falls in each burst and rises after it.", "name": "fig-cycles"}}
figures.cycles(study)

# %% [markdown]
# ## Is Bulk-GD the path down the middle of the valley?
#
# If GD bounces between the walls while it drifts along the floor, the mean of its last iterates should lie
# on the floor, and Bulk-GD should follow it. But self-stabilization pushes that mean aside, to where the sharpness stays
# near $2/\eta$ {cite:p}`cohen2024`, and nothing pushes Bulk-GD.

# %% mystnb={"figure": {"caption": "GD, the mean of its last 20 iterates, and Bulk-GD, from the switch on, first seed. Top: training loss. Bottom: distances. **What to see:** how much of GD's excess loss averaging removes, and how far its mean and Bulk-GD come apart compared with the way travelled.", "name": "fig-pair"}}
figures.pair(study)

# %%
tables.pair(study.pair)

# %% [markdown]
# ## When does the alignment come? (F7)
#
# A small $\eta$ with cross-entropy (the paper's appendix D.1, by its reviews), and with the mean squared error: GD begins
# far below the edge. With cross-entropy the sharpness falls again once the samples are fitted, so that a smaller $\eta$ may never
# come to the edge.

# %% mystnb={"figure": {"caption": "GD on its way to the edge, over time \u03b7 \u00b7 step (log scale), one seed: sharpness relative to 2/\u03b7 (dotted: the edge), and alignment. **What to see:** whether the gradient is aligned before the sharpness is at the dotted line, and how soon after.", "name": "fig-approaches"}}
figures.approaches(study)

# %%
tables.approaches(study)

# %% [markdown]
# ## Is it the right subspace?

# %% mystnb={"figure": {"caption": "Sine of the largest principal angle between the basis and the dominant subspace: measured turn (coloured) and certified bound (grey), all seeds; dotted: the target. **What to see:** the projected runs against the target.", "name": "fig-edge-angle"}}
switch_figures.angles(study.switch)

# %%
switch_tables.cost(study.switch)

# %% [markdown]
# ## Rerun
#
# `papermill notebooks/05_edge_of_stability.ipynb mine.ipynb -p learning_rate 0.05 -p seeds 0`, and likewise for any
# parameter of the first code cell; `-p profile quick` takes about two minutes, on digits.

# %%
page.provenance(study.runs())
