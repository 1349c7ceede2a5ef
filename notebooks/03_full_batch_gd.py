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
# # 03 · Full-batch gradient descent

# %% tags=["parameters"]
dataset = "mnist5k"  # mnist5k, fashion_mnist5k, cifar10_5k, or digits, which needs no download
preprocessing = "unit"  # pixels in 0 … 1; or standardized, by channel; or per_pixel, for cifar10_5k
model = "mlp"  # mlp or cnn
loss = "mse"  # mse or cross_entropy
k = 10  # dimension of the dominant subspace
learning_rate = 0.01  # η
batch_size = 50  # samples, of the SGD that leads up to the switch
batch_sizes = [10, 1000, 5000]  # of the branches
steps = 20_000  # of these runs in all
switch_alignment = 0.95  # where all branches leave, as in chapter 02; None: at switch_step
switch_step = 3000  # also where to switch when the alignment has not got there
back_steps = 1000  # of SGD after GD, and of GD with noise
start_steps = 1000  # of GD from the initialisation
seeds = [11, 12, 13]  # of initialisation, batch order and noise
refresh_every = "adaptive"  # or a number of steps; the paper's is 1
target_angle = 0.05  # for "adaptive": sine of the largest principal angle aimed for
device = "cpu"  # or cuda
profile = "paper"  # or quick: about two minutes, on digits
dry_run = False  # True: say what would be computed, and stop

# %%
from subspace_lib.chapters.full_batch_gd import CHAPTER, figures, tables
from subspace_lib.chapters.kit import page
from subspace_lib.chapters.kit.switch import tables as switch_tables

study = page.study(CHAPTER, page.parameters(globals(), CHAPTER))  # loaded, or computed and kept
page.answer(CHAPTER, study)

# %% mystnb={"figure": {"caption": "Alignment of the full-batch gradient, by steps from the switch. Top: SGD up to the switch, full-batch GD from there, then SGD again. Bottom: GD with Gaussian noise from the switch on. A line a seed, the first bold. **What to see:** how fast the alignment goes without noise and returns with it, and whether isotropic noise of the same size does the same.", "name": "fig-there-and-back"}}
figures.there_and_back(study)

# %% [markdown]
# **Claim** ({cite:t}`song2025`, section 4, as its public reviews tell it). While the {term}`sharpness` stays below
# $2/\eta$, it is minibatch noise that makes the gradient lie in the dominant subspace (C4). Take the noise away and
# the alignment goes; bring it back and it returns.
#
# **Why it should be so.** On a quadratic, with $x_i$ the coordinate along the eigenvector of $\lambda_i$, a step
# is $x_i \leftarrow (1 - \eta\lambda_i) x_i - \eta \xi_i$. Without noise a steep coordinate is gone in a few
# steps, and the gradient that remains is in the bulk. With noise of variance $\sigma_i^2$ it settles at
# $\mathbb{E} x_i^2 = \eta\sigma_i^2 / (\lambda_i (2 - \eta\lambda_i))$, so that the full-batch gradient
# keeps a part of variance $\eta\lambda_i\sigma_i^2/(2 - \eta\lambda_i)$ along it, which points anywhere but
# ahead.
#
# **Protocol.** From the point of SGD at its switch: full-batch GD at the same $\eta$ for $10/(\eta\lambda_k)$ steps, in
# which the slowest dominant coordinate would shrink by $e^{-10}$; then the same minibatches again, for `back_steps`.
# Judged are means over every step of the windows in the criterion. Windows and lengths are ours.

# %%
switch_tables.protocol(study.switch)

# %% [markdown]
# ## Verdict
#
# Beyond the paper (F1): does the alignment fall with batch size, and what noise does it take? A reviewer asked. F1 has a criterion of
# its own and does not touch C4.

# %%
page.verdict(CHAPTER, study)

# %% [markdown]
# ## Is it noise, or noise that leans to the sharp directions?
#
# An intervention: full-batch GD, to whose gradient Gaussian noise is added, of SGD's own covariance at that point, or isotropic with the
# same trace. Isotropic noise spreads over all directions; only $k/D$ of its variance falls into the dominant
# subspace. SGD's own noise has a larger share there. On the mean squared error, noise proportional to the Hessian would
# put the share $\sum_{i \le k} \lambda_i / \operatorname{tr} H$ there.

# %%
tables.noise_shares(study)

# %% mystnb={"figure": {"caption": "Variance of single-sample gradients along the 20 leading eigenvectors at the switch, against the eigenvalue; filled: the first k; dotted: noise proportional to the Hessian, with the measured trace. **What to see:** whether the noise grows with the curvature, and how closely it is proportional to it.", "name": "fig-noise"}}
figures.single_sample_noise(study)

# %% [markdown]
# ## Batch size, and what the quadratic model predicts
#
# The model has no parameter left: eigenvalues and noise are measured at the switch (beyond the leading 20,
# noise proportional to the eigenvalue), the mean gradient is what GD has left at its end, and the noise of
# $B$ out of $N$ samples has the covariance of single samples times $(N - B)/((N - 1) B)$.

# %% mystnb={"figure": {"caption": "Alignment of the full-batch gradient against batch size: predicted at the switch, measured over the 2,000 steps after it, and at the end of the run; mean and range over seeds; the last is full batch. **What to see:** where it falls with batch size and where it is level, and how far the prediction carries.", "name": "fig-batch-size"}}
figures.by_batch_size(study)

# %%
tables.batch_sizes(study)

# %% [markdown]
# The fall need not be steady: noise fills the bulk too. Once it outweighs the mean gradient in both subspaces, the
# alignment is that of the noise alone, whatever its size. Late in training the mean gradient is smaller, so that
# larger batches come into that regime as well.
#
# ## Does the noise help or hurt?

# %% mystnb={"figure": {"caption": "Training loss after the switch, first seed. **What to see:** what the noise costs, and whether the runs learn alike whatever their gradient's alignment.", "name": "fig-learning"}}
figures.learning(study)

# %% [markdown]
# ## Gradient descent from the initialisation

# %% mystnb={"figure": {"caption": "GD from the initialisation at the same \u03b7: alignment of the gradient and sharpness; dotted: 2/\u03b7. **What to see:** how long an alignment lasts that no noise renews. Chapter 05 follows such runs up to the edge of stability.", "name": "fig-start"}}
figures.from_the_start(study)

# %% [markdown]
# ## What differs from the paper
#
# - *By its code, very probably:* pixels, network, ½, batches without replacement. *Ours:* the batch sizes, which are not known.
# - *Minibatches* run through a permutation each epoch: their noise sums to zero over an epoch, which the
#   model's independent noise does not. Steep directions forget within a few steps and do not notice.
# - *Added here:* artificial noise, the noise along each eigenvector, the prediction.
#
# ## Rerun
#
# `papermill notebooks/03_full_batch_gd.ipynb mine.ipynb -p learning_rate 0.02 -p seeds 0`, and likewise for
# any parameter of the first code cell; `-p profile quick` takes about two minutes, on digits.

# %%
page.provenance(study.trajectories())
