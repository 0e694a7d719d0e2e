"""Put small faults into the source, one at a time, and see whether the tests notice.

For each file of `TESTS`, every place where a fault fits gets one: a comparison moved, a sum turned
into a difference, a condition inverted, a number doubled, a call left out. The package is copied to
a temporary folder, and the tests of the file's room run against the copy until the first fails.
What no test notices is listed, with the reason where it is no fault at all.

    python benchmarks/mutants.py                              # all files: some hours on one core
    python benchmarks/mutants.py methods/heads/logistic.py    # some files; the others' rows stay
    python benchmarks/mutants.py --at-most 30                 # of each file 30, drawn by chance
"""

import argparse
import ast
import contextlib
import copy
import importlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "mutants.json"
HEADS = ["laws/test_heads.py"]
MAML = ["laws/test_meta_gradient.py", "laws/test_adapting.py", "laws/test_door.py"]
COMPARISON = ["test_comparison.py"]
TESTS = {
    "methods/maml/learner.py": [*MAML, "laws/test_transfer.py"],
    "methods/maml/unrolled.py": MAML,
    "methods/maml/other_parts.py": ["laws/test_adapting.py"],
    "methods/maml/descent.py": [*MAML, "laws/test_adapted_module.py", "test_checks.py"],
    "methods/mamlpp/learner.py": [
        "laws/test_mamlpp.py",
        "laws/test_adapting.py",
        "laws/test_adapted_module.py",
    ],
    "methods/mamlpp/norms.py": ["laws/test_mamlpp.py", "laws/test_adapted_module.py"],
    "methods/mamlpp/rates.py": ["laws/test_mamlpp.py"],
    "methods/mamlpp/schedules.py": ["laws/test_mamlpp.py"],
    "methods/keys.py": ["laws/test_mamlpp.py"],
    "methods/transfer/learner.py": ["laws/test_transfer.py", "laws/test_door.py"],
    "methods/meta_gradients.py": ["test_checks.py"],
    "methods/heads/frozen.py": [
        "laws/test_transfer.py",
        "laws/test_adapting.py",
        "laws/test_adapted_module.py",
        "laws/test_door.py",
    ],
    "methods/heads/gradient.py": HEADS,
    "methods/heads/linear.py": HEADS,
    "methods/heads/logistic.py": HEADS,
    "methods/heads/new_head.py": HEADS,
    "methods/heads/prototypes.py": HEADS,
    "fast_weights/functional.py": ["laws/test_functional.py"],
    "fast_weights/network.py": [
        "laws/test_network.py",
        "laws/test_meta_gradient.py",
        "laws/test_threads.py",
        "laws/test_callers_network.py",
    ],
    "experiments/evaluation.py": ["test_evaluation.py"],
    "experiments/state.py": ["test_training.py"],
    "runs/checkpoints.py": ["test_checkpoints.py"],
    "analysis/comparison.py": COMPARISON,
    "analysis/compared.py": COMPARISON,
    "core/components.py": ["test_intervals.py"],
    "core/intervals.py": ["core/test_differences.py"],
    "report/findings.py": ["test_findings.py"],
    "assignment/pack.py": ["test_bundle.py"],
    "assignment/check.py": ["test_bundle_check.py", "test_bundle.py"],
}
"""A file of the package -> the fast tests of its own room."""
SWAPPED: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Div,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.And: ast.Or,
    ast.Or: ast.And,
}
OPPOSITES = {"min": "max", "max": "min", "any": "all", "all": "any"}
NOT_MUTATED = {"strict"}
"""Keywords whose value only guards against a fault elsewhere, as that of ``zip`` does."""
PRELOADED = "torch numpy pytest msgspec safetensors.torch matplotlib.figure PIL.Image \
    matplotlib.backends.backend_agg tyro rich.progress filelock jinja2"


def variants(node: ast.AST) -> Iterator[ast.AST]:
    """What may stand wrongly in a node's place."""
    match node:
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int(value) | float(value)):
            yield ast.Constant(value + 1 if isinstance(value, int) else 2 * value or 1.0)
        # A text for readers has spaces; one without is a name that the program goes by.
        case ast.Constant(value=str(value)) if value and " " not in value:
            yield ast.Constant(f"{value}X")
        case ast.Compare(left, [operator], [right]) if type(operator) in SWAPPED:
            yield ast.Compare(left, [SWAPPED[type(operator)]()], [right])  # type: ignore[list-item]
        case ast.BinOp(left, operator, right) if type(operator) in SWAPPED:
            yield ast.BinOp(left, SWAPPED[type(operator)](), right)  # type: ignore[arg-type]
        case ast.BoolOp(operator, values):
            yield ast.BoolOp(SWAPPED[type(operator)](), values)  # type: ignore[arg-type]
        case ast.UnaryOp(ast.Not() | ast.USub(), operand):
            yield operand
        case ast.IfExp(test, body, orelse):
            yield ast.IfExp(ast.UnaryOp(ast.Not(), test), body, orelse)
        # What is for type checkers alone is not run.
        case ast.If(ast.Name("TYPE_CHECKING")):
            return
        case ast.If(test, body, orelse):
            yield ast.If(ast.UnaryOp(ast.Not(), test), body, orelse)
        case ast.Call(ast.Name(name), arguments, keywords) if name in OPPOSITES:
            yield ast.Call(ast.Name(OPPOSITES[name]), arguments, keywords)
        case ast.Expr(ast.Call()) | ast.Raise() | ast.AugAssign() | ast.Break():
            yield ast.Pass()


