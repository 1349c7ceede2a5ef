"""Chapter 08: the substitute spaces against dense references, and the chapter from parameters to page."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from subspace_lib import models
from subspace_lib.chapters import chapter
from subspace_lib.chapters.dom_vs_bulk.study import DomBulkParameters
from subspace_lib.chapters.kit import page
from subspace_lib.chapters.kit.study import Plan
from subspace_lib.chapters.threshold import answers, figures, tables
from subspace_lib.chapters.threshold.cuts import Case
from subspace_lib.chapters.threshold.spaces import FOLLOWED, RANDOM, hessian_of, kept
from subspace_lib.chapters.threshold.study import ThresholdParameters, tasks
from subspace_lib.evidence import criteria
from subspace_lib.models.mlp import mlp
from subspace_lib.objective import LOSSES
from subspace_lib.parameters import InvalidParameter
from subspace_lib.results.store import MissingRun, Store
from subspace_lib.runs.substitute import SPACES, Substitute, SubstituteRun
from subspace_lib.trajectory import progress, tail

pytestmark = pytest.mark.whole  # a chapter from parameters to page

NAME = "08_threshold"
SPACE = {
    "dataset": "digits_300",
    "model": "mlp",
    "k": 2,
    "classes": 3,
    "projection": "dominant",
    "switch_step": 4,
    "steps": 5,
    "record_every": None,
    "target_angle": 1e-3,
}
SMALL = ThresholdParameters.QUICK | {
    "models": ("mlp_small", "mlp_small"),
    "datasets": ("digits_300", "digits_300"),
    "losses": ("mse", "cross_entropy"),
    "dimensions": (4, 2),
    "learning_rates": (0.1, 0.1),
    "cut_step_counts": (14, 12),
    "cut_budgets": (None, None),
    "budgets_from": (9, 5),
    "step_counts": (16, 12),
    "switch_steps": (6, 6),
    "repeats": (2, 1),
    "cuts": (2, 4, 8),
    "seeds": (11, 12),
    "kept": (1, 100),
    "subsets": (50,),
    "batches": 9,
    "interval": 3,
    "often": 50,
    "space_steps": 6,
    "record_every": 2,
}


@pytest.fixture
def tiny_mlp(monkeypatch):
    """The MLP 4 units wide: 291 parameters, so that dense matrices take no time."""
    build = lambda shape, classes: mlp(math.prod(shape), classes, width=4)  # noqa: E731
    tiny = replace(models.ARCHITECTURES["mlp"], build=build)
    monkeypatch.setitem(models.ARCHITECTURES, "mlp", tiny)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ThresholdParameters, "QUICK", SMALL)
        store = Store(tmp_path_factory.mktemp("results"))
        own = chapter(NAME)
        yield own.study(own.at("quick"), store), store


class Dense:
    """Loss, outputs and derivatives of a run's objective at its θ, float64, written anew."""

    def __init__(self, run):
        o, self.run = run.trainer.objective, run
        self.inputs, self.labels = o.inputs.double(), o.labels
        self.theta = run.trainer.theta.double()
        self.loss = LOSSES[run.experiment.loss]

        def outputs(theta, inputs):
            parts, start = {}, 0
            for name, p in o.model.named_parameters():
                parts[name] = theta[start : start + p.numel()].view_as(p)
                start += p.numel()
            return torch.func.functional_call(o.model, parts, (inputs,))

        self.outputs = outputs

    def value(self, theta, rows=slice(None)):
        return self.loss(self.outputs(theta, self.inputs[rows]), self.labels[rows])

    def hessian(self, rows=slice(None)):
        return torch.func.hessian(lambda t: self.value(t, rows))(self.theta)

    def gradients(self, batches):
        return torch.stack(
            [torch.func.grad(lambda t, b=b: self.value(t, b))(self.theta) for b in batches]
        )


def second_moment(experiment):
    """v̂ of Adam from the minibatch gradients of a run from its beginning."""
    run, v = SubstituteRun(experiment), 0.0
    for step in range(experiment.switch_step + 1):
        (g,) = Dense(run).gradients([run.trainer.batches.rows(step)])
        v = 0.999 * v + 0.001 * g.square()
        run.trainer.advance()
    return v / (1 - 0.999 ** (experiment.switch_step + 1))


