"""Make the hand-in: one archive with report, plots, results, weights, settings and code."""

import hashlib
import io
import platform
import re
import shlex
import stat
import unicodedata
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata, resources
from pathlib import Path

from innerloop.assignment.asked import PAIR
from innerloop.assignment.document import document
from innerloop.assignment.hand_in import HandInRow
from innerloop.core.errors import ConfigError
from innerloop.core.files import json_text, write_folder
from innerloop.core.version import __version__
from innerloop.report import results_of
from innerloop.report.material import Material
from innerloop.report.report import read_material, report_files
from innerloop.runs.directory import RunDirectory
from innerloop.runs.evaluations import primary_row, primary_rows

NEEDED = ("fomaml", "mamlpp", "transfer")
"""Methods whose final weights the assignment asks for."""
KEPT = (
    "config.json",
    "env.json",
    "metrics.jsonl",
    "status.json",
    "model.safetensors",
    "episode.npz",
    "evaluation-*.json",
)
"""What of a run directory goes into the archive, beside what is made of it."""
SUMS = "SHA256SUMS"
AUTHOR = "author.json"
REQUIREMENTS = "code/requirements.txt"


@dataclass(frozen=True, kw_only=True)
class Author:
    """Who hands in, and with whose help: ``author.json`` in the archive.

    Attributes:
        name: of the student, in any script.
        student_number: of the student.
        assignment: its number.
        collaborators: for the report.
        references: for the report.
    """

    name: str
    student_number: str
    assignment: int
    collaborators: Sequence[str] = ()
    references: Sequence[str] = ()


def bundle(folder: Path, author: Author, out: Path) -> Path:
    """Make the archive; the same content gives the same bytes.

    Args:
        folder: what `innerloop reproduce` made, or any folder of finished run directories, with
            ``explanation`` beside them.
        author: who hands in.
        out: folder that the archive goes to.

    Returns:
        The archive, ``{name}_{student_number}_Assignment{assignment}.zip``.

    Raises:
        ConfigError: if a name cannot be a file's, or a run is missing, unfinished or not evaluated.
        DataError: if a run is damaged.
        DiskError: if it cannot be written.
    """
    stem = archive_name(author)
    content = contents(folder, author)
    content[SUMS] = _sums(content).encode()
    path = out / f"{stem}.zip"
    write_folder(out, {path.name: _zipped(stem, content)})
    return path


def contents(folder: Path, author: Author) -> dict[str, bytes]:
    """What goes into an archive, by name, but for the checksums; made from the runs alone."""
    runs = _runs(folder)
    explanation = folder / "explanation" / "explanation.json"
    material = read_material(
        [run.path for run in runs],
        explanation.parent if explanation.is_file() else None,
        collaborators=author.collaborators,
        references=author.references,
        folder="runs",
        author=f"{author.name}, {author.student_number}, Assignment {author.assignment}",
    )
    _refuse_not_evaluated(material)
    content = {AUTHOR: (json_text(asdict(author), indent=1) + "\n").encode()}
    content |= dict(_report(material))
    for run in runs:
        content |= dict(_results(run))
    if explanation.is_file():
        content["runs/explanation/explanation.json"] = explanation.read_bytes()
    content |= dict(_code())
    content["README.md"] = _how_to_run(archive_name(author), runs).encode()
    return content


def _refuse_not_evaluated(material: Material) -> None:
    """Raise `ConfigError` for a run that cannot be compared with the others."""
    for run in material.main:
        if run not in material.evaluated or material.episodes is None:
            raise ConfigError(
                f"{run.path} was not evaluated on the validation episodes of the others: "
                f"innerloop evaluate {run.path}"
            )


def _report(material: Material) -> Iterator[tuple[str, bytes]]:
    """The report with its plots, and the results that it says."""
    rows = [asdict(row) for run in material.runs if (row := _row_of(material, run))]
    yield "results.json", (json_text(rows, indent=1) + "\n").encode()
    for name, data in report_files(document(material)).items():
        yield name.replace("figures/", "plots/"), data


def _results(run: RunDirectory) -> Iterator[tuple[str, bytes]]:
    """What a run directory holds, as far as it is handed in."""
    for pattern in KEPT:
        for path in run.path.glob(pattern):
            yield f"runs/{run.path.name}/{path.name}", path.read_bytes()
    # Made anew, whatever made them before: the same runs have the same archive.
    for name, data in results_of(run, ["png"]).items():
        folder, _, name = name.rpartition("/")
        yield f"{'plots' if folder else 'runs'}/{run.path.name}/{name}", data


def _row_of(material: Material, run: RunDirectory) -> HandInRow | None:
    """What the report says of a run, and how many episodes it is over."""
    evaluations = (
        row
        for part in ("val", "test")
        for row in primary_rows(run, part)
        if run not in material.main or row.episodes == material.episodes
    )
    evaluation = next(evaluations, None)
    return None if evaluation is None else HandInRow.of(run.path.name, evaluation)


