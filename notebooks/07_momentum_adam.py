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
# # 07 · Heavy ball and Adam

# %% tags=["parameters"]
dataset = "mnist5k"  # mnist5k, mnist, fashion_mnist5k, cifar10_5k, or digits, without a download
preprocessing = "unit"  # pixels in 0 … 1; or standardized, by channel; or per_pixel, for cifar10_5k
model = "mlp"  # mlp or cnn
loss = "mse"  # mse or cross_entropy
k = 10  # dimension of the dominant subspace
learning_rate = 0.01  # η of SGD, heavy ball and Nesterov's momentum
adam_learning_rate = 1e-3  # η of Adam, AdamW, RMSProp and Muon
beta = 0.9  # β of heavy ball and Nesterov's momentum, β₁ of Adam
betas = [0.5, 0.99]  # further β of heavy ball, one seed
others = ["nesterov", "rmsprop", "adamw", "muon"]  # further rules, one seed
intervals = [30, 97, 307]  # steps between the refreshes of Dom-heavy ball, one seed
batch_size = 50  # samples
steps = 20_000  # of the runs with a switch
switch_alignment = 0.95  # None: switch at switch_step
switch_step = 3000  # also where to switch when the alignment has not got there
anchors = [1000, 3000, 6000, 12_000, 19_800]  # first steps of the later windows
seeds = [11, 12, 13, 14, 15]  # of initialization and batch order; one seed: the second
refresh_every = "adaptive"  # or a number of steps; Table 1 has 1 in any case
target_angle = 0.05  # for "adaptive": sine of the largest principal angle aimed for
device = "cpu"  # or cuda
scheduler = None  # or the address of a Dask scheduler, whose workers compute the runs
profile = "paper"  # or quick: a small version of everything, to try it
dry_run = False  # True: say what would be computed, and stop

# %%
from subspace_lib.chapters.kit import page
from subspace_lib.chapters.momentum_adam import CHAPTER, answers, figures, tables

study = page.study(CHAPTER, page.parameters(globals(), CHAPTER))  # loaded, or computed and kept
answers.opening(study)

# %% mystnb={"figure": {"caption": "Effective learning rates in the dominant subspace (Dom-LR, top) and in the bulk (Bulk-LR, bottom) over the first steps, each rule from its own initialization. Rolling mean over 20 steps; mean and range over seeds.", "name": "fig-first-steps"}}
figures.first_steps(study)

# %%
answers.first_steps(study)

# %% [markdown]
# The table is the paper's Table 1 with our runs. One step's rate is noisy where the part's gradient is small: hence the
# medians. Adam with $\beta_1 = 0$ has the preconditioner and no momentum.
#
# **Claim** ({cite:t}`song2025`, section 6 and Table 1 [rev]). Momentum (here: {term}`heavy ball`) and Adam move relatively
# more in the bulk than SGD does. They amplify the part of the update that learns. Projected on the dominant subspace they
# stop learning (appendix F [rep]). Both together are C8.
#
# **How much of which part.** Let $u$ be an update, $g$ the full-batch gradient at the point that $u$ leaves, and $P$ the
# projector onto a part. The {term}`effective learning rate` in that part is $-\langle Pu, Pg\rangle / \|Pg\|^2$ [code]:
# Dom-LR with $P_k$, Bulk-LR with $I - P_k$. Gradient descent has $\eta$ in both; so has SGD, on average over the batches of
# an epoch at one point.
#
# **Protocol.** SGD, heavy ball {cite:p}`polyak1964` ($m \leftarrow \beta m + g$, $u = -\eta m$) and Adam
# {cite:p}`kingma2015` start from the same initialization. Their first steps are measured one by one, with the subspace anew
# at each. Dom- and Bulk- versions branch off as in {doc}`02_dom_vs_bulk`, with the rule's state; what is projected is the
# final update.

# %%
tables.protocol(study)

# %% [markdown]
# ## Later in training (F2)
#
# A reviewer of the paper asked for the rates over time [rev]. In later windows of `window` steps there are three ways to say
# a rate. The *slope*, $-\sum\langle Pu, Pg\rangle / \sum\|Pg\|^2$, is the regression of $u$ on $-g$. The *mean* is that of
# the steps' ratios, as in Table 1. The *displacement*, $-\langle P\sum u, P\sum g\rangle / \|P\sum g\|^2$, sums first: what
# only fluctuates cancels. They need not agree. Where a gradient only fluctuates about a minimum, the rate of momentum is
# *below* $\eta$; what persists of it moves the point at up to $\eta/(1-\beta)$. {doc}`07b_momentum_theory` derives both.

# %% mystnb={"figure": {"caption": "Bulk-LR over Dom-LR of every rule (log scale), by slope, mean and displacement; a point a window, one seed. A ratio with a negative rate is left out. Dotted: 1, both parts alike.", "name": "fig-ratios"}}
figures.ratios(study)

# %%
answers.ratios(study)

# %% [markdown]
# *The preconditioner or the momentum?* Along Adam's own path, by slope: the update $-M g_B$ that the {term}`preconditioner`
# $M$ alone would make of the minibatch gradient $g_B$, and $-m$, the mean of gradients alone.

# %%
answers.ingredients(study)

# %% [markdown]
# ## Dom- and Bulk- versions, and why a loss rises (F8)

# %% mystnb={"figure": {"caption": "Training loss (log scale) of heavy ball (top) and of Adam (bottom), and of their Dom- and Bulk- versions; one line per seed, the first bold. Dots: the switches. A cross: a run that ends early, its loss above that of the untrained network. Dotted: Dom-heavy ball with its subspace frozen at the switch. The first steps, up to a tenth of the way to the first switch, may lie outside the axes.", "name": "fig-momentum-loss"}}
figures.losses(study)

# %%
answers.losses(study)

# %% [markdown]
# ## Project the update, the gradient, or both? (F3)
#
# A rule that is linear in the gradients gives the same in all three ways, while the subspace stands still. Adam is not: its
# preconditioner lets a gradient inside the dominant subspace move the bulk, $(I - P) M P g \neq 0$, where that need not
# lower the loss. {doc}`07b_momentum_theory` derives where each way comes to rest. With both projected a step goes downhill.

# %% mystnb={"figure": {"caption": "Training loss (log scale) of heavy ball (top) and Adam (bottom), and of their Bulk- versions with the update projected, the gradient before it enters the rule's state, or both; one seed. Dotted: the switch.", "name": "fig-bulk-ways"}}
figures.bulk_ways(study)

# %%
answers.bulk_ways(study)

# %% [markdown]
# ## Verdict
#
# C8 compares means, seed by seed, in a form that holds also where a mean rate is near zero; the factor is ours. F3, on the
# Bulk- versions, is ours, with a criterion of its own. So is F8, on why the loss of Dom-heavy ball rises; it has none.

# %%
page.verdict(CHAPTER, study)

# %% [markdown]
# ## What is the paper's, and what is ours
#
# *The rates' definition, the number of steps, β, the update projected and not the rule's state* [rev, code]; *threshold and
# moving average of the switch* [rep]; *Adam's η, where the switch may come, the end of a branch that has lost all that was
# learned, a subspace refreshed when it has turned, rarely, or never* [own]. Table 1's own numbers were not at hand.
# {term}`What the marks mean <Source mark>`.
#
# ## Rerun, and where the numbers are from
#
# `papermill notebooks/07_momentum_adam.ipynb mine.ipynb -p beta 0.95 -p seeds 0`. Any parameter of the first code cell can
# be given like this; `-p dry_run True` only says what would be computed and about how long it takes.

# %%
page.provenance(study.runs())
