"""Chapter 11 from parameters to page, and its runs against dense float64 matrices at a small width."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from subspace_lib import data, models
from subspace_lib.chapters import chapter
from subspace_lib.chapters.curvature import answers, figures
from subspace_lib.chapters.curvature.dense import K, compared
from subspace_lib.chapters.curvature.study import CurvatureParameters, CurvatureStudy, tasks
from subspace_lib.experiment import Experiment
from subspace_lib.linalg.eigensolver import sin_largest_angle, top_eigenpairs
from subspace_lib.linalg.quadrature import Quadrature, mean_error
from subspace_lib.objective import LOSSES
from subspace_lib.results.store import MissingRun, Store
from subspace_lib.runs import curvature
from subspace_lib.runs.curvature import Curvature, CurvatureRun, quadrature_of
from subspace_lib.runs.training import Run
from subspace_lib.trajectory import Trajectory

NAME = "11_curvature"
PARAMETERS = CurvatureParameters(
    dataset="digits",
    model="mlp",
    k=3,
    learning_rate=0.1,
    steps=8,
    anchors=(0, 8),
    lanczos_steps=12,
    probes=3,
    pyhessian=2,
    seeds=(11, 12, 13),
)

SHIFT = 0.01

pytestmark = pytest.mark.usefixtures("tiny")


@pytest.fixture(scope="module")
def tiny():
    """The MLP one layer of 3 units (D = 235) on 60 digits, so that dense matrices are cheap."""
    whole = data.load("digits")
    few = replace(whole, train_inputs=whole.train_inputs[:60], train_labels=whole.train_labels[:60])

    def build(shape, classes):
        size = math.prod(shape)
        layers = [torch.nn.Linear(size, 3), torch.nn.Tanh(), torch.nn.Linear(3, classes)]
        return torch.nn.Sequential(torch.nn.Flatten(), *layers)

    narrow = replace(models.ARCHITECTURES["mlp"], build=build)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(models.ARCHITECTURES, "mlp", narrow)
        patch.setattr(data, "load", lambda *_: few)
        yield


@pytest.fixture(scope="module")
def looked(tiny):
    """The run of the first seed, θ at the end, and there the dense H, G and gradient in float64."""
    run = CurvatureRun(PARAMETERS.run(11))
    run.train()
    o, theta = run.trainer.objective, run.trainer.theta.double()
    inputs, labels = o.inputs.double(), o.labels
    names, shapes = zip(*o.layout, strict=True)

    def outputs(flat):
        parts = flat.split([math.prod(shape) for shape in shapes])
        named = {n: p.view(s) for n, p, s in zip(names, parts, shapes, strict=True)}
        return torch.func.functional_call(o.model, named, (inputs,))

    def loss(flat):
        return LOSSES["mse"](outputs(flat), labels)

    jacobian = torch.func.jacrev(outputs)(theta)  # (N, C, D)
    dense = {
        "H": torch.func.hessian(loss)(theta),
        # half the squared distance: its own curvature in the outputs is the identity
        "G": torch.einsum("ncd,nce->de", jacobian, jacobian) / len(labels),
    }
    dense["F"] = dense["H"] - dense["G"]
    return run, dense, torch.func.grad(loss)(theta), jacobian


@pytest.fixture(scope="module")
def study(looked):
    """Three seeds: the run of the first, and copies of it with an overlap of G that is another."""
    runs = {}
    for seed in PARAMETERS.seeds:
        table = looked[0].table()
        overlap = (table["quantity"] == "overlap") & (table["operator"] == "G")
        table.loc[overlap, "value"] -= SHIFT * (seed - 11)
        runs[seed] = Trajectory(
            PARAMETERS.run(seed), table, "complete", None, {"date": "2026-11-26"}
        )
    return CurvatureStudy(PARAMETERS, runs)


def at_end(run, quantity, operator="", index=0):
    t = run.table()
    t = t[(t["anchor"] == 8) & (t["quantity"] == quantity) & (t["operator"] == operator)]
    return float(t[t["index"] == index]["value"].iloc[0])


def dense_space(matrix, by_size):
    values, vectors = torch.linalg.eigh(matrix)
    order = (values.abs() if by_size else values).argsort(descending=True)[:3]
    return values[order], vectors[:, order]


def test_spaces_eigenvalues_and_alignments_are_those_of_dense_matrices(looked):
    run, dense, gradient, _ = looked
    spaces = {name: dense_space(matrix, name == "F") for name, matrix in dense.items()}
    own = spaces["H"][1]
    assert at_end(run, "unconverged") == 0
    for name, (values, basis) in spaces.items():
        for i, value in enumerate(values, 1):
            assert at_end(run, "eigenvalue", name, i) == pytest.approx(float(value), rel=2e-2)
        expected = float((basis.T @ gradient).norm() / gradient.norm())
        assert at_end(run, "alignment", name) == pytest.approx(expected, abs=0.02)
        if name != "H":  # each basis is certified to a sine of 0.01, that of F by its residuals
            cosines = torch.linalg.svdvals(own.T @ basis)
            overlap = float(cosines.square().mean())
            assert at_end(run, "overlap", name) == pytest.approx(overlap, abs=0.03)
    sine = sin_largest_angle(own, spaces["G"][1])
    assert at_end(run, "sine", "G") == pytest.approx(sine, abs=0.02)
    part = torch.trace(own.T @ dense["G"] @ own) / torch.trace(own.T @ dense["H"] @ own)
    assert at_end(run, "curvature_share", "G") == pytest.approx(float(part), abs=0.01)


def test_layers_and_classes_are_those_of_dense_vectors(looked):
    run, dense, _, jacobian = looked
    o, (_, basis) = run.trainer.objective, dense_space(dense["H"], False)
    start, masses = 0, []
    for i, (_, shape) in enumerate(o.layout):
        rows = slice(start, start + math.prod(shape))
        start = rows.stop
        masses.append(at_end(run, "mass", "H", i))
        assert masses[-1] == pytest.approx(float(basis[rows].square().sum()) / 3, abs=0.01)
        assert at_end(run, "size", "", i) == pytest.approx(math.prod(shape) / o.dim)
    assert sum(masses) == pytest.approx(1, abs=1e-5)
    labels, residuals = o.labels, None
    with torch.no_grad():
        outputs = o.outputs(run.trainer.theta, o.inputs).double()
        residuals = outputs - torch.nn.functional.one_hot(labels, 10)
    spans = {
        "mean_outputs": jacobian.mean(0),
        "class_means": torch.cat([jacobian[labels == a].mean(0) for a in range(10)]),
        "class_losses": torch.stack(
            [
                torch.einsum("nc,ncd->d", residuals[labels == a], jacobian[labels == a])
                for a in range(10)
            ]
        ),
    }
    for name, rows in spans.items():
        inside, sizes, _ = torch.linalg.svd(rows.T, full_matrices=False)
        inside = inside[:, sizes > 1e-5 * sizes[0]]
        expected = float((inside.T @ basis).square().sum()) / 3
        assert at_end(run, name, "H") == pytest.approx(expected, abs=0.02)


def test_traces_and_densities_are_those_of_the_matrices_as_the_probes_see_them(looked):
    run, dense, _, _ = looked
    table = run.table()
    table = table[table["anchor"] == 8]
    means = {}
    for name in ("H", "G"):
        found = quadrature_of(table, name, 3)
        assert found.nodes.shape == (3, 12)
        means[name] = float(found.moment(1).mean()) * len(dense["H"])
        assert at_end(run, "trace", name) == pytest.approx(means[name], rel=1e-5)
        # ±1 probes know a trace to 4 √(2 Σ_{i≠j} A_ij²/p), p = 3 of them
        off = dense[name] - torch.diag(dense[name].diagonal())
        bound = 4 * float((2 * off.square().sum() / 3).sqrt())
        assert abs(means[name] - float(dense[name].trace())) < bound
        top = float(torch.linalg.eigvalsh(dense[name])[-1])
        assert float(found.nodes.max()) == pytest.approx(top, rel=1e-3)
    assert at_end(run, "trace", "F") == pytest.approx(means["H"] - means["G"], rel=1e-4)
    theirs = quadrature_of(table, "PyHessian", 2)
    top = float(torch.linalg.eigvalsh(dense["H"])[-1])
    assert float(theirs.nodes.max()) == pytest.approx(top, rel=1e-3)


def test_a_run_goes_along_the_plain_run(looked):
    run, *_ = looked
    fields = run.experiment.model_dump()
    plain = Run(Experiment(**{n: fields[n] for n in Experiment.model_fields} | {"switch_step": 7}))
    plain.train()
    torch.testing.assert_close(plain.theta, run.trainer.theta)


def test_what_rests_on_a_solve_that_failed_is_unknown(monkeypatch):
    def solve(*args, **options):
        return replace(top_eigenpairs(*args, **options), converged=False)

    monkeypatch.setattr(curvature, "top_eigenpairs", solve)
    run = CurvatureRun(PARAMETERS.run(11).model_copy(update={"anchors": (8,), "pyhessian": 0}))
    run.train()
    table = run.table().set_index("quantity")["value"]
    assert run.status == "complete" and table["unconverged"] == 4
    known = set(table.dropna().index)
    rests = {"eigenvalue", "alignment", "sine", "overlap", "curvature_share", "mass"}
    spans = {"mean_outputs", "class_means", "class_losses"}
    assert set(curvature.QUANTITIES) - known == rests | spans


def test_the_question_is_that_of_the_paper_size():
    p = chapter(NAME).parameters
    assert (p.dataset, p.model, p.k, p.seeds, p.anchors[-1]) == (
        "mnist5k",
        "mlp",
        10,
        (11, 12, 13),
        p.steps,
    )
    run = p.run(12)
    assert isinstance(run, Curvature) and (run.seed, run.anchors) == (12, p.anchors)
    assert [q.seeds for _, q in tasks(p)[0]] == [(11,), (12,), (13,)]
    assert CurvatureParameters.parse(anchors="0,5", steps=9).anchors == (0, 5)


def test_judged_are_overlap_and_alignment_at_the_last_anchor(study, looked):
    (v,) = chapter(NAME).judge(study)
    assert (v.claim, v.kind, v.seeds) == ("Q7", "finding", (11, 12, 13))
    judged = [part for part in v.parts if part.criterion != "none"]
    assert [part.criterion for part in judged] == ["≥ 0.9", "≥ 0.8"]
    assert {part.date for part in judged} == {"2026-11-26"}
    run = looked[0]
    overlap = at_end(run, "overlap", "G")
    np.testing.assert_allclose(judged[0].values, [overlap - i * SHIFT for i in range(3)])
    np.testing.assert_allclose(judged[1].values, [at_end(run, "alignment", "G")] * 3)


def test_its_page_shows_every_figure_and_says_what_is_missing(study, tmp_path):
    assert len(figures.spectrum(study).figure.axes) == 2
    assert len(figures.evolution(study).figure.axes) == 2
    assert len(figures.spaces(study).figure.axes) == 3
    bars = figures.layers(study).figure.axes[0].patches
    assert len(bars) == 4 * 3  # 4 tensors at 2 anchors, and their sizes
    assert sum(bar.get_height() for bar in bars) == pytest.approx(3, abs=1e-4)
    assert "**Q7, " in answers.opening(study).data
    assert "The largest Ritz value is" in answers.spectrum(study).data
    for told in (answers.evolution, answers.spaces, answers.layers, answers.classes):
        assert "not known" not in told(study).data
    with pytest.raises(MissingRun):
        chapter(NAME).study(PARAMETERS, Store(tmp_path), compute=False)


def test_a_run_that_diverged_leaves_a_page_without_its_last_anchor(study):
    cut = {
        seed: Trajectory(
            run.experiment, run.table[run.table["anchor"] < 8], "diverged at step 5", None, {}
        )
        for seed, run in study.runs.items()
    }
    short = CurvatureStudy(PARAMETERS, cut)
    (v,) = chapter(NAME).judge(short)
    assert v.verdict == "inconclusive"
    assert len(figures.evolution(short).figure.axes) == 1
    for draw in (figures.spectrum, figures.spaces, figures.layers):
        draw(short)
    for tell in (answers.opening, answers.spectrum, answers.evolution, answers.spaces):
        assert tell(short).data


def test_the_density_is_compared_with_a_spectrum_that_is_known_as_a_whole():
    found = compared(PARAMETERS.model_copy(update={"lanczos_steps": 60, "probes": 40}))
    dim = len(found.values)
    assert found.off() < 0.02 < compared(PARAMETERS).off()  # fewer probes, fewer steps
    assert float(found.found.nodes.max()) == pytest.approx(float(found.values[0]), rel=1e-6)
    counts = dim * found.found.share_above(found.cut)
    assert abs(float(counts.mean()) - K) <= 4 * float(mean_error(counts))
    exact = Quadrature(
        found.values.flip(0)[None], torch.full((1, dim), 1 / dim, dtype=torch.float64)
    )
    assert replace(found, found=exact).off() < 1e-9