def archive_name(author: Author) -> str:
    """``{name}_{student_number}_Assignment{assignment}``, in NFC: every system spells it alike.

    Raises:
        ConfigError: if a part is empty or holds what a file system refuses.
    """
    name = author.name
    assignment = author.assignment
    if assignment < 1:
        raise ConfigError(f"--assignment is a number from 1 on: got {assignment}.")
    for what, value in (("--name", name), ("--student-number", author.student_number)):
        if not value.strip() or value != value.strip():
            raise ConfigError(
                f"{what} must not be empty, and must not begin or end with a space: got {value!r}."
            )
        refused = [
            character
            for character in value
            if character in '\\/:*?"<>|' or unicodedata.category(character)[0] == "C"
        ]
        if refused:
            raise ConfigError(
                f"{what} holds {refused[0]!r}, which a file's name must not hold on every system."
            )
    if name.startswith("."):
        raise ConfigError(
            f"--name must not begin with a dot, or the archive is hidden: got {name!r}."
        )
    stem = unicodedata.normalize("NFC", f"{name}_{author.student_number}_Assignment{assignment}")
    if len(stem.encode()) > 200:
        raise ConfigError(
            f"The archive's name is {len(stem.encode())} bytes long; file systems take 200 safely."
        )
    return stem


def _runs(folder: Path) -> list[RunDirectory]:
    """The finished, evaluated run directories of a folder, with all that the assignment needs."""
    if not folder.is_dir():
        raise ConfigError(f"{folder} is not a folder: give the one that innerloop reproduce wrote.")
    runs = [RunDirectory(path.parent) for path in sorted(folder.glob("*/config.json"))]
    for run in runs:
        run.refuse_unfinished()
        run.refuse_damaged()
        if not any(primary_row(run, part) for part in ("val", "test")):
            raise ConfigError(f"{run.path} was not evaluated: innerloop evaluate {run.path}")
    for method in NEEDED:
        if not any(run.config.method == method for run in runs):
            raise ConfigError(
                f"{folder} holds no run of {method}, which the hand-in needs: innerloop train "
                f"{method} --run-dir {folder / method}"
            )
    order = list(dict.fromkeys((*NEEDED, *(run.config.method for run in runs))))
    first = (
        runs[0].config.data.split
        if all(run.config.data.split == runs[0].config.data.split for run in runs)
        else "assignment"
    )
    return sorted(
        runs,
        key=lambda run: (
            run.config.data.split != first,
            order.index(run.config.method),
            run.config.training.seed,
        ),
    )


def _code() -> Iterator[tuple[str, bytes]]:
    """The source of the package, what it needs, and how the assignment's names map to ours."""
    package = Path(str(resources.files("innerloop")))
    for path in sorted(package.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc":
            yield f"code/innerloop/{path.relative_to(package).as_posix()}", path.read_bytes()
    needed = [
        re.split(r"[<>=!~ ;\[]", line)[0]
        for line in metadata.requires("innerloop") or []
        if "extra" not in line
    ]
    # Without a local part such as "+cpu", which no package index has.
    versions = [f"{name}=={metadata.version(name).partition('+')[0]}\n" for name in sorted(needed)]
    # Other versions and machines draw other figures; `bundle --check` compares those of equal ones.
    machine = f"# packed on {platform.system()} {platform.machine()}\n"
    yield REQUIREMENTS, "".join((machine, *versions)).encode()
    licence = metadata.distribution("innerloop").read_text("licenses/LICENSE")
    if licence:  # not there in what was installed without its metadata
        yield "LICENSE", licence.encode()
    yield (
        "code/ASSIGNMENT.md",
        resources.files("innerloop.assignment").joinpath("assignment.md").read_bytes(),
    )


def _how_to_run(stem: str, runs: Sequence[RunDirectory]) -> str:
    first = shlex.quote(f"runs/{runs[0].path.name}")
    by_method = {run.config.method: run for run in reversed(runs)}  # the first of each
    pair = " ".join(shlex.quote(f"runs/{by_method[method].path.name}") for method in PAIR)
    commits = ", ".join(sorted({run.environment.git for run in runs}))
    return f"""# {stem}

`report.html` and `report.pdf` are the report. `plots/` holds its figures. `runs/` holds the
results: of every training its settings, hyperparameters, curve, evaluations, and final weights
(`model.safetensors`) with a model card. `code/` is the toolkit, version {__version__}, as it was
when this archive was packed; the trainings were made at the commits {commits}
(`git` in `runs/*/env.json`). `code/ASSIGNMENT.md` says where the assignment's names are.
`SHA256SUMS` has the checksum of every file.

## How to run

Python 3.11 or newer, on Linux or macOS. On Linux pip's usual PyTorch can be a CUDA build of 3 GB;
without a GPU install `torch` first, from PyTorch's CPU wheel index (see pytorch.org).

```sh
python3 -m venv .venv
.venv/bin/python -m pip install -r code/requirements.txt
export PYTHONPATH=code
# FOLDER has images_background.zip and images_evaluation.zip; without it they are downloaded
export INNERLOOP_DATA=FOLDER
innerloop() {{ .venv/bin/python -m innerloop.cli "$@"; }}   # what the report's commands call
innerloop evaluate {first}
innerloop train --config {first}/config.json
innerloop compare {pair}
innerloop explain {pair}
innerloop bundle --check {shlex.quote(f"../{stem}.zip")}
```
"""


def _sums(content: dict[str, bytes]) -> str:
    return "".join(
        f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(content.items())
    )


def _zipped(stem: str, content: dict[str, bytes]) -> bytes:
    """A zip archive under one folder, without times of its own, in the order of names."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, data in sorted(content.items()):
            entry = zipfile.ZipInfo(f"{stem}/{name}", date_time=(1980, 1, 1, 0, 0, 0))
            # 3 is Unix: the same content has the same bytes, whatever system packs it.
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(entry, data)
    return packed.getvalue()
