"""The status page: every run that the book shows, every notebook's time, versions; data for download."""

from __future__ import annotations

import datetime
import json
import platform
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from html import escape
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from subspace_lib.book.made import NOTEBOOKS, Made, judged, lacking, notebooks, runs, title
from subspace_lib.book.shown import DATA, ShownRun
from subspace_lib.chapters import front, registered
from subspace_lib.chapters.kit import says
from subspace_lib.chapters.kit.progress import duration
from subspace_lib.evidence.criteria import MINIMUM_SEEDS
from subspace_lib.evidence.verdicts import INCONCLUSIVE, MISSING, Verdict
from subspace_lib.experiment import NUMERICS, Experiment
from subspace_lib.results.modules import modules_hash
from subspace_lib.results.provenance import commit, processors
from subspace_lib.results.store import COMMITTED
from subspace_lib.results.touchstone import recorded as touchstones, same_code

RUNS_START = '<details class="runs-of"'
PLACES = {"cpu": "one thread", "cuda": "a GPU"}  # by a run's device
CURRENT, SAME, CHANGED = "current", "same numbers", "code changed"
OLDER, UNKNOWN = "older numerics", "not recorded"
MEANS = {
    CURRENT: "the modules that compute such runs are those of today",
    SAME: "a module that computes such runs has changed since, but small test runs of the same kind, the "
    "touchstones, still give the same numbers",
    CHANGED: "a module that computes such runs has changed since, and whether a number has is not known",
    OLDER: "computed before a change of the code that changed numbers, of which there were "
    f"{NUMERICS - 1}; kept as evidence under its own key",
    UNKNOWN: "the run is older than this record; its commit says what computed it",
}
SIGNIFICANT = "%.6g"  # digits of the tables for download; the stored ones are float32
VERSIONS = ("subspace_lib", "torch", "numpy", "scipy", "pandas", "matplotlib", "jupyter-book")


def state(run: ShownRun) -> str:
    """Whether the code that computes such runs has changed since, as far as that was recorded."""
    if run.description["numerics"] != NUMERICS:
        return OLDER
    kind, made = run.description["kind"], run.run.provenance
    former = made.get("modules")
    if former == modules_hash(kind):
        return CURRENT
    if same_code(kind, former or made.get("commit", ""), touchstones(COMMITTED)):
        return SAME
    return UNKNOWN if former is None else CHANGED


class Runs(Made):
    """``{runs}``: a table of the runs for each setting, folded, with links to their data."""

    def html(self) -> str:
        """What the marks mean, a count of each, and the tables."""
        found = runs(self.env.app)
        if not found:
            return f"<p>This book's folder of results is empty; {front.NO_RESULTS}</p>"
        by = defaultdict(list)
        for run in found:
            by[run.setting].append(run)
        groups = sorted(by.items(), key=lambda group: -len(group[1]))
        every = "".join(self._group(name, group) for name, group in groups)
        return _summary(found) + self._by_page(found) + every

    def _by_page(self, found: Iterable[ShownRun]) -> str:
        """What the runs of each page took: what computing it anew costs."""
        of = defaultdict(list)
        for run in found:
            for page in run.pages:
                of[page].append(run.run.provenance)
        rows = []
        for page, made in sorted(of.items()):
            took = {
                device: [m["wall_seconds"] for m in made if m["machine"]["device"] == device]
                for device in PLACES
            }
            times = [duration(sum(seconds)) if seconds else "–" for seconds in took.values()]
            longest = duration(max(m["wall_seconds"] for m in made))
            rows.append([self._page(page), str(len(made)), *times, longest])
        heads = ("page", "runs", *(f"on {place}" for place in PLACES.values()), "longest")
        told = "<p>Computing time of each page's runs; a run that several pages show counts for each.</p>"
        return told + front.stacked(heads, rows, "runs")

    def _group(self, name: str, group: Iterable[ShownRun]) -> str:
        group = sorted(group, key=lambda run: run.run.provenance["date"], reverse=True)
        heads = ("run", "what", "time", "computed", "state", "shown in")
        rows = (self._row(run) for run in group)
        many = f"{len(group)} runs" if len(group) > 1 else "1 run"
        took = duration(sum(run.run.provenance["wall_seconds"] for run in group))
        devices = {run.run.provenance["machine"]["device"] for run in group}
        on = " or ".join(PLACES[device] for device in sorted(devices))
        return (
            f"{RUNS_START}><summary>{escape(name)}: {many}, {took} in all, each run on {on}</summary>"
            f"{front.stacked(heads, rows, 'runs')}</details>"
        )

    def _row(self, run: ShownRun) -> list[str]:
        made = run.run.provenance
        ended = "" if run.run.complete else f"; {run.run.status}"
        return [
            f'<span id="run-{run.key}"><code>{run.key}</code></span> {self._data(run)}',
            escape(f"{run.method} · {run.parameters}{ended}"),
            duration(made["wall_seconds"]).replace(" ", "&nbsp;"),
            f"{made['date'][:10]}, {escape(processors(made))}, "
            + _commit(made["commit"], self.config.book_repository),
            f'<span class="state">{state(run)}</span>',
            ", ".join(self._page(page) for page in run.pages) or "no page",
        ]

    def _data(self, run: ShownRun) -> str:
        root = "../" * self.env.docname.count("/") + DATA
        return (
            f'<a href="{root}/{run.key}.csv" download>CSV</a> '
            f'<a href="{root}/{run.key}.json">JSON</a>'
        )

    def _page(self, page: str) -> str:
        number = title(self.env.app, page).partition(" ")[0]
        return f'<a href="{self.to(page)}">{escape(number)}</a>'


