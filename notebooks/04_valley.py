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
#
# **Claim** ({cite:t}`song2025`, section 4). None of this needs a network. On a quadratic that is steep in few directions,
# minibatch noise gives the same picture: aligned gradients, Dom-SGD that stands still, Bulk-SGD that learns, an alignment
# that goes with the noise (C5). Here it can be computed.
#
# ## Two dimensions
#
# $L(x, y) = \frac12(\kappa x^2 + y^2)$ is the mean of two sample losses $L \pm (cxy + sx)$. The steep $x$ is the
# {term}`dominant subspace`, $k = 1$; the floor of the valley is the $y$ axis. A step of SGD takes one sample; while $y$
# hardly changes, the variance $V$ of $x$ settles where a step leaves it as it is:
#
# $$\begin{aligned} x &\leftarrow (1 - \eta\kappa)\,x \mp \eta\,(cy + s), \\ y &\leftarrow (1 - \eta)\,y \mp \eta c x, \\
# V &= (1 - \eta\kappa)^2 V + \eta^2 (cy + s)^2 \\ &= \frac{\eta\,(cy + s)^2}{\kappa\,(2 - \eta\kappa)}. \end{aligned}$$
#
# The mean squares of $\nabla L = (\kappa x, y)$ then have the ratio $A = \kappa^2 V / y^2 = \frac{\eta\kappa}{2 - \eta\kappa}
# (c + s/y)^2$: an {term}`alignment of a typical gradient` of $\sqrt{A/(1 + A)}$. In the *loss* the steep part counts for
# only $\kappa V / y^2 = A/\kappa$ of the flat one: alignment weighs directions by $\lambda^2$, the loss by $\lambda$. So wherever
# $1 \ll A \ll \kappa$ the gradient points across the valley, and what is to be learned lies along it.
#
# Play SGD, Dom-SGD and Bulk-SGD from one start, with *keep curves*: Dom-SGD is as aligned as SGD but stays at its $y$;
# Bulk-SGD descends but keeps its $x_0$, so its loss levels off at $\kappa x_0^2/2$. Without noise, $c = 0$, SGD is GD.
# Above $\eta\kappa = 2$ it diverges, and Bulk-SGD does not.
#
# ```{valley}
# ```
#
# **Protocol.** SGD to `switch_step`; then SGD, Dom-SGD, Bulk-SGD on the same batches, GD, GD for `full_steps` and SGD
# again, other batch sizes. Means over `paths` paths, for one path's loss at the switch depends on its last step.

# %% tags=["parameters"]
condition = 1000.0  # κ
cross = 10.0  # c; puts A near √κ, in the middle of its window
shift = 0.0  # s
learning_rate = 5e-4  # η, in the valley
batch_sizes = [10, 100, 1000]  # beside 1: means of so many signs
steps = 20_000  # in all, the common part included
switch_step = 500
sharpnesses = [0.05, 0.1, 0.2, 0.5, 1.0, 1.5, 1.8, 1.9]  # ηκ for Var x
crosses = [1.0, 2.0, 5.0, 10.0, 20.0]  # c for Var x
distances = [0.01, 0.03, 0.1, 0.3, 1.0]  # y for Var x, ...
distance_shift = 1.0  # ... with this s
regression_learning_rate = 1e-3  # η, in the regression
regression_batch_size = 10  # samples, drawn with replacement
regression_batch_sizes = [1, 40, 160]  # of further branches
regression_steps = 2000
seeds = [0, 1, 2]  # of the noise, and of the regression's data
profile = "paper"  # or quick: fewer steps and paths
dry_run = False  # True: say what would be computed, and stop

# %%
from subspace_lib.chapters.kit import page
from subspace_lib.chapters.valley import CHAPTER, figures, tables

study = page.study(CHAPTER, page.parameters(globals(), CHAPTER))  # loaded, or computed and kept
page.in_force(study.parameters, study.runs.values())

# %% mystnb={"figure": {"caption": "A single path of SGD up to the switch (dot), and four ways to go on; thin: level lines of the loss. The axes have different scales. **What to see:** that SGD, GD and Bulk-SGD come equally far along the valley, Dom-SGD not at all, and that Bulk-SGD keeps the height on the wall at which it was switched.", "name": "fig-plane"}}
figures.plane(study)

