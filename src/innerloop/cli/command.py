"""What every command shares: options of all, parsing, and what is printed."""

import dataclasses
import io
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeVar, get_origin, get_type_hints

import tyro

from innerloop.cli.misuse import refuse_repeated, sentence_of
from innerloop.core.errors import ConfigError
from innerloop.core.files import expanded, json_text
from innerloop.settings.fields import attribute_docstrings

Options = TypeVar("Options")
PAGES = ("comparison.json", "explanation.json", "report.html")
"""Files by which a folder of `compare`, `explain` or `report` is known."""
Field = tuple[str, Any, Any]
"""Name, type and `dataclasses.field`, as `dataclasses.make_dataclass` takes them."""


@dataclass(frozen=True)
class Common:
    """Options of every command."""

    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print the outcome as one JSON object."""
    debug: tyro.conf.FlagCreatePairsOff[bool] = False
    """Show the traceback of an error, too."""


@dataclass(frozen=True)
class DataOptions(Common):
    """Options of the commands that read a data set."""

    data_dir: Path | None = None
    """Folder with Omniglot's two archives, or now of a run's pictures; default: $INNERLOOP_DATA,
    the cache, a download."""


@dataclass(frozen=True)
class DeviceOptions(DataOptions):
    """Options of the commands that compute with a run."""

    device: str | None = None
    """Where to compute: cpu, cuda, mps or auto; default: where the run was trained, or as auto
    where that cannot be used."""
    engine: Literal["auto", "reference", "fused"] | None = None
    """What computes the network: PyTorch's operations (reference), code of our own for the usual
    network on a CPU or a GPU (fused), or this where it applies (auto); default: auto, or for resume
    that of the training."""


def parse(
    options: type[Options],
    command: str,
    arguments: list[str],
    *,
    sentences: Mapping[str, str] = MappingProxyType({}),
    groups: Sequence[Field] = (),
) -> Options:
    """Parse a command's options with tyro.

    Args:
        options: a dataclass; the docstrings under its fields are the help texts.
        command: what was typed before the options.
        arguments: what was typed after it.
        sentences: other help texts than those docstrings, by the names of fields.
        groups: more fields, each a dataclass of options with a title of their own.

    Raises:
        ConfigError: if something is typed wrong, with the nearest option.
    """
    shown = _as_help_shows_it(options, sentences, groups)
    flags = [name.replace("_", "-") for name in _names(shown)]
    # Who names --shots twice wants both, and would get the last.
    refuse_repeated(arguments, list(_of_many_values(shown)), ", with all its values")
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            parsed = tyro.cli(
                shown,
                prog=f"innerloop {command}",
                args=arguments,
                # Without DisallowNone the word None could be typed where a default is None.
                config=(tyro.conf.AvoidSubcommands, tyro.conf.DisallowNone),
            )
    except SystemExit as end:
        if end.code:
            raise ConfigError(sentence_of(said.getvalue(), command, flags)) from None
        raise
    parsed = _at_home(parsed)
    minutes = getattr(parsed, "max_minutes", None)
    # tyro takes nan and inf for numbers.
    if minutes is not None and not (math.isfinite(minutes) and minutes >= 0):
        raise ConfigError(f"--max-minutes must be a number of minutes, at least 0: got {minutes}.")
    return parsed


def _at_home(parsed: Any) -> Any:
    """The options with ``~`` at the beginning of a path as the home folder.

    A shell does so where the path is a word of its own, but not in ``--out=~/here``.
    """
    paths = {
        field.name: value
        for field in dataclasses.fields(parsed)
        if isinstance(value := getattr(parsed, field.name), Path | tuple)
    }
    return dataclasses.replace(parsed, **{name: _expanded(path) for name, path in paths.items()})


def _expanded(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_expanded, value))
    return expanded(value) if isinstance(value, Path) else value


def _names(options: type) -> Iterator[str]:
    """The names of all options, those in groups among them."""
    for field in dataclasses.fields(options):
        if dataclasses.is_dataclass(field.default_factory):
            yield from (inner.name for inner in dataclasses.fields(field.default_factory))
        else:
            yield field.name


def _of_many_values(options: type) -> Iterator[str]:
    """The names of options that take several values, as they are typed."""
    for name, kind in get_type_hints(options).items():
        if get_origin(kind) is tuple:
            yield name.replace("_", "-")


def _as_help_shows_it(
    options: type[Options], sentences: Mapping[str, str], groups: Sequence[Field]
) -> type[Options]:
    """The options in the order of their help: a command's own first, those of every command last.

    tyro would break the sentences where the docstrings break, and add a default to those that say
    theirs.
    """
    kinds = get_type_hints(options, include_extras=True)
    fields: list[Field] = []
    for base in options.__mro__[:-1]:
        for name, sentence in attribute_docstrings(base).items():
            default = options.__dataclass_fields__[name].default  # type: ignore[attr-defined]
            words = option(sentences.get(name, sentence), default)
            field = dataclasses.field(default=default, kw_only=True)
            fields.append((name, Annotated[kinds[name], words], field))
    namespace = {"__doc__": options.__doc__}
    return dataclasses.make_dataclass(
        options.__name__, [*fields, *groups], frozen=True, namespace=namespace
    )


def option(sentence: str, default: Any) -> Any:
    """For ``Annotated``: an option's help text; tyro adds a default that it does not say itself."""
    hint = "" if default is None or "default:" in sentence else None
    return tyro.conf.arg(help=sentence, help_behavior_hint=hint)


def runs_among(paths: Sequence[Path], say: Callable[[str], None]) -> tuple[Path, ...]:
    """The paths without those that `compare`, `explain` and `report` wrote beside runs.

    A pattern such as ``runs/*`` names them, too. A run that holds its own report is a run.
    """
    written = [
        path
        for path in paths
        if not (path / "config.json").exists() and any((path / page).is_file() for page in PAGES)
    ]
    for path in written:
        say(f"{path} is what innerloop wrote of runs, and is passed over.")
    return tuple(path for path in paths if path not in written)


def sayer(options: Common) -> Callable[[str], None]:
    """Prints for people: on standard output, or on standard error where that is for ``--json``."""
    stream = sys.stderr if options.json else sys.stdout
    return lambda sentence: print(sentence, file=stream, flush=True)


def print_json(options: Common, value: dict[str, Any]) -> None:
    """The command's outcome, where ``--json`` asks for it."""
    if options.json:
        print(json_text(value))


def say_boxes(say: Callable[[str], None], texts: Sequence[str]) -> None:
    """Warn of characters that the PDF cannot show on this machine."""
    from innerloop.report.render.pages import boxes

    if missing := boxes(" ".join(texts)):
        say(
            f"report.pdf shows boxes for {missing}: no font of this machine has them; install one "
            "that does, and make it again. report.html needs none."
        )