def _commit(commit: str, repository: str) -> str:
    """A commit in short, linked where the repository has an address; "+" where the code was changed."""
    short = f"<code>{escape(commit[:8])}{'+' if commit.endswith('+changes') else ''}</code>"
    known = repository and commit != "unknown"
    return f'<a href="{escape(repository)}/tree/{commit[:40]}">{short}</a>' if known else short


def _summary(found: Iterable[ShownRun]) -> str:
    counts = Counter(state(run) for run in found)
    items = "".join(
        f"<li><strong>{name}</strong>, {counts[name]}: {escape(MEANS[name])}.</li>"
        for name in MEANS
        if counts[name]
    )
    return f"<ul>{items}</ul>"


class Times(Made):
    """``{times}``: whether each chapter has its runs, when it was executed, how long that took."""

    def html(self) -> str:
        """A table; "not recorded" where the notebook has no times."""
        app = self.env.app
        rows = []
        for page, path in sorted(notebooks(app).items()):
            seconds, day = executed(json.loads(path.read_text(encoding="utf-8")))
            time = "not recorded" if seconds is None else f"{seconds:.1f} s"
            link = f'<a href="{self.to(page)}">{escape(title(app, page))}</a>'
            chapter = page.removeprefix(NOTEBOOKS)
            has = completeness(chapter, judged(), lacking().get(chapter, 0))
            rows.append([link, has, time, day or "not recorded"])
        return front.stacked(("chapter", "its runs", "executed in", "on"), rows, "times")


def completeness(chapter: str, verdicts: Iterable[Verdict], lacking: int = 0) -> str:
    """Which claims of a chapter lack runs or seeds, how many of its runs are ``lacking``.

    "complete" where nothing is; a dash where it judges nothing.
    """
    own = {claim.id for claim in registered()[chapter].claims} if chapter in registered() else set()
    mine = [v for v in verdicts if v.claim in own]
    lacks = [v.claim for v in mine if v.verdict == MISSING]
    few = [v.claim for v in mine if v.verdict == INCONCLUSIVE and len(v.seeds) < MINIMUM_SEEDS]
    told = [f"not finished for {says.listed(lacks)}"] if lacks else []
    told += [f"too few seeds for {says.listed(few)}"] if few else []
    if lacking:
        told.append("1 run missing" if lacking == 1 else f"{lacking} runs missing")
    return "; ".join(told) or ("complete" if mine else "–")


def executed(notebook: Mapping[str, Any]) -> tuple[float | None, str | None]:
    """Seconds that a notebook's cells took, summed, and the day; (None, None) where no time is kept."""
    seconds, days = 0.0, []
    for cell in notebook["cells"]:
        times = cell["metadata"].get("execution", {})
        begun, ended = times.get("iopub.execute_input"), times.get("shell.execute_reply")
        if begun and ended:
            read = datetime.datetime.fromisoformat
            seconds += (read(ended) - read(begun)).total_seconds()
            days.append(ended[:10])
    return (seconds, max(days)) if days else (None, None)


class Versions(Made):
    """``{versions}``: what this book was built with."""

    def html(self) -> str:
        """A table of packages and versions."""
        rows = [
            ["this book", _commit(commit(), self.config.book_repository)],
            ["Python", platform.python_version()],
        ]
        rows += [[name, _installed(name)] for name in VERSIONS]
        return front.stacked(("package", "version or commit"), rows, "versions")


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"  # the book does without PyTorch


def write_data(found: Iterable[ShownRun], folder: Path) -> None:
    """Each run's table as CSV, its description and provenance as JSON; what is there and younger stays."""
    folder.mkdir(parents=True, exist_ok=True)
    for run in found:
        target, source = folder / f"{run.key}.json", run.folder / "provenance.json"
        if target.exists() and target.stat().st_mtime > source.stat().st_mtime:
            continue
        run.run.table.to_csv(
            folder / f"{run.key}.csv", index=False, float_format=SIGNIFICANT, lineterminator="\n"
        )
        told = {
            "key": run.key,
            "description": run.description,
            "status": run.run.status,
            "switch": run.run.trigger_step,
            "provenance": run.run.provenance,
        }
        if run.description["kind"] == Experiment.kind:  # the others cannot be repeated by a command
            told["repeat"] = f"python -m subspace_lib.results.repeat {run.key}"
        target.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
