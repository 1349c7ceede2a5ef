"""What every page has: checked parameters, those in force, verdicts, and where its numbers are from."""

from __future__ import annotations

import ast
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from IPython.display import Markdown, clear_output

from subspace_lib.chapters.kit import says
from subspace_lib.chapters.kit.chapter import Chapter
from subspace_lib.chapters.kit.progress import duration
from subspace_lib.chapters.kit.study import DryRun, Plan, compute_side_by_side
from subspace_lib.chapters.kit.table import Row, interval_text, markdown, table
from subspace_lib.evidence.verdicts import CLAIM, DESCRIPTIVE, Claim, Part, Verdict, missing
from subspace_lib.optimizers import WITH_BETA
from subspace_lib.parameters import Description
from subspace_lib.results import memory
from subspace_lib.results.estimate import Estimator, steps_of
from subspace_lib.results.provenance import processors
from subspace_lib.results.store import MissingRun, Store
from subspace_lib.trajectory import Trajectory

VERDICT_COLUMNS = ("claim", "verdict", "judged by", "measured", "95% interval", "criterion")
QUICK = (
    "**A quick run.** It shows how the chapter works, on little data and few steps. The text around it was "
    "written for the runs at the paper's size; these numbers say nothing of the claim.\n\n"
)
UNFINISHED = "SUBSPACE_UNFINISHED"  # = quick: a page whose runs are not all stored shows quick ones
NOT_YET = "**Its runs at the paper's size are not finished**: until they are, this page shows quick ones. "
PROCESSES_PAY = 20.0  # seconds of work from which on runs are computed side by side
ROWS = ("record_spans", "fresh_spans")  # where a run has its rows: too long for a table
PLAIN = (bool, int, float, str, list, tuple, type(None))


def parameters(namespace: Mapping[str, Any], chapter: Chapter, needs: str | None = None) -> Any:
    """The parameters in force, from a notebook's names: what was given, and what the profile fills in.

    Every plain value in the namespace is taken for a parameter. Given is what papermill has put in, and
    what stands in the parameters cell with another value than the chapter's own. Papermill only warns of a
    name that it does not know, and runs on; here it is an error. ``needs`` names runs of the study that no
    claim waits for, but the page.

    Raises:
        InvalidParameter: one sentence for the first name or value that is not allowed.
    """
    injected = injected_names(namespace.get("In", ()))
    found = {
        name: value
        for name, value in namespace.items()
        if name in injected
        or (isinstance(value, PLAIN) and not name.startswith("_") and name != "In")
    }
    kind, own = type(chapter.parameters), chapter.parameters
    whole = kind.parse(**{n: found[n] for n in sorted(found, key=lambda n: n not in injected)})
    given = {
        name: value
        for name, value in found.items()
        if name in injected or getattr(whole, name) != getattr(own, name)
    }
    chosen = kind.parse(**given).resolved()
    if (
        os.environ.get(UNFINISHED) == "quick"
        and chosen.profile != "quick"
        and _unfinished(chapter, needs)
    ):
        return kind.parse(profile="quick").resolved()
    return chosen


def _unfinished(chapter: Chapter, needs: str | None) -> bool:
    """Whether runs that the page cannot do without are missing at the chapter's own size."""
    try:
        found = chapter.study(chapter.parameters, None, compute=False)
        if needs is not None:
            len(getattr(found, needs))
    except MissingRun:
        return True
    return False


