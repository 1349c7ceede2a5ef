"""A chapter is a folder: the ledger, the results command and the listing have it by its being there."""

import dataclasses
import json
import os
import subprocess
import sys

import pytest
import torch

from subspace_lib import chapters
from subspace_lib.chapters import __main__ as results, chapter, ledger, registered
from subspace_lib.chapters.kit.study import Plan
from subspace_lib.parameters import InvalidParameter
from subspace_lib.results import repeat

MADE_UP = {
    "__init__.py": """
from subspace_lib.chapters.kit.chapter import Chapter
from subspace_lib.chapters.made_up.judge import CLAIMS, judge
from subspace_lib.chapters.made_up.study import MadeUpParameters, made_up_study, tasks

CHAPTER = Chapter("99_made_up", MadeUpParameters(), made_up_study, judge, CLAIMS, tasks)
""",
    "study.py": """
from subspace_lib.chapters.kit.study import StudyParameters, by_seed, source


class MadeUpParameters(StudyParameters):
    dataset: str = "digits"
    model: str = "mlp_small"
    k: int = 2
    steps: int = 3
    record_every: int | None = None
    spectrum_every: int | None = None


def made_up_study(parameters, store=None, *, compute=True):
    get = source(store, compute)
    return [get(parameters.experiment(seed)) for seed in parameters.seeds]


def tasks(parameters):
    return ([(made_up_study, p) for p in by_seed(parameters)],)
""",
    "judge.py": """
from subspace_lib.chapters.made_up.study import MadeUpParameters
from subspace_lib.evidence.criterion import Criterion
from subspace_lib.evidence.verdicts import Claim, part, verdict
from subspace_lib.trajectory import tail_loss

CLAIMS = (Claim("Z9", "Three steps lower nothing much", "late loss ≥ 0.1"),)
LATE = Criterion("2026-11-25", "own: made up", at_least=0.1)


def judge(runs):
    parts = [part("late loss", [tail_loss(run) for run in runs], LATE)]
    return [verdict(CLAIMS[0], parts, MadeUpParameters(), runs)]
""",
}


COMMANDS = """
import sys
from subspace_lib.chapters import __main__ as results, ledger

if __name__ == "__main__":
    results.main(["--list"])
    print("#")
    ledger.main(["--json"])
    results.main(["99_made_up", "--jobs", "1"])
    print("#")
    ledger.main(["--json"])
    print("#")
    ledger.main([])
"""


@pytest.mark.whole
def test_a_made_up_chapter_is_listed_computed_and_judged_with_no_other_file_touched(tmp_path):
    folder = tmp_path / "mine" / "made_up"
    folder.mkdir(parents=True)
    for name, text in MADE_UP.items():
        (folder / name).write_text(text)
    (tmp_path / "commands.py").write_text(COMMANDS)
    own = {"SUBSPACE_CHAPTERS": str(folder.parent), "SUBSPACE_RESULTS": str(tmp_path / "results")}
    command = [sys.executable, str(tmp_path / "commands.py")]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | own)
    assert done.returncode == 0, done.stderr
    listing, *ledgers, table = done.stdout.split("#\n")
    assert "99_made_up" in listing
    before, after = ({row["claim"]: row for row in json.loads(text)} for text in ledgers)
    assert before["Z9"]["verdict"] == "missing" and set(before) >= {"C1", "C8"}
    assert after["Z9"]["verdict"] == "reproduced" and len(after["Z9"]["results"]) == 3
    assert "Three steps lower nothing much" in table


def test_the_books_chapters_are_registered_in_their_order():
    names = list(registered())
    assert names == sorted(names) and {"02_dom_vs_bulk", "07_momentum_adam"} <= set(names)
    assert chapter("02_dom_vs_bulk").name == "02_dom_vs_bulk"
    ids = [claim.id for c in registered().values() for claim in c.claims]
    assert set(ids) >= {f"C{i}" for i in range(1, 9)} and len(ids) == len(set(ids))


def test_the_books_runs_can_be_computed_on_another_device(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    books = [chapter(name) for name in ("02_dom_vs_bulk", "02b_architectures", "04_valley")]
    for device in ("cpu", "cuda"):
        found = {getattr(p, "device", "none") for s in results.stages(books, device) for _, p in s}
        assert found == {device, "none"}
    task, parameters = results.stages(books[:1], "cuda")[0][0]
    plans = [Plan(), Plan()]
    for plan, p in zip(plans, (parameters, results.on("cpu", parameters)), strict=True):
        task(p.model_copy(update={"learning_rate": 0.123}), compute=plan)
    cuda, cpu = (plan.missing for plan in plans)
    assert [e.key for e in cuda] == [e.key for e in cpu]
    assert {e.device for e in cuda} == {"cuda"} and {e.device for e in cpu} == {"cpu"}


def test_a_device_that_is_not_there_is_one_sentence(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for main, name in ((results.main, "02_dom_vs_bulk"), (repeat.main, "any-key")):
        with pytest.raises(SystemExit):
            main([name, "--device", "cuda"])
        assert "needs a CUDA GPU, and PyTorch sees none; use 'cpu'" in capsys.readouterr().err


def test_two_claims_of_one_name_are_an_error(monkeypatch):
    one = registered()["06_sam"]
    twice = {"06_sam": one, "97_twin": dataclasses.replace(one, name="97_twin")}
    monkeypatch.setattr(ledger, "registered", lambda: twice)
    with pytest.raises(InvalidParameter, match="Two claims are called C7; one is of 97_twin"):
        ledger.claims()


@pytest.mark.whole
def test_a_folder_of_chapters_that_is_not_there_is_named():
    code, own = "import subspace_lib.chapters", {"SUBSPACE_CHAPTERS": "/nowhere/at/all"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | own
    )
    assert "SUBSPACE_CHAPTERS names /nowhere/at/all, which is no folder." in done.stderr


def test_a_chapter_that_is_not_listed_is_an_error_that_names_those_that_are(capsys):
    with pytest.raises(InvalidParameter, match="14_none is not a chapter; the chapters are 01_dom"):
        chapter("14_none")
    with pytest.raises(SystemExit) as ended:
        results.main(["14_none"])
    assert ended.value.code == 2 and "14_none is not a chapter" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "says"),
    [("", "empty has no CHAPTER"), (None, "Two chapters are called 02_dom_vs_bulk")],
)
def test_a_folder_that_registers_nothing_or_twice_is_an_error(tmp_path, monkeypatch, text, says):
    (tmp_path / "empty").mkdir()
    again = "from subspace_lib.chapters.dom_vs_bulk import CHAPTER\n"
    (tmp_path / "empty" / "__init__.py").write_text(again if text is None else text)
    monkeypatch.setattr(chapters, "__path__", [*chapters.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "subspace_lib.chapters.empty", raising=False)
    with pytest.raises(InvalidParameter, match=says):
        registered()
    monkeypatch.delitem(sys.modules, "subspace_lib.chapters.empty", raising=False)
