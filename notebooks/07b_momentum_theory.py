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

# %% tags=["parameters"]
dataset = "mnist5k"  # and the other parameters of chapter 07, by the same names
learning_rate = 0.01  # η of SGD, heavy ball and Nesterov's momentum
adam_learning_rate = 1e-3  # η of Adam, AdamW, RMSProp and Muon
beta = 0.9  # β of heavy ball and Nesterov's momentum, β₁ of Adam
betas = [0.5, 0.99]  # further β of heavy ball
anchors = [1000, 3000, 6000, 12_000, 19_800]  # first steps of the windows
window = 200  # steps in a window
directions = 50  # leading eigendirections
seeds = [11, 12, 13, 14, 15]  # of initialization and batch order; the windows have the second
profile = "paper"  # or quick: a small version of everything, to try it
dry_run = False  # True: say what would be computed, and stop

# %%
from subspace_lib.chapters.kit import page
from subspace_lib.chapters.momentum_adam import CHAPTER, answers, figures

given = page.parameters(globals(), CHAPTER, needs="windows")
study = page.study(CHAPTER, given)  # loaded, or computed and kept
answers.predicted(study)

# %% mystnb={"figure": {"caption": "SGD, heavy ball and Nesterov's momentum: rate by slope over \u03b7 against the eigenvalue (both log), measured and predicted, pooled over the windows; one seed. Dashed: a gradient that persists; dotted: pure fluctuation. Negative values, which noise can give, are not drawn.", "name": "fig-amplified"}}
figures.amplified(study)

# %%
answers.amplified(study)

# %% [markdown]
# Why is the bulk amplified? {doc}`07_momentum_adam` measures it. This chapter derives it for a quadratic with noise, one
# eigendirection at a time, and compares the rates along the network's leading eigendirections with the theory. It is ours
# (F4): the paper has no such theory, as far as we know [rev, code]. Its runs have one seed, the second.
#
# **The recursion.** Along an eigenvector of eigenvalue $\lambda$ let $x$ be the distance from the minimum. The gradient is
# $g = \lambda x$. A step uses $g + \xi$, with noise $\xi$ of variance $\sigma^2$. {term}`Heavy ball` is then
#
# $$m \leftarrow \beta m + \lambda x + \xi, \qquad x \leftarrow x - \eta m .$$ (eq-heavy-ball)
#
# **A gradient that persists.** Without noise, solutions of {eq}`eq-heavy-ball` go like $z^t$ with
# $z^2 - (1 + \beta - \eta\lambda) z + \beta = 0$. For small $\eta\lambda$ the larger root is
# $z \approx 1 - \frac{\eta}{1-\beta}\lambda$: the direction is descended as by gradient descent at $\eta/(1-\beta)$. From
# $\eta\lambda = (1 - \sqrt\beta)^2$ on the roots are complex: $x$ swings and dies out like $\sqrt\beta^{\,t}$, however steep
# the direction. At $\lambda = 2(1+\beta)/\eta$ a root passes $-1$: heavy ball's edge of stability.
#
# **A gradient that fluctuates.** Where noise keeps $x$ moving about the minimum, its variance is stationary,
#
# $$\mathrm{Var}\, x = \frac{\eta\,\sigma^2 (1+\beta)}{\lambda\,(1-\beta)\,(2(1+\beta) - \eta\lambda)} .
# $$ (eq-heavy-ball-variance)
#
# Let $u = -\eta m$ be the update. From $\mathbb{E}(x+u)^2 = \mathbb{E}x^2$ follows $-2\,\mathbb{E}[xu] = \mathbb{E}[u^2]$.
# So the {term}`effective learning rate` {eq}`eq-rate` by slope, $-\mathbb{E}[ug]/\mathbb{E}[g^2] =
# \mathbb{E}[u^2]/(2\lambda\,\mathrm{Var}\,x)$, is $\eta/(1+\beta)$ at every $\lambda$, by {eq}`eq-heavy-ball` and
# {eq}`eq-heavy-ball-variance`. Where the gradient persists it is $\eta/(1-\beta)$.
#
# That is the amplification. Where a direction's gradient is all fluctuation, the rate of momentum is *below* $\eta$;
# the more of it persists, the nearer the rate comes to $\eta/(1-\beta)$. Nesterov's momentum has the same limit for what
# persists, and its edge at $2(1+\beta)/(\eta(1+2\beta))$.
#
# **Batches without replacement.** For SGD both limits are $\eta$, as long as the noise of a step does not depend on the
# steps before it. Within an epoch it does: the noise of all its batches adds up to zero. So a batch's noise tends to point
# along the gradient that the batches before it have left behind, which raises the rate where little else is in the gradient.
#
# **Adam.** Take its second moments as frozen: $u = -\eta M m$ with $M = \mathrm{diag}(1/(\sqrt{\hat v}+\epsilon))$ and $m
# \leftarrow \beta m + (1-\beta)(g + \xi)$. In the coordinates $M^{-1/2}\theta$ this is heavy ball {eq}`eq-heavy-ball` at
# $\eta(1-\beta)$ with the Hessian $M^{1/2} H M^{1/2}$; RMSProp is SGD there. What momentum does is the same, along other
# directions.
#
# **Projected Adam.** $M$ mixes the two parts; write $d$ and $b$ for their coordinates. Bulk-Adam can project three things.
# The *update*: $x_d$ stays, and the bulk is drawn to a point off its minimum, where $M_{bd} g_d + M_{bb} g_b = 0$, at $x_b
# = -H_b^{-1} M_{bb}^{-1} M_{bd} H_d x_d$. The *gradient*: $x_b \to 0$, but the update carries the dominant part along, to
# $x_d - M_{db} M_{bb}^{-1} x_b$, and nothing takes it back. *Both*: the update is $-\eta (I - P) M (I - P) m$, a step
# downhill; $x_d$ stays and $x_b \to 0$. Without $M$ the three are the same. In none of the three does the quadratic run
# away. So the quadratic does not explain why Bulk-Adam diverges ({doc}`07_momentum_adam`).
#
# **A projection that turns.** Let the curvature change along the floor of a valley: $L = \frac12 (\lambda + b \cdot
# \nabla\lambda)\, x^2$, with $b$ in the bulk, flat beside $\lambda$. At a small $x$ the top eigenvector is tilted by
# $x\nabla\lambda/\lambda$ into the bulk, and a Dom- step with it. In the $T$ steps from $x_0$ to $x_T$ that use one basis
# the point moves in the bulk by $(x_T - x_0)\, x_0 \nabla\lambda/\lambda$. With noise, or a bounce, that is on average
#
# $$-\frac{\mathrm{Var}\,x - \mathrm{Cov}(x_0, x_T)}{T\,\lambda}\,\nabla\lambda \quad \text{a step:}$$ (eq-turning)
#
# down the sharpness. For SGD and $T = 1$ it is $-\eta\, \mathrm{Var}\,x\, \nabla\lambda$, twice what SGD itself does by
# {term}`self-stabilization`. Beyond the memory of $x$ it goes like $\mathrm{Var}\,x/T$, and momentum makes that variance
# $1/(1-\beta)$ times as large at small $\eta\lambda$ {eq}`eq-heavy-ball-variance`; within its swing a longer $T$ can do
# more. A frozen subspace ends it. Where a lower sharpness costs loss, the loss of Dom-X rises.
#
# **Assumptions for the rates.** Over a window the loss is quadratic, its eigendirections do not mix, the noise has the
# covariance of the minibatches at the window's middle whatever $x$ is, and $M$ stands still. No parameter is fitted.

