"""The settings of a method as options: a group for each section, the most used first."""

import dataclasses
from typing import Annotated, Any

import tyro

from innerloop.settings.fields import flag_of, plain_type
from innerloop.settings.run import RunConfig

TITLES = {
    "own": "the method's own",
    "data": "data",
    "episode": "episodes",
    "network": "network",
    "training": "training",
    "machine": "machine",
}
"""Groups of the help page, in its order."""

SELDOM = frozenset(
    {
        "image_size",
        "downsample",
        "features",
        "last_relu",
        "feature_norm",
        "feature_scale",
        "conv_bias",
        "conv_init",
        "head_init",
        "clip_gradient",
        "averaging",
        "validation_every",
        "validation_episodes",
        "checkpoint_every",
        "device",
        "episodes_per_chunk",
        "rotations_as_classes",
    }
)
"""Settings that ``--help`` leaves to ``--help-all``."""


def options_of(config: RunConfig, *, seldom: bool) -> type[Any]:
    """A dataclass that tyro makes options of; its defaults are the settings of ``config``.

    Args:
        config: the settings to start from.
        seldom: with those in `SELDOM`.
    """
    descriptions = config.descriptions()
    groups = []
    for name, section in config.sections.items():
        values = section.flat()
        options = []
        for field in dataclasses.fields(section):
            flag = flag_of(field)
            help_text = tyro.conf.arg(help=descriptions[flag])
            kind = Annotated[plain_type(field.type), help_text]
            if flag in SELDOM and not seldom:
                kind = tyro.conf.Suppress[kind]
            options.append((flag, kind, dataclasses.field(default=values[flag])))
        group = dataclasses.make_dataclass(name.capitalize(), options, frozen=True)
        kind = tyro.conf.OmitArgPrefixes[group]
        groups.append((name, kind, dataclasses.field(default_factory=group)))
    return dataclasses.make_dataclass("Settings", groups, frozen=True)


def chosen(options: Any, config: RunConfig) -> RunConfig:
    """The settings that were typed, checked; ``options`` is what tyro made of `options_of`."""
    values: dict[str, Any] = {}
    for section in config.sections:
        values |= dataclasses.asdict(getattr(options, section))
    return config.replace(**values)
