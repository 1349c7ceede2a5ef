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
dataset = "mnist5k"  # mnist5k, fashion_mnist5k, cifar10_5k, or digits, which needs no download
preprocessing = "unit"  # pixels in 0 … 1; or standardized, by channel; or per_pixel, for cifar10_5k
model = "mlp"  # mlp or cnn
loss = "mse"  # mse or cross_entropy
k = 10  # dimension of the dominant subspace
learning_rate = 0.01  # η
batch_size = 50  # samples
steps = 20_000
seeds = [11, 12, 13]  # of initialisation and batch order
switch_alignment = 0.95  # watched, as in chapter 02; None is cheaper
anchors = [0, 100, 300, 1000, 3000, 10_000, 18_000]  # steps at which to look closer
lags = [1, 10, 100, 1000]  # steps after an anchor at which the subspace is compared
window = 12  # steps after an anchor whose updates are taken apart
classes = [2, 3, 5, 10]  # the data cut to so many classes ...
class_steps = 3000  # ... and trained on for so many steps
refresh_every = "adaptive"  # or a number of steps; the paper's is 1
target_angle = 0.05  # for "adaptive": sine of the largest principal angle aimed for
device = "cpu"  # or cuda
profile = "paper"  # or quick: about a minute, on digits
dry_run = False  # True: say what would be computed, and stop

# %%
from subspace_lib.chapters.dominant_subspace import CHAPTER, figures, tables
from subspace_lib.chapters.kit import page

study = page.study(CHAPTER, page.parameters(globals(), CHAPTER))  # loaded, or computed and kept
page.answer(CHAPTER, study)

# %% mystnb={"figure": {"caption": "Alignment of the full-batch and of the minibatch gradient with the dominant subspace, rolling mean over ten rows, mean and range over seeds. **What to see:** how much of the full-batch gradient lies in k directions after a warm-up, and how much of a minibatch's, whose noise is spread wider.", "name": "fig-gradients"}}
figures.gradients(study)

# %% [markdown]
# **Claim** ({cite:t}`song2025`, section 2; {cite:t}`gurari2018`; {cite:t}`sagun2017`). The Hessian of the
# training loss has about as many large eigenvalues as there are classes, and the gradient lies mostly in
# the span of their eigenvectors (C1).
#
# **What is meant.** Around a point $\theta$ the loss is a bowl with very different curvatures: the
# {term}`Hessian` $H$ has one curvature $\lambda_i$ for each of its orthogonal eigenvectors $v_i$. Most are
# tiny. The $k$ largest span the {term}`dominant subspace` $S_k$. Any vector splits into the part
# $P_k g = \sum_{i \le k} v_i v_i^\top g$ inside it and the rest, the bulk; the {term}`alignment` is the share
# of its length that lies inside. Of a random vector it would be about $\sqrt{k/D}$, next to nothing.
#
# **Protocol.** SGD for `steps` steps, runs of {doc}`02_dom_vs_bulk`. Beside them a survey of the same
# trajectories, which at each of the `anchors` solves for $S_k$ to a certified angle of 0.01 and compares it
# with $S_k$ some `lags` later; it takes the updates of the next `window` steps apart. A last series of runs
# sees only the first few classes of the data.

# %%
page.in_force(study.parameters, study.plain.values())

# %% [markdown]
# ## Verdict

# %%
page.verdict(CHAPTER, study)

# %% [markdown]
# Both quantities are taken at the end of training. The paper's figure 15 shows, by its reviews, the top ten
# eigenvalues significantly above the next ten; that the gap is to be seen at $k$ itself, as a ratio of two
# neighbours, is our reading: a ratio of the groups' means would pass without any gap.
#
# ## The spectrum over training

# %% mystnb={"figure": {"caption": "Top: the 20 largest Hessian eigenvalues, first seed; coloured: the first k; dotted: 2/\u03b7. Bottom: the ratio of the k-th to the next, all seeds; dotted: no gap. **What to see:** where the outliers end, and whether the gap lasts to the end of training.", "name": "fig-outliers"}}
figures.outliers(study)

# %% [markdown]
# ## What the classes have to do with k
#
# The {term}`Gauss–Newton matrix` is the average of $J_i^\top J_i$ over samples, $J_i$ the $C \times D$ Jacobian
# of the outputs. If the Jacobians had nothing but their mean in common, $\bar J^\top \bar J$ would have rank
# $C$: one large eigenvalue per class {cite:p}`papyan2018`. Two checks. First, train on fewer classes: the
# spectrum should break elsewhere.

# %% mystnb={"figure": {"caption": "The 20 largest eigenvalues relative to the first, after training on the samples of the first 2, 3, \u2026 classes (first seed); dotted: that number. **What to see:** whether the large step down comes right after as many eigenvalues as there are classes.", "name": "fig-classes"}}
figures.by_classes(study)

# %%
tables.class_gaps(study)

# %% [markdown]
# Second, ask where $S_k$ lies. The rows of $\bar J$ are the gradients of the $C$ mean outputs: directions
# that need neither a Hessian nor labels.

# %% mystnb={"figure": {"caption": "Mean squared cosine between the dominant subspace and three spans over training: 1 where it lies inside. **What to see:** whether the dominant subspace is the span of the mean outputs' gradients, and for how long.", "name": "fig-spans"}}
figures.class_spans(study)

# %% [markdown]
# ## How fast it turns

# %% mystnb={"figure": {"caption": "Top: sine of the largest principal angle between the dominant subspace at a step and some steps later. Bottom: mean squared cosine between the subspace at a step and at the end of training. Mean and range over seeds. **What to see:** whether it turns less and less; and, late in training, how much of the turn of a hundred steps one step has: that is minibatch jitter.", "name": "fig-turning"}}
figures.turning(study)

# %% [markdown]
# ## What each part of an update does to the loss
#
# For an update $u$ the second-order expansion splits: $\Delta L \approx g^\top P u + \tfrac12 (Pu)^\top H (Pu)$
# for the dominant part, the same with $I - P$ for the bulk; the cross term vanishes, because $S_k$ is
# invariant. Beside it the measured change when only that part is applied, at the same point.

# %% mystnb={"figure": {"caption": "Mean change of the training loss in one SGD step by each part of the update alone, with twice its standard error over the window's steps and all seeds; symmetric log scale. **What to see:** which part lowers the loss, and whether expansion and measurement agree.", "name": "fig-changes"}}
figures.changes(study)

# %%
tables.loss_changes(study)

# %% [markdown]
# ## What differs from the paper
#
# - *By its code, very probably:* pixels, network, initialisation, the ½ in the loss; alignment as a ratio of norms by the
#   public replication too. *By its reviews:* $k$, η, batch size, steps. *Ours:* the criterion on the gap.
# - *Added here:* the survey, the runs on fewer classes, the spans of mean output gradients.
#
# ## Rerun
#
# `papermill notebooks/01_dominant_subspace.ipynb mine.ipynb -p dataset fashion_mnist5k -p seeds 0`, and
# likewise for any parameter of the first code cell; `-p profile quick` takes about a minute, on digits.

# %%
page.provenance([*study.plain.values(), *study.surveys.values(), *study.classes.values()])
