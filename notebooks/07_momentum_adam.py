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
# # 07 · Momentum and Adam
#
# **Claim** ({cite:t}`song2025`, section 6). Momentum and Adam move relatively more in the bulk than SGD does: they
# amplify the part of the update that learns. Projected, they behave as SGD does: Dom- versions stop learning,
# Bulk- versions do as well as the whole rule (C8).
#
# **How much of which part.** The {term}`effective learning rate` of an update $u$ in a part, with $P$ the projector
# onto it and $g$ the full-batch gradient, is $-\langle Pu, Pg\rangle / \|Pg\|^2$: Dom-LR for $P_k$, Bulk-LR for
# $I - P_k$. Gradient descent has $\eta$ in both. One step's ratio is noisy where $g$ is, so three definitions are
# shown over windows of `window` steps: the *slope* $-\sum\langle Pu, Pg\rangle / \sum\|Pg\|^2$, the regression of $u$ on
# $-g$; the *mean* of the single steps' ratios; and the *displacement*
# $-\langle P\sum u, P\sum g\rangle / \|P\sum g\|^2$, in which everything that only fluctuates cancels. C8 is judged by
# slope and by mean, as ratios Bulk-LR/Dom-LR over that of SGD.
#
# **Protocol.** All rules start from the same point of SGD at `start_step`. Updates are measured in windows
# that begin at `anchors`. Dom- and Bulk- versions of heavy ball {cite:p}`polyak1964` ($m \leftarrow \beta m + g$, $u = -\eta m$) and
# of Adam {cite:p}`kingma2015` branch off at `switch_step` with the rule's state and project the final update. Windows
# from there on are judged; the first shows a rule that has just begun.

# %% tags=["parameters"]
dataset = "mnist5k"  # mnist5k, fashion_mnist5k, cifar10_5k, or digits, which needs no download
preprocessing = "standardized"  # or unit: pixels in 0 … 1
model = "mlp"  # mlp or cnn
loss = "mse"  # mse or cross_entropy
k = 10  # dimension of the dominant subspace
learning_rate = 0.01  # η of SGD, heavy ball and Nesterov's momentum
adam_learning_rate = 1e-4  # η of Adam, AdamW and RMSProp
beta = 0.9  # β, β₁ of Adam
batch_size = 50  # samples
start_step = 1500  # SGD up to here
switch_step = 3000  # first step of the Dom- and Bulk- versions
steps = 20_000  # in all
anchors = [1700, 3000, 6000, 12_000, 19_800]  # first steps of windows
window = 200  # steps in a window
betas = [0.5, 0.99]  # further β of heavy ball, first seed
others = ["nesterov", "rmsprop", "adamw"]  # further rules, first seed; also sam, muon
projected = "update"  # what Dom- and Bulk- versions project: update, gradient or both
alternative_steps = 2000  # after the switch, in the other ways; Bulk-Adam goes to the end
seeds = [0, 1, 2]  # of initialisation and batch order
refresh_every = "adaptive"  # or a number of steps; the paper's is 1
target_angle = 0.15  # for "adaptive": sine of the largest principal angle aimed for
device = "cpu"  # or cuda
profile = "paper"  # or quick: about a minute, on digits
dry_run = False  # True: say what would be computed, and stop

# %%
from subspace_lib.chapters.kit import page
from subspace_lib.chapters.kit.switch import figures as switch_figures
from subspace_lib.chapters.momentum_adam import CHAPTER, figures, tables

study = page.study(CHAPTER, page.parameters(globals(), CHAPTER))  # loaded, or computed and kept
page.in_force(study.parameters, study.runs.values())

# %% [markdown]
# ## Verdict

# %%
page.verdict(CHAPTER, study)

# %% [markdown]
# ## Effective learning rates

# %% mystnb={"figure": {"caption": "Bulk-LR/Dom-LR of every rule (log scale), a point a window; SGD, heavy ball and Adam on all seeds, the others on the first. A ratio with a negative rate is left out. **What to see:** by slope and by mean, how little heavy ball differs from SGD once training has settled; by displacement, how far it is above.", "name": "fig-ratios"}}
figures.ratios(study)

# %%
tables.effective_rates(study)

# %% [markdown]
# Slope and mean see what a rule does at each step. Where the gradient only fluctuates about a minimum, momentum
# answers it with *less* than $\eta$, in the bulk as in the dominant subspace: by the judged definitions heavy ball
# does not amplify the bulk there. Right after its start (first window) more of the bulk's gradient persists, and the
# ratio is higher. The displacement sees where a window's steps lead, and there
# it does: what persists of a gradient moves the point at up to $\eta/(1-\beta)$, and little of the dominant part
# persists. {doc}`07b_momentum_theory` derives both from one recursion. (SGD's own Bulk-LR lies above $\eta$ by slope:
# batches are drawn without replacement, and the later ones of an epoch take back what the earlier ones did.)

# %% [markdown]
# ## What does it in Adam: the preconditioner or the momentum?
#
# Along Adam's own path, at every step of a window: the update $-M g_B$ that the preconditioner
# $M = \mathrm{diag}(1/(\sqrt{\hat v} + \epsilon))$ alone would make of the minibatch gradient $g_B$, and $-m$, that of the mean
# of gradients alone. Bulk-LR/Dom-LR of each, by slope: at first it is the momentum, in the end the preconditioner.

# %%
tables.ingredients(study)

# %% [markdown]
# ## Dom- and Bulk- versions

# %% mystnb={"figure": {"caption": "Heavy ball: training loss (log scale), mean over seeds with their range; dotted: the switch. **What to see:** whether the Dom- version stands still, and whether the Bulk- version can be told from the whole rule.", "name": "fig-momentum-loss"}}
switch_figures.losses(study.switch("momentum"))

# %% mystnb={"figure": {"caption": "Adam: the same; a run that ends alone, at a cross, has diverged: its loss was above that of the untrained network. **What to see:** Dom-Adam stands still; Bulk-Adam rises at first, then learns, but not to the end.", "name": "fig-adam-loss"}}
switch_figures.losses(study.switch("adam"))

# %% [markdown]
# ## Project the update, the gradient, or both?
#
# A linear rule in a fixed subspace gives the same in all three ways. Adam is not linear: as $(I - P) M P g \neq 0$, a
# gradient in the dominant subspace moves the bulk, where that does not lower it. So a projected update may climb;
# {doc}`07b_momentum_theory` derives where each way comes to rest. With both projected, a step goes downhill.
# C8 is judged with the update projected, as was fixed before the runs; it diverges. The other two have the same
# target angle and, on the first seed, learn to the end: it is that projection that fails, not learning in the bulk.

# %% mystnb={"figure": {"caption": "Bulk-Adam, first seed, with the update projected, the gradient before it enters the rule's state, or both; dotted: the switch. **What to see:** that only the run with the update alone projected diverges, and that the others do as well as Adam.", "name": "fig-bulk-adam"}}
figures.bulk_adam(study)

# %%
tables.bulk_adam(study)

# %%
tables.projections(study)

# %% [markdown]
# ## What differs from the paper
#
# - *Not checked against the paper's own text:* the learning rates, the common start, the place of the switch.
# - The subspace is followed to `target_angle`, not computed at every step.
# - *Added here:* other rules and β, three definitions of the rates, Adam's ingredients, the projected gradient.
#
# ## Rerun
#
# `papermill notebooks/07_momentum_adam.ipynb mine.ipynb -p beta 0.95 -p seeds 0`, and likewise for any parameter
# of the first code cell; `-p profile quick` takes about a minute, on digits.
#
# ## Where the numbers are from

# %%
page.provenance(study.runs.values())
