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
# # 04 · A valley with noise

# %% tags=["parameters"]
condition = 1000.0  # κ
cross = 100.0  # c; the paper's, by its reviews
learning_rate = 1e-5  # η, in the valley
steps = 200_000  # in all, the common part included
switch_step = 2000
sharpnesses = [0.1, 0.2, 0.5, 1.0]  # ηκ for the closed forms, ...
crosses = [3.0, 10.0, 30.0, 100.0]  # ... each with these c
regression_learning_rate = 1e-3  # η, in the regression
regression_batch_size = 10  # samples, drawn with replacement
regression_steps = 2000
seeds = [11, 12, 13]  # of the noise, and of the regression's data
profile = "paper"  # or quick: a small version of everything, to try it
dry_run = False  # True: say what would be computed, and stop

# %%
from subspace_lib.chapters.kit import page
from subspace_lib.chapters.valley import CHAPTER, answers, figures, tables

study = page.study(CHAPTER, page.parameters(globals(), CHAPTER))  # loaded, or computed and kept
tables.answer(study)

# %% mystnb={"figure": {"caption": "Training loss (log scale) of SGD, Dom-SGD and Bulk-SGD in the valley (top) and in the regression (bottom): means over the paths, line and band: mean and range over seeds. Dotted: the switch. Circles: the exact mean.", "name": "fig-valley-loss"}}
figures.losses(study)

# %%
answers.losses(study)

# %% [markdown]
# **Claim** ({cite:t}`song2025`, section 4 and figure 8 [rev, cap]). On a quadratic that is steep in few directions, without a
# network, minibatch noise aligns the gradient, Dom-SGD stands still, and Bulk-SGD learns (C5). It can be computed.
#
# ## Two dimensions
#
# $L(x, y) = \frac12(\kappa x^2 + y^2)$ is the mean of two sample losses $L \pm cxy$. The steep direction $x$ is the
# {term}`dominant subspace`, $k = 1$; the floor of the valley is the $y$ axis. A step of SGD takes one of the two samples.
# The mean squares $X = \mathbb{E}x^2$ and $Y = \mathbb{E}y^2$ follow exactly:
#
# $$\begin{aligned} x &\leftarrow (1 - \eta\kappa)\,x \mp \eta c y, & X &\leftarrow (1 - \eta\kappa)^2 X + \eta^2 c^2\, Y, \\
# y &\leftarrow (1 - \eta)\,y \mp \eta c x, & Y &\leftarrow (1 - \eta)^2\, Y + \eta^2 c^2 X. \end{aligned}$$ (eq-valley)
#
# By {eq}`eq-valley` $X$ settles in about $1/\eta\kappa$ steps, while $Y$ hardly changes. From then on the loss across the
# valley is a fixed share $a$ of the loss along it, and the gradient's mean square across a fixed multiple of that along:
#
# $$a = \frac{\kappa X}{Y} = \frac{\eta c^2}{2 - \eta\kappa}, \qquad \frac{\kappa^2 X}{Y} = \kappa a .$$ (eq-valley-share)
#
# The gradient weighs directions by $\lambda^2$, the loss by $\lambda$. So where $a \ll 1 \ll \kappa a$ the gradient points
# across the valley, and what is to be learned lies along it. A batch of $B$ samples divides $c^2$, and so $a$, by $B$.
#
# Tick *keep curves*, and play SGD, Dom-SGD and Bulk-SGD from one start. Dom-SGD stays at its $y$. Bulk-SGD keeps its $x_0$,
# so its loss levels off at $\kappa x_0^2/2$, with the gradient across. Then raise $\eta$ or $c$. At $c = 0$ SGD is GD;
# above $\eta\kappa = 2$ it diverges.
#
# ```{valley}
# ```
#
# **Protocol.** SGD to `switch_step`; then SGD, Dom-SGD and Bulk-SGD on the same samples; and GD for $10/(\eta\lambda_k)$
# steps, then SGD again. All are means over many paths. The closed forms are simulated for all `sharpnesses` and `crosses`.

# %%
page.in_force(study.parameters, study.runs.values())

