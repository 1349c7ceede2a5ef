"""Parameters: an unknown name or a bad value is one sentence that lists what is allowed."""

import pytest

from subspace_lib.chapters.dom_vs_bulk import CHAPTER
from subspace_lib.chapters.dominant_subspace.study import AlignmentParameters, alignment_study
from subspace_lib.chapters.edge_of_stability.study import EdgeParameters, edge_study
from subspace_lib.chapters.full_batch_gd.study import BatchParameters, batch_study
from subspace_lib.chapters.kit import page
from subspace_lib.chapters.kit.switch.study import SwitchParameters, switch_study
from subspace_lib.chapters.momentum_adam.study import MomentumParameters, momentum_study
from subspace_lib.chapters.sam.study import SamParameters, sam_study
from subspace_lib.chapters.valley.study import ValleyParameters, valley_study
from subspace_lib.data import DATASETS
from subspace_lib.experiment import Experiment
from subspace_lib.models import MODELS
from subspace_lib.parameters import InvalidParameter
from subspace_lib.results.store import Store

BAD = {
    "unknown": ({"lerning_rate": 0.1}, "learning_rate"),
    "dataset": ({"dataset": "mnist60k"}, " or ".join(f"'{name}'" for name in DATASETS[-2:])),
    "model": ({"model": "resnet999"}, " or ".join(f"'{name}'" for name in MODELS[-2:])),
    "loss": ({"loss": "hinge"}, "'mse' or 'cross_entropy'"),
    "k": ({"k": 0}, "greater than or equal to 1"),
    "learning_rate": ({"learning_rate": -1}, "greater than or equal to"),
    "learning_rate nan": ({"learning_rate": float("nan")}, "finite"),
    "batch_size": ({"batch_size": 10**6}, "at most 5000"),
    "steps": ({"steps": "many"}, "integer"),
    "switch_alignment": ({"switch_alignment": 1.5}, "less than 1"),
    "switch_step": ({"switch_step": 30_000}, "below steps"),
    "seeds": ({"seeds": [1, 1]}, "differ"),
    "no seeds": ({"seeds": []}, "at least 1"),
    "negative seed": ({"seeds": [-1]}, "greater than or equal to 0"),
    "refresh_every": ({"refresh_every": 0}, "'adaptive' or a number of steps"),
    "refresh word": ({"refresh_every": "often"}, "adaptive"),
    "record_every": ({"record_every": 400}, "multiple of record_every"),
    "profile": ({"profile": "fast"}, "'paper' or 'quick'"),
}


@pytest.mark.parametrize(("fields", "allowed"), BAD.values(), ids=BAD)
def test_a_bad_parameter_is_one_sentence_before_anything_runs(fields, allowed, tmp_path):
    with pytest.raises(InvalidParameter) as error:
        switch_study(SwitchParameters.parse(**fields), Store(tmp_path))
    message = str(error.value)
    assert allowed in message
    assert "\n" not in message and message.endswith(".")
    assert list(tmp_path.iterdir()) == []


STUDIES = {
    "alignment": (AlignmentParameters, {"anchors": [5, 5]}, "ascending"),
    "alignment classes": (AlignmentParameters, {"classes": [11]}, "less than or equal to 10"),
    "alignment k": (AlignmentParameters, {"k": 20}, "less than 20"),
    "batches k": (BatchParameters, {"k": 21}, "less than or equal to 20"),
    "batches": (BatchParameters, {"batch_sizes": [10**6]}, "at most 5000"),
    "batches switch": (BatchParameters, {"switch_step": 30_000}, "below steps"),
    "edge": (EdgeParameters, {"approach_rates": [0.1, -1]}, "greater than or equal to"),
    "edge lists": (EdgeParameters, {"approach_rates": [0.1]}, "they must have as many"),
    "edge average": (EdgeParameters, {"switch_alignment": 0.9}, "should be None"),
    "edge switch": (EdgeParameters, {"switch_step": 4000}, "below steps"),
    "edge batch": (EdgeParameters, {"batch_size": "all"}, "full"),
    "momentum": (MomentumParameters, {"beta": 1}, "less than 1"),
    "momentum rule": (MomentumParameters, {"others": ["nonsense"]}, "'sgd', 'momentum'"),
    "momentum switch": (MomentumParameters, {"switch_step": 20_000}, "below steps"),
    "momentum anchors": (MomentumParameters, {"anchors": [19_900]}, "must not lie beyond"),
    "momentum order": (MomentumParameters, {"anchors": [4000, 3000]}, "ascending"),
    "sam": (SamParameters, {"rho": 0}, "greater than or equal to"),
    "sam others": (SamParameters, {"rhos": [-1]}, "greater than or equal to"),
    "sam switch": (SamParameters, {"edge_switch_step": 4000}, "below edge_steps"),
    "toy": (ValleyParameters, {"crosss": 3}, "crosses, cross"),
    "toy seeds": (ValleyParameters, {"seeds": [1, 1]}, "differ"),
    "toy rate": (ValleyParameters, {"learning_rate": 2e-3}, "SGD must converge"),
    "toy sharpnesses": (
        ValleyParameters,
        {"sharpnesses": "0.5,2.5"},
        "sharpnesses = 2.5 is not allowed",
    ),
    "toy noise": (ValleyParameters, {"crosses": "10,3000"}, "the noise not too large"),
    "toy sweep": (ValleyParameters, {"crosses": []}, "at least 1 item"),
    "toy switch": (ValleyParameters, {"switch_step": 200_000}, "below steps"),
    "toy samples": (ValleyParameters, {"samples": 100}, "below samples"),
    "toy regression switch": (ValleyParameters, {"regression_switch_step": 2000}, "below steps"),
}
RUN = {
    AlignmentParameters: alignment_study,
    BatchParameters: batch_study,
    EdgeParameters: edge_study,
    SamParameters: sam_study,
    MomentumParameters: momentum_study,
    ValleyParameters: valley_study,
}