# %% [markdown]
# ## What noise does to the steep direction
#
# The alignment appears as soon as noise has filled $x$. From the floor, $\mathbb{E}x^2 = V(1 - (1 - \eta\kappa)^{2t})$: with
# $a = \chi^2/(1 - \chi^2)$, the alignment reaches $\chi$ at $t = \ln(1 - a/A)\,/\,2\ln|1 - \eta\kappa|$, and never where $A < a$:
# for small $\eta\kappa$ or $c$, or in batches of more than $A/a$ samples, which divide $A$ by their size. Without noise $x^2$
# shrinks by $(1 - \eta\kappa)^2$ a step: the alignment falls to $\chi$ after $t = \ln(a/A)\,/\,2\ln|1 - \eta\kappa|$. For $s = 0$
# the noise fades along with $y$, and $A$ stays; $s \ne 0$ keeps noise alive, and $A$ grows without bound as $y \to 0$.

# %% mystnb={"figure": {"caption": "What x settles at over \u03b7\u03ba, c and y: the ratio A and the alignment, all seeds. The closed form speaks of mean squares, as a typical gradient does; the mean of \u03c7 is what the criterion judges. **What to see:** the typical gradient on the curves, the mean of \u03c7 below them, because x often crosses the floor, where the gradient points along it; not at \u03b7\u03ba = 1, where a step forgets x.", "name": "fig-settled"}}
figures.settled(study)

# %%
tables.times(study)

# %% mystnb={"figure": {"caption": "Second moments of SGD, all seeds, and the exact recursion X \u2190 (1 \u2212 \u03b7\u03ba)\u00b2X + \u03b7\u00b2(c\u00b2Y + 2cs E y + s\u00b2), Y \u2190 (1 \u2212 \u03b7)\u00b2Y + \u03b7\u00b2c\u00b2X. **What to see:** two time scales, about 1/\u03b7\u03ba steps for x to settle and 1/\u03b7 for y, which x follows. Towards \u03b7\u03ba = 2, where x settles slowly, it lags behind: the last ratios of the table are above 1.", "name": "fig-moments"}}
figures.moments(study)

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

# %% mystnb={"figure": {"caption": "SGD around the minimum of the regression. Top: variance along each eigenvector, first seed, beside the stationary one and the recursion over the same steps. Bottom: simulated over closed form along the dominant eigenvectors, all seeds; grey: the band of the criterion. All leave out covariances between eigenvectors. **What to see:** that the closed form with the noise at the minimum alone comes out too small, for some eigenvectors by more than the band.", "name": "fig-regression-settled"}}
figures.regression_settled(study)

# %% [markdown]
# ## Dom-SGD, Bulk-SGD, and the way to GD and back
#
# Bulk-SGD keeps what noise has put into the dominant directions, and ends there: in the valley at about $A/\kappa$ of
# the loss at the switch. Progress hardly sees it; on a log scale, many decades down, it is all that is left.

# %% mystnb={"figure": {"caption": "Training loss, mean and range over seeds; dotted: the switch. **What to see:** Dom-SGD level, and where Bulk-SGD, which keeps its share along the dominant directions, leaves SGD.", "name": "fig-valley-loss"}}
figures.losses(study)

# %% mystnb={"figure": {"caption": "Alignment of the full gradient: SGD throughout, changed to the full batch at the first dotted line and back at the second; mean and range over seeds; every step for a while after a change, then fewer. **What to see:** that it vanishes at the pace of the least steep dominant direction, and returns faster than it went.", "name": "fig-valley-back"}}
figures.there_and_back(study)

# %% mystnb={"figure": {"caption": "Alignment over the last 2% of the steps by batch size: predicted and measured of a typical gradient, and the mean of \u03c7; range over seeds. **What to see:** the fall with batch size, where the closed form puts it.", "name": "fig-valley-batch"}}
figures.batch_sizes(study)

# %% [markdown]
# ## Verdict

# %%
page.verdict(CHAPTER, study)

# %% [markdown]
# ## What differs from the paper
#
# - *Not checked against the paper's own text:* the cross term, the constants, the spectrum of the regression.
# - *Defaults*, the number of paths and SGD's own share in the closed form are from theory and small trials on other
#   seeds, before these runs; thresholds are not. At twice the regression's $\eta$ progress(Bulk-SGD) is near its bound.
# - *Added here:* $s$, the moments, the times, SGD's own share in the noise, the prediction by batch size.
#
# ## Rerun
#
# `papermill notebooks/04_valley.ipynb mine.ipynb -p cross 3 -p seeds 0`, and likewise for any parameter of the first
# code cell, or of `ValleyParameters`; `-p profile quick` takes seconds.
#
# ## Where the numbers are from

# %%
page.provenance(study.runs.values())
