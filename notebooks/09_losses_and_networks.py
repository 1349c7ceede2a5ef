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
# # 09 · Other losses and networks

# %% tags=["parameters"]
models = ["mlp", "cnn", "transformer", "vgg11_quarter", "resnet8_quarter"]  # one entry a case
datasets = ["mnist5k", "cifar10_5k", "sst2_1k", "cifar10_1k", "cifar10_1k"]
losses = ["cross_entropy", "cross_entropy", "cross_entropy", "mse", "mse"]
dimensions = [10, 10, 2, 10, 10]  # k, of the dominant subspace
learning_rates = [0.01, 0.001, 0.001, 0.01, 0.01]  # η
step_counts = [10_000, 6000, 3000, 2000, 2000]  # in all, the common part included
switch_steps = [3000, 3000, 1500, 1000, 1000]  # where the alignment has not asked for it
budgets = [None, 10, 10, 10, 10]  # times SGD's price, its own steps included; None: no limit
repeats = [3, 3, 1, 1, 1]  # how many of the seeds
batch_size = 50  # samples
switch_alignment = 0.95  # None: switch at switch_steps
seeds = [11, 12, 13]  # of initialization and batch order
cause_cases = [1, 4]  # numbers of the cases in whose Dom-SGD one thing is changed at the switch
cause_steps = [2000, 1000]  # after it
cause_rows = [90, 117]  # steps from one row to the next
cause_seed = 11  # of these interventions
target_angle = 0.05  # sine of the largest principal angle aimed for
device = "cpu"  # or cuda
scheduler = None  # or the address of a Dask scheduler, whose workers compute the runs
profile = "paper"  # or quick: a small version of everything, without download
dry_run = False  # True: say what would be computed, and stop

# %%
from subspace_lib.chapters.kit import page
from subspace_lib.chapters.losses_and_networks import CHAPTER, answers, figures, tables

study = page.study(CHAPTER, page.parameters(globals(), CHAPTER))  # loaded, or computed and kept
answers.opening(study)

# %% mystnb={"figure": {"caption": "Training loss (log scale) of SGD, Dom-SGD and Bulk-SGD over the steps, one panel per case; mean over seeds with their range. Dots: the switches.", "name": "fig-cases"}}
figures.losses(study)

# %%
answers.losses(study)

# %% [markdown]
# **Question** (Q1). The paper's appendix ({cite:t}`song2025`, figures 14 and 17) shows the loss of Dom-SGD *rise* with
# cross-entropy and for VGG-11 [rev, cap]. Does it here, if so why, and does Bulk-SGD learn as SGD does?
#
# **Protocol.** That of {doc}`02_dom_vs_bulk`, one case after the other. VGG-11 has neither normalization nor dropout.
# ResNet-8 has batch normalization in its evaluation form: its statistics are means of one pass over the training data at
# initialization, and stay. Both have a quarter of the paper's width and 1,000 images: so neither has the paper's size.
# Where the gap at $k$ is small, a tracker that is to follow the subspace exactly multiplies by the Hessian at almost every
# step; a {term}`budget` limits what a case may cost. That makes refreshes rarer than the paper's, which are at every step.
# Rare refreshes slow a rise of Dom-SGD's loss down ({doc}`07b_momentum_theory`): under a budget it may be smaller than the
# paper's.

# %%
tables.protocol(study)

# %% [markdown]
# ## What the expansion says of Dom-SGD's loss
#
# For the dominant part of a minibatch update $u$ the expansion has a first-order term $g^\top P u$ and a second-order term
# $\tfrac12 (Pu)^\top H (Pu)$. The second is that of the mean gradient and of the minibatch noise; no more than
# $\tfrac12 \eta^2 \lambda_1 \|P g\|^2$ is the mean gradient's. To second order the loss stands still where the two terms
# cancel, and rises where the second is larger. What makes it rise? From the switch on one thing is changed at a time, on
# the MLP with cross-entropy and on VGG-11.

# %% mystnb={"figure": {"caption": "Dom-SGD from the switch on, with one change each: change of the training loss since the switch in per cent (dotted: none), against \u03b7 times the steps since then; one panel per case, one seed.", "name": "fig-causes"}}
figures.causes(study)

# %%
answers.causes(study)

# %% [markdown]
# ## Verdict
#
# Judged are the cases with cross-entropy on three seeds; the others are shown.

# %%
page.verdict(CHAPTER, study)

# %% [markdown]
# ## What is the paper's, and what is ours
#
# *Networks, initialization, both losses, data* [code]; *the loss of Dom-SGD rises* [rev, cap]; *learning rates of VGG-11 and
# ResNet-8, width, number of images, steps, budgets, the interventions* [own]. *Batch normalization in its evaluation form* [own],
# where each batch has its own statistics [code]: `resnet8_chunk` has these, and its loss depends on how the data are cut
# into batches. {term}`What the marks mean <Source mark>`.
#
# ## Rerun
#
# `papermill notebooks/09_losses_and_networks.ipynb mine.ipynb -p models cnn -p datasets fashion_mnist5k -p losses mse
# -p dimensions 10 -p learning_rates 0.01 -p step_counts 3000 -p switch_steps 1500 -p budgets None -p repeats 1
# -p cause_cases 1 -p cause_steps 500 -p cause_rows 90`, and likewise for any parameter of the first code cell;
# `-p profile quick` needs no download.

# %%
page.provenance(study.runs())
