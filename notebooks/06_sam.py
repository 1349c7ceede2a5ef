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
# # 06 · Sharpness-aware minimization
#
# **Claim** ({cite:t}`song2025`, section 5.2). With SAM in place of SGD or GD nothing changes: the gradient aligns
# with the dominant subspace, Dom-SAM fails, Bulk-SAM does as well as SAM, below SAM's edge of stability and
# at it (C7).
#
# **The rule** {cite:p}`foret2021`. With $g = \nabla L_B(\theta)$ the minibatch gradient,
# $\theta \leftarrow \theta - \eta \nabla L_B(\theta + \rho\, g/\|g\|)$, both gradients of the same minibatch. Dom-SAM
# and Bulk-SAM project this update; the ascent to $\theta + \rho\, g/\|g\|$ stays whole.
#
# **SAM's edge.** On a quadratic with $g$ along an eigenvector of $\lambda$, the displaced gradient is
# $g\,(1 + \rho\lambda/\|g\|)$, so the coordinate is multiplied by $1 - \eta\lambda(1 + \rho\lambda/\|g\|)$. It turns
# around without growing where $\eta\lambda(1 + \rho\lambda/\|g\|) = 2$, that is, at
# $\lambda = \frac{\|g\|}{2\rho}\left(\sqrt{1 + 8\rho/(\eta\|g\|)} - 1\right)$ {cite:p}`long2024`. It is below $2/\eta$, and
# the smaller the gradient, the lower.
#
# **Protocol.** SAM with minibatches from the initialisation, at `switch_step` on with SAM, Dom-SAM and
# Bulk-SAM, to `steps`. The same with the full batch at `edge_learning_rate`, for `edge_steps`. Criteria as in
# {doc}`02_dom_vs_bulk`, for each of the two. The ascent makes SAM's steps noisier than SGD's: `target_angle` is
# wider than in the other chapters, so that the runs fit on a CPU. At SAM's edge the iterate bounces between the
# walls of a valley; the subspace turns at every step, and back at the next. So those of even and of odd steps are
# followed apart (`edge_period` 2), each to `edge_target_angle`.

# %% tags=["parameters"]
dataset = "mnist5k"  # mnist5k, fashion_mnist5k, cifar10_5k, or digits, which needs no download
preprocessing = "standardized"  # or unit: pixels in 0 … 1
model = "mlp"  # mlp or cnn
loss = "mse"  # mse or cross_entropy
k = 10  # dimension of the dominant subspace
rho = 0.02  # ρ, length of the ascent
rhos = [0.005, 0.05, 0.1]  # of further plain minibatch runs, first seed
learning_rate = 0.01  # η of the minibatch runs
batch_size = 50  # samples
steps = 20_000  # of the minibatch runs, the common part included
switch_step = 3000
target_angle = 0.1  # sine of the largest principal angle aimed for
edge_learning_rate = 0.04  # η of the full-batch runs
edge_steps = 1400  # of the full-batch runs
edge_switch_step = 400
edge_target_angle = 0.05
edge_period = 2  # steps after which the subspace comes back
edge_seeds = [0, 1, 2]  # of the full-batch runs
seeds = [0, 1, 2]  # of initialisation and batch order
refresh_every = "adaptive"  # or a number of steps; the paper's is 1
device = "cpu"  # or cuda
profile = "paper"  # or quick: about a minute, on digits
dry_run = False  # True: say what would be computed, and stop

# %%
from subspace_lib.chapters.kit import page
from subspace_lib.chapters.kit.switch import figures as switch_figures, tables as switch_tables
from subspace_lib.chapters.sam import CHAPTER, figures

study = page.study(CHAPTER, page.parameters(globals(), CHAPTER))  # loaded, or computed and kept
groups = study.minibatch.trajectories, study.edge.trajectories, study.rhos
page.in_force(study.minibatch.parameters, [run for group in groups for run in group.values()])

# %% [markdown]
# ## Verdict

# %%
page.verdict(CHAPTER, study)

# %% mystnb={"figure": {"caption": "Minibatch SAM: training loss (log scale), mean over seeds with their range; dotted: the switch. **What to see:** whether Dom-SAM stands still, and whether Bulk-SAM can be told from SAM.", "name": "fig-sam-loss"}}
switch_figures.losses(study.minibatch)

# %% mystnb={"figure": {"caption": "Full-batch SAM at its edge of stability: training loss. **What to see:** the same, without minibatch noise.", "name": "fig-sam-edge-loss"}}
switch_figures.losses(study.edge)

# %% [markdown]
# ## SAM's own stability threshold

# %% mystnb={"figure": {"caption": "Sharpness of SAM and Bulk-SAM with SAM's edge for the gradient that it uses (minibatch or full; rolling mean of the norm over five rows) and 2/\u03b7. **What to see:** full-batch SAM at its own edge, well below 2/\u03b7, and Bulk-SAM rising past it; minibatch SAM below its edge.", "name": "fig-sam-edges"}}
figures.edges(study)

# %% [markdown]
# ## Where the gradient, the ascent and the update point
#
# The ascent is along the (minibatch) gradient; being longer along steep directions, the displaced gradient
# leans to them even more.

# %% mystnb={"figure": {"caption": "Alignment of the full-batch gradient, of the ascent direction and of SAM's update, rolling mean over five rows, mean and range over seeds. With the full batch, gradient and ascent coincide. **What to see:** with minibatches, how much more aligned SAM's update is than the ascent, which is the minibatch gradient.", "name": "fig-sam-ascent"}}
figures.ascents(study)

# %% [markdown]
# ## Other radii

# %% mystnb={"figure": {"caption": "Plain minibatch SAM for several radii, first seed; the alignment as a rolling mean over five rows. **What to see:** how \u03c1 holds the sharpness down, what that does to the alignment, and what it costs in training loss.", "name": "fig-rhos"}}
figures.rhos(study)

# %% mystnb={"figure": {"caption": "Minibatch runs: sine of the largest principal angle between the basis and the dominant subspace, at its oldest: measured turn (coloured) and certified bound (grey), all seeds; dotted: the target. SAM itself is followed at recorded rows only. **What to see:** the projected runs against the target.", "name": "fig-sam-angle"}}
switch_figures.angles(study.minibatch)

# %% mystnb={"figure": {"caption": "Full-batch runs: the same. **What to see:** Dom-SAM near its target; where Bulk-SAM stands above it.", "name": "fig-sam-edge-angle"}}
switch_figures.angles(study.edge)

# %%
switch_tables.cost(study.minibatch)

# %% [markdown]
# ## What differs from the paper
#
# - *Not checked against the paper's own text:* ρ, the learning rate of the full-batch runs, the number of
#   their steps, and both switches, which are at fixed steps here.
# - The subspace is not computed at every step but followed, to the angles above.
# - *Added here:* the alignment of ascent and update, SAM's edge beside the sharpness, other radii.
#
# ## Rerun
#
# `papermill notebooks/06_sam.ipynb mine.ipynb -p rho 0.05 -p seeds 0`, and likewise for any parameter of the
# first code cell; `-p profile quick` takes about a minute, on digits.
#
# ## Where the numbers are from

# %%
page.provenance(run for group in groups for run in group.values())
