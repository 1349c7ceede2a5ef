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
profile = "paper"  # or quick: fewer steps and paths
dry_run = False  # True: say what would be computed, and stop

# %%
from subspace_lib.chapters.kit import page
from subspace_lib.chapters.valley import CHAPTER, figures, tables

study = page.study(CHAPTER, page.parameters(globals(), CHAPTER))  # loaded, or computed and kept
tables.answer(study)

# %% mystnb={"figure": {"caption": "Training loss, means over the paths, mean and range over seeds; dotted: the switch; circles: the exact mean, by the recursion of the mean squares. **What to see:** Dom-SGD level, and Bulk-SGD, which keeps what noise has put into the dominant directions, leaving SGD where that is all that is left.", "name": "fig-valley-loss"}}
figures.losses(study)

# %% [markdown]
# **Claim** ({cite:t}`song2025`, section 4 and figure 8). None of this needs a network. On a quadratic that is steep in few
# directions, minibatch noise gives the same picture: aligned gradients, Dom-SGD that stands still, Bulk-SGD that learns,
# an alignment that goes with the noise (C5). Here it can be computed.
#
# ## Two dimensions
#
# $L(x, y) = \frac12(\kappa x^2 + y^2)$ is the mean of two sample losses $L \pm cxy$. The steep $x$ is the
# {term}`dominant subspace`, $k = 1$; the floor of the valley is the $y$ axis. A step of SGD takes one sample, and the mean
# squares $X = \mathbb{E}x^2$, $Y = \mathbb{E}y^2$ follow exactly:
#
# $$\begin{aligned} x &\leftarrow (1 - \eta\kappa)\,x \mp \eta c y, & X &\leftarrow (1 - \eta\kappa)^2 X + \eta^2 c^2\, Y, \\
# y &\leftarrow (1 - \eta)\,y \mp \eta c x, & Y &\leftarrow (1 - \eta)^2\, Y + \eta^2 c^2 X. \end{aligned}$$
#
# In about $1/\eta\kappa$ steps $X$ settles where a step leaves it as it is, while $Y$ hardly changes; the loss across the
# valley is then a fixed share of that along it, the mean square of $\kappa x$ a fixed multiple of that of $y$:
#
# $$a = \frac{\kappa X}{Y} = \frac{\eta c^2}{2 - \eta\kappa}, \qquad \frac{\kappa^2 X}{Y} = \kappa a .$$
#
# Alignment weighs directions by $\lambda^2$, the loss by $\lambda$. So wherever $a \ll 1 \ll \kappa a$ the gradient points
# across the valley, and what is to be learned lies along it. A batch of $B$ samples divides $c^2$, and with it $a$, by $B$.
#
# Play SGD, Dom-SGD and Bulk-SGD from one start, with *keep curves*: Dom-SGD is as aligned as SGD but stays at its $y$;
# Bulk-SGD descends but keeps its $x_0$, so its loss levels off at $\kappa x_0^2/2$. Then raise $\eta$ or $c$. Without noise,
# $c = 0$, SGD is GD. Above $\eta\kappa = 2$ it diverges, and Bulk-SGD does not.
#
# ```{valley}
# ```
#
# **Protocol.** SGD to `switch_step`; then SGD, Dom-SGD and Bulk-SGD on the same samples; and GD for
# $10/(\eta\lambda_k)$ steps, then SGD again. Means over `paths` paths, for one path's loss at the switch depends on its
# last steps. Each closed form is simulated for every $\eta\kappa$ of `sharpnesses` with every $c$ of `crosses`.

# %%
page.in_force(study.parameters, study.runs.values())

# %% [markdown]
# ## Verdict

# %%
page.verdict(CHAPTER, study)