def places(node: ast.AST) -> Iterator[tuple[ast.AST, str, int | None]]:
    """Every (parent, field, index) below a node at which code stands that is run."""
    for field, value in ast.iter_fields(node):
        # Annotations, decorators and what an error says do nothing, or nothing that is a number.
        if field in ("annotation", "returns", "decorator_list") or isinstance(node, ast.Raise):
            continue
        if isinstance(node, ast.AnnAssign) and field == "target":
            continue
        if isinstance(node, ast.keyword) and node.arg in NOT_MUTATED:
            continue
        if isinstance(node, ast.Subscript) and getattr(node.value, "id", "") == "Literal":
            continue
        for index, child in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(child, ast.AST) and not _is_text(child):
                yield node, field, index if isinstance(value, list) else None
                yield from places(child)


def _is_text(node: ast.AST) -> bool:
    """Whether a node is a docstring, or text with numbers in it."""
    if isinstance(node, ast.JoinedStr):
        return True
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def mutants(source: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Every faulty version of a source, and in words what the fault is."""
    tree = ast.parse(source)
    lines = source.splitlines()
    for number, (parent, field, index) in enumerate(places(tree)):
        node = getattr(parent, field) if index is None else getattr(parent, field)[index]
        for variant in variants(node):
            changed = copy.deepcopy(tree)
            place, name, position = list(places(changed))[number]
            if position is None:
                setattr(place, name, variant)
            else:
                getattr(place, name)[position] = variant
            fault = {
                "line": lines[node.lineno - 1].strip(),
                "was": _first_line(node),
                "becomes": _first_line(variant),
            }
            yield ast.unparse(ast.fix_missing_locations(changed)), fault


def _first_line(node: ast.AST) -> str:
    return ast.unparse(ast.fix_missing_locations(node)).partition("\n")[0]


def outcome(package: Path, tests: list[str], limit_s: float) -> str:
    """``passed``, ``failed`` or ``timeout`` of the tests against the package as it is now."""
    child = os.fork()
    if child == 0:
        # A group of its own: what the tests start ends with them.
        os.setpgid(0, 0)
        os._exit(_run_tests(package, tests))
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return "passed" if status == 0 else "failed"
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "timeout"


def _run_tests(package: Path, tests: list[str]) -> int:
    import pytest

    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    sys.path[:0] = [str(package), str(ROOT / "tests")]
    os.environ["PYTHONPATH"] = str(package)
    options = ["-x", "-q", "-m", "not slow", "-p", "no:cacheprovider", f"--rootdir={ROOT}"]
    return int(pytest.main([*options, *(str(ROOT / "tests" / name) for name in tests)]))


def measured(
    name: str, package: Path, known: dict[str, Any], at_most: int | None
) -> dict[str, Any]:
    """The faults of one file, or so many of them, and those that no test noticed."""
    path = package / "innerloop" / name
    source = path.read_text()
    tests = [test for test in TESTS[name] if (ROOT / "tests" / test).is_file()]
    begun = time.monotonic()
    if outcome(package, tests, 600) != "passed":
        raise SystemExit(f"{name}: its tests fail without any fault.")
    # A fault may make a loop endless; a busy machine is a few times slower.
    limit_s = 15 + 4 * (time.monotonic() - begun)
    reasons = {
        (row["line"], row["was"], row["becomes"]): row["reason"]
        for row in known.get("survivors", [])
    }
    possible = list(mutants(source))
    count = min(at_most or len(possible), len(possible))
    survivors = []
    # The same draw every time, so that a survivor can be tried again.
    for text, fault in random.Random(0).sample(possible, count):
        path.write_text(text)
        if outcome(package, tests, limit_s) == "passed":
            survivors.append(
                fault | {"reason": reasons.get((fault["line"], fault["was"], fault["becomes"]), "")}
            )
            print(f"{name}: {fault}", flush=True)
    path.write_text(source)
    killed = count - len(survivors)
    print(f"{name}: {killed} of {count} noticed", flush=True)
    return {
        "possible": len(possible),
        "mutants": count,
        "killed": killed,
        "tests": tests,
        "survivors": survivors,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", help="of src/innerloop; none: all of TESTS")
    parser.add_argument("--at-most", type=int, help="faults of a file; none: all of them")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    results = json.loads(arguments.out.read_text()) if arguments.out.is_file() else {}
    for module in PRELOADED.split():  # once, and not again for every fault
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    # A faulty file's byte code would stand for the next one of the same size and second.
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder)
        shutil.copytree(
            ROOT / "src" / "innerloop",
            package / "innerloop",
            ignore=shutil.ignore_patterns("__pycache__"),
        )
        for name in arguments.files or TESTS:
            results[name] = measured(name, package, results.get(name, {}), arguments.at_most)
            arguments.out.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