def injected_names(cells: Iterable[str]) -> set[str]:
    """Names that papermill's own cell assigns; it begins with a comment that says so."""
    return {
        target.id
        for cell in cells
        if cell.lstrip().startswith("# Parameters\n")
        for node in ast.parse(cell).body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def study(of: Chapter | Callable[..., Any], parameters: Any, store: Store | None = None) -> Any:
    """A chapter's study, or another: its runs loaded, or computed and kept.

    Before anything is computed it says which runs are missing, and about how long they take.

    Raises:
        DryRun: with ``dry_run``, where something is missing; nothing is computed.
    """
    run, plan = of.study if isinstance(of, Chapter) else of, Plan(store)
    if os.environ.get(UNFINISHED) == "quick" and parameters.profile != "quick":
        return run(parameters, store, compute=False)  # what can be left out is not waited for
    run(parameters, store, compute=plan)
    if plan.missing:
        text, seconds = to_be_done(plan)
        if parameters.dry_run:
            raise DryRun(f"{text} dry_run = True: nothing was computed.")
        print(text, flush=True)
        # Fresh processes take their time to begin.
        if parameters.scheduler or not seconds < PROCESSES_PAY:
            compute_side_by_side(run, parameters, store)
    found = run(parameters, store, compute=True)
    if plan.missing and os.environ.get(UNFINISHED) == "quick":
        clear_output()  # a page of the book keeps no progress
    return found


def to_be_done(plan: Plan) -> tuple[str, float]:
    """What is missing of a study: how many runs and steps, and about how many seconds they take here.

    Raises:
        InvalidParameter: a run cannot fit the machine's memory.
    """
    missing = {experiment.key: experiment for experiment in plan.missing}.values()
    counts = Counter(says.rule(experiment.method) for experiment in missing)
    runs = ", ".join(f"{method} ({count})" for method, count in counts.items())
    steps = sum(steps_of(experiment) for experiment in missing)
    for experiment in missing:  # before the estimate takes a step of each
        memory.check(experiment)
    seconds = Estimator().seconds(missing)
    about = "" if math.isnan(seconds) else f", about {duration(seconds)} here on one thread"
    most = max(map(memory.needed, missing)) / memory.GIB
    told = f"{len(missing)} runs are not stored: {runs}; {steps:,} steps{about}"
    return f"{told}; a run takes about {most:.1f} GiB of memory.", seconds


def in_force(
    parameters: Description, runs: Iterable[Trajectory], more: Iterable[Row] = ()
) -> Markdown:
    """The parameters in force, and which of the runs did not come to their end, as a table.

    What the profile has filled in is marked; what the rule has no use for is left out.
    """
    filled, idle = getattr(parameters, "filled", ()), _idle(parameters)
    rows: list[Row] = [
        {
            "parameter": name,
            "in force": _show(value) + (" (filled in by quick)" if name in filled else ""),
        }
        for name, value in parameters.model_dump().items()
        if name not in ("dry_run", "scheduler", "device", *idle)  # provenance has the machines
    ]
    ended = [run for run in runs if not run.complete]
    rows += [
        {"parameter": name, "in force": f"**{run.status}**"}
        for name, run in zip(_told_apart(ended), ended, strict=True)
    ]
    return Markdown(folded("Parameters in force", markdown([*rows, *more])))


def _told_apart(runs: Sequence[Trajectory]) -> list[str]:
    """Rule, seed and η of each run; where several have the same, also what else differs between them."""
    names = [
        f"{says.rule(run.experiment.method)}, seed {run.experiment.seed}, η = "
        f"{run.experiment.learning_rate:g}"
        for run in runs
    ]
    told = []
    for name, run in zip(names, runs, strict=True):
        alike = [other for other, its in zip(runs, names, strict=True) if its == name]
        own = run.experiment.model_dump()
        differing = [
            f"{field} = {value}"
            for field, value in own.items()
            if field not in ROWS
            and any(getattr(r.experiment, field, value) != value for r in alike)
        ]
        told.append(", ".join([name, *differing]))
    return told


def _idle(parameters: Description) -> list[str]:
    """Parameters that make no difference: of other update rules, of no watch, no period, no budget."""
    rule = getattr(parameters, "optimizer", None)
    users = {"rho": ("sam",), "beta": WITH_BETA}
    idle = [name for name, rules in users.items() if rule is not None and rule not in rules]
    none = {"period": 1, "budget": None}
    if getattr(parameters, "switch_alignment", 0) is None:
        idle += ["watch_from", "switch_from"]
    return idle + [
        name for name, value in none.items() if getattr(parameters, name, value) == value
    ]


def folded(title: str, text: str) -> str:
    """Markdown under a title that opens it."""
    return f"<details><summary>{title}</summary>\n\n{text}\n\n</details>"


def _quick(parameters: Any) -> str:
    if getattr(parameters, "profile", "paper") != "quick":
        return ""
    return (NOT_YET if os.environ.get(UNFINISHED) == "quick" else "") + QUICK


def told(parameters: Any, *sentences: str) -> Markdown:
    """A chapter's own opening, after a word on a quick run."""
    return Markdown(_quick(parameters) + says.answer(*sentences).data)


def answer(chapter: Chapter, study: Any, kind: str = CLAIM) -> Markdown:
    """The chapter's answer in a sentence a claim, or a finding: its verdict, and what it was judged by.

    Intervals and notes stand beside the verdict.
    """
    names = {claim.id: claim.says for claim in chapter.claims if claim.kind == kind}
    told, quick = [], _quick(getattr(study, "parameters", None))
    for v in chapter.judge(study) if chapter.judge is not None else []:
        if v.claim in names:
            shown = "; ".join(f"{p.says} {_measured(p)}{_asked(p)}" for p in v.parts)
            head = word(v, getattr(study, "parameters", None))
            told.append(f"**{head}.** {names[v.claim]}: {shown}.")
    return Markdown(quick + "\n\n".join(told))


def _asked(part: Part) -> str:
    return f", needed {part.criterion}" if part.source else " (shown, not judged)"


def heads(verdicts: Iterable[Verdict], parameters: Any, **others: str) -> dict[str, str]:
    """The bold beginning of an opening's sentence, by finding: its verdict, else the given words."""
    judged = {v.claim: word(v, parameters) for v in verdicts}
    return {name: f"**{text}.**" for name, text in (others | judged).items()}


def asked(claim: Claim) -> str:
    """The sentence that was judged."""
    return f"Asked: “{claim.says}”."


def word(v: Verdict, parameters: Any) -> str:
    """ "C2, reproduced"; of a quick run "C2, quick": it judges nothing."""
    return f"{v.claim}, {'quick' if _quick(parameters) else v.verdict}"


def _measured(part: Part) -> str:
    return "undefined" if part.measured is None else interval_text(part.measured, None)


def verdict(chapter: Chapter, study: Any) -> Markdown:
    """The chapter's verdicts on a study: criterion, measured value, interval; a row for each part.

    Findings without a criterion are left out: their numbers stand in tables of the chapter. What has no
    runs yet is there, without numbers; a quick run leaves it out. What is shown beside the judged
    quantities is folded.
    """
    judged = chapter.judge(study) if chapter.judge is not None else []
    verdicts = [v for v in judged if v.verdict != DESCRIPTIVE]
    quick = bool(_quick(getattr(study, "parameters", None)))
    if not quick:
        known = {v.claim for v in judged}
        verdicts += [missing(claim) for claim in chapter.claims if claim.id not in known]
    notes = [f"**{v.claim}.** {v.note}" for v in verdicts if v.note]
    own = [tuple(p for p in v.parts if p.verdict != DESCRIPTIVE) for v in verdicts]
    bare = [replace(v, note="", parts=parts) for v, parts in zip(verdicts, own, strict=True)]
    beside = [(v.claim, p) for v in verdicts for p in v.parts if p.verdict == DESCRIPTIVE]
    if beside:
        others: list[Row] = [
            {"claim": claim, "shown beside": p.says, **_cells(p)} for claim, p in beside
        ]
        notes.append(folded(f"Shown beside, not judged ({len(beside)})", markdown(others)))
    rows = verdict_rows(bare, chapter.claims, quick)
    if not any(v.parts for v in bare) and not any(row.get("criterion") for row in rows):
        return Markdown("\n\n".join(["Nothing is judged here.", *notes]))
    return table(rows, VERDICT_COLUMNS, note="\n\n".join(notes))


def _cells(part: Part) -> Row:
    """A quantity's mean over seeds and its interval, as cells."""
    span = "" if part.interval is None else f"{part.interval[0]:z.3f} … {part.interval[1]:z.3f}"
    number = "undefined" if part.measured is None else f"{part.measured:z.3f}".replace("-", "−")
    return {
        "measured": f"{number} ({part.note})" if part.note else number,
        "95% interval": span.replace("-", "−"),
    }


def verdict_rows(
    verdicts: Iterable[Verdict], claims: Iterable[Claim], quick: bool = False
) -> list[Row]:
    """A row for each quantity that a claim is judged by, or for a claim without results.

    A ``quick`` run judges nothing: its rows have numbers, and no verdict.
    """
    says = {claim.id: f"**{claim.id}** {claim.says}" for claim in claims}
    rows: list[Row] = []
    for v in verdicts:
        head = {"claim": says[v.claim], "verdict": f"**{v.verdict}**" if not quick else "quick"}
        if not v.parts:
            rows.append({**head, "criterion": v.criterion, "verdict": v.verdict})
        if v.note:
            head["claim"] += f" ({v.note.rstrip('.')})"
        for i, p in enumerate(v.parts):
            own = "" if quick or len(v.parts) == 1 else f" ({p.verdict})"
            cells = {"judged by": f"{p.says}{own}", **_cells(p), "criterion": p.criterion}
            rows.append({**(head if i == 0 else {}), **cells})
    return rows


def provenance(trajectories: Iterable[Trajectory]) -> Markdown:
    """Which run made which curve: key in the store, commit, versions, machine, time, date."""
    rows = []
    for trajectory in {run.experiment.key: run for run in trajectories}.values():
        p = trajectory.provenance
        commit = p["commit"]
        rows.append(
            {
                "run": f"`{trajectory.experiment.key}`",
                "commit": f"`{commit[:10]}{commit[40:]}`",
                "torch": p["versions"]["torch"],
                "machine": f"{processors(p)}, {_threads(p['machine']['threads'])}",
                "minutes": f"{p['wall_seconds'] / 60:.1f}",
                "date": p["date"][:10],
            }
        )
    return Markdown(folded("The runs behind this page", markdown(rows)))


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


def _show(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)
