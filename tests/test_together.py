"""One run by several processes that share the samples: the run of one, within rounding."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from subspace_lib.experiment import Experiment
from subspace_lib.objective.ranks import Ranks
from subspace_lib.results import together
from subspace_lib.results.store import Store

pytestmark = pytest.mark.whole

FIELDS = {
    "dataset": "digits",
    "model": "mlp_small",
    "k": 4,
    "steps": 40,
    "switch_step": 20,
    "projection": "bulk",
    "record_every": 10,
    "spectrum_every": 40,
}


def torchrun(folder, *words):
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
        "-m", "subspace_lib.results.together", *words,
    ]  # fmt: skip
    environment = {**os.environ, "SUBSPACE_RESULTS": str(folder), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=100)


def words(fields):
    return [f"{name}={value}" for name, value in fields.items()]


def test_two_ranks_compute_the_run_of_one_process(tmp_path):
    done = torchrun(tmp_path / "two", *words(FIELDS))
    assert done.returncode == 0, done.stderr
    experiment = Experiment.parse(**FIELDS)
    assert f"{experiment.key}: complete, 2 ranks" in done.stdout
    two, one = Store(tmp_path / "two").load(experiment), Store(tmp_path / "one").run(experiment)
    assert two.provenance["machine"]["ranks"] == 2
    for column in ("train_loss", "test_loss", "gradient_norm", "alignment", "eigenvalue_01"):
        np.testing.assert_allclose(two.table[column], one.table[column], rtol=1e-4, err_msg=column)
    for column in ("refreshes", "products", "gradient_equivalents"):  # not one step differs
        np.testing.assert_allclose(two.table[column], one.table[column], rtol=1e-6, err_msg=column)


def test_a_bad_parameter_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("SUBSPACE_RESULTS", str(tmp_path))
    with pytest.raises(SystemExit, match=r"^InvalidParameter: k = '0' is not allowed"):
        together.main(["k=0"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("count", [1, 2, 3, 8])
@pytest.mark.parametrize("samples", [1, 7, 5000])
def test_every_sample_is_in_one_share_and_shares_are_even(count, samples):
    shares = []
    for rank in range(count):
        ranks = Ranks()
        ranks.rank, ranks.count = rank, count
        size = ranks.chunk(samples, 1000)
        assert 1 <= size <= 1000
        parts = [(slice(s, min(s + size, samples)), 0.0) for s in range(0, samples, size)]
        shares.append(sum(part.stop - part.start for part, _ in ranks.share(parts)))
        assert ranks.rows(torch.arange(samples))[:1].tolist() == [rank][: max(0, samples - rank)]
    assert sum(shares) == samples
    if samples == 5000:
        assert max(shares) <= 1.01 * samples / count
