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
dataset = "mnist5k"  # mnist5k, mnist, fashion_mnist5k, cifar10_5k, or digits, without a download
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
start_steps = 1000  # of GD from the initialization
seeds = [11, 12, 13]  # of initialization, batch order and noise
refresh_every = "adaptive"  # or a number of steps; the paper's is 1
target_angle = 0.05  # for "adaptive": sine of the largest principal angle aimed for
device = "cpu"  # or cuda
scheduler = None  # or the address of a Dask scheduler, whose workers compute the runs
profile = "paper"  # or quick: a small version of everything, to try it
dry_run = False  # True: say what would be computed, and stop

# %%
from subspace_lib.chapters.full_batch_gd import CHAPTER, answers, figures, tables
from subspace_lib.chapters.kit import page
from subspace_lib.chapters.kit.switch import tables as switch_tables

study = page.study(CHAPTER, page.parameters(globals(), CHAPTER))  # loaded, or computed and kept
page.answer(CHAPTER, study)

# %% mystnb={"figure": {"caption": "Alignment of the full-batch gradient, by steps from the switch (dotted). Top: SGD up to the switch, full-batch GD from there, then SGD again. Bottom: GD with Gaussian noise from the switch on. One line per seed, the first bold.", "name": "fig-there-and-back"}}
figures.there_and_back(study)

# %%
answers.there_and_back(study)

# %% [markdown]
# **Claim** ({cite:t}`song2025`, section 4 [rev]). While the {term}`sharpness` stays below $2/\eta$, minibatch noise makes
# the gradient lie in the dominant subspace (C4). Take the noise away and the alignment goes; bring it back and it returns.
#
# **Why it should be so.** Take a quadratic, and let $x_i$ be the coordinate along the eigenvector of $\lambda_i$. A step is
# $x_i \leftarrow (1 - \eta\lambda_i) x_i - \eta \xi_i$ with noise $\xi_i$ of variance $\sigma_i^2$. Without noise a steep
# coordinate is gone in a few steps; the gradient that remains lies in the bulk. With noise it settles at
# $\mathbb{E} x_i^2 = \eta\sigma_i^2 / (\lambda_i (2 - \eta\lambda_i))$ ({doc}`07b_momentum_theory` at $\beta = 0$). So the
# full-batch gradient keeps a part of variance $\eta\lambda_i\sigma_i^2/(2 - \eta\lambda_i)$. That part is large, and changes
# its sign: it leads nowhere.
#
# **Protocol.** From the point of SGD at its switch, go on with full-batch GD at the same $\eta$ for $10/(\eta\lambda_k)$
# steps: the slowest dominant coordinate would then have shrunk by $e^{-10}$. Then return to the same minibatches, for
# `back_steps`. Alignments are means over steps: the last ones before the switch, the last tenth of GD, the last ones with
# minibatches again [own]. The switch comes when an average over some ten steps first exceeds `switch_alignment`.

# %%
switch_tables.protocol(study.switch)

# %% [markdown]
# ## Is it noise, or noise along the sharp directions? (F1)
#
# A reviewer of the paper asked [rev]. To the gradient of full-batch GD we add Gaussian noise: once with the covariance that
# SGD's noise has at the switch, once isotropic, with the same total variance (bottom of {numref}`fig-there-and-back`). Of
# isotropic noise only the share $k/D$ falls into the dominant subspace. Of noise proportional to the Hessian it would be
# $\sum_{i \le k} \lambda_i / \operatorname{tr} H$. Of SGD's own noise it is the first share in the table:

# %%
tables.noise_shares(study)

# %% mystnb={"figure": {"caption": "Variance of the gradients of single samples along the 20 leading eigenvectors at the switch, against the eigenvalue (both log); filled: the first k, open: the others. Dotted: noise proportional to the Hessian, with the measured total.", "name": "fig-noise"}}
figures.single_sample_noise(study)

# %%
answers.single_sample_noise(study)

# %% [markdown]
# ## Batch size, and what the quadratic model predicts
#
# The model has no free parameter. Eigenvalues and noise are those at the switch; beyond the leading 20 the noise is taken
# to be proportional to the eigenvalue. The mean gradient is what GD has left at its end. The noise of $B$ out of $N$
# samples has the covariance of single samples times $(N - B)/((N - 1) B)$.

# %% mystnb={"figure": {"caption": "Alignment of the full-batch gradient against batch size (log scale): predicted at the switch, measured after it, and at the end of the run; mean and range over seeds. The largest size is the full batch.", "name": "fig-batch-size"}}
figures.by_batch_size(study)

# %%
answers.by_batch_size(study)

# %% [markdown]
# In the model the alignment need not fall steadily. Noise fills the bulk too: where it outweighs the mean gradient in
# both subspaces, as with small batches, the alignment is that of the noise alone, and a smaller batch changes little.
#
# ## Does the noise help or hurt?

# %% mystnb={"figure": {"caption": "Training loss of SGD, of GD, and of GD with either noise, by steps from the switch; first seed.", "name": "fig-learning"}}
figures.learning(study)

# %%
answers.learning(study)

# %% [markdown]
# ## Gradient descent from the initialization

# %% mystnb={"figure": {"caption": "GD from the initialization at the same \u03b7. Top: alignment of the gradient. Bottom: sharpness (log scale); dotted: 2/\u03b7. Mean and range over seeds.", "name": "fig-start"}}
figures.from_the_start(study)

# %%
answers.from_the_start(study)

# %% [markdown]
# {doc}`05_edge_of_stability` follows such runs up to the edge of stability.
#
# ## Verdict
#
# C4 is the paper's claim. F1 is ours, with a criterion of its own: does the alignment fall with batch size, and what noise
# does it take?

# %%
page.verdict(CHAPTER, study)

# %% [markdown]
# ## What is the paper's, and what is ours
#
# - *Pixels, network, loss with ½, batches without replacement* [code]; *batch sizes, lengths, windows* [own]: the paper's are not
#   known. *Added here* [own]: artificial noise, noise by eigenvector, the prediction. {term}`Marks <Source mark>`.
# - Minibatches run through a permutation each epoch. Their noise sums to zero over an epoch; the model's does not.
#
# ## Rerun, and where the numbers are from
#
# `papermill notebooks/03_full_batch_gd.ipynb mine.ipynb -p learning_rate 0.02 -p seeds 0`. Any parameter of the first code
# cell can be given like this; `-p dry_run True` only says what would be computed and about how long it takes.

# %%
page.provenance(study.trajectories())
