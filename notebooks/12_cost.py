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
# # 12 · What it costs

# %% tags=["parameters"]
dataset = "mnist5k"  # mnist5k, fashion_mnist5k, cifar10_5k, or digits, which needs no download
preprocessing = "standardized"  # as the stored cases; the paper's is unit, of CIFAR-10 per_pixel
model = "mlp"  # mlp or cnn
learning_rate = 0.01  # η
after = 500  # SGD steps before the first point
points = 5  # consecutive points
device = "cpu"  # or cuda: measured now, not stored
profile = "paper"  # or quick: a small version of everything, to try it
dry_run = False  # True: say what would be computed, and stop

# %%
from subspace_lib.chapters.cost import CHAPTER, answers, figures, tables
from subspace_lib.chapters.cost.study import book_runs, stored
from subspace_lib.chapters.kit import page

found = stored()  # written by `make benchmark`
given = page.parameters(globals(), CHAPTER)
case = page.study(CHAPTER, given)  # a stored case, or measured now
page.told(given, tables.answer(found).data)

# %% mystnb={"figure": {"caption": "Process seconds of the same steps over those of plain SGD (dotted), by what they go into; one bar per way to train. The cold start is not in it.", "name": "fig-price"}}
figures.price(found)

# %%
answers.price(found)

# %% [markdown]
# Every experiment of this book needs the {term}`dominant subspace` along a whole training run. The paper computes it anew
# at every step [code]. What does that cost more than SGD? From one point after the {term}`switch`, with the paper's pixels
# and η, all runs take turns in one process. *SGD, followed* has a basis at every step and does not use it. *Gradients a
# step* counts everything. *True sine*: the angle to the exact subspace, solved for off the clock at random steps, on the MLP
# in float64. *As known*: the {term}`angle in use` that the tracker states there.
#
# **How the subspace is followed.** A {term}`refresh` multiplies the block of the last one by the Hessian of all data. That
# certifies the old basis and gives the next. Between refreshes come {term}`looks <Look>`: a part of the data shows how the
# Hessian has changed, and the basis moves on by that. A refresh is due when the unseen share of the turn grows large, when
# the gap seems to close, or when something rises outside. *Rows* (full gradient, test loss, rates) use the basis at hand.
# With a {term}`budget`, what is due waits until it is affordable.
#
# ## Beside other solvers
#
# A basis counts when each Ritz vector's residual is at most 10⁻³ λ₁ and the sine of the largest {term}`principal angle` to
# a float64 reference at most 10⁻². SGD runs to a point; then each solver solves at consecutive steps, on one thread. *Warm*:
# from its own answer at the step before. Solvers get our Hessian product where they have none, or a *plain product* with
# PyTorch's defaults. *Gradients*: seconds in units of one full-data gradient. *True sine*: the largest at these steps.

# %%
tables.solvers(case)

# %% mystnb={"figure": {"caption": "Cost against true angle (both log), each solver at its largest angle; filled: warm start, open: cold, pale: target missed. Dotted: the target's angle.", "name": "fig-accuracy"}}
figures.accuracy(case)

# %%
answers.accuracy(case)

# %% [markdown]
# Below: each peer's cheapest setting that reached the target at every point, over our tracker's at every step. *Near the
# edge* has a larger η: the subspace turns further in a step. All but the CNN have the standardized pixels of the first
# ledger ({doc}`../history`). *Small gap* is Fashion-MNIST-5k where λ₁₀ and λ₁₁ are close; *CNN* is CIFAR10-5k, at one point.
# In brackets: with PyTorch's plain product.

# %%
tables.ratios(found)

# %% [markdown]
# Each aim was set before its code was written. No solver can take fewer products than it finds eigenvectors.

# %%
tables.verdict(found)

# %% [markdown]
# **What each method is exposed to.** *Ghost copies*: Lanczos without reorthogonalization may find an eigenvalue again.
# *Defaults* may stop early: PyHessian by successive eigenvalues, whose error is of second order in that of the vectors;
# scipy's lobpcg after a fixed number of iterations. In *sketches* without power iterations many small eigenvalues add up
# beside the outliers. *Tiny gaps*: a warm start may settle on the wrong vector of a pair, which a residual cannot show; a
# certificate can, if its block holds the pair.
#
# ## On other pixels, and at the edge
#
# The tracker on standardized pixels, and under full-batch GD at the edge, as it was at its commit (last table).

# %%
tables.along_runs(found)

# %% mystnb={"figure": {"caption": "Gradient equivalents a step (log scale) over the runs of chapter 02, everything included: minibatches, looks, refreshes, spectra, and for SGD the full gradients of the watched alignment until the switch. Mean and range over seeds.", "name": "fig-over-training"}}
figures.over_training(book_runs())

# %%
answers.over_training(book_runs())

# %% mystnb={"figure": {"caption": "Seconds of a refresh at every step and of a full-data gradient (both axes log), of an MLP after some steps of SGD, against k, samples, width of the hidden layers, and samples per autograd graph.", "name": "fig-growth"}}
figures.growth(found)

# %%
answers.growth(found)

# %% [markdown]
# ## The floor
#
# Count multiplications per sample in an MLP with layers of $F_l$ weights, $F = \sum F_l$ and $F' = F - F_1$. A gradient
# takes $F$ forward, $F$ for the weights' gradients and $F'$ for those of the inputs of all layers but the first. A product
# adds a tangent to each: $F + F'$, $F + F'$ and $2F'$. So taken alone it costs $(2F + 4F')/(2F + F')$ gradients; those of a
# block share what does not depend on the vector. What is left is how fast the machine multiplies: PyTorch has two libraries
# for float32 matrices on a CPU, of which ours takes the faster where it is as exact.

# %%
tables.per_product(found)

# %%
tables.ways(found)

# %%
tables.memory(found)

# %%
tables.footprint(found)

# %% [markdown]
# ## What is the paper's, and what is ours
#
# *Scipy's eigsh at every step* [code], at a cost unknown to us; *times on a CUDA GPU* [rep]; *all measured here* [own].
# {term}`What the marks mean <Source mark>`.
#
# ## Rerun, and where the numbers are from
#
# `make benchmark` measures anew, `python -m subspace_lib.benchmark --part price-mlp` the first bars alone; `papermill
# notebooks/12_cost.ipynb mine.ipynb -p after 100 -p points 2` the installed solvers. *Load*: processes of the last minute.

# %%
tables.where_from(found)
