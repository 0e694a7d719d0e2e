"""The settings of a method as options: in groups, the most used first."""

import dataclasses
from typing import Annotated, Any

import tyro

from innerloop.cli.command import Field, option
from innerloop.core.errors import ConfigError
from innerloop.settings.fields import Section, flag_of, plain_type
from innerloop.settings.run import RunConfig

GROUPS = {
    "{method}'s own": ("own",),
    "episodes and data": ("episode", "data"),
    "network": ("network",),
    "outer loop": ("training",),
    "machine": ("machine",),
}
"""Title of a group, to which tyro adds "options", and its sections: in the help page's order."""


def groups_of(config: RunConfig, *, seldom: bool) -> list[Field]:
    """The settings as groups of options; their defaults are those of ``config``.

    Args:
        config: the settings to start from.
        seldom: show those that are seldom used, too; all of them are understood.
    """
    sentences = config.descriptions()
    groups: list[Field] = []
    for title, sections in GROUPS.items():
        fields: list[Field] = []
        for name in sections:
            fields += _options_of(config.sections[name], sentences, seldom=seldom)
        group: Any = dataclasses.make_dataclass("Group", fields, frozen=True)
        named = tyro.conf.arg(name=title.format(method=config.method))
        kind = Annotated[tyro.conf.OmitArgPrefixes[group], named]
        groups.append((_attribute(sections), kind, dataclasses.field(default_factory=group)))
    return groups


def _attribute(sections: tuple[str, ...]) -> str:
    """What the parsed options call a group."""
    return f"settings_{'_'.join(sections)}"


def _options_of(section: Section, sentences: dict[str, str], *, seldom: bool) -> list[Field]:
    values = section.flat()
    kinds = section.kinds()
    options: list[Field] = []
    for field in dataclasses.fields(section):
        flag = flag_of(field)
        if flag not in values:
            continue
        kind: Any = Annotated[plain_type(kinds[field.name]), option(sentences[flag], values[flag])]
        if field.metadata.get("seldom") and not seldom:
            kind = tyro.conf.Suppress[kind]
        options.append((flag, kind, dataclasses.field(default=values[flag])))
    return options


def chosen(options: Any, config: RunConfig) -> RunConfig:
    """The settings that were typed, checked; ``options`` has the groups of `groups_of`.

    Args:
        options: what was parsed.
        config: what the options started from.

    Raises:
        ConfigError: if a value is wrong, or one that was typed would decide nothing.
    """
    values: dict[str, Any] = {}
    for sections in GROUPS.values():
        values |= dataclasses.asdict(getattr(options, _attribute(sections)))
    changed = config.replace(**values)
    for name, why in changed.own.without_effect().items():
        if changed.flat()[name] != config.flat()[name]:
            raise ConfigError(f"--{name.replace('_', '-')} would decide nothing: {why}.")
    return changed
