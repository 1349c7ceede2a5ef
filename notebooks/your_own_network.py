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
# # Your own network
#
# A loss that can be differentiated twice has a Hessian. This page follows the {term}`dominant subspace` of a Transformer block while it learns
# to read handwritten digits: first in a training loop of one's own, then as an experiment whose runs are kept, then in a
# chapter of this book. Each block can be typed as it stands, in an empty folder, into a notebook.

# %% tags=["remove-cell"]
import os
import tempfile

os.chdir(tempfile.mkdtemp())  # the page is executed in an empty folder too

# %% [markdown]
# ## A network, and data
#
# They stand in a file of their own, `mine.py`, so that an experiment can import them too. `build(shape, classes)` gets the
# shape of one input and the number of classes. Its output for a sample must depend on that sample alone and on no random
# number: no dropout, batch normalization in eval mode. `load()` returns training and test data: inputs are floats of shape
# (N, …), bytes of shape (N, …) of which the network sees x/255, or token ids (N, length); labels are class numbers (N,).

# %% tags=["remove-output"]
# %%writefile mine.py
import torch
from sklearn.datasets import load_digits
from torch import nn


class Reader(nn.Module):
    """A Transformer block that reads an image row by row: 8 tokens of 8 pixels."""

    def __init__(self, rows, pixels, classes, width=16):
        super().__init__()
        self.embed = nn.Linear(pixels, width)
        self.place = nn.Parameter(0.1 * torch.randn(rows, width))
        self.block = nn.TransformerEncoderLayer(width, 2, 32, dropout=0.0, batch_first=True)
        self.head = nn.Linear(width, classes)

    def forward(self, images):  # (n, rows, pixels)
        return self.head(self.block(self.embed(images) + self.place).mean(dim=1))


def build(shape, classes):
    return Reader(*shape, classes)


def load():
    images, labels = load_digits(return_X_y=True)
    images = torch.tensor(images, dtype=torch.float32).reshape(-1, 8, 8) / 16
    labels = torch.tensor(labels)
    return images[:300], labels[:300], images[300:500], labels[300:500]


# %% [markdown]
# ## Its loss, on one vector
#
# An `Objective` is the training loss $L(\theta)$, with all parameters in one vector $\theta$ of shape $(D,)$. The loss is
# "mse", "cross_entropy" or a function of yours. A self-test compares its derivatives with finite differences, and
# refuses a loss whose second derivatives are missing or wrong.

# %%
import torch
from mine import build, load

from subspace_lib import DominantSubspace, Objective, top_eigenpairs

torch.manual_seed(0)
inputs, labels, _, _ = load()
model = build(inputs.shape[1:], classes=10)
objective = Objective(model, "cross_entropy", inputs, labels)
theta = objective.initial()
{"D": objective.dim, "N": len(objective), "loss": objective.evaluate(theta)[0]}

# %% [markdown]
# Data that do not fit in memory come from a DataLoader, in a fixed order; a batch is read when its turn comes.

# %%
from torch.utils.data import DataLoader, TensorDataset

loader = DataLoader(TensorDataset(inputs, labels), batch_size=100)
_, read = Objective(model, "cross_entropy", loader).gradient(theta)
_, gradient = objective.gradient(theta)
float(
    (read - gradient).norm() / gradient.norm()
)  # relative difference to the gradient above: rounding

# %% [markdown]
# `unflatten` splits a vector into named parameters, `flatten` joins them again. Shown is the parameter whose gradient is the
# largest.

# %%
named = objective.unflatten(gradient)
assert torch.equal(objective.flatten(named), gradient)
max(named, key=lambda name: named[name].norm())

# %% [markdown]
# ## The top of its spectrum
#
# `top_eigenpairs` takes any symmetric operator that can be multiplied by a block of vectors, such as the Hessian at
# $\theta$, and a block to start from. `residuals` are $\lVert Hv - \lambda v\rVert$, one for each pair: some eigenvalue of $H$
# lies within that distance of $\lambda$. `converged` says that those of the first `k` are small enough.

# %%
pairs = top_eigenpairs(objective.hessian(theta), k=6, start=torch.randn(objective.dim, 3))
{"λ": pairs.values, "largest residual": float(pairs.residuals.max()), "converged": pairs.converged}

# %% [markdown]
# ## Following the subspace in a training loop
#
# First the network learns by SGD, for 500 steps. From there it goes on three times with the same minibatches: with all of each
# update, with its part in the dominant subspace alone, and with the rest alone. PyTorch's optimizer makes the update; we
# take it from the parameters, and put back what is to be applied.
#
# `due` says when the subspace may have turned too far. `refresh` brings it to the present point, and certifies the one that
# was used until then: `turn` is the sine of the angle by which it was wrong, `bound` an upper bound on that from residuals
# and gap. Four dimensions are few for ten classes; they keep this page quick.