@pytest.mark.parametrize(("kind", "fields", "allowed"), STUDIES.values(), ids=STUDIES)
def test_every_study_rejects_a_bad_parameter_before_anything_runs(kind, fields, allowed, tmp_path):
    with pytest.raises(InvalidParameter) as error:
        RUN[kind](kind.parse(**fields), Store(tmp_path))
    message = str(error.value)
    assert allowed in message
    assert "\n" not in message and message.endswith(".")
    assert list(tmp_path.iterdir()) == []


def test_a_gradient_is_projected_only_where_something_is_projected():
    with pytest.raises(InvalidParameter, match="projected = 'gradient' needs projection"):
        Experiment.parse(projected="gradient", optimizer="adam")


def test_sgd_has_no_rho():
    with pytest.raises(
        InvalidParameter, match=r"rho = 0\.1 has a meaning only with optimizer = sam"
    ):
        Experiment.parse(rho=0.1)


def test_cuda_without_a_gpu_says_so(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(InvalidParameter, match="use 'cpu'"):
        Experiment.parse(device="cuda")


def test_the_notebooks_names_become_parameters_and_only_plain_values_count():
    names = {"seeds": [0], "k": 5, "_hidden": 3, "In": ["code"], "open": open, "pytest": pytest}
    assert page.parameters(names, CHAPTER).k == 5
    with pytest.raises(InvalidParameter, match="kk is not a parameter"):
        page.parameters(names | {"kk": 5}, CHAPTER)


def test_text_from_the_command_line_is_read_as_the_number_it_is():
    parsed = SwitchParameters.parse(learning_rate="0.02", k="5", refresh_every="25")
    assert (parsed.learning_rate, parsed.k, parsed.refresh_every) == (0.02, 5, 25)
    for text in ("0,2", "[0, 2]", [0, 2]):
        assert SwitchParameters.parse(seeds=text).seeds == (0, 2)
    assert SwitchParameters.parse(seeds=7).seeds == (7,)
    with pytest.raises(InvalidParameter, match="valid integer"):
        SwitchParameters.parse(seeds="first")


def test_quick_replaces_what_stands_at_its_paper_value_and_nothing_else():
    quick = SwitchParameters(profile="quick", steps=777).resolved()
    assert quick.steps == 777
    assert quick.dataset == SwitchParameters.QUICK["dataset"]
    assert SwitchParameters().resolved() == SwitchParameters()


LONG = "x" * 1000


@pytest.mark.parametrize(
    "fields",
    [
        {"dataset": LONG},
        {"learning_rate": LONG},
        {"seeds": list(range(1000)) * 2},
        {LONG: 1},
        {"two\nlines": 1},
        {"loss": "two\nlines\n" * 50},
        {"refresh_every": LONG},
        {"k": [LONG] * 100},
        {"optimizers": 3},
    ],
    ids=lambda fields: next(iter(fields))[:12],
)
@pytest.mark.parametrize("kind", [Experiment, SwitchParameters, SamParameters])
def test_a_message_is_short_whatever_was_typed(kind, fields):
    with pytest.raises(InvalidParameter) as error:
        kind.parse(**fields)
    message = str(error.value)
    assert "\n" not in message
    assert len(message) < 300
    assert LONG[:81] not in message