def matrix(run):
    """The dense matrix whose leading eigenvectors, times the second number, span the space of a run."""
    e, dense = run.experiment, Dense(run)
    samples, batch = len(dense.labels), run.trainer.batches.rows
    if e.space == "hessian":
        return dense.hessian(torch.arange(e.matrix_samples) * samples // e.matrix_samples), 1.0
    if e.space == "batch_hessian":
        return dense.hessian(batch(e.switch_step)), 1.0
    if e.space == "gauss_newton":  # of the squared loss, ½ Σ_c: the outer Hessian is the identity
        j = torch.func.jacrev(lambda t: dense.outputs(t, dense.inputs).flatten())(dense.theta)
        return j.T @ j / samples, 1.0
    if e.space == "sample_gradients":
        return torch.cov(dense.gradients([slice(i, i + 1) for i in range(samples)]).T), 1.0
    if e.space == "batch_gradients":
        rows = [batch(e.switch_step + i) for i in range(e.batches)]
        return torch.cov(dense.gradients(rows).T), 1.0
    if e.space == "mean_outputs":
        j = torch.func.jacrev(lambda t: dense.outputs(t, dense.inputs).mean(0))(dense.theta)
        return j.T @ j / len(j), 1.0
    v = second_moment(e)
    if e.space == "adam_coordinates":
        return torch.diag(v), 1.0
    root = (v.sqrt() + 1e-8).rsqrt()[:, None]
    return root * dense.hessian() * root.T, root


def at_switch(**fields):
    run = SubstituteRun(Substitute.parse(**SPACE | fields))
    while run.step < 4:
        run.advance()
    return run


def test_sgd_and_its_branches_end_with_rows_at_the_same_steps(study):
    def late(run):
        return run.table["step"][run.table["step"] >= 0.9 * run.experiment.steps]

    for case in study[0].cases.values():
        others = [k for k in case.parameters.cuts if k != case.parameters.k]
        begun = [case.runs[k, "none", seed] for k in others for seed in case.parameters.seeds]
        assert any(run.table["step"].iloc[0] == run.experiment.steps - 1 for run in begun)
        for k in others:
            for plain, branch in case.pairs(k, "dominant"):
                assert late(plain).tolist() == late(branch).tolist()


@pytest.mark.usefixtures("tiny_mlp")
@pytest.mark.parametrize("space", [space for space in SPACES if space != "random"])
def test_each_space_is_that_of_a_dense_eigendecomposition(space):
    own = {"matrix_samples": 40} if space == "hessian" else {}
    own |= {"batches": 6} if space == "batch_gradients" else {}
    dense, root = matrix(at_switch(space=space, **own))
    values, vectors = (part.flip(-1) for part in torch.linalg.eigh(dense))
    k = 1 + int((values[:3] / values[1:4]).argmax())  # where the space is determined best
    run = at_switch(space=space, **own, k=k)
    hessian = Dense(run).hessian()
    theta = run.trainer.theta
    run.advance()  # finds the space, records a row, takes a step in it
    basis, step = run.basis.double(), (run.trainer.theta - theta).double()
    assert torch.dist(basis.T @ basis, torch.eye(k, dtype=basis.dtype)) < 1e-5
    q = torch.linalg.qr(root * vectors[:, :k])[0]
    # A solve leaves a residual of 1e-3 λ₁ or less, what is computed directly that of float32.
    direct = ("batch_gradients", "mean_outputs", "adam_coordinates")
    residual = 1e-5 if space in direct else 2e-3
    slack = 0.005 + residual * float(values[0] / (values[k - 1] - values[k]))
    assert slack < 0.1
    assert torch.linalg.matrix_norm(basis - q @ (q.T @ basis), 2) < slack
    assert float((step - basis @ (basis.T @ step)).norm() / step.norm()) < 1e-3
    # S_k beside it, at the row of the switch
    exact = torch.linalg.eigh(hessian)[1][:, -k:]
    cosines = torch.linalg.svdvals(exact.T @ q)
    row = run.table().iloc[0]
    assert row["overlap"] == pytest.approx(float(cosines.square().mean()), abs=0.02 + slack)
    sine = float((1 - cosines.min().square()).clamp_min(0).sqrt())
    assert row["sine"] == pytest.approx(sine, abs=0.02 + slack)


@pytest.mark.usefixtures("tiny_mlp")
def test_a_random_space_stays_and_others_are_found_anew_every_so_many_steps():
    found = {}
    for space in ("random", "gauss_newton"):
        own = SPACE | {"steps": 8, "record_every": 1, "space": space, "refresh_every": 3}
        run = SubstituteRun(Substitute.parse(**own))
        bases = {}
        while run.status == "running":
            at = run.step
            run.advance()
            if run.basis is not None:
                bases[at] = run.basis.clone()
        found[space] = (
            [at for at in range(5, 9) if not torch.equal(bases[at], bases[at - 1])],
            run.table()["age"].tolist(),
        )
    assert found["random"] == ([], [0, 1, 2, 3, 4])
    assert found["gauss_newton"] == ([7], [0, 1, 2, 0, 1])


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"projection": "none"}, "projection = 'none': a substitute is a space to project on"),
        ({"space": "random", "matrix_samples": 9}, "matrix_samples = 9 needs space = hessian or g"),
        (
            {"matrix_samples": 301},
            "matrix_samples = 301 must be at most 300, the size of digits_300",
        ),
        (
            {"space": "batch_hessian", "batch_size": 300},
            "space = 'batch_hessian' needs minibatches",
        ),
        ({"space": "batch_gradients", "batches": 2}, "batches = 2 must be above k = 2"),
        (
            {"space": "mean_outputs", "k": 11},
            "k = 11 must be at most 10 with space = 'mean_outputs', the number of outputs",
        ),
        ({"period": 2}, "period has no meaning in a run of the kind substitute; leave it out"),
    ],
)
def test_what_has_no_meaning_is_refused(fields, says):
    with pytest.raises(InvalidParameter, match=says.replace("(", r"\(")):
        Substitute.parse(**SPACE | {"space": "hessian"} | fields)


