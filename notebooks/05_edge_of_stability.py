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
dataset = "mnist5k"  # mnist5k, mnist, fashion_mnist5k, cifar10_5k, or digits, without a download
preprocessing = "unit"  # pixels in 0 … 1; or standardized, by channel; or per_pixel, for cifar10_5k
model = "mlp"  # mlp or cnn
loss = "mse"  # mse or cross_entropy
k = 10  # dimension of the dominant subspace
learning_rate = 0.1  # η; 2/η = 20
steps = 3600  # in all, the common part included
switch_step = 600
approach_losses = ["mse", "mse", "cross_entropy", "cross_entropy"]  # of GD on its way to the edge,
approach_rates = [0.05, 0.02, 0.33, 0.1]  # its η, and
approach_steps = [4000, 12_000, 3000, 4000]  # its steps
seeds = [11, 12, 13, 14, 15]  # of initialization
device = "cpu"  # or cuda
scheduler = None  # or the address of a Dask scheduler, whose workers compute the runs
profile = "paper"  # or quick: a small version of everything, to try it
dry_run = False  # True: say what would be computed, and stop

# %%
from subspace_lib.chapters.edge_of_stability import CHAPTER, answers, figures, tables
from subspace_lib.chapters.kit import page

study = page.study(CHAPTER, page.parameters(globals(), CHAPTER))  # loaded, or computed and kept
page.answer(CHAPTER, study)

# %% mystnb={"figure": {"caption": "Training loss (log scale) of GD, Dom-GD and Bulk-GD over the steps; one line per seed, the first bold. Dots: the switch. The first steps, up to a tenth of the way to the first switch, may lie outside the axes.", "name": "fig-edge-loss"}}
figures.losses(study)

# %%
answers.losses(study)

# %% [markdown]
# **Claim** ({cite:t}`song2025`, section 5.1 [rev]). Full-batch gradient descent sharpens until $\lambda_1$ hovers at
# $2/\eta$, the {term}`edge of stability` {cite:p}`cohen2021`. There is no noise here, yet the gradient lies almost wholly
# in the dominant subspace: the iterate bounces across the valley, and {term}`self-stabilization` {cite:p}`damian2023` keeps
# the bounce bounded. Dom-GD fails, Bulk-GD does as well as GD or better (C6). Dom-GD is judged from after its bounce.
#
# **Protocol.** GD from the initialization, with an $\eta$ for which $2/\eta$ lies below the sharpness that it would reach.
# At `switch_step` go on with GD, Dom-GD and Bulk-GD, $P_k$ that of the current point. $\eta$, switch and length are ours.

# %%
tables.protocol(study)

# %% mystnb={"figure": {"caption": "Top: sharpness divided by 2/\u03b7. Bottom: alignment of the gradient. Mean and range over seeds; dotted: the edge, \u03bb\u2081\u03b7/2 = 1, and the switch.", "name": "fig-edge-sharpness"}}
figures.sharpness(study.switch)

# %%
answers.sharpness(study.switch)

# %% [markdown]
# ## How sharp does Bulk-GD get? (F5)
#
# Bulk-GD never moves along the dominant directions, so no instability there can stop the sharpness from growing. Along the
# next direction, that of $\lambda_{k+1}$, it becomes unstable only once $\lambda_{k+1}$ passes $2/\eta$. Does the edge
# come back there? Bulk-GD of the first seed goes on for `onward_steps`.

# %% mystnb={"figure": {"caption": "Eigenvalues of Bulk-GD divided by 2/\u03b7: the largest, the k-th and the next; mean and range over seeds. Dotted: the edge.", "name": "fig-beyond"}}
figures.beyond(study)

# %%
answers.beyond(study)

# %% mystnb={"figure": {"caption": "A long run of Bulk-GD, one seed. Top: the largest, the k-th and the next eigenvalue divided by 2/\u03b7 (log scale); dotted: the edge. Bottom: training loss (log scale).", "name": "fig-onward"}}
figures.onward(study)

# %%
answers.onward(study)

# %% [markdown]
# ## Self-stabilization, step by step
#
# In theory {cite:p}`damian2023`: above the edge each step overshoots by more than it corrects, and the gradient along the top
# eigenvector grows. A large bounce lowers the sharpness, through the third derivative of the loss. Below the edge it shrinks,
# and the sharpness rises.

# %% mystnb={"figure": {"caption": "GD after the switch, every step, first seed. Top: gradient along the top eigenvector, whose sign is kept from step to step. Middle: the two largest eigenvalues divided by 2/\u03b7. Bottom: training loss.", "name": "fig-cycles"}}
figures.cycles(study)

# %%
answers.cycles(study)

# %% [markdown]
# ## Is Bulk-GD the path down the middle of the valley?
#
# If GD bounces between the walls, the mean of its last iterates lies near the floor, and Bulk-GD should follow it. But
# self-stabilization pushes that mean to where the sharpness stays near $2/\eta$ {cite:p}`cohen2024`.

# %% mystnb={"figure": {"caption": "GD, the mean of its last iterates, and Bulk-GD, from the switch on, first seed. Top: training loss. Bottom: distances between GD and Bulk-GD, between that mean and Bulk-GD, and of Bulk-GD from the switch.", "name": "fig-pair"}}
figures.pair(study)

# %%
answers.pair(study)

# %% [markdown]
# ## When does the alignment come? (F7)
#
# GD with a small $\eta$ begins far below the edge. The paper follows it with cross-entropy (its appendix D.1 [rev]), we with
# the mean squared error too. A sample that cross-entropy fits with confidence adds little to the Hessian: the second
# derivative of the loss vanishes there {cite:p}`cohen2021`.

# %% mystnb={"figure": {"caption": "GD on its way to the edge over the time \u03b7 \u00b7 step (log scale), one seed. Top: sharpness divided by 2/\u03b7; dotted: the edge. Bottom: alignment of the gradient.", "name": "fig-approaches"}}
figures.approaches(study)

# %%
answers.approaches(study)

# %% mystnb={"figure": {"caption": "Sine of the largest principal angle (log scale), the largest since the row before, all seeds. Coloured: how far the basis was seen to turn. Grey: its angle to the dominant subspace, certified at the dots, an estimate elsewhere. Dotted: the target. The table below says what following the subspace cost.", "name": "fig-edge-angle"}}
figures.angles(study)

# %%
answers.angles(study)

# %% [markdown]
# ## Verdict (C6 is the paper's claim; F5 and F7 are ours)

# %%
page.verdict(CHAPTER, study)

# %% [markdown]
# ## What is the paper's, and what is ours
#
# *Pixels, network, ½* [code]; *η, the step of the switch, the lengths, Dom-GD judged from after its bounce* [own]: the
# paper's are not known. *Added here* [own]: F5, F7, the mean of iterates. {term}`What the marks mean <Source mark>`.
#
# ## Rerun, and where the numbers are from
#
# `papermill notebooks/05_edge_of_stability.ipynb mine.ipynb -p learning_rate 0.05 -p seeds 0`. Any parameter of the first
# code cell can be given like this; `-p dry_run True` only says what would be computed and about how long it takes.

# %%
page.provenance(study.runs())
