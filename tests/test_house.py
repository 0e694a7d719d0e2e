"""Rooms import only from rooms to their left; importing the package and the command line is
cheap."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from innerloop.methods.catalogue import find_card, find_learner, names

SOURCE = Path(__file__).parents[1] / "src" / "innerloop"
ORDER = [
    "core",
    "settings",
    "data",
    "networks",
    "fast_weights",
    "methods",
    "runs",
    "experiments",
    "analysis",
    "report",
    "classifier",
    "assignment",
    "cli",
]
"""From left to right; `docs/architecture.md` says why."""
BUILT_IN = {path.parent.name for path in (SOURCE / "methods").glob("*/card.py")}


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    """Rooms that a file imports from, wherever in the file; imports for type checkers alone count
    too."""
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if (
            isinstance(node, ast.ImportFrom)
            and node.module
            and node.module.startswith("innerloop.")
        ):
            rooms.add(node.module.split(".")[1])
        if isinstance(node, ast.Import):
            rooms |= {
                alias.name.split(".")[1]
                for alias in node.names
                if alias.name.startswith("innerloop.")
            }
    return rooms


def files() -> list[Path]:
    """Every file of a room; the two of the house itself are its public face and its front door."""
    return [path for path in sorted(SOURCE.rglob("*.py")) if path.parent != SOURCE]


def test_every_room_has_its_place_in_the_order():
    assert {room_of(path) for path in files()} == set(ORDER)


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_room_imports_only_from_rooms_to_its_left(path):
    room = room_of(path)
    allowed = set(ORDER[: ORDER.index(room) + 1])

    assert imported_rooms(path) <= allowed


def run_python(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout


@pytest.mark.parametrize(
    "module",
    [
        "innerloop",
        "innerloop.cli",
        "innerloop.runs.directory",
        "innerloop.analysis.comparison",
        "innerloop.report",
        "innerloop.report.report",
        "innerloop.assignment.document",
    ],
)
def test_importing_does_not_import_torch(module):
    assert run_python(f"import sys, {module}; print('torch' in sys.modules)") == "False\n"


def test_every_public_name_loads_and_the_list_is_sorted():
    import innerloop

    assert innerloop.__all__[1:] == sorted(innerloop.__all__[1:])
    for name in innerloop.__all__:
        assert getattr(innerloop, name) is not None


def test_the_learner_of_every_method_is_a_public_name():
    import innerloop

    for method in names():
        learner = find_learner(method)
        assert getattr(innerloop, learner.__name__) is learner
        assert learner.__name__ in dir(innerloop)


@pytest.mark.parametrize("method", names())
def test_a_card_imports_no_torch(method):
    module = find_card(method).settings.__module__
    assert run_python(f"import sys, {module}; print('torch' in sys.modules)") == "False\n"


def test_a_learner_is_read_in_one_sitting():
    """Where one is longer, a part of it has a name of its own and belongs beside it."""
    learners = (SOURCE / "methods").glob("*/learner.py")
    lines = {path.parent.name: len(path.read_text("utf-8").splitlines()) for path in learners}

    assert {name: count for name, count in lines.items() if count > 150} == {}


def test_nothing_outside_of_its_folder_names_a_method():
    """But for the rooms of the course, which is about some of them."""
    named = re.compile("fomaml|mamlpp|maml_pp")
    rooms = [path for path in files() if room_of(path) not in ("methods", "assignment")]
    lines = [
        f"{path.relative_to(SOURCE)}:{number}"
        for path in (*rooms, *SOURCE.glob("*.py"))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if named.search(line)
    ]

    assert lines == []


def test_no_text_outside_of_its_folder_is_a_methods_name():
    """A method that is asked for by its name is a question that its card or settings answer."""
    rooms = [path for path in files() if room_of(path) not in ("methods", "assignment")]
    texts = [
        f"{path.relative_to(SOURCE)}:{node.lineno}"
        for path in (*rooms, *SOURCE.glob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value in BUILT_IN
    ]

    assert texts == []


def test_the_formatter_decides_on_every_line():
    skipped = [path for path in files() if "fmt: " + "skip" in path.read_text(encoding="utf-8")]
    assert skipped == []


def test_an_unknown_public_name_is_an_attribute_error():
    import innerloop

    with pytest.raises(AttributeError, match="has no attribute 'Mamal'"):
        innerloop.Mamal  # noqa: B018


def test_no_test_asserts_how_long_something_takes():
    """On a busy machine it would fail without a fault: `benchmarks/latency.py` measures instead."""
    clocks = re.compile(r"\b(perf_counter|process_time|thread_time|time\.time|monotonic)\b")
    timed = re.compile(r"^\s*assert .*(seconds|elapsed|started|begun|took).*[<>]", re.MULTILINE)
    # How long to wait for a process; a clock that jumps; and this pattern.
    allowed = {"killing.py", "test_environment.py", "test_house.py"}

    for path in sorted(Path(__file__).parent.rglob("*.py")):
        if path.name not in allowed:
            text = path.read_text(encoding="utf-8")
            text = text.replace("innerloop.cli.progress.time.monotonic", "")
            assert not clocks.search(text), path
            assert not timed.search(text), path