def test_the_cuts_are_those_of_the_question_and_repeat_no_run_of_chapter_02():
    p = chapter(NAME).parameters
    cases = p.cases()
    assert {name: (case.cuts, len(case.seeds)) for name, case in cases.items()} == {
        "MLP on MNIST-5k": ((1, 2, 5, 8, 10, 12, 20, 40), 3),
        "MLP on Fashion-MNIST-5k": ((1, 2, 5, 8, 10, 12, 20, 40), 1),
        "Transformer on SST2-1k": ((1, 2, 4, 8), 1),
    }
    ours, theirs = cases["MLP on MNIST-5k"], DomBulkParameters()
    for side, step in (("none", 0), ("dominant", 2500), ("bulk", 2500)):
        assert ours.run(11, side, step).key == theirs.run(11, side, step).key
    limits = {
        name: {
            k: run.budget for k in case.cuts if (run := case.cut(11, "dominant", k, 2500)).budget
        }
        for name, case in cases.items()
    }
    assert limits["Transformer on SST2-1k"] == {4: 3, 8: 3}
    assert limits["MLP on MNIST-5k"] == limits["MLP on Fashion-MNIST-5k"] == {40: 100}
    many, few = p.spaces()
    assert {kept(100), hessian_of(2500), RANDOM} <= set(many.spaces()) and len(many.seeds) == 3
    assert set(few.spaces()) == {kept(1), kept(10), "H of the minibatch"} and few.seeds == (11,)
    assert [len(stage) for stage in tasks(p)] == [5, 5, 4]


def test_a_bare_none_as_papermill_gives_it_is_no_limit():
    one = {
        name: values[:1] if isinstance(values, tuple) else values for name, values in SMALL.items()
    }
    p = ThresholdParameters.parse(**one | {"cut_budgets": None})
    (case,) = p.cases().values()
    assert p.cut_budgets == (None,) and case.cut_budget is None


