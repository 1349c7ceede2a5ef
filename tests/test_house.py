"""The house: what may import what, how large a room may be, and where the numbers that decide stand."""

import ast
import graphlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from subspace_lib.evidence import criteria
from subspace_lib.evidence.criterion import Criterion

ROOT = Path(__file__).resolve().parent.parent
HOUSE = ROOT / "subspace_lib"
# From the ground up. Rooms of one storey do not know each other; chapters neither.
STOREYS = (
    ("errors", "own"),
    ("linalg", "data", "models", "parameters"),
    ("objective",),
    ("noise", "subspace", "optimizers"),
    ("experiment", "theory"),
    ("evidence",),
    ("trajectory",),
    ("runs",),
    ("results",),
    ("benchmark",),
    ("chapters", "chapters.kit"),
    ("chapters.*",),
    ("chapters.ledger", "chapters.__main__"),
    ("chapters.front",),
    ("chapters.outcome",),
    ("chapters.history",),
    ("claims", "book"),
)
CORE = ("objective", "noise", "optimizers", "data", "models", "linalg", "subspace")
WHOLE = "linalg/eigensolver.py"  # the solver reads well in one file
LEVEL = {room: level for level, rooms in enumerate(STOREYS) for room in rooms}
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in HOUSE.rglob("*.py")
}


def room(module):
    """The room of a module: its first name, and of a chapter the second too."""
    names = module.removeprefix("subspace_lib").removeprefix(".").split(".")
    if names[0] == "chapters" and len(names) > 1 and names[1] != "__init__":
        return ".".join(names[:2])
    return names[0]


def level(name):
    assert name in LEVEL or name.startswith("chapters."), f"{name} has no storey"
    return LEVEL.get(name, LEVEL["chapters.*"])


def imports(path):
    """Modules of the house that a module imports, in functions too, but not for types alone."""
    found, tree = set(), ast.parse(path.read_text())
    typing = [
        node
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and getattr(block.test, "id", "") == "TYPE_CHECKING"
        for node in ast.walk(block)
    ]
    for node in ast.walk(tree):
        if node in typing:
            continue
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("subspace_lib"):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                known = inner in MODULES or f"{inner}.__init__" in MODULES
                found.add(inner if known else node.module)
        elif isinstance(node, ast.Import):
            found |= {a.name for a in node.names if a.name.startswith("subspace_lib")}
    return found


def file_of(module):
    return module if module in MODULES else f"{module}.__init__"


def numbers(tree):
    """Numeric literals of a module."""
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and type(node.value) in (int, float)
    ]


def test_nothing_imports_upward():
    upward = []
    for module, path in MODULES.items():
        own = room(module)
        if module == "subspace_lib.__init__":  # the face, over everything
            continue
        for other in imports(path):
            theirs = room(other)
            if theirs != own and level(theirs) >= level(own):
                upward.append(f"{module} imports {other}")
    allowed = {"chapters.kit": "chapters"}  # the registry's own package holds the kit
    upward = [
        u for u in upward if not any(f"{a}." in u and u.endswith(b) for a, b in allowed.items())
    ]
    assert upward == []


def test_there_is_no_circle():
    graph = {
        module: {file_of(other) for other in imports(path)} - {module}
        for module, path in MODULES.items()
        if module != "subspace_lib.__init__"
    }
    for module in graph:
        graph[module].discard("subspace_lib.__init__")
    order = list(graphlib.TopologicalSorter(graph).static_order())  # CycleError names the circle
    assert len(order) >= len(MODULES) - 1


def lines(path):
    return len(path.read_text().splitlines())


def test_rooms_are_small(capsys):
    sizes = {str(path.relative_to(HOUSE)): lines(path) for path in MODULES.values()}
    large = {name: size for name, size in sizes.items() if size > 400 and name != WHOLE}
    core = sum(size for name, size in sizes.items() if name.split("/")[0].split(".")[0] in CORE)
    chapters = {}
    for name, size in sizes.items():
        parts = name.split("/")
        if parts[0] == "chapters" and len(parts) > 2 and parts[1] != "kit":
            chapters[parts[1]] = chapters.get(parts[1], 0) + size
    with capsys.disabled():
        print(f"\ncore {core} lines, all {sum(sizes.values())}; chapters {chapters}")
    assert large == {}
    # 3,500 was the aim for one network and one kind of data; any model and text have made it more, and
    # the spectral density (linalg/quadrature) past the 6,500 that were the bound; refusing what makes no
    # sense of what a user hands in (subspace/given, data loaders) past 6,700; directions that need no
    # Hessian (objective/single) past 6,900; models that change later (objective/network) past 7,000.
    assert core < 7150


def test_no_number_that_decides_a_verdict_stands_outside_the_criteria():
    judges = sorted(HOUSE.glob("chapters/**/judge.py"))
    assert len(judges) >= 8
    for path in [*judges, HOUSE / "chapters/kit/noise.py"]:
        # 0, 1 and 2 count rows and halve; nothing is compared with them
        assert set(map(abs, numbers(ast.parse(path.read_text())))) <= {0, 1, 2}, path
    for path in MODULES.values():
        if path.name not in ("criteria.py", "criterion.py"):
            assert "Criterion(" not in path.read_text(), path
    tree = ast.parse((HOUSE / "evidence/verdicts.py").read_text())
    assert set(numbers(tree)) <= {0, 1, 2}


def test_every_criterion_has_a_date_and_a_source():
    found = [value for value in vars(criteria).values() if isinstance(value, Criterion)]
    assert len(found) >= 10
    for criterion in found:
        assert criterion.source.split(":")[0] in ("paper", "own")
        assert criterion.date >= "2026-11-22" and len(criterion.date) == 10
        assert str(criterion)
    functions = ast.walk(ast.parse((HOUSE / "evidence/criteria.py").read_text()))
    assert not [node for node in functions if isinstance(node, (ast.FunctionDef, ast.ClassDef))]


@pytest.mark.parametrize("statement", ["import subspace_lib", "from subspace_lib import Objective"])
def test_importing_the_library_loads_nothing_heavy(statement):
    heavy = ("pandas", "pydantic", "matplotlib", "IPython", "scipy.stats", "torchvision", "sklearn")
    code = f"import sys; {statement}; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_face_has_what_is_promised():
    code = "from subspace_lib import *; print(Experiment.__name__, Run.__name__, Store.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["Experiment", "Run", "Store"]


def test_every_test_that_the_book_names_exists():
    named = re.findall(r"`(\w+\.py)::(\w+)`", (ROOT / "book/faults.md").read_text())
    assert len(named) >= 30
    for file, name in named:
        tree = ast.parse((ROOT / "tests" / file).read_text())
        assert name in {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}, (file, name)


def test_hardly_a_line_is_kept_from_the_formatter():
    skipped = {}
    for folder in ("subspace_lib", "tests", "notebooks", "results", "examples"):
        for path in (ROOT / folder).rglob("*.py"):
            count = path.read_text().count("# fmt: " + "skip")
            if count:
                skipped[str(path.relative_to(ROOT))] = count
    assert sum(skipped.values()) < 10, skipped
