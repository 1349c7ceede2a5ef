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
# # 07b · What momentum does to one eigendirection
#
# Why is the bulk amplified? {doc}`07_momentum_adam` measures it; this chapter derives it for a quadratic with noise,
# one eigendirection at a time, and puts the network's leading eigendirections on the predicted curves. It is
# ours (F4): the paper has no such theory, as far as its public reviews and its code tell.
#
# **The recursion.** Along an eigenvector of eigenvalue $\lambda$ let $x$ be the distance from the minimum. The gradient
# is $g = \lambda x$, a step uses $g + \xi$ with noise $\xi$ of variance $\sigma^2$, and heavy ball is
#
# $$m \leftarrow \beta m + \lambda x + \xi, \qquad x \leftarrow x - \eta m .$$
#
# **A gradient that persists.** Without noise, solutions go like $z^t$ with
# $z^2 - (1 + \beta - \eta\lambda) z + \beta = 0$. For small $\eta\lambda$ the larger root is
# $z \approx 1 - \frac{\eta}{1-\beta}\lambda$: the direction is descended as by gradient descent at $\eta/(1-\beta)$.
# From $\eta\lambda = (1 - \sqrt\beta)^2$ on the roots are complex: $x$ swings and dies out like $\sqrt\beta^{\,t}$, however
# steep the direction is. At $\lambda = 2(1+\beta)/\eta$ a root passes $-1$, the edge of stability of heavy ball.
#
# **A gradient that fluctuates.** Where noise keeps $x$ moving about the minimum, its variance is stationary,
#
# $$\mathrm{Var}\, x = \frac{\eta\,\sigma^2 (1+\beta)}{\lambda\,(1-\beta)\,(2(1+\beta) - \eta\lambda)} .$$
#
# From $\mathbb{E}(x+u)^2 = \mathbb{E}x^2$ follows $-2\,\mathbb{E}[xu] = \mathbb{E}[u^2]$, so the rate by slope,
# $-\mathbb{E}[ug]/\mathbb{E}[g^2] = \mathbb{E}[u^2]/(2\lambda\,\mathrm{Var}\,x)$, is
#
# $$\frac{\eta}{1+\beta} \quad\text{at every } \lambda ,$$
#
# against $\eta/(1-\beta)$ where the gradient persists.
# That is the amplification: in the dominant subspace the gradient is all fluctuation, and momentum answers it
# with *less* than $\eta$; the more of a direction's gradient persists, the nearer it comes to $\eta/(1-\beta)$. Nesterov's
# momentum has the same limit for what persists, and an edge at $2(1+\beta)/(\eta(1+2\beta))$.
#
# **Adam.** With its second moments frozen, $u = -\eta M m$ with $M = \mathrm{diag}(1/(\sqrt{\hat v}+\epsilon))$ and
# $m \leftarrow \beta m + (1-\beta)(g + \xi)$. In the coordinates $M^{-1/2}\theta$ this is heavy ball at $\eta(1-\beta)$ with the
# Hessian $M^{1/2} H M^{1/2}$; RMSProp is SGD there. What momentum does is the same, along other directions.
#
# **Projected Adam.** $M$ mixes the two parts; write $d$ and $b$ for their coordinates. If Bulk-Adam projects the
# *update*, $x_d$ stays and the bulk comes to rest where $M_{bd} g_d + M_{bb} g_b = 0$, off its minimum: at
# $x_b = -H_b^{-1} M_{bb}^{-1} M_{bd} H_d x_d$, the further the steeper the dominant and the flatter the bulk directions
# are. If it projects the *gradient*, $x_b \to 0$, but the update carries the dominant part along, to
# $x_d - M_{db} M_{bb}^{-1} x_b$, and nothing takes it back. If it projects *both*, the update is
# $-\eta (I - P) M (I - P) m$, a step downhill: $x_d$ stays and $x_b \to 0$. Without $M$ all three are the last.
#
# **Assumptions.** The loss is quadratic over a window, its eigendirections do not mix, the noise has the covariance
# of the minibatches at the window's middle and does not depend on $x$, $M$ stands still. No parameter is fitted.