def test_every_cut_begins_at_the_same_point_and_is_judged_up_to_the_same_step(study):
    found, _ = study
    case = found.cases["MLP (small) on digits-300"]
    starts = {round(case.at(k).of("dominant")[0].table["train_loss"].iloc[0], 6) for k in (2, 4, 8)}
    assert len(starts) == 1 and case.switch.switch_steps == {11: 6, 12: 6}
    ends = {run.experiment.steps for k in (2, 4, 8) for run in case.at(k).of("bulk")}
    assert ends == {14}
    run = case.at(4).of("none")[0]  # of a run of 16 steps
    assert run.table["step"].max() == 14 and run.complete
    values = case.spectrum(11)
    assert len(values) == 9 and values == sorted(values, reverse=True)
    row = case.at(8).of("dominant")[0].table.iloc[0]  # a step before, by another solver
    np.testing.assert_allclose(
        [row[f"eigenvalue_{i:02d}"] for i in range(1, 5)], values[:4], rtol=0.1
    )
    assert case.rules((0.5,))["λ ≥ 0.5 λ₁"][0] == sum(v >= values[0] / 2 for v in values)
    gap = case.rules(())["the largest gap"][0]
    ratios = {k: values[k - 1] / values[k] for k in range(2, 9)}
    assert ratios[gap] == max(ratios.values())


def with_spectra(study, change):
    """The study with each spectrum's eigenvalues changed: of a seed, an index and a value the new value."""
    cases = {}
    for name, case in study.cases.items():
        spectra = {}
        for seed, run in case.spectra.items():
            table = run.table.copy()
            rows = table["quantity"] == "eigenvalue"
            index, value = table.loc[rows, "index"], table.loc[rows, "value"]
            table.loc[rows, "value"] = [
                change(seed, i, v) for i, v in zip(index, value, strict=True)
            ]
            spectra[seed] = replace(run, table=table)
        cases[name] = replace(case, spectra=spectra)
    return replace(study, cases=cases)


@pytest.mark.parametrize("part", [1, 0.5])  # all of the first seed's, or the larger indices
def test_a_spectrum_whose_solve_did_not_converge_is_not_known_and_chooses_no_k(study, part):
    found, _ = study
    least = 0 if part == 1 else 3
    lost = with_spectra(found, lambda seed, i, v: math.nan if seed == 11 and i > least else v)
    text, rows = answers.cuts(lost).data, tables.cuts(lost).data.splitlines()
    assert "not known for the first seed" in text
    assert "chooses k" not in text and "k = 0" not in text and "nan" not in text.lower()
    cells = [
        [cell.strip() for cell in row.split("|")[1:-1]] for row in rows if row.startswith("| ")
    ]
    assert {row[-1] for row in cells[1:]} == {"not known"}
    case, whole = lost.cases["MLP (small) on digits-300"], found.cases["MLP (small) on digits-300"]
    values = whole.spectrum(12)  # the other seed still has its
    assert cells[1][-2] == f"{values[1] / values[2]:.3g}"
    assert case.rules((0.5,)) == {n: [None, k] for n, (_, k) in whole.rules((0.5,)).items()}
    assert figures.cuts(lost).svg()


def test_where_learning_begins_at_a_spectrum_that_is_not_known_says_so(study, monkeypatch):
    found, _ = study
    lost = with_spectra(found, lambda seed, i, v: math.nan)
    monkeypatch.setattr(Case, "progress", lambda case, k, side: [0.5])  # every k learns
    for case in lost.cases.values():
        assert answers._learns(case).endswith("The spectrum there is not known.")


def test_judged_are_the_asked_cuts_and_two_spaces_beside_a_random_one(study):
    found, _ = study
    q2, q5 = chapter(NAME).judge(found)
    assert (q2.claim, q5.claim, q2.kind, q2.seeds) == ("Q2", "Q5", "finding", (11, 12))
    asked = {p.says: p.criterion for p in q2.parts if p.criterion != "none"}
    assert asked == {
        **{f"progress(Dom-SGD), k = {k}": "≤ 0.1" for k in (2, 4, 8)},
        **{f"progress(Bulk-SGD), k = {k}": "≥ 0.9" for k in (2, 4)},
    }
    asked = {p.says: p.criterion for p in q5.parts if p.criterion != "none"}
    assert asked == {
        f"progress(Dom-SGD), {kept(100)}": "≤ 0.1",
        f"progress(Bulk-SGD), {kept(100)}": "≥ 0.9",
        f"late alignment of Dom-SGD, {kept(100)}": "≥ 0.8",
        f"late alignment of Dom-SGD, {RANDOM}": "≤ 0.2",
    }
    assert {p.date for v in (q2, q5) for p in v.parts if p.date} == {"2026-11-26"}
    (part,) = [p for p in q5.parts if p.says == f"late alignment of Dom-SGD, {RANDOM}"]
    runs = [
        run
        for (name, side, _), run in found.spaces.runs.items()
        if (name, side) == (RANDOM, "dominant")
    ]
    np.testing.assert_allclose(part.values, [tail(run, "alignment") for run in runs])
    values = {p.says: p.values for p in q5.parts}  # what is found anew often is of one seed
    assert [len(values[f"progress(Bulk-SGD), {kept(n)}"]) for n in (1, 100)] == [1, 2]


