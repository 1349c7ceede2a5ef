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
# # 07 · Momentum and Adam

# %% tags=["parameters"]
dataset = "mnist5k"  # mnist5k, fashion_mnist5k, cifar10_5k, or digits, which needs no download
preprocessing = "unit"  # pixels in 0 … 1; or standardized, by channel; or per_pixel, for cifar10_5k
model = "mlp"  # mlp or cnn
loss = "mse"  # mse or cross_entropy
k = 10  # dimension of the dominant subspace
learning_rate = 0.01  # η of SGD, heavy ball and Nesterov's momentum
adam_learning_rate = 1e-3  # η of Adam, AdamW, RMSProp and Muon
beta = 0.9  # β of heavy ball and Nesterov's momentum, β₁ of Adam
betas = [0.5, 0.99]  # further β of heavy ball, one seed
others = ["nesterov", "rmsprop", "adamw", "muon"]  # further rules, one seed
batch_size = 50  # samples
steps = 20_000  # of the runs with a switch
switch_alignment = 0.95  # None: switch at switch_step
switch_step = 3000  # also where to switch when the alignment has not got there
anchors = [1000, 3000, 6000, 12_000, 19_800]  # first steps of the later windows
seeds = [11, 12, 13, 14, 15]  # of initialisation and batch order; one seed: the second
refresh_every = "adaptive"  # or a number of steps; Table 1 has 1 in any case
target_angle = 0.05  # for "adaptive": sine of the largest principal angle aimed for
device = "cpu"  # or cuda
profile = "paper"  # or quick: a minute or two, on digits
dry_run = False  # True: say what would be computed, and stop

# %%
from subspace_lib.chapters.kit import page
from subspace_lib.chapters.kit.switch import figures as switch_figures
from subspace_lib.chapters.momentum_adam import CHAPTER, figures, tables

study = page.study(CHAPTER, page.parameters(globals(), CHAPTER))  # loaded, or computed and kept
page.answer(CHAPTER, study)

# %% mystnb={"figure": {"caption": "Effective learning rates in the dominant subspace (top) and in the bulk (bottom) over the first steps, each rule from its own initialisation: rolling mean over 20 steps, mean over seeds with their range. **What to see:** SGD near its \u03b7 in both; which rule is far above its own Dom-LR in the bulk, and from which step on.", "name": "fig-first-steps"}}
figures.first_steps(study)

# %% [markdown]
# **Claim** ({cite:t}`song2025`, section 6 and Table 1, as its public reviews tell them). Momentum and Adam move relatively more
# in the bulk than SGD does: they amplify the part of the update that learns. Projected on the dominant
# subspace they stop learning (appendix F, by the public replication). Both make C8.
#
# **How much of which part.** The {term}`effective learning rate` of an update $u$ in a part, with $P$ the projector
# onto it and $g$ the full-batch gradient at the point that $u$ leaves, is $-\langle Pu, Pg\rangle / \|Pg\|^2$: Dom-LR
# for $P_k$, Bulk-LR for $I - P_k$, in the way of the paper's code, very probably. Gradient descent has $\eta$ in both, and so has
# SGD on average over the batches of an epoch at one point.
#
# **Protocol.** SGD, heavy ball {cite:p}`polyak1964` ($m \leftarrow \beta m + g$, $u = -\eta m$) and Adam {cite:p}`kingma2015`
# start from the same initialisation; the first 1,000 steps are measured one by one, with the subspace anew at each. Dom-
# and Bulk- versions branch off as in {doc}`02_dom_vs_bulk`, with the rule's state; what is projected is the final update.

# %%
tables.protocol(study)

# %% [markdown]
# ## Verdict
#
# C8 compares means, seed by seed, in a form that holds also where a mean rate is near zero. The factor is ours. Bulk- versions
# are a question of ours (F3), with a criterion of its own.

# %%
page.verdict(CHAPTER, study)

# %% [markdown]
# ## Table 1
#
# One step's rate is noisy where the part's gradient is small: hence the deviations, and the medians beside the means.
# Adam with $\beta_1 = 0$ has the preconditioner and no momentum.

# %%
tables.first_steps(study)

# %% [markdown]
# ## Later in training (F2)
#
# A reviewer asked for the rates over time. Later windows of `window` steps, by three definitions: the *slope*
# $-\sum\langle Pu, Pg\rangle / \sum\|Pg\|^2$, the regression of $u$ on $-g$; the *mean* of the steps' ratios, as above; and the
# *displacement* $-\langle P\sum u, P\sum g\rangle / \|P\sum g\|^2$, in which all that only fluctuates cancels. Where a gradient
# only fluctuates about a minimum, momentum answers it with *less* than $\eta$, in either part; what persists of it moves the
# point at up to $\eta/(1-\beta)$. {doc}`07b_momentum_theory` derives both. So the three need not agree.

# %% mystnb={"figure": {"caption": "Bulk-LR/Dom-LR of every rule (log scale), a point a window, one seed. A ratio with a negative rate is left out. **What to see:** whether the amplification of the first steps is still there later, and by which definition.", "name": "fig-ratios"}}
figures.ratios(study)

# %%
tables.later(study)

# %% [markdown]
# *The preconditioner or the momentum?* Along Adam's own path, by slope: the update $-M g_B$ that the preconditioner
# $M = \mathrm{diag}(1/(\sqrt{\hat v} + \epsilon))$ alone would make of the minibatch gradient, and $-m$, the mean of gradients alone.

# %%
tables.ingredients(study)

# %% [markdown]
# ## Dom- and Bulk- versions

# %% mystnb={"figure": {"caption": "Heavy ball: training loss (log scale), a line a seed, the first bold; dots: the switches; a cross: a run that ends early, its loss above that of the untrained network. **What to see:** whether the Dom- version stands still, and whether the Bulk- version can be told from the whole rule.", "name": "fig-momentum-loss"}}
switch_figures.losses(study.switches["momentum"])

# %% mystnb={"figure": {"caption": "Adam: the same. **What to see:** whether Dom-Adam stands still, and how far Bulk-Adam gets.", "name": "fig-adam-loss"}}
switch_figures.losses(study.switches["adam"])

# %% [markdown]
# ## Project the update, the gradient, or both? (F3)
#
# A linear rule in a fixed subspace gives the same in all three ways. Adam is not linear: as $(I - P) M P g \neq 0$, a
# gradient in the dominant subspace moves the bulk, where that does not lower it. So a projected update may climb;
# {doc}`07b_momentum_theory` derives where each way comes to rest. With both projected, a step goes downhill.

# %% mystnb={"figure": {"caption": "Bulk-heavy ball and Bulk-Adam with the update projected, the gradient before it enters the rule's state, or both, one seed; dotted: the switch. **What to see:** whether the three ways differ, and for which rule.", "name": "fig-bulk-ways"}}
figures.bulk_ways(study)

# %%
tables.bulk_ways(study)

# %% [markdown]
# ## What differs from the paper
#
# - *By its reviews and code, very probably:* Table 1's definition and its 1,000 steps, pixels, $\beta$, the update projected and
#   not its state. *By the replication:* threshold and moving average of the switch. *Ours:* Adam's $\eta$, the steps between which
#   the switch may come, the end of a branch that has lost all that was learned. Table 1's own numbers were not at hand.
# - After the switch the subspace is followed to `target_angle`, not computed at every step.
#
# ## Rerun
#
# `papermill notebooks/07_momentum_adam.ipynb mine.ipynb -p beta 0.95 -p seeds 0`, and likewise for any parameter
# of the first code cell; `-p profile quick` takes a minute or two, on digits.

# %%
page.provenance(study.runs())