# %% [markdown]
# ## Where Bulk-SGD stops being as good
#
# At the switch $2L = Y(1 + a)$. From there SGD goes to 0. Dom-SGD keeps $Y$, and noise of that size keeps $X$ where it is:
# no progress. Bulk-SGD takes $Y$ away and keeps $\kappa X = aY$:
#
# $$\mathrm{progress(Bulk\text{-}SGD)} = \frac{Y}{Y(1 + a)} = \frac{1}{1 + a} = \frac{1}{1 + \eta c^2/(2 - \eta\kappa)},$$
#
# up to terms of order $1/\kappa$ (the exact curve has $1 - f$ for 1 above, $f \approx a^2/\kappa$: the kept $x$ goes on to
# shake $y$). So Bulk-SGD is as good as SGD only as long as noise holds up little of the loss, $a \ll 1$. On the other
# side the gradient is aligned only for $\kappa a \gg 1$: the {term}`alignment of a typical gradient` is
# $\sqrt{\kappa a/(1 + \kappa a)}$. The mean of $\chi$, which is judged, is lower, for $x$ often crosses the floor, where the gradient points along it:
# $e^{1/2\kappa a}\,\mathrm{erfc}(1/\sqrt{2\kappa a})$ while $\eta\kappa$ is small and $x$ a sum of many signs.

# %% mystnb={"figure": {"caption": "Top: progress of Bulk-SGD from where SGD has settled. Bottom: alignment of a typical gradient (solid, dots) and the mean of \u03c7 (dashed, squares). Lines: closed forms; points: simulated, all seeds; stars: this chapter's setting; dotted: what the criteria ask; grey: where both are met. **What to see:** one curve for all \u03b7 and c, and the setting inside the window. At \u03b7\u03ba = 1 a step forgets x, and the mean of \u03c7 is that of a typical gradient.", "name": "fig-window"}}
figures.window(study)

# %% [markdown]
# ## To GD and back

# %% mystnb={"figure": {"caption": "Alignment of the full gradient, mean of \u03c7: SGD, changed to the full batch at the first dotted line and back at the second; mean and range over seeds. **What to see:** that it goes at the pace of the least steep dominant direction, \u03c7 staying high until x is far below what noise had kept up, and returns faster than it went.", "name": "fig-valley-back"}}
figures.there_and_back(study)

# %% [markdown]
# ## Linear regression
#
# $L(w) = \frac12\,\mathrm{mean}\,(x_n \cdot w - y_n)^2$ has a few eigenvalues far above the rest; float64, exact eigenvectors
# $v_i$. With $\delta_i$ and $x_{ni}$ the coordinates of $w - w^*$ and $x_n$ along them and $\xi$ the noise of a batch of $B$,
#
# $$\begin{gathered} \delta_i \leftarrow (1 - \eta\lambda_i)\,\delta_i - \eta\,\xi_i, \\
# \mathrm{Var}\,\delta_i = \frac{\eta\, v_i^\top S v_i}{B\,\lambda_i(2 - \eta\lambda_i)}. \end{gathered}$$
#
# Batches are drawn with replacement, so that they are independent. $S$ is the covariance of single-sample gradients
# *where SGD is*: at the minimum $v_i^\top S v_i$ is $s_i$, and SGD's own variance $m_i = \mathrm{Var}\,\delta_i$ adds to it
# $\sum_j K_{ij} m_j - \lambda_i^2 m_i$ with $K_{ij} = \mathrm{mean}\,x_{ni}^2 x_{nj}^2$. The linear system for $m$ is the closed
# form that is judged; flat directions, which do not settle in a run, by the mean of the same recursion over its steps.

# %% mystnb={"figure": {"caption": "SGD around the minimum of the regression. Top: variance along each eigenvector, first seed, beside the stationary one and the recursion over the same steps. Bottom: simulated over closed form along the dominant eigenvectors, all seeds; grey: the band of the criterion. All leave out covariances between eigenvectors. **What to see:** that the closed form with the noise at the minimum alone comes out too small.", "name": "fig-regression-settled"}}
figures.regression_settled(study)

# %% [markdown]
# ## What differs from the paper
#
# - *From the paper's public reviews:* a toy of two sample losses with a term $\pm 100xy$. *Ours:* $\kappa$, $\eta$, the
#   number of steps and of paths, the regression and its spectrum; they are not known from the paper.
# - *Beyond the paper:* where Bulk-SGD stops being as good, the moments, the mean of $\chi$, SGD's own share in the noise.
#   None of it is judged but the variances. Defaults are from theory and small trials on other seeds.
#
# ## Rerun
#
# `papermill notebooks/04_valley.ipynb mine.ipynb -p cross 30 -p seeds 11`, and likewise for any parameter of the first
# code cell, or of `ValleyParameters`; `-p profile quick` takes seconds.
#
# ## Where the numbers are from

# %%
page.provenance(study.runs.values())
