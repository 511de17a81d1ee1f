"""The house stays as it is drawn: its rooms, imports that go down the floors, files that are not too long."""

import ast
import importlib
from pathlib import Path

import consistency_jax

PACKAGE = Path(consistency_jax.__file__).parent

# From the top floor down. A module imports its own room or a lower floor, never a room of its own floor or above.
FLOORS = (
    (
        "train",
        "evaluate",
        "ask",
        "pairs",
        "compare",
        "export",
        "picture",
        "logs",
        "board",
        "explore",
        "harness",
        "aot",
        "__main__",
    ),  # what a person calls, and the proofs
    ("training",),
    ("selection",),
    ("evaluation",),
    ("generation", "scoring", "config"),
    ("report", "models", "objectives"),
    ("data", "table"),
    ("runtime",),
    ("metrics", "errors"),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
LONGEST = 500  # lines of a file
NAMELESS = ("utils", "util", "common", "helpers", "misc")  # rooms that say nothing of what is in them


def modules() -> dict[str, ast.Module]:
    """name inside the package ("data.items") -> its syntax tree; "" for the package's own __init__."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text(encoding="utf8"))
    return found


MODULES = modules()


def imports(name: str) -> set[str]:
    """The modules of the package that a module imports, at its top or inside a function."""
    found = set()
    for node in ast.walk(MODULES[name]):
        if isinstance(node, ast.Import):
            paths = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name} imports relative to itself, line {node.lineno}"
            paths = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for path in paths:
            package, _, inside = path.partition(".")
            if package == PACKAGE.name:
                found.add(inside if inside in MODULES else inside.rpartition(".")[0])
    return found - {name}


def test_what_stands_outside_imports_what_is_there():
    """Benchmarks, launchers and configs that no other test starts, at their tops and inside functions."""
    missing = []
    for folder in ("benchmarks", "launch", "configs"):
        for path in (PACKAGE.parent / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
                if not isinstance(node, ast.ImportFrom) or node.module.partition(".")[0] != PACKAGE.name:
                    continue
                try:
                    module = importlib.import_module(node.module)
                except ImportError as error:  # of an extra that is not installed
                    missing += [str(error)] if (error.name or "").startswith(PACKAGE.name) else []
                    continue
                wanted = [alias.name for alias in node.names if not hasattr(module, alias.name)]
                missing += [f"{path.name}, line {node.lineno}: {node.module}.{name}" for name in wanted]
    assert missing == []


def room(name: str) -> str:
    return name.partition(".")[0]


def test_every_room_has_a_floor():
    assert {room(name) for name in MODULES} - {""} == set(FLOOR)


def test_imports_go_down_the_floors():
    upward = [
        f"{name} imports {other}"
        for name in MODULES
        for other in imports(name)
        if name and other and room(other) != room(name) and FLOOR[room(other)] <= FLOOR[room(name)]
    ]
    assert not upward


def test_no_modules_import_each_other_in_a_circle():
    state: dict[str, bool] = {}  # True: on the way down, False: done

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert not state.get(name), f"a circle of imports: {' -> '.join((*way, name))}"
        if name not in state:
            state[name] = True
            for other in sorted(imports(name)):
                visit(other, (*way, name))
            state[name] = False

    for name in MODULES:
        visit(name, ())


def test_nothing_new_stands_at_the_top():
    doors = {"__main__", "train", "evaluate", "ask", "pairs", "compare", "export", "picture", "harness"}
    assert {path.stem for path in PACKAGE.glob("*.py")} == doors | {"__init__", "table", "errors"}


def test_no_file_is_too_long_and_none_is_nameless():
    folders = ("consistency_jax", "configs", "tests", "benchmarks", "launch", "notebooks")
    files = [path for folder in folders for path in (PACKAGE.parent / folder).rglob("*.py")]
    assert [path for path in files if len(path.read_text(encoding="utf8").splitlines()) > LONGEST] == []
    assert [path for path in files if path.stem in NAMELESS] == []


def test_every_module_that_computes_has_a_test_file_of_its_name():
    """consistency_jax/a/b.py is tested in tests/a/test_b.py, whatever else tests it too. Those without a function hold
    data or names, and what a room's __init__ does is tested with the room."""
    missing = []
    for path in sorted(PACKAGE.rglob("*.py")):
        place = path.relative_to(PACKAGE)
        tree = ast.parse(path.read_text(encoding="utf8"))
        computes = any(isinstance(node, ast.FunctionDef | ast.Lambda) for node in ast.walk(tree))
        test = PACKAGE.parent / "tests" / place.parent / f"test_{place.stem.strip('_')}.py"
        if computes and place.stem != "__init__" and not test.exists():
            missing.append(f"{place} (tests/{place.parent}/{test.name})")
    assert missing == []