# %% [markdown]
# ## Where Bulk-SGD stops being as good
#
# At the switch $2L = Y(1 + a)$, by {eq}`eq-valley-share`. Then SGD goes to 0. Dom-SGD keeps $Y$, and noise holds $X$: no
# progress. Bulk-SGD takes $Y$ away and keeps $\kappa X = aY$. Up to terms in $1/\kappa$ its progress {eq}`eq-progress` is
#
# $$\frac{Y}{Y(1 + a)} = \frac{1}{1 + a} = \frac{1}{1 + \eta c^2/(2 - \eta\kappa)}.$$ (eq-valley-progress)
#
# So Bulk-SGD is as good as SGD only while $a \ll 1$. The gradient is aligned only where $\kappa a \gg 1$: the
# {term}`alignment of a typical gradient` is $\sqrt{\kappa a/(1 + \kappa a)}$. The mean of $\chi$, by which the claim is
# judged, is lower: $x$ often crosses the floor, where the gradient points along it. While $\eta\kappa$ is small that mean is
# $e^{1/2\kappa a}\,\mathrm{erfc}(1/\sqrt{2\kappa a})$; at $\eta\kappa = 1$ a step forgets $x$.

# %% mystnb={"figure": {"caption": "Against a (log scale). Top: progress of Bulk-SGD from where SGD has settled. Bottom: alignment, of a typical gradient (solid, dots) and the mean of \u03c7 (dashed, squares). Lines: closed forms; points: simulated, all seeds; stars: this chapter's setting; dotted: what the criteria ask for; grey: where both are met.", "name": "fig-window"}}
figures.window(study)

# %%
answers.window(study)

# %% [markdown]
# ## To GD and back

# %% mystnb={"figure": {"caption": "Alignment of the full gradient, mean of \u03c7, in the valley (top) and in the regression (bottom): SGD, changed to the full batch at the first dotted line and back at the second; mean and range over seeds.", "name": "fig-valley-back"}}
figures.there_and_back(study)

# %%
answers.there_and_back(study)

# %% [markdown]
# ## Linear regression
#
# $L(w) = \frac12\,\mathrm{mean}\,(x_n \cdot w - y_n)^2$, with a few eigenvalues far above the rest. Let $\delta_i$ and
# $x_{ni}$ be the coordinates of $w - w^*$ and of $x_n$ along the eigenvector $v_i$, and $\xi$ the noise of a batch of $B$,
# drawn with replacement:
#
# $$\delta_i \leftarrow (1 - \eta\lambda_i)\,\delta_i - \eta\,\xi_i, \qquad
# \mathrm{Var}\,\delta_i = \frac{\eta\, v_i^\top S v_i}{B\,\lambda_i(2 - \eta\lambda_i)}.$$ (eq-regression)
#
# $S$ is the covariance of single-sample gradients *where SGD is*. At the minimum $v_i^\top S v_i$ is $s_i$. SGD's own
# variance $m_i = \mathrm{Var}\,\delta_i$ adds $\sum_j K_{ij} m_j - \lambda_i^2 m_i$ to it, $K_{ij} =
# \mathrm{mean}\,x_{ni}^2 x_{nj}^2$. The solution $m$ is the closed form that is judged; flat directions, which do not
# settle in a run, are judged by the recursion in {eq}`eq-regression` over the run's steps.

# %% mystnb={"figure": {"caption": "SGD around the minimum of the regression. Top: variance along each eigenvector against its eigenvalue (both log), first seed. Bottom: simulated variance over its closed form along the dominant eigenvectors, all seeds; grey: the band of the criterion. Covariances between eigenvectors are left out.", "name": "fig-regression-settled"}}
figures.regression_settled(study)

# %%
answers.regression_settled(study)

# %% [markdown]
# ## Verdict

# %%
page.verdict(CHAPTER, study)

# %% [markdown]
# ## What is the paper's, and what is ours
#
# *Two sample losses with a term ±100xy* [rev]; *κ, η, steps, paths, and the regression* [own]: the paper's are not known.
# *Beyond it, and not judged* [own]: where Bulk-SGD stops being as good, the mean of χ.
# {term}`What the marks mean <Source mark>`.
#
# ## Rerun, and where the numbers are from
#
# `papermill notebooks/04_valley.ipynb mine.ipynb -p cross 30 -p seeds 11`. Any parameter of the first code cell, or of
# `ValleyParameters`, can be given like this; `-p dry_run True` only says what would be computed.

# %%
page.provenance(study.runs.values())
