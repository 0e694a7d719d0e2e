"""`innerloop bundle`: pack the hand-in, or check one."""

import shlex
from dataclasses import asdict, dataclass
from pathlib import Path

import tyro

from innerloop.cli.command import DeviceOptions, parse, print_json, say_boxes, sayer
from innerloop.core.errors import ConfigError


@dataclass(frozen=True)
class BundleOptions(DeviceOptions):
    """Pack report, plots, results, weights, settings and code into an archive; or check one."""

    folder: tyro.conf.Positional[Path | None] = None
    """Folder that `innerloop reproduce` made, for instance runs/reproduce/full; default: no
    folder, since --check takes an archive instead."""
    check: Path | None = None
    """Unpack this archive to a temporary place, verify it and evaluate its weights again; default:
    no archive is checked, and FOLDER is packed."""
    name: str | None = None
    """The student's name, in any script; default: no name, which only --check can do without."""
    student_number: str | None = None
    """The student's number; default: no number, which only --check can do without."""
    assignment: int = 2
    """The assignment's number."""
    out: Path = Path(".")
    """Folder that the archive is written to."""
    collaborators: tuple[str, ...] = ()
    """Who took part, and in what, each in quotes; default: nobody is named."""
    references: tuple[str, ...] = ()
    """What else was used, each in quotes; default: only the course's papers."""


def run(arguments: list[str]) -> int:
    """Pack, or check."""
    options = parse(BundleOptions, "bundle", arguments)
    if options.folder is not None and options.check is None:
        _pack(options, options.folder)
    elif options.check is not None and options.folder is None:
        _check(options, options.check)
    else:
        raise ConfigError("Give the folder to pack, or --check and an archive: one of the two.")
    return 0


def _check(options: BundleOptions, archive: Path) -> None:
    from innerloop.assignment.check import check

    say = sayer(options)
    checked = check(
        archive,
        data_dir=options.data_dir,
        device=options.device,
        engine=options.engine or "auto",
        say=say,
    )
    doubts = " But see the remarks above." if checked.remarks else ""
    say(
        f"{archive}: checksums, weights and report agree.{doubts} Curves of the trainings and the "
        "explanation are taken as the runs have them."
    )
    print_json(options, {"archive": str(archive)} | asdict(checked))


def _pack(options: BundleOptions, folder: Path) -> None:
    from innerloop.assignment.pack import Author, bundle

    if options.name is None or options.student_number is None:
        raise ConfigError("An archive is named after --name and --student-number: give both.")
    say = sayer(options)
    author = Author(
        name=options.name,
        student_number=options.student_number,
        assignment=options.assignment,
        collaborators=options.collaborators,
        references=options.references,
    )
    path = bundle(folder, author, options.out)
    say_boxes(say, [options.name, *options.collaborators, *options.references])
    say(f"{path}\nCheck it with: innerloop bundle --check {shlex.quote(str(path))}")
    print_json(options, {"archive": str(path), "size_bytes": path.stat().st_size})