# %%
page.in_force(study.parameters, study.windows.values())

# %% mystnb={"figure": {"caption": "Theory. Top: how fast a deviation dies out against \u03b7\u03bb (both log), for SGD and for heavy ball with several \u03b2. Bottom: the stationary variance, in units of \u03b7\u03c3\u00b2/\u03bb.", "name": "fig-transfer"}}
figures.transfer(study)

# %%
answers.transfer(study)

# %% [markdown]
# ## How the prediction is made, and how far it holds
#
# For each leading eigendirection at the middle of a window we know its eigenvalue, the variance of the minibatch noise
# along it, and $g$ and $m$ at the window's first step. With noise that adds up to zero over an epoch, these give the
# expected sums $-\sum ug$ and $\sum g^2$ exactly. Both are added up over windows before they are divided, as the measured
# ones are: in {numref}`fig-amplified`, and in {numref}`fig-amplified-adaptive`, with the same marks and lines.

# %% mystnb={"figure": {"caption": "Adam, AdamW and RMSProp in the coordinates of their preconditioner, over the \u03b7 of the equivalent heavy ball: \u03b7(1 \u2212 \u03b2\u2081). Marks and lines as in the figure above.", "name": "fig-amplified-adaptive"}}
figures.amplified_adaptive(study)

# %%
answers.amplified_adaptive(study)

# %% [markdown]
# The table has the median relative error over directions. The last column uses the noise of the batches that were drawn,
# in place of its variance: that error is the quadratic's alone. The rest of the error is the chance of the draw.
#
# The prediction may break where $\beta$ is near 1, because a swing then outlasts a good part of the window. It may break
# near a rule's edge (first column near 1), where the cubic terms of the loss could matter; the table shows whether it does.
# In early windows second moments still grow. Muon has no theory here.
#
# ## What is the paper's, and what is ours
#
# *The whole theory, its assumptions, and how it is compared with the runs* [own]. F4 has no criterion, so no verdict. The
# runs are those of {doc}`07_momentum_adam`. {term}`What the marks mean <Source mark>`.
#
# ## Rerun, and where the numbers are from
#
# `papermill notebooks/07b_momentum_theory.ipynb mine.ipynb -p beta 0.8 -p seeds 0`, and likewise for any parameter of
# {doc}`07_momentum_adam`; `-p dry_run True` only says what would be computed and about how long it takes.

# %%
page.provenance(study.windows.values())
