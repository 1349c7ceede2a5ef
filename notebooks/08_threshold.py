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
# # 08 · How many dimensions, and how exact

# %% tags=["parameters"]
models = ["mlp", "mlp", "transformer"]  # one entry a case
datasets = ["mnist5k", "fashion_mnist5k", "sst2_1k"]
losses = ["mse", "mse", "mse"]
dimensions = [10, 10, 2]  # number of classes: k of the rule that finds the switch
learning_rates = [0.01, 0.01, 0.001]  # η
cut_step_counts = [10_000, 10_000, 20_000]  # of the runs with other k, the common part included
step_counts = [20_000, 10_000, 20_000]  # of those with as many dimensions as classes
switch_steps = [3000, 3000, 5000]  # where the alignment has not asked for it
repeats = [3, 1, 1]  # how many of the seeds
cuts = [1, 2, 5, 8, 10, 12, 20, 40]  # k of the first case; others in ratio to the classes
cut_budgets = [100, 100, 3]  # times SGD's price, its own steps included; None: no limit
budgets_from = [21, 21, 3]  # k from which on the budget is in force
fractions = [0.5, 0.2, 0.1]  # of λ₁, at which a rule may cut the spectrum
batch_size = 50  # samples
switch_alignment = 0.95  # None: switch at switch_steps
seeds = [11, 12, 13]  # of initialization and batch order
kept = [1, 10, 100, 1000, 5000]  # steps for which a basis of the dominant subspace is kept
subsets = [100, 500, 2500]  # samples of the Hessian
batches = 100  # minibatches of one covariance
interval = 25  # steps for which the other spaces are kept
slow_interval = 50  # steps, for the covariance of all samples' gradients
space_steps = 5000  # after the switch, in other spaces
target_angle = 0.05  # sine of the largest principal angle aimed for
device = "cpu"  # or cuda
scheduler = None  # or the address of a Dask scheduler, whose workers compute the runs
profile = "paper"  # or quick: a small version of everything, without download
dry_run = False  # True: say what would be computed, and stop

# %%
from subspace_lib.chapters.kit import page
from subspace_lib.chapters.threshold import CHAPTER, answers, figures, tables

study = page.study(CHAPTER, page.parameters(globals(), CHAPTER))  # loaded, or computed and kept
answers.opening(study)

# %% mystnb={"figure": {"caption": "Horizontal: k divided by the number of classes; vertical line: 1. Top: progress of Dom-SGD (filled) and Bulk-SGD (hollow); dotted: the criteria. Where SGD gained too little there is no progress. Middle: late alignment of SGD's gradient with the subspace. Bottom: eigenvalues at the switch, first seed. Means over seeds with their range.", "name": "fig-cuts"}}
figures.cuts(study)

# %%
answers.cuts(study)

# %% [markdown]
# **Questions** (Q2, Q5). The paper ({cite:t}`song2025`) takes as many dimensions as there are classes [rep], and finds the
# subspace anew at every step [code]. Is there a k at which Dom-SGD learns, and what does the spectrum say there? And how
# exact must the subspace be: does an old one do, one of less data, of another matrix?
#
# **Protocol.** That of {doc}`02_dom_vs_bulk`. For all k the switch is at the same step: where the moving average of the
# alignment with as many dimensions as classes exceeds its threshold. So all branches of a seed begin at the same point, and
# SGD is the same run. Where the spectrum has no gap behind $\lambda_k$, the last directions of $S_k$ are not determined, and
# the {term}`angle in use` may come near 1 at any price; so for the largest k the price is limited. Rules that choose k
# from the spectrum, a fraction of $\lambda_1$ or the largest gap $\lambda_j/\lambda_{j+1}$, need no runs of their own:
# the table names the k that they come nearest to.

# %%
tables.protocol(study)

# %% [markdown]
# ## Other spaces in the place of the dominant subspace
#
# From the same switch, Dom-SGD and Bulk-SGD project on a space that is found in another way: the dominant subspace, kept for
# a while; the leading eigenvectors of the Hessian on some of the samples or on the minibatch of the step, of the
# {term}`Gauss–Newton matrix` {eq}`eq-hessian-parts`, of the covariance of sample or minibatch gradients
# ({cite:t}`dome2025`), of Adam's preconditioned Hessian; the axes of Adam's largest second moments; and, for comparison, a
# random space of the same dimension. At each recorded row $S_k$ is solved for and compared with the space in use.

# %% mystnb={"figure": {"caption": "Every space against its angle to the dominant subspace, the root mean squared sine of all principal angles. Top: progress of Dom-SGD and Bulk-SGD. Bottom: alignment of Dom-SGD's late gradient with the space. Means over seeds with their range; dashed: the dominant subspace itself, followed. A thin line leads from a letter to its point.", "name": "fig-spaces"}}
figures.spaces(study)

# %%
answers.spaces(study)

# %% [markdown]
# What this does not show: one network on one data set is asked, at one η, and a space that is found anew every few steps is
# stale in between. At another η the subspace may turn at another speed.

# %% [markdown]
# ## Verdict
#
# Q2 is judged on the first case: Dom-SGD with half, once and twice as many dimensions as classes, Bulk-SGD with up to as
# many. Q5 is judged on two spaces: $S_k$ kept for 100 steps, and that of the Hessian of 2,500 samples. A random space must
# fail.

# %%
page.verdict(CHAPTER, study)

# %% [markdown]
# ## What is the paper's, and what is ours
#
# - *As many dimensions as classes* [rep]; *the subspace anew at every step* [code]; *the question how a stale subspace, one
#   of less data or one of a minibatch does* [rev]; *all other k, all other spaces, both criteria, a subspace refreshed when
#   it has turned* [own]. {term}`What the marks mean <Source mark>`.
# - The covariance of minibatch gradients is that of the next minibatches at one point; the method that it is taken from
#   averages along the way.
#
# ## Rerun
#
# `papermill notebooks/08_threshold.ipynb mine.ipynb -p models mlp -p datasets fashion_mnist5k -p losses cross_entropy
# -p dimensions 10 -p learning_rates 0.01 -p cut_step_counts 3000 -p step_counts 3000 -p switch_steps 1500 -p repeats 1
# -p cut_budgets 100 -p budgets_from 21 -p cuts 5,10,20`, and likewise for any parameter of the first code cell; `-p profile quick` needs no download.

# %%
page.provenance(study.runs())
