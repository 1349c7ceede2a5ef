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
# # 02b · Other architectures

# %% tags=["parameters"]
datasets = ["cifar10_5k", "sst2_1k"]  # one entry a panel, at most two; images or sentences
models = ["cnn", "transformer"]  # or mlp, resnet8, vgg11_quarter, …: what takes the data
dimensions = [10, 2]  # k, of the dominant subspace
learning_rates = [0.001, 0.001]  # η
step_counts = [20_000, 20_000]  # in all, the common part included
loss = "mse"  # mse or cross_entropy
batch_size = 50  # samples
switch_alignment = 0.95  # None: switch at switch_step
switch_step = 5000  # also where to switch when the alignment has not got there
seeds = [11, 12, 13]  # of initialization and batch order
doubled_seed = 12  # of the runs at 2η
refresh_every = "adaptive"  # or a number of steps; the paper's is 1
target_angle = 0.05  # for "adaptive": sine of the largest principal angle aimed for
device = "cpu"  # or cuda
scheduler = None  # or the address of a Dask scheduler, whose workers compute the runs
profile = "paper"  # or quick: a small version of everything, without download
dry_run = False  # True: say what would be computed, and stop

# %%
from subspace_lib.chapters.architectures import CHAPTER, answers, figures, tables
from subspace_lib.chapters.kit import page

study = page.study(CHAPTER, page.parameters(globals(), CHAPTER))  # loaded, or computed and kept
page.answer(CHAPTER, study)

# %% mystnb={"figure": {"caption": "Training loss (log scale) of SGD, Dom-SGD and Bulk-SGD over the steps, one panel per network; one line per seed, the first bold. Dots: the switches, where the three have the same point. The first steps, up to a tenth of the way to the first switch, may lie outside the axes.", "name": "fig-losses"}}
figures.losses(study)

# %%
answers.losses(study)

# %% [markdown]
# **Claim** ({cite:t}`song2025`, figures 1b and 1c [rev, cap]). What {doc}`02_dom_vs_bulk` shows for a perceptron holds
# for a CNN on CIFAR10-5k (C2b, C3b) and for a Transformer on SST2-1k (C2c, C3c).
#
# **Protocol.** That of {doc}`02_dom_vs_bulk`, with $k$ the number of classes, and other {term}`networks`. The CNN sees
# images of which each pixel is standardized. The Transformer sees the first 1,000 phrases of GLUE's SST-2 as WordPiece
# tokens, all padded to one length; padded positions are masked as keys, and count in the mean over positions. Its
# embedding has a row for each token of training and test data: a row whose token the training data lack has neither
# gradient nor curvature.

# %%
tables.protocol(study)

# %% [markdown]
# ## Where the gradient points

# %% mystnb={"figure": {"caption": "Alignment with the dominant subspace, of the full-batch gradient (left) and of the minibatch gradient (right). Rolling mean over ten rows (fewer in a short run); mean and range over seeds. Dotted: the switches, and the threshold that asks for them. The rule that switches averages about ten steps, these lines ten rows; so at the switch a line may lie below the threshold.", "name": "fig-alignments"}}
figures.alignments(study)

# %%
answers.alignments(study)

# %% mystnb={"figure": {"caption": "The largest Hessian eigenvalues (log scale) under SGD, Dom-SGD and Bulk-SGD, first seed; coloured: the first k, grey: the others. Lines: eigenvalues that every row has; grey dots: further ones, of the rarer full spectra. Dotted: 2/\u03b7, beyond which gradient descent is unstable.", "name": "fig-spectra"}}
figures.spectra(study)

# %%
answers.spectra(study)

# %% [markdown]
# ## Is it the right subspace, and what did it cost?

# %% mystnb={"figure": {"caption": "Sine of the largest principal angle (log scale), the largest since the row before, all seeds. Coloured: how far the basis was seen to turn. Grey: its angle to the dominant subspace, certified at the dots, an estimate elsewhere. Dotted: the target.", "name": "fig-angles"}}
figures.angles(study)

# %%
answers.angles(study)

# %% [markdown]
# ## On data not trained on

# %% mystnb={"figure": {"caption": "Test loss (log scale) and test accuracy, mean over seeds with their range. Dotted: the switches. The first steps, up to a tenth of the way to the first switch, may lie outside the axes.", "name": "fig-tests"}}
figures.test_losses(study)

# %%
answers.test_losses(study)

# %% [markdown]
# ## At twice the learning rate (F6)
#
# Whether the paper's squared loss has a factor ½ is uncertain ({doc}`02_dom_vs_bulk`); ours has it. Without it every
# gradient is twice as large, which is the same as a learning rate of 2η with it. So the runs are shown at 2η too.

# %%
answers.doubled(study)

# %% [markdown]
# ## Verdict

# %%
page.verdict(CHAPTER, study)

# %% [markdown]
# ## What is the paper's, and what is ours
#
# *Networks, initialization, pixels, tokens, ½, batches without replacement, the subspace anew at every step
# (`refresh_every = 1`)* [code]; *$k$, η, batch size, 20,000 steps, threshold and moving average of the switch* [rep]; *the
# steps between which the switch may come, a subspace refreshed when it has turned, no embedding
# rows for tokens that occur in neither training nor test data* [own]. {term}`What the marks mean <Source mark>`.
#
# ## Rerun
#
# `papermill notebooks/02b_architectures.ipynb mine.ipynb -p datasets cifar10_1k -p models resnet8_quarter -p dimensions 10
# -p learning_rates 0.01 -p step_counts 2000 -p switch_step 1000 -p seeds 0`, and likewise for any parameter of the first
# code cell; `-p profile quick` needs no download.

# %%
page.provenance(study.runs())
