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
#
# **Claim** ({cite:t}`song2025`, section 5.1). Full-batch gradient descent sharpens until $\lambda_1$ hovers at
# $2/\eta$, the {term}`edge of stability` {cite:p}`cohen2021`. There is no noise here, yet the gradient lies almost
# wholly in the dominant subspace: the iterate bounces across the valley, and {term}`self-stabilization`
# {cite:p}`damian2023` keeps the bounce bounded. Again learning happens elsewhere: Dom-GD fails, Bulk-GD does as
# well as GD or better (C6).
#
# **Protocol.** GD from the initialisation at an $\eta$ for which $2/\eta$ lies below the sharpness that it would
# reach. At `switch_step` go on with GD, Dom-GD and Bulk-GD, $P_k$ always that of the current point. Sharpness
# and alignment are judged over the 100 steps before the switch, progress as in {doc}`02_dom_vs_bulk`, and the
# sharpness of Bulk-GD at the end.

# %% tags=["parameters"]
dataset = "mnist5k"  # mnist5k, fashion_mnist5k, cifar10_5k, or digits, which needs no download
preprocessing = "standardized"  # or unit: pixels in 0 … 1
model = "mlp"  # mlp or cnn
loss = "mse"  # mse or cross_entropy
k = 10  # dimension of the dominant subspace
learning_rate = 0.08  # η; 2/η = 25
batch_size = "full"  # or a number of samples
steps = 1500  # in all, the common part included
switch_step = 400
learning_rates = [0.02, 0.05, 0.12, 0.2]  # of further runs of GD, first seed
window = 100  # steps after the switch that are recorded one by one, first seed
seeds = [0, 1, 2]  # of initialisation
refresh_every = "adaptive"  # or a number of steps; the paper's is 1
target_angle = 0.05  # for "adaptive": sine of the largest principal angle aimed for
device = "cpu"  # or cuda
profile = "paper"  # or quick: about a minute, on digits
dry_run = False  # True: say what would be computed, and stop

# %%
from subspace_lib.chapters.edge_of_stability import CHAPTER, figures, tables
from subspace_lib.chapters.kit import page
from subspace_lib.chapters.kit.switch import figures as switch_figures, tables as switch_tables

study = page.study(CHAPTER, page.parameters(globals(), CHAPTER))  # loaded, or computed and kept
switch_tables.protocol(study.switch)

# %% mystnb={"figure": {"caption": "Training loss (log scale), mean over seeds with their range; dotted: the switch. **What to see:** that Dom-GD loses the energy of the bounce in its first steps and then stands still, and that Bulk-GD runs below GD, without its wiggles.", "name": "fig-edge-loss"}}
switch_figures.losses(study.switch)

# %% [markdown]
# ## Verdict

# %%
page.verdict(CHAPTER, study)

# %% [markdown]
# Progress counts from the loss at the switch, and at the edge that loss contains the bounce: how much of it
# depends on the moment, which differs from seed to seed. Dom-GD, which cannot drift to sharper ground, lets the
# bounce die out. The table counts again from some time after the switch, when it has. (This is not the
# criterion, which stays as it was.)

# %%
switch_tables.settling(study.switch)

# %% [markdown]
# ## Sharpness and alignment

# %% mystnb={"figure": {"caption": "Top: sharpness relative to 2/\u03b7. Bottom: alignment of the gradient. Mean and range over seeds; dotted: the edge and the switch. **What to see:** GD at the edge from early on, Bulk-GD's sharpness after the switch, and the alignment of Dom-GD, which has nothing left to descend.", "name": "fig-edge-sharpness"}}
figures.sharpness(study.switch)

# %% [markdown]
# Bulk-GD never moves along the dominant directions, so no instability there can stop the sharpness from
# growing: what self-stabilization holds back shows as soon as it is switched off.
#
# ## Self-stabilization, step by step
#
# Above the edge each step overshoots by more than it corrects: the gradient along the top eigenvector changes
# its sign at every step and grows. A large bounce lowers the sharpness, by the third derivative of the loss;
# below the edge the bounce shrinks, the sharpness rises, and so on.

# %% mystnb={"figure": {"caption": "GD after the switch, every step, first seed: gradient along the top eigenvector (its sign kept from step to step), the two largest eigenvalues relative to 2/\u03b7, and the loss. **What to see:** the alternating sign, and that the sharpness falls in each burst and rises after it.", "name": "fig-cycles"}}
figures.cycles(study)

# %% [markdown]
# ## Is Bulk-GD the path down the middle of the valley?
#
# If GD bounces between the walls while it drifts along the floor, the mean of its last iterates should lie
# on the floor, and Bulk-GD should follow it.

# %% mystnb={"figure": {"caption": "GD, the mean of its last 20 iterates, and Bulk-GD, from the switch on, first seed. Top: training loss. Bottom: distances. **What to see:** how much of GD's excess loss averaging removes, and how far its mean and Bulk-GD come apart compared with the way travelled.", "name": "fig-pair"}}
figures.pair(study)

# %%
tables.pair(study.pair)

# %% [markdown]
# Averaging takes away the bounce, and with it most of the excess loss, but hardly any of the distance: that lies
# in the bulk and grows from the start. Bulk-GD follows the floor of the valley, but not GD's way along it:
# self-stabilization pushes the mean of GD aside, to where the sharpness stays near $2/\eta$
# {cite:p}`cohen2024`, while Bulk-GD goes on to sharper ground.
#
# ## Other learning rates

# %% mystnb={"figure": {"caption": "GD at several learning rates over time \u03b7 \u00b7 step, first seed: sharpness relative to 2/\u03b7, and alignment. **What to see:** that the alignment is high where the sharpness is at the dotted line, and low while it stays below.", "name": "fig-rates"}}
figures.rates(study)

# %%
tables.rates(study.rates)

# %% [markdown]
# ## Is it the right subspace?

# %% mystnb={"figure": {"caption": "Sine of the largest principal angle between the basis and the dominant subspace, at its oldest: measured turn (coloured) and certified bound (grey), all seeds; dotted: the target. GD is followed at recorded rows only. **What to see:** the projected runs against the target: a turn above it is solved anew before the basis is used.", "name": "fig-edge-angle"}}
switch_figures.angles(study.switch)

# %%
switch_tables.cost(study.switch)

# %% [markdown]
# ## What differs from the paper
#
# - *Not checked against the paper's own text:* the learning rate, the number of steps and the place of the switch.
# - *Added here:* the single steps, the averaged iterate, the other learning rates.
#
# ## Rerun
#
# `papermill notebooks/05_edge_of_stability.ipynb mine.ipynb -p learning_rate 0.05 -p seeds 0`, and likewise
# for any parameter of the first code cell; `-p profile quick` takes about a minute, on digits.
#
# ## Where the numbers are from

# %%
page.provenance(
    [*study.switch.trajectories.values(), study.window, study.pair, *study.rates.values()]
)
