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
# # 11 · Gauss–Newton or functional Hessian

# %% tags=["parameters"]
dataset = "mnist5k"  # mnist5k, mnist, fashion_mnist5k, cifar10_5k, or digits, without a download
preprocessing = "unit"  # pixels in 0 … 1; or standardized, by channel; or per_pixel, for cifar10_5k
model = "mlp"  # mlp or cnn
loss = "mse"  # mse or cross_entropy
k = 10  # dimension of the dominant subspace
learning_rate = 0.01  # η
batch_size = 50  # samples
steps = 20_000
anchors = [0, 500, 2000, 5000, 10_000, 20_000]  # steps at which to look
lanczos_steps = 60  # of each probe
probes = 6  # random vectors of a spectral density
pyhessian = 3  # probes of PyHessian's density at the last anchor; 0: none
seeds = [11, 12, 13]  # of initialization and batch order
device = "cpu"  # or cuda
scheduler = None  # or the address of a Dask scheduler, whose workers compute the runs
profile = "paper"  # or quick: a small version of everything, without download
dry_run = False  # True: say what would be computed, and stop

# %%
from subspace_lib.chapters.curvature import CHAPTER, answers, figures
from subspace_lib.chapters.kit import page

study = page.study(CHAPTER, page.parameters(globals(), CHAPTER))  # loaded, or computed and kept
answers.opening(study)

# %% mystnb={"figure": {"caption": "Spectral density of the Hessian (top) and of the Gauss\u2013Newton matrix (bottom) at the last anchor of the first seed, log scale. Coloured: what lies above the cut half way between the k-th eigenvalue and the next. Bands: standard error over probes. Dotted curve: PyHessian, with fewer probes. Dotted line: the height of a single eigenvalue. The quadrature's nodes are drawn as narrow Gaussians, so a little mass lies beyond the eigenvalues.", "name": "fig-density"}}
figures.spectrum(study)

# %%
answers.spectrum(study)

# %% [markdown]
# **Question** (Q7). The {term}`Hessian` of a mean over samples is a sum of two matrices,
#
# $$H = \underbrace{\tfrac1N \sum_i J_i^\top (\nabla^2 \ell_i) J_i}_{G} + \underbrace{\tfrac1N \sum_i \sum_c
# (\nabla \ell_i)_c \, \nabla^2 f_c(x_i)}_{F}.$$ (eq-hessian-parts)
#
# The {term}`Gauss–Newton matrix` $G$ has first derivatives of the network $f$ alone. The {term}`functional Hessian`
# $F = H - G$ has the second ones, weighted by the slopes of the loss, and so goes to zero where the training data are
# fitted. Which of the two in {eq}`eq-hessian-parts` makes the {term}`dominant subspace`? {cite:t}`sagun2017` and
# {cite:t}`papyan2018` find the outliers in $G$. The gradient is $\tfrac1N \sum_i J_i^\top \nabla \ell_i$, so it lies in the
# range of $G$ wherever $\nabla^2 \ell_i$ is invertible. That does not say how much of it lies in the span of $k$ leading
# eigenvectors.
#
# **Protocol.** Train with SGD, as in {doc}`01_dominant_subspace`. At each of the `anchors` solve for the
# spaces of the $k$ largest eigenvalues of $H$ and of $G$, up to a certified angle, and for that of the $k$ eigenvalues of
# $F$ that are largest in absolute value: $F$ is indefinite. The {term}`spectral density` comes from stochastic Lanczos
# quadrature {cite:p}`ghorbani2019`: `lanczos_steps` steps from each of some random `probes`, with full reorthogonalization.
# The error given is the standard error over probes.

# %%
page.in_force(study.parameters, study.runs.values())

# %% [markdown]
# ## The spectrum over training
#
# What {numref}`fig-density` shows of the last anchor, at all of them:

# %% mystnb={"figure": {"caption": "Spectral density of the Hessian at each anchor of the first seed, log scale, coloured as above; dashed: that of the Gauss\u2013Newton matrix, as the same probes see it.", "name": "fig-densities"}}
figures.evolution(study)

# %%
answers.evolution(study)

# %% [markdown]
# ## How exact the density is
#
# The same quadrature on a network so small that its Hessian can be written down:

# %%
answers.against_dense(study)

# %% [markdown]
# ## H against G against F

# %% mystnb={"figure": {"caption": "Over the steps of SGD, for H, G and F: mean squared cosine of the space with that of H (top), alignment of the full-batch gradient with the space (middle), largest eigenvalue in absolute value (bottom). Mean over seeds, with their range.", "name": "fig-matrix-spaces"}}
figures.spaces(study)

# %%
answers.spaces(study)

# %% [markdown]
# ## In which layers
#
# An eigenvector of the Hessian has an entry for each parameter. The squares of its entries add up to one, and so do their
# sums over the layers. In the MLP `1`, `3` and `5` are the three layers.

# %% mystnb={"figure": {"caption": "Share of the squared mass of the k dominant eigenvectors in each tensor of parameters, over training; mean over eigenvectors and seeds. The last bar: the share of the parameters. The numbers count the network's modules from its input on.", "name": "fig-layers"}}
figures.layers(study)

# %%
answers.layers(study)

# %% [markdown]
# ## What the classes span
#
# Three spans need no Hessian: gradients of the $C$ mean outputs, of the $C^2$ outputs averaged over each class, and of the
# mean losses of the $C$ classes.

# %%
answers.classes(study)

# %% [markdown]
# ## Verdict

# %%
page.verdict(CHAPTER, study)

# %% [markdown]
# ## What is the paper's, and what is ours
#
# *The question, its criterion, the spectra, layers and spans* [own]: the paper is not known to take the Hessian apart.
# *Network, data and training* are those of {doc}`01_dominant_subspace`. {term}`What the marks mean <Source mark>`.
#
# The space of $F$ has its $k$ eigenvalues of largest absolute value, of either sign. Where two of these are near each other
# at $k$, it is one space among many. PyHessian calls a function that PyTorch no longer has; it gets one of that name while
# it runs, and nothing else of it is changed.
#
# ## Rerun, and where the numbers are from
#
# `papermill notebooks/11_curvature.ipynb mine.ipynb -p loss cross_entropy -p seeds 11`. Any parameter of the first code cell
# can be given like this; `-p profile quick` needs no download.

# %%
page.provenance(study.runs.values())
