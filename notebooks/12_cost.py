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

# %% mystnb={"figure": {"caption": "Process seconds of the same steps over those of plain SGD (dotted), by what they go into; a bar a way to train. The cold start is not in it.", "name": "fig-price"}}
figures.price(found)

# %%
answers.price(found)

# %% [markdown]
# Every experiment of this book needs the {term}`dominant subspace` along a whole training run. The paper computes it anew
# at every step [code]. What does that cost more than SGD? From one point after the {term}`switch`, with the paper's pixels
# and η, all runs go on in one process and take turns. *SGD, followed* has a basis at every step and does not use it.
# *Gradients a step* counts everything, a minibatch too. *True sine*: the angle to the exact subspace, solved for off the
# clock at random steps, on the MLP in float64. *As known*: the {term}`angle in use` that the tracker states there.
#
# **How the subspace is followed.** A {term}`refresh` multiplies the block of the last one by the Hessian of all data. That
# certifies the old basis and gives the next. Between refreshes come {term}`looks <Look>`: a part of the data shows how the
# Hessian has changed, and the basis moves on by that. A refresh is due when the share of the turn that looks do not see
# grows large, when the gap seems to close, or when something rises outside of the block. *Rows* (full gradient, test loss,
# rates) use the basis at hand. With a {term}`budget`, what is due waits until it is affordable.
#
# ## Beside other solvers
#
# A basis counts when each Ritz vector's residual is at most 10⁻³ λ₁ and the sine of the largest {term}`principal angle` to
# a float64 reference is at most 10⁻². SGD runs to a point; then each solver solves at consecutive steps, on one thread.
# *Warm* ones start from their own answer at the step before. Solvers without a Hessian product of their own get ours, with
# its graph kept; with a *plain product* they get PyTorch's defaults. *Gradients*: seconds in units of one full-data
# gradient, at the chunk size where that is fastest.

# %%
tables.solvers(case)

# %% mystnb={"figure": {"caption": "Cost against true angle (both log), each solver at its largest angle; filled: warm start, open: cold, pale: target missed. Dotted: the target's angle.", "name": "fig-accuracy"}}
figures.accuracy(case)

# %%
answers.accuracy(case)

# %% [markdown]
# Below: each peer's cheapest setting that reached the target at every point, over our tracker's at every step. *Near the
# edge* has a larger η, so that the subspace turns further in a step. All but the CNN have the standardized pixels of the
# first ledger, which {doc}`../history` tells of. *Small gap* is Fashion-MNIST-5k at a point chosen
# because λ₁₀ and λ₁₁ are close there. *CNN* is CIFAR10-5k, at one point. In brackets: with PyTorch's plain product.

# %%
tables.ratios(found)

# %% [markdown]
# Each aim was set before the code that it tests was written. A solver cannot take fewer products than eigenvectors; a Krylov
# space that grows from one vector, as scipy's, takes more than one for each.

# %%
tables.verdict(found)

# %% [markdown]
# **Which method fails where.** *Ghost copies*: Lanczos from one vector loses orthogonality and finds eigenvalues again.
# *Defaults* may stop early: PyHessian compares successive eigenvalues, which settle before the vectors; scipy's lobpcg
# stops after a fixed number of iterations. *Sketches* without power iterations see the bulk's many small eigenvalues add up
# beside the outliers. *Tiny gaps*: a warm start may settle on the wrong vector of a pair. The residual does not show it;
# the certificate does, if its block holds the pair, and names a clearer cut.
#
# ## On other pixels, and at the edge
#
# The tracker on standardized pixels, and under full-batch GD at the edge of stability, as it was at its commit (last
# table).

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
# takes $F$ forward, $F$ for the weights' gradients and $F'$ for those of all layers' inputs but the first's. A Hessian
# product adds a tangent to each: $F + F'$, $F + F'$ and $2F'$. So a product taken alone costs $(2F + 4F')/(2F + F')$
# gradients; the products of a block share what does not depend on the vector. What is left is how fast the machine multiplies: PyTorch
# has two libraries for float32 matrices on a CPU, of which ours takes the faster where it is as exact.

# %%
tables.per_product(found)

# %%
tables.ways(found)

# %%
tables.memory(found)

# %%
tables.footprint(found)

# %% [markdown]
# ## What differs from the paper, rerun, and where the numbers are from
#
# The paper does not report its solver's cost; the public replication {cite:p}`replication2026` logs it on a CUDA GPU, with
# a solve at every step. `make benchmark` measures all of this anew, `python -m subspace_lib.benchmark --part price-mlp` the
# first bars alone, `papermill notebooks/12_cost.ipynb mine.ipynb -p after 100 -p points 2` the installed solvers at another
# point. *Load* counts the processes of the last minute, its own included; where it is empty, it was not recorded.

# %%
tables.where_from(found)
