"""A grid of parameters as one sweep: every combination, checked before the first run."""

import pytest

from subspace_lib.parameters import InvalidParameter
from subspace_lib.results import grid
from subspace_lib.results.store import Store

FEW = ["dataset=digits_300", "model=mlp_small", "k=2", "steps=3", "target_angle=0.5"]
MANY = ",".join(map(str, range(1, 201)))


def test_every_combination_is_computed_once_and_then_loaded(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SUBSPACE_RESULTS", str(tmp_path))
    words = [*FEW, "learning_rate=0.1,0.2", "seed=0,1"]
    grid.main([*words, "--jobs", "1"])
    told = capsys.readouterr().out.splitlines()
    assert told[:4] == [f"{n} of 4 runs" for n in range(1, 5)]
    wanted = grid.combinations(words)
    assert [(e.learning_rate, e.seed) for e in wanted] == [(0.1, 0), (0.1, 1), (0.2, 0), (0.2, 1)]
    assert told[4:] == [f"{e.key}: complete" for e in wanted]
    assert all(Store().holds(e) for e in wanted)
    grid.main(words)
    assert capsys.readouterr().out.splitlines() == told[4:]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["seed"], "'seed' is no parameter; write each once"),
        (["seed=1", "seed=2"], "'seed=2' is no parameter; write each once"),
        (["seeds=1"], "seeds is not a parameter (did you mean seed?)"),
        (["seed=0,1", "k=1,0"], "k = '0' is not allowed"),
        ([f"{name}={MANY}" for name in ("seed", "steps")], "40,000 runs"),
    ],
)
def test_a_fault_anywhere_in_the_grid_is_one_sentence_before_the_first_run(
    words, says, tmp_path, monkeypatch
):
    monkeypatch.setenv("SUBSPACE_RESULTS", str(tmp_path))
    with pytest.raises(InvalidParameter) as error:
        grid.combinations(words)
    assert says in str(error.value) and len(str(error.value)) < 300
    with pytest.raises(SystemExit):
        grid.main(words)
    assert not list(tmp_path.iterdir())
