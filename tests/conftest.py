"""Small networks with dense float64 references, on the CPU and on CUDA where there is one."""

import math
import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass, replace

import pytest
import torch
from playwright.sync_api import Error, sync_playwright
from torch import Tensor, nn

from subspace_lib import data, models
from subspace_lib.data import images
from subspace_lib.models.mlp import mlp
from subspace_lib.objective import LOSSES, Objective

# One thread per process: repeatable, and the tests share the machine with whatever else runs.
torch.set_num_threads(int(os.environ.get("SUBSPACE_THREADS", 1)))

INSTALLED = ("chromium", "chromium-browser", "google-chrome")
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def examples(full: int) -> int:
    """Examples of a hypothesis test: a fifth; the full number in ``make test-slow``."""
    return full if os.environ.get("SUBSPACE_EXAMPLES") == "full" else max(10, full // 5)


@pytest.fixture(params=DEVICES)
def device(request):
    return request.param


def tiny_mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 6), nn.Tanh(), nn.Linear(6, 3))


def tiny_cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12, 3)
    )


NETWORKS = {"mlp": tiny_mlp, "cnn": tiny_cnn}


@dataclass
class Reference:
    """An objective in float64, a point θ, and the dense gradient and Hessian there."""

    objective: Objective
    theta: Tensor
    loss: Tensor
    gradient: Tensor
    hessian: Tensor


def reference(network: str, loss: str, chunk: int, device: str = "cpu", seed: int = 0) -> Reference:
    torch.manual_seed(seed)
    inputs, labels = torch.randn(37, 1, 4, 4), torch.randint(0, 3, (37,))
    objective = Objective(
        NETWORKS[network](), loss, inputs, labels, chunk=chunk, device=device, dtype=torch.float64
    )
    theta = objective.initial()

    def dense(flat: Tensor) -> Tensor:  # written anew, on purpose without Objective.value
        parts, start = {}, 0
        for name, parameter in objective.model.named_parameters():
            parts[name] = flat[start : start + parameter.numel()].view_as(parameter)
            start += parameter.numel()
        outputs = torch.func.functional_call(objective.model, parts, (objective.inputs,))
        return LOSSES[loss](outputs, objective.labels)

    return Reference(
        objective,
        theta,
        dense(theta),
        torch.func.grad(dense)(theta),
        torch.func.hessian(dense)(theta),
    )


@contextmanager
def few_digits():
    """Within it, digits has 300 samples: whole studies take a fifth of the time."""
    whole = images.SOURCES["digits"]
    few = replace(whole, samples=300, test_samples=100)
    images.SOURCES["digits"] = replace(few, sha256=images.sha256(images._digits(few)[0]))
    try:
        yield
    finally:
        images.SOURCES["digits"] = whole


@pytest.fixture(scope="module")
def narrow_mlp():
    """The MLP of a whole module 16 units wide: runs do the same at a tenth of the price."""
    narrow = replace(
        models.ARCHITECTURES["mlp"],
        build=lambda shape, classes: mlp(math.prod(shape), classes, width=16),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(models.ARCHITECTURES, "mlp", narrow)
        yield


@pytest.fixture(scope="session")
def digits() -> data.Dataset:
    return data.load("digits")


@pytest.fixture(scope="session")
def browser():
    """One headless Chromium: the system's, or playwright's own."""
    found = next((where for name in INSTALLED if (where := shutil.which(name))), None)
    with sync_playwright() as playwright:
        try:
            instance = playwright.chromium.launch(executable_path=found)
        except Error:
            if os.environ.get("CI"):
                raise
            pytest.skip(
                "No browser: install Chromium, or run .venv/bin/playwright install chromium."
            )
        yield instance
        instance.close()


def pytest_terminal_summary(terminalreporter):
    """How to get the browser tests that were skipped: ``-q`` keeps the reasons to itself."""
    skipped = terminalreporter.stats.get("skipped", ())
    no_book = [report for report in skipped if "test_browser.py" in report.nodeid]
    no_browser = [report for report in skipped if "No browser:" in str(report.longrepr)]
    ways = []
    if no_book:
        ways.append("make browser builds the book and runs them")
    if no_browser or (no_book and not any(map(shutil.which, INSTALLED))):
        ways.append(".venv/bin/playwright install chromium brings a browser if there is none")
    if ways:
        count = len({report.nodeid for report in (*no_book, *no_browser)})
        terminalreporter.write_line(f"{count} browser tests were skipped: {'; '.join(ways)}.")


def pytest_collection_modifyitems(items):
    """The longest files first, so that no process is left with one of them at the end."""
    first = (
        "figures",
        "amplification",
        "momentum_adam",
        "store",
        "training",
        "survey",
        "subspace",
        "book",
    )
    place = {f"test_{name}": i for i, name in enumerate(first)}
    items.sort(key=lambda item: place.get(item.module.__name__, len(place)))
