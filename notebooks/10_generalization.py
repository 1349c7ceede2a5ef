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
# # 10 · Generalization

# %% tags=["parameters"]
dataset = "mnist5k"
preprocessing = "unit"
model = "mlp"
loss = "mse"
k = 10  # dimension of the dominant subspace
learning_rate = 0.01  # η
batch_size = 50  # samples
steps = 20_000  # in all, the common part included
switch_alignment = 0.95  # None: switch at switch_step
switch_step = 3000  # where the alignment has not asked for it
seeds = [16, 17, 18, 19, 20]  # of initialization and batch order
edge_seeds = [11, 12, 13, 14, 15]  # of full-batch GD; none: leave it out
sam_seeds = [11, 12, 13]  # of SAM with minibatches; none: leave it out
network_datasets = ["cifar10_5k", "sst2_1k"]  # other networks, one entry each; none: leave them out
network_models = ["cnn", "transformer"]
network_dimensions = [10, 2]  # k
network_learning_rates = [0.001, 0.001]
network_step_counts = [20_000, 20_000]
target_angle = 0.05  # sine of the largest principal angle aimed for
device = "cpu"  # or cuda
scheduler = None  # or the address of a Dask scheduler, whose workers compute the runs
profile = "paper"  # or quick: a small version of everything, without download
dry_run = False  # True: say what would be computed, and stop

# %%
from subspace_lib.chapters.generalization import CHAPTER, answers, figures, tables
from subspace_lib.chapters.kit import page

study = page.study(CHAPTER, page.parameters(globals(), CHAPTER))  # loaded, or computed and kept
answers.opening(study)

# %% mystnb={"figure": {"caption": "Test accuracy (top) and test loss (bottom) of SGD, Dom-SGD and Bulk-SGD over the steps; mean over seeds with their range. Dotted: the switches.", "name": "fig-test-steps"}}
figures.over_steps(study)

# %%
answers.over_steps(study)

# %% [markdown]
# **Question** (Q4; three of the paper's reviewers asked it). According to the paper Bulk-SGD lowers the training loss as
# SGD does ({doc}`02_dom_vs_bulk` asks whether it does here). It leaves out the dominant part of the update, and with it
# the minibatch noise there. Does the omitted part matter for unseen data?
#
# **Protocol.** The switch of {doc}`02_dom_vs_bulk`, on seeds that no earlier chapter uses, because the test results of seeds
# 11 to 15 were known when the criterion was written. Two comparisons. At equal steps: which method is ahead? At equal
# training loss: does one path lead to a better test loss? The second takes speed out. Shown beside these, not judged, from
# the runs of {doc}`05_edge_of_stability`, {doc}`06_sam` and {doc}`02b_architectures`: full-batch GD at its edge of
# stability, SAM, and two other networks.

# %%
tables.protocol(study)

# %% [markdown]
# ## At equal training loss

# %% mystnb={"figure": {"caption": "Against the training loss, from the first switch on, one line per seed. Top: test accuracy. Bottom: test loss over that of the same seed's SGD at the same training loss; at 1, methods differ only in speed.", "name": "fig-test-loss"}}
figures.over_loss(study)

# %%
answers.over_loss(study)

# %% [markdown]
# ## Sharpness
#
# How sharp are the ends of the runs, and does test accuracy go with that?

# %% mystnb={"figure": {"caption": "Test accuracy against the sharpness at the end, one mark per run. Shape: the rule X. Colour: X, Dom-X or Bulk-X.", "name": "fig-test-sharpness"}}
figures.over_sharpness(study)

# %%
answers.over_sharpness(study)

# %% [markdown]
# What this does not show: what the noise and the drift in these directions do each by itself, as Bulk-SGD leaves out both;
# and how the methods compare at training losses that these runs do not reach.

# %% [markdown]
# ## Verdict

# %%
page.verdict(CHAPTER, study)

# %% [markdown]
# ## What is the paper's, and what is ours
#
# *The question: reviewers 2, 3 and 4 asked for test loss and accuracy* [rev]; *both criteria, the comparison at equal
# training loss, seeds, and the groups beside the judged one* [own]. Network, data and switch differ from the paper's as in
# {doc}`02_dom_vs_bulk`. {term}`What the marks mean <Source mark>`.
#
# ## Rerun
#
# `papermill notebooks/10_generalization.ipynb mine.ipynb -p dataset fashion_mnist5k -p steps 5000 -p network_datasets "[]"
# -p network_models "[]" -p network_dimensions "[]" -p network_learning_rates "[]" -p network_step_counts "[]"
# -p sam_seeds "[]"`, and likewise for any parameter of the first code cell; `-p profile quick` needs no download.

# %%
page.provenance(study.runs())
