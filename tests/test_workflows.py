"""What runs elsewhere: the loop over the notebooks, the addresses that are asked; what make test says."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from subspace_lib.book import rerun
from subspace_lib.chapters import registered

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = ROOT / ".github" / "workflows"


def script(workflow, step):
    """The shell script of a step."""
    jobs = yaml.safe_load((WORKFLOWS / workflow).read_text())["jobs"].values()
    (found,) = [s["run"] for job in jobs for s in job["steps"] if s.get("name") == step]
    return found


def test_every_notebook_takes_what_the_workflow_passes_it(tmp_path):
    papermill = tmp_path / ".venv/bin/papermill"
    papermill.parent.mkdir(parents=True)
    papermill.write_text('#!/bin/sh\necho "$@" >> called\n')
    papermill.chmod(0o755)
    (tmp_path / "notebooks").symlink_to(ROOT / "notebooks")
    text = script("book.yml", "Execute the chapters at paper size")
    subprocess.run(["bash", "-e", "-c", text], cwd=tmp_path, check=True)
    on_gpu, chapters = [], registered()
    called = (tmp_path / "called").read_text().splitlines()
    for line in called:
        path = ROOT / re.search(r"notebooks/\S+", line)[0]
        given = dict(re.findall(r"-p (\S+) (\S+)", line))
        known = rerun.values(json.loads(path.read_text()), rerun.DEFAULTS)
        assert given.keys() <= known.keys(), line
        if path.stem in chapters:
            type(chapters[path.stem].parameters).parse(**given)
        if "device" in known:
            assert given == {"device": "cuda"}, line
            on_gpu.append(path.stem)
    assert len(called) == len(list((ROOT / "notebooks").glob("*.ipynb")))
    assert "02_dom_vs_bulk" in on_gpu and "04_valley" not in on_gpu
    # 07b shows runs of 07 and has no device: 07 computes them first
    first, second = (next(i for i, c in enumerate(called) if n in c) for n in ("/07_", "/07b_"))
    assert first < second


def test_every_text_with_an_address_is_read_by_the_link_check():
    words = script("links.yml", "Check").split(" -- ")[1].replace("\\\n", " ").split()
    read = {path.resolve() for word in words for path in ROOT.glob(word.strip("'"))}
    texts = [path for kind in ("md", "yml", "cff") for path in ROOT.glob(f"*.{kind}")]
    texts += [path for kind in ("md", "yml", "bib") for path in ROOT.glob(f"book/*.{kind}")]
    named = {path.resolve() for path in texts if "https://" in path.read_text()}
    assert named and named <= read
    assert all(any(ROOT.glob(word.strip("'"))) for word in words)  # none that names nothing


@pytest.mark.whole
def test_browser_tests_that_were_skipped_say_how_to_get_them():
    command = [sys.executable, "-m", "pytest", "tests/test_browser.py", "-n", "1"]
    environment = {**os.environ, "SUBSPACE_BOOK": "nowhere"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0
    said = r"^\d+ browser tests were skipped: make browser builds the book and runs them.*\.$"
    assert re.search(said, done.stdout, re.M), done.stdout
