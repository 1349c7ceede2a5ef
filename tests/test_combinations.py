"""Any chapter reruns on another network, data set and loss: all that make sense, at few steps (slow)."""

import os
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest

from subspace_lib import data
from subspace_lib.chapters import registered
from subspace_lib.chapters.kit.study import Plan
from subspace_lib.models import fitting
from subspace_lib.objective import LOSSES
from subspace_lib.parameters import InvalidParameter
from subspace_lib.results.store import Store

ROOT = Path(__file__).resolve().parent.parent
# Of each kind of input a small set and a large one, of each network the narrower version.
DATASETS = ("digits_300", "cifar10_1k", "sentences", "sst2_1k")
MODELS = (
    "mlp",
    "cnn",
    "transformer_small",
    "vgg11_quarter",
    "resnet8_quarter",
    "resnet8_quarter_chunk",
)
SENSIBLE = [
    (dataset, model, loss)
    for dataset, loss in product(DATASETS, LOSSES)
    for model in fitting(data.shape(dataset))
    if model in MODELS
]
NAMED = {  # how a chapter calls data set, network and loss, where it has one of each or a list
    "dataset": ("dataset", "model", "loss", "k"),
    "datasets": ("datasets", "models", "loss", "dimensions"),
    "losses": ("datasets", "models", "losses", "dimensions"),
}
# At few steps: whatever a chapter has of these is made small.
FEW = {
    "steps": 12,
    "switch_step": 6,
    "switch_steps": 3,
    "step_counts": 7,
    "budgets": "None",
    "cut_budgets": "None",
    "budgets_from": 2,
    "repeats": 1,
    "learning_rates": 0.01,
    "cause_cases": 1,
    "cause_steps": 4,
    "cause_rows": 3,
    "table_steps": 4,
    "table_refresh_every": 2,
    "edge_steps": 6,
    "edge_switch_step": 3,
    "edge_record_every": 3,
    "approach_steps": 6,
    "back_steps": 4,
    "start_steps": 4,
    "again_steps": 2,
    "class_steps": 4,
    "record_every": 3,
    "spectrum_every": 3,
    "sharpness_every": 3,
    "window": 2,
    "anchors": 1,
    "lags": 1,
    "classes": 2,
    "directions": 3,
    "batch_sizes": 20,
    "seeds": 0,
    "setting_seed": 0,
    "doubled_seed": 0,
    "cause_seed": 0,
}


def chapters():
    """Chapters that name data, network and loss."""
    return [
        chapter
        for chapter in registered().values()
        if {"dataset", "model", "loss"} <= set(type(chapter.parameters).model_fields)
        or {"datasets", "models"} <= set(type(chapter.parameters).model_fields)
    ]


def given(chapter, dataset, model, loss):
    """What is typed to run a chapter on them."""
    fields = type(chapter.parameters).model_fields
    kind = "dataset" if "dataset" in fields else "losses" if "losses" in fields else "datasets"
    values = (dataset, model, loss, 2)
    named = {name: value for name, value in zip(NAMED[kind], values, strict=True) if name in fields}
    if "preprocessing" in fields:  # quick would fill in one of pixels
        named["preprocessing"] = data.default_preprocessing(dataset)
    few = {name: value for name, value in FEW.items() if name in fields}
    if kind == "dataset":
        few.pop("learning_rates", None)
    return {"profile": "quick", **few, **named}


@pytest.mark.parametrize("chapter", chapters(), ids=lambda c: c.name)
def test_every_chapter_can_plan_every_combination_that_makes_sense(chapter, tmp_path):
    for dataset, model, loss in SENSIBLE:
        parameters = (
            type(chapter.parameters).parse(**given(chapter, dataset, model, loss)).resolved()
        )
        plan = Plan(Store(tmp_path))
        chapter.study(parameters, Store(tmp_path), compute=plan)
        runs = [run for run in plan.missing if hasattr(run, "dataset")]
        assert {(run.dataset, run.model) for run in runs} == {(dataset, model)}
        assert loss in {run.loss for run in runs}


@pytest.mark.parametrize("chapter", chapters(), ids=lambda c: c.name)
def test_every_chapter_refuses_what_makes_no_sense(chapter, tmp_path):
    for dataset, model in (("sentences", "cnn"), ("digits_300", "transformer_small")):
        parameters = (
            type(chapter.parameters).parse(**given(chapter, dataset, model, "mse")).resolved()
        )
        with pytest.raises(
            InvalidParameter, match=f"'{model}' does not take .*, which {dataset} has"
        ):
            chapter.study(parameters, Store(tmp_path), compute=Plan(Store(tmp_path)))


@pytest.mark.slow
@pytest.mark.parametrize("combination", SENSIBLE, ids="-".join)
@pytest.mark.parametrize("chapter", chapters(), ids=lambda c: c.name)
def test_every_chapter_reruns_by_papermill_on_every_combination(chapter, combination, tmp_path):
    typed = given(chapter, *combination)
    command = [sys.executable, "-m", "papermill", "--no-progress-bar"]
    command += [f"{ROOT}/notebooks/{chapter.name}.ipynb", str(tmp_path / "out.ipynb")]
    for name, value in typed.items():
        command += ["-p", name, str(value)]
    own = os.environ | {"SUBSPACE_RESULTS": str(tmp_path / "results"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