# %%
SWITCH, STEPS = 500, 40
optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
minibatches = torch.Generator().manual_seed(0)


def learn():
    """One step of the optimizer, on 20 samples."""
    rows = torch.randint(len(labels), (20,), generator=minibatches)
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(model(inputs[rows]), labels[rows]).backward()
    optimizer.step()


def go_on(theta, part):
    """From θ on with a part of each update: loss and alignment at each step, and what refreshes saw."""
    minibatches.manual_seed(1)
    objective.assign(theta)
    subspace, losses, alignments, seen = DominantSubspace(objective, k=4), [], [], []
    for step in range(STEPS):
        loss, gradient = objective.gradient(theta)
        if subspace.due(step):
            seen.append(subspace.refresh(theta, step, probe=gradient))
        losses.append(float(loss))
        alignments.append(subspace.alignment(gradient))
        learn()
        update = objective.flatten(model.parameters()) - theta
        dominant = subspace.project(update)
        theta = theta + {"all": update, "dominant": dominant, "rest": update - dominant}[part]
        objective.assign(theta)
    return losses, alignments, seen


for _ in range(SWITCH):
    learn()
switch = objective.flatten(model.parameters())
found = {part: go_on(switch, part) for part in ("all", "dominant", "rest")}
{
    part: {"refreshes": len(seen), "turn": seen[-1].turn, "bound": seen[-1].bound}
    for part, (*_, seen) in found.items()
}

# %% mystnb={"figure": {"caption": "Training loss (top) and alignment of its gradient with the dominant subspace (bottom) over the steps after the switch: with all of each update, with its part in that subspace alone, and with the rest alone.", "name": "fig-own-network"}, "image": {"alt": "Two panels over the step: training loss, and alignment, a line for each part of the update."}}
import matplotlib.pyplot as plt

plt.rcParams["font.size"] = 10.5  # readable on a phone
figure, (top, bottom) = plt.subplots(2, 1, figsize=(4.5, 5.5), sharex=True, layout="constrained")
for part, (losses, alignments, _) in found.items():
    top.plot(losses, label=part)
    bottom.plot(alignments, label=part)
top.set(ylabel="training loss (nats)")
bottom.set(xlabel="steps after the switch", ylabel="alignment χ₄", ylim=(0, 1.05))
figure.legend(*top.get_legend_handles_labels(), loc="outside lower center", ncols=3)
plt.show()

# %% [markdown]
# How much the loss has fallen with each part, in the mean over the last ten steps; a negative number is a rise, and the rest alone may gain more than the whole.
# So few steps of one seed prove nothing: {doc}`02_dom_vs_bulk` asks the same of whole trainings. A `bound` near 1 above
# certifies next to nothing: the gap behind the k-th eigenvalue is too small for how much the subspace turns from one refresh to the next.

# %%
{part: round(losses[0] - sum(losses[-10:]) / 10, 4) for part, (losses, *_) in found.items()}

# %% [markdown]
# ## As an experiment: gradient descent on all samples
#
# An `Experiment` is a run described by names and numbers; a `Store` keeps what it has measured, loads it the next time, and
# goes on with what was interrupted. `mine:build` is the function `build` of `mine.py`, which is looked for in the folder
# where you are and on `PYTHONPATH`. The file's source is part of what is described: an edited one is another run. (Files
# that it imports are not part of it. The seed sets PyTorch's random numbers, and no others.) Printed are the final losses.

# %%
from subspace_lib import Experiment, Store

settings = dict(model="mine:build", dataset="mine:load", loss="cross_entropy", batch_size=300, k=4)
settings |= dict(
    learning_rate=0.05, steps=240, switch_step=200, record_every=20, spectrum_every=None
)
store = Store("results")
runs = [store.run(Experiment.parse(**settings, projection=p)) for p in ("none", "dominant", "bulk")]
{run.experiment.method: float(run.table["train_loss"].iloc[-1]) for run in runs}

# %% [markdown]
# ## The same in a chapter of this book
#
# Each chapter that trains takes them too, with all its figures and tables; `dry_run` says first what would be computed.
# From the repository's folder, with the folder of `mine.py` on `PYTHONPATH`:
#
# ```bash
# export PYTHONPATH=/folder/of/mine
# papermill notebooks/02_dom_vs_bulk.ipynb out.ipynb -p model mine:build -p dataset mine:load \
#   -p loss cross_entropy -p learning_rate 0.1 -p steps 300 -p switch_step 150 -p switch_alignment None -p seeds 0,1,2
# ```
#
# `python -m subspace_lib.results.repeat KEY` computes one of its runs once more. Every public name of the library is in the
# {doc}`../reference`.
