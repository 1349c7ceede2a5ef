"""SGD, Dom-SGD and Bulk-SGD on scikit-learn's digits, from top to bottom, with nothing but the tracker.

Train a small network with SGD. At the switch, go on three times with the same minibatches: with every
update as it is, with its part in the dominant subspace alone (Dom-SGD), and with the rest alone (Bulk-SGD).
The dominant subspace is the span of the top k eigenvectors of the training-loss Hessian at that point.

    python examples/minimal.py
"""

import torch
from sklearn.datasets import load_digits
from torch import Tensor

from subspace_lib import DominantSubspace, Objective

LEARNING_RATE, BATCH, STEPS, SWITCH = 0.1, 50, 600, 250
K = 10  # the number of classes


def digits() -> tuple[Tensor, Tensor]:
    """The first 600 images of 8 × 8 pixels, in 0 … 1, and their labels."""
    images, labels = load_digits(return_X_y=True)
    return torch.tensor(images[:600], dtype=torch.float32) / 16, torch.tensor(labels[:600])


def network() -> torch.nn.Module:
    """A perceptron with two hidden layers."""
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(64, 40),
        torch.nn.Tanh(),
        torch.nn.Linear(40, 40),
        torch.nn.Tanh(),
        torch.nn.Linear(40, 10),
    )


def minibatch(step: int, samples: int) -> Tensor:
    """Rows of the step's minibatch: the same for every run."""
    generator = torch.Generator().manual_seed(step)
    return torch.randint(samples, (BATCH,), generator=generator)


def train(
    objective: Objective, theta: Tensor, first: int, last: int, part: str = "all"
) -> tuple[Tensor, float]:
    """SGD from one step to another; ``part`` says what of each update is applied.

    Returns the point, and the alignment of the full gradient with the subspace at the end.
    """
    subspace = DominantSubspace(objective, K)
    for step in range(first, last):
        _, gradient = objective.gradient(theta, minibatch(step, len(objective)))
        update = -LEARNING_RATE * gradient
        if part != "all":
            if subspace.due(step):  # the tracker says when the subspace has turned too far
                subspace.refresh(theta, step, probe=gradient)
            dominant = subspace.project(update)
            update = dominant if part == "dominant" else update - dominant
        theta = theta + update
    _, full = objective.gradient(theta)
    subspace.refresh(theta, last, probe=full)
    return theta, subspace.alignment(full)


def main() -> None:
    """Print the training losses at the switch and at the end."""
    torch.set_num_threads(1)  # faster than many for matrices this small
    inputs, labels = digits()
    objective = Objective(network(), "mse", inputs, labels)
    theta, alignment = train(objective, objective.initial(), 0, SWITCH)
    loss, _ = objective.gradient(theta)
    print(f"switch at step {SWITCH}: loss {loss:.4f}, alignment {alignment:.2f}")
    for name, part in (("SGD", "all"), ("Dom-SGD", "dominant"), ("Bulk-SGD", "bulk")):
        end, alignment = train(objective, theta, SWITCH, STEPS, part)
        loss, _ = objective.gradient(end)
        print(f"{name:8} at step {STEPS}: loss {loss:.4f}, alignment {alignment:.2f}")


if __name__ == "__main__":
    main()
