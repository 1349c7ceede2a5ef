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
# # 01 · The dominant subspace

# %% tags=["parameters"]
dataset = "mnist5k"  # mnist5k, mnist, fashion_mnist5k, cifar10_5k, or digits, without a download
preprocessing = "unit"  # pixels in 0 … 1; or standardized, by channel; or per_pixel, for cifar10_5k
model = "mlp"  # mlp or cnn
loss = "mse"  # mse or cross_entropy
k = 10  # dimension of the dominant subspace
learning_rate = 0.01  # η
batch_size = 50  # samples
steps = 20_000
seeds = [11, 12, 13]  # of initialization and batch order
switch_alignment = 0.95  # watched, as in chapter 02; None is cheaper
anchors = [0, 100, 300, 1000, 3000, 10_000, 18_000]  # steps at which to look closer
lags = [1, 10, 100, 1000]  # steps after an anchor at which the subspace is compared
classes = [2, 3, 5, 10]  # the data cut to so many classes ...
class_steps = 3000  # ... and trained on for so many steps
refresh_every = "adaptive"  # or a number of steps; the paper's is 1
target_angle = 0.05  # for "adaptive": sine of the largest principal angle aimed for
device = "cpu"  # or cuda
scheduler = None  # or the address of a Dask scheduler, whose workers compute the runs
profile = "paper"  # or quick: a small version of everything, to try it
dry_run = False  # True: say what would be computed, and stop

# %%
from subspace_lib.chapters.dominant_subspace import CHAPTER, answers, figures
from subspace_lib.chapters.kit import page

study = page.study(CHAPTER, page.parameters(globals(), CHAPTER))  # loaded, or computed and kept
page.answer(CHAPTER, study)

# %% mystnb={"figure": {"caption": "Alignment of the full-batch gradient and of the minibatch gradient with the dominant subspace, over the steps of SGD. Rolling mean over ten rows; line: mean over seeds, band: their range.", "name": "fig-gradients"}}
figures.gradients(study)

# %%
answers.gradients(study)

# %% [markdown]
# **Claim** ({cite:t}`song2025`, section 2 [rev, cap]; {cite:t}`gurari2018`; {cite:t}`sagun2017`). The Hessian has about as
# many large eigenvalues as there are classes. The gradient lies mostly in the span of their eigenvectors (C1).
#
# **What is meant.** Around a point $\theta$ the loss is a bowl, steep in some directions and almost flat in most. The
# {term}`Hessian` $H$ has one curvature $\lambda_i$ for each of its orthogonal eigenvectors $v_i$. The $k$ steepest span the
# {term}`dominant subspace` $S_k$; what is orthogonal to it is the {term}`bulk`. Inside $S_k$ lies the part $P_k g$ of a
# gradient $g$, with $P_k = \sum_{i \le k} v_i v_i^\top$. The {term}`alignment` is $\|P_k g\|/\|g\|$. For a random vector in
# $D$ dimensions it would be about $\sqrt{k/D}$.
#
# **Protocol.** Train with SGD: the runs of {doc}`02_dom_vs_bulk`. A *survey* goes along each run. At a few of its steps, the
# `anchors`, it computes $S_k$ with a bound on the {term}`principal angle`, compares it with $S_k$ some `lags` later, and
# splits the updates of the next `window` steps into their dominant and their bulk part. More runs train on the first few
# `classes` only. The {term}`networks` of this book and their data are in the glossary.

# %%
page.in_force(study.parameters, study.plain.values())

# %% [markdown]
# ## The spectrum over training

# %% mystnb={"figure": {"caption": "Top: the 20 largest Hessian eigenvalues of the first seed (log scale); coloured: the first k, grey: the others, dotted: 2/\u03b7. Bottom: the k-th eigenvalue over the next, one line per seed; dotted: 1, no gap.", "name": "fig-outliers"}}
figures.outliers(study)

# %%
answers.outliers(study)

# %% [markdown]
# ## What the classes have to do with k
#
# The {term}`Gauss–Newton matrix` is a part of the Hessian. Apart from the loss's own curvature, it is the mean of $J_i^\top
# J_i$ over the samples, $J_i$ the $C \times D$ Jacobian of the $C$ outputs. The mean Jacobian's share, $\bar J^\top \bar J$,
# has rank $C$ at most: where it outweighs the rest, there is one large eigenvalue for each class
# {cite:p}`papyan2018,fort2019`. One check is to train on fewer classes: the spectrum should break earlier.

# %% mystnb={"figure": {"caption": "The 20 largest eigenvalues over the first, after training on the samples of the first few classes, first seed (log scale). A dotted line of the same colour: the number of classes.", "name": "fig-classes"}}
figures.by_classes(study)

# %%
answers.by_classes(study)

# %% [markdown]
# Another is to ask where $S_k$ lies. The rows of $\bar J$ are the gradients of the $C$ mean outputs: directions that one
# can compute without a Hessian and without labels.

# %% mystnb={"figure": {"caption": "Mean squared cosine between the dominant subspace and three spans (gradients of the mean outputs by class, over all samples; random directions), over training: 1 where it lies inside, 0 where it is orthogonal. Mean and range over seeds.", "name": "fig-spans"}}
figures.class_spans(study)

# %%
answers.class_spans(study)

# %% [markdown]
# ## How fast it turns

# %% mystnb={"figure": {"caption": "Top: sine of the largest principal angle between the dominant subspace at a step and some steps later (both axes log), one line per starting step. Bottom: mean squared cosine between it at a step and at the end of training.", "name": "fig-turning"}}
figures.turning(study)

# %%
answers.turning(study)

# %% [markdown]
# ## What each part of an update does to the loss
#
# To second order an update $u$ changes the loss by $g^\top P u + \tfrac12 (Pu)^\top H (Pu)$ through its dominant part, and
# by the same with $I - P$ through its bulk part. There is no cross term, because $S_k$ is spanned by eigenvectors. Beside
# this prediction stands the change that is measured when only that part is applied.

# %% mystnb={"figure": {"caption": "Mean change of the training loss in one step of SGD by the dominant part alone (top) and by the bulk part alone (bottom); open: predicted, filled: measured. Bars: twice the standard error over steps and seeds; symmetric log scale.", "name": "fig-changes"}}
figures.changes(study)

# %%
answers.changes(study)

# %% [markdown]
# ## Verdict

# %%
page.verdict(CHAPTER, study)

# %% [markdown]
# Both are taken at the end of training. The paper's figure 15 shows the top ten eigenvalues significantly above the next
# ten [rev]; we ask for a gap between two neighbours, at $k$ itself [own].
#
# ## What is the paper's, and what is ours
#
# *Pixels, network, initialization, the ½ in the loss* [code]; *k, η, batch size, steps* [rev]; *alignment as a ratio of
# norms* [code, rep]; *the criterion on the gap, the survey, fewer classes, spans* [own].
# {term}`What the marks mean <Source mark>`.
#
# ## Rerun, and where the numbers are from
#
# `papermill notebooks/01_dominant_subspace.ipynb mine.ipynb -p dataset fashion_mnist5k -p seeds 0`. Any parameter of the
# first code cell can be given like this; `-p dry_run True` only says what would be computed and about how long it takes.

# %%
page.provenance([*study.plain.values(), *study.surveys.values(), *study.classes.values()])