# %% tags=["parameters"]
dataset = "mnist5k"  # and the other parameters of chapter 07, by the same names
learning_rate = 0.01  # η of SGD, heavy ball and Nesterov's momentum
adam_learning_rate = 1e-3  # η of Adam, AdamW, RMSProp and Muon
beta = 0.9  # β of heavy ball and Nesterov's momentum, β₁ of Adam
betas = [0.5, 0.99]  # further β of heavy ball
anchors = [1000, 3000, 6000, 12_000, 19_800]  # first steps of the windows
window = 200  # steps in a window
directions = 50  # leading eigendirections
seeds = [11, 12, 13, 14, 15]  # of initialisation and batch order; the windows have the second
profile = "paper"  # or quick: a minute or two, on digits
dry_run = False  # True: say what would be computed, and stop

# %%
from subspace_lib.chapters.kit import page
from subspace_lib.chapters.momentum_adam import CHAPTER, figures, tables

study = page.study(CHAPTER, page.parameters(globals(), CHAPTER))  # loaded, or computed and kept
page.in_force(study.parameters, study.windows.values())

# %% mystnb={"figure": {"caption": "Theory. Top: how fast a deviation dies out, by \u03b7\u03bb, for SGD and heavy ball. Bottom: the stationary variance, in units of \u03b7\u03c3\u00b2/\u03bb; SGD's is \u00bd for small \u03b7\u03bb. **What to see:** the slow directions at the left, damped faster by 1/(1\u2212\u03b2); the plateau on which momentum damps all steep directions alike; and the variance that it costs.", "name": "fig-transfer"}}
figures.transfer(study)

# %% [markdown]
# ## Predicted and measured, by eigendirection
#
# For each of the leading eigendirections of the middle of a window: its eigenvalue, the variance of the
# minibatch noise along it (without replacement: the noise of an epoch adds up to nothing), and $g$ and $m$ at the
# window's first step give the expected sums $-\sum ug$ and $\sum g^2$ exactly. Both are added up over windows, as
# the measured ones are, before they are divided.

# %% mystnb={"figure": {"caption": "Rate by slope over \u03b7 against the eigenvalue of the Hessian (both log), measured and predicted; pooled over the windows, one seed. Dashed: a gradient that persists, 1/(1\u2212\u03b2); dotted: pure fluctuation, 1/(1+\u03b2) for heavy ball. Negative values, which noise can give, are not drawn. **What to see:** whether the steep directions lie on the dotted line, and whether the points rise above it where the eigenvalue is small.", "name": "fig-amplified"}}
figures.amplified(study)

# %% mystnb={"figure": {"caption": "Adam, AdamW and RMSProp in the coordinates of their preconditioner, in units of the equivalent heavy ball's \u03b7. Lines as before. **What to see:** whether frozen second moments are enough to predict the rates.", "name": "fig-amplified-adaptive"}}
figures.amplified_adaptive(study)

# %%
tables.predictions(study)

# %% [markdown]
# The table has the median relative error over directions. The last column puts the noise that the batches really
# had into the same quadratic: what is left is what the quadratic itself misses. The difference between the
# two is chance: the flatter a direction, the fewer independent swings a window holds.
#
# ## Where the prediction may break
#
# - With $\beta$ near 1 a swing outlasts a good part of the window, while the eigendirections turn.
# - Near a rule's edge (first column near 1) the cubic terms of the loss matter.
# - The stationary formula alone would miss the flat directions. Their gradient persists because the minimum moves
#   along as other directions move; the window's start accounts for that.
# - Early windows: second moments still grow. Muon has no theory here.
#
# ## Rerun
#
# `papermill notebooks/07b_momentum_theory.ipynb mine.ipynb -p beta 0.8 -p seeds 0`, and likewise for any parameter
# of {doc}`07_momentum_adam`; `-p profile quick` takes a minute or two, on digits.
#
# ## Where the numbers are from

# %%
page.provenance(study.windows.values())