def test_a_basis_kept_for_one_step_does_as_the_followed_one(study):
    spaces = study[0].spaces
    for side in ("dominant", "bulk"):
        own, followed = (spaces.pairs(name, side)[0] for name in (kept(1), FOLLOWED))
        assert own[1].experiment.steps == followed[1].experiment.steps == 12
        a, b = progress(*own), progress(*followed)
        assert (math.isnan(a) and math.isnan(b)) or a == pytest.approx(b, abs=0.05)


def test_its_page_shows_what_is_there_and_what_is_missing(study, tmp_path):
    found, store = study
    assert len(figures.cuts(found).figure.axes) == 3 and len(figures.spaces(found).figure.axes) == 2
    text = answers.cuts(found).data
    assert (
        "MLP (small) on digits-300" in text and "| MLP (small) on digits-300, cross-entropy" in text
    )
    assert "In a random space Dom-SGD makes" in answers.spaces(found).data
    assert "**Q5, quick.**" in answers.opening(found).data
    judged, _, beside = page.verdict(chapter(NAME), found).data.partition("<details><summary>")
    assert "≤" in judged and "(descriptive)" not in judged and "cross-entropy" not in judged
    assert beside.startswith("Shown beside, not judged (") and "≤" not in beside
    assert "digits-300, cross-entropy, k = 2" in beside
    plan = Plan(store)
    chapter(NAME).study(found.parameters, store, compute=plan)
    assert plan.missing == []
    other = found.parameters.model_copy(update={"subsets": (50, 60), "learning_rates": (0.1, 0.07)})
    partial = chapter(NAME).study(other, store, compute=False)
    assert len(partial.cases) == 1 and hessian_of(60) not in partial.spaces.names()
    assert len(chapter(NAME).judge(partial)) == 2
    many = found.parameters.model_copy(update={"subsets": (50, 301)})
    with pytest.raises(InvalidParameter, match="subsets = 301 must be at most 300, the size of"):
        many.spaces()
    assert (
        "*MLP (small) on digits-300, cross-entropy: not stored yet.*" in answers.cuts(partial).data
    )
    assert tables.protocol(partial).data.count("**missing**") == 2
    more = found.parameters.model_copy(update={"cuts": (2, 4, 7, 8)})
    some = chapter(NAME).study(more, store, compute=False)
    first = "MLP (small) on digits-300"
    assert some.cases[first].parameters.cuts == (2, 4, 8) and some.lacking(first) == [7]
    assert "*k = 7: not stored yet.*" in answers.cuts(some).data and figures.cuts(some).svg()
    assert "**Missing**: runs with k = 7" in tables.protocol(some).data
    judged = {verdict.claim: verdict for verdict in chapter(NAME).judge(some)}
    assert "k = 7 is not run yet." in judged["Q2"].note and "Q5" in judged
    asked = found.parameters.model_copy(update={"cuts": (2, 3, 4, 8)})  # a k that is to be judged
    some = chapter(NAME).study(asked, store, compute=False)
    assert [verdict.claim for verdict in chapter(NAME).judge(some)] == ["Q5"]
    third = found.parameters.model_copy(update={"repeats": (3, 1), "seeds": (11, 12, 13)})
    case = chapter(NAME).study(third, store, compute=False).cases[first]  # the third has no runs
    assert case.parameters.cuts == (2, 4, 8) and case.parameters.seeds == (11, 12)
    without = found.parameters.model_copy(update={"kept": (criteria.Q5_KEPT,), "compare_every": 3})
    alone = chapter(NAME).study(without, store, compute=False)
    assert alone.spaces is None and len(chapter(NAME).judge(alone)) == 1
    assert "not stored yet" in answers.spaces(alone).data and figures.spaces(alone).says
    with pytest.raises(MissingRun):
        chapter(NAME).study(other, Store(tmp_path), compute=False)
