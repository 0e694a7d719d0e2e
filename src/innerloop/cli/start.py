"""What the options of a training start from: a method's settings, a preset's, or a file's."""

import dataclasses
import shutil
import textwrap
from pathlib import Path

from innerloop.cli.misuse import refuse_repeated
from innerloop.core.errors import ConfigError
from innerloop.core.files import expanded
from innerloop.methods.catalogue import cards, load_config, names, settings_of
from innerloop.settings.run import COMMON, RunConfig


def method_of(arguments: list[str]) -> tuple[str | None, list[str]]:
    """The method that is asked for, by its place or as ``--method``, and the other arguments."""
    named = value_of("method", arguments)
    if not arguments or arguments[0].startswith("-"):
        return named, _without("method", arguments)
    if named is not None:
        raise ConfigError(f"Give one method: here are {arguments[0]!r} and --method {named!r}.")
    return arguments[0], arguments[1:]


def value_of(name: str, arguments: list[str]) -> str | None:
    """The value of an option that decides the defaults of the others."""
    # Of another option the last one wins; these also say what the others start from.
    refuse_repeated(arguments, [name])
    for index, argument in enumerate(arguments):
        if argument.startswith(f"--{name}="):
            return argument.partition("=")[2]
        if argument == f"--{name}" and index + 1 < len(arguments):
            return arguments[index + 1]
    return None


def _without(name: str, arguments: list[str]) -> list[str]:
    """The arguments without an option and its value."""
    rest = [argument for argument in arguments if not argument.startswith(f"--{name}=")]
    if f"--{name}" in rest:
        index = rest.index(f"--{name}")
        del rest[index : index + 2]
    return rest


def starting_settings(method: str | None, arguments: list[str]) -> RunConfig:
    """The settings that the options change: a method's own, a preset's, or those of a file.

    Args:
        method: what was asked for; without one, a file says it.
        arguments: the options.
    """
    path = value_of("config", arguments)
    preset = value_of("preset", arguments)
    if path is not None and preset is not None:
        raise ConfigError(
            "--config and --preset are each a complete set of settings: give one of them."
        )
    if path is not None:
        return _settings_of_file(expanded(path), method)
    if method is None:
        raise ConfigError(
            "Say which method, before the options: innerloop train METHOD. There are: "
            f"{', '.join(names())}."
        )
    return settings_of(method, preset)


def _settings_of_file(path: Path, method: str | None) -> RunConfig:
    """Those of a file; of another method's, all in which the two do not differ by nature."""
    config = load_config(path)
    if method in (None, config.method):
        return config
    usual = settings_of(config.method).flat()
    other = settings_of(method)
    same = {
        name: value
        for name, value in config.flat().items()
        if name in other.own.flat() and usual[name] == other.flat()[name]
    }
    common = {name: getattr(config, name) for name in COMMON}
    return dataclasses.replace(other, **common).replace(**same)


def list_of_methods() -> str:
    """The help page of ``train`` alone: the methods there are, each with its paper or its idea."""
    whole, faults = cards()
    width = shutil.get_terminal_size().columns
    rows = ["usage: innerloop train METHOD [OPTIONS]", "", "Meta-train a method. There are:", ""]
    for card in whole:
        source = card.papers[0] if card.papers else card.idea
        words = f"{card.title}: {source}"
        rows += textwrap.wrap(
            words,
            width,
            initial_indent=f"  {card.name:10s} ",
            subsequent_indent=" " * 13,
            break_on_hyphens=False,
        )
    for fault in faults:
        rows += ["", *textwrap.wrap(fault, width, break_long_words=False, break_on_hyphens=False)]
    rows += ["", "innerloop train METHOD --help tells a method's options, --help-all all of them."]
    return "\n".join(rows)
