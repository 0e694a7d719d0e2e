"""The settings of a run: common sections, and the method's own; to JSON and back."""

import dataclasses
import json
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from innerloop.core.errors import ConfigError, did_you_mean
from innerloop.core.files import parse_json_object
from innerloop.settings import version1
from innerloop.settings.fields import Section, shown
from innerloop.settings.method import MethodSettings
from innerloop.settings.sections import (
    DataSettings,
    EpisodeSettings,
    MachineSettings,
    NetworkSettings,
    TrainingSettings,
    refuse_empty,
)

FORMAT_VERSION = 2
"""Version of ``config.json``; version 1, which had all settings of all methods in a row, is
read."""

Own = TypeVar("Own", bound=MethodSettings)


@dataclass(frozen=True)
class RunConfig(Generic[Own]):
    """Everything that decides a run's numbers. Complete at birth; saved as ``config.json``.

    Every setting has one name among all of them (`flat`, `replace`, the command line), whatever its
    section; `innerloop.methods.catalogue.settings_of` makes the defaults of a method.

    Attributes:
        method: name of the method, as its card has it.
        own: the method's own settings.
        data: which images, and how they come.
        episode: what an episode consists of.
        network: the network.
        training: the outer loop.
        machine: where it is computed.
    """

    method: str
    own: Own
    data: DataSettings = field(default_factory=DataSettings)
    episode: EpisodeSettings = field(default_factory=EpisodeSettings)
    network: NetworkSettings = field(default_factory=NetworkSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    machine: MachineSettings = field(default_factory=MachineSettings)

    def __post_init__(self):
        """Check what only settings of several sections together can say."""
        refuse_empty(method=self.method)
        self.own.refuse_misfits(self)

    @property
    def sections(self) -> dict[str, Section]:
        """The sections by name, the most used first."""
        names = ("own", *COMMON)
        return {name: getattr(self, name) for name in names}

    @property
    def run_name(self) -> str:
        """The run directory's name, for instance ``maml-omniglot-5w5s-s0``."""
        # A method of one's own may be named by its place, `module:CARD`.
        method = self.method.rpartition(":")[2].lower()
        shape = f"{self.episode.ways}w{self.episode.shots}s"
        return f"{method}-{self.data.name}-{shape}-s{self.training.seed}"

    def flat(self) -> dict[str, Any]:
        """All settings, the method's name first, by their names."""
        values: dict[str, Any] = {"method": self.method}
        for section in self.sections.values():
            values |= section.flat()
        return values

    def in_use(self) -> dict[str, Any]:
        """`flat` without what only another network has."""
        foreign = {field.name for field in self.network.foreign(self.network.name)}
        return {name: value for name, value in self.flat().items() if name not in foreign}

    def descriptions(self) -> dict[str, str]:
        """A sentence for each setting, by its name."""
        sentences = {"method": "What is trained."}
        for section in self.sections.values():
            sentences |= section.descriptions()
        return sentences

    def replace(self, /, **changes: Any) -> "RunConfig[Own]":
        """A copy with some settings changed, by their names, checked again.

        Raises:
            ConfigError: if there is no such setting, or a value is wrong.
        """
        changed: dict[str, Any] = {}
        for name, section in self.sections.items():
            flags = section.flags()
            mine = {flags[flag]: changes.pop(flag) for flag in flags.keys() & changes.keys()}
            changed[name] = section.replaced(**mine) if mine else section
        names = [name for name in self.flat() if name != "method"]
        # What no section took is left over.
        for name in changes:
            raise ConfigError(f"{self.method} has no setting {name!r}.{did_you_mean(name, names)}")
        return dataclasses.replace(self, **changed)

    def to_json(self) -> str:
        """JSON by sections, with the format's version."""
        values: dict[str, Any] = {"format_version": FORMAT_VERSION, "method": self.method}
        for name, section in self.sections.items():
            values[name] = dataclasses.asdict(section)
        return json.dumps(values, indent=2) + "\n"

    @classmethod
    def from_json(
        cls,
        text: str,
        settings_of: Callable[[str], type[MethodSettings]],
        *,
        source: str = "config.json",
    ) -> "RunConfig":
        """Read `to_json`'s text back, or a configuration of version 1.

        Args:
            text: the JSON.
            settings_of: name of a method -> the class of its own settings.
            source: what error messages call it.

        Raises:
            ConfigError: if it is not JSON, of another version, or a setting is unknown, missing or
                wrong.
        """
        values = parse_json_object(text, source)
        version = values.pop("format_version", None)
        # True is a number to Python, and 2.0 is equal to 2.
        reader = READERS.get(version) if type(version) is int else None
        if reader is not None:
            try:
                return reader(values, settings_of)
            except ConfigError as error:
                raise ConfigError(f"{source}: {error}") from error
        raise ConfigError(
            f"{source} has format version {shown(version)} and this innerloop reads "
            f"{FORMAT_VERSION} and 1: use the innerloop that wrote it, or start a new run."
        )


COMMON: dict[str, type[Section]] = {
    "data": DataSettings,
    "episode": EpisodeSettings,
    "network": NetworkSettings,
    "training": TrainingSettings,
    "machine": MachineSettings,
}
"""The sections that every run has."""


def remark_on(text: str, source: str) -> str:
    """A sentence on a configuration of a former version; nothing on one of this version."""
    version = parse_json_object(text, source).get("format_version")
    if version == FORMAT_VERSION:
        return ""
    return (
        f"{source} is of format version {shown(version)}; it is read as version {FORMAT_VERSION}, "
        "with the settings that its method has."
    )


def _from_version_2(
    values: dict[str, Any], settings_of: Callable[[str], type[MethodSettings]]
) -> RunConfig:
    refuse_other_names(values, ["method", "own", *COMMON], "section")
    method = _method(values)
    kinds = {"own": settings_of(method)} | COMMON
    return RunConfig(
        method, **{name: _section(kind, values[name], name) for name, kind in kinds.items()}
    )


def _section(kind: type[Section], values: Any, name: str) -> Any:
    if not isinstance(values, dict):
        raise ConfigError(f"section {name!r} must be an object, not {shown(values)}.")
    names = list(kind.flags().values())
    formerly = kind.formerly()
    refuse_other_names(values, names, "setting", optional=formerly)
    return kind(**formerly | values)


def _from_version_1(
    values: dict[str, Any], settings_of: Callable[[str], type[MethodSettings]]
) -> RunConfig:
    refuse_other_names(values, version1.NAMES, "setting", optional=version1.LATER)
    # The file wins: only what is younger than the file is filled in, as it was then.
    values = version1.LATER | values
    method = _method(values)
    kinds = {"own": settings_of(method)} | COMMON
    sections = {}
    for name, kind in kinds.items():
        named = version1.named(kind)
        known = {attribute: values[flag] for flag, attribute in named.items() if flag in values}
        sections[name] = kind(**kind.formerly() | known)
    return RunConfig(method, **sections)


READERS = {1: _from_version_1, 2: _from_version_2}
"""What reads a configuration, by its version."""


def _method(values: Mapping[str, Any]) -> str:
    method = values["method"]
    if not isinstance(method, str):
        raise ConfigError(f"method must be a text: got {shown(method)}.")
    refuse_empty(method=method)
    return method


def refuse_other_names(
    values: Mapping[str, Any],
    names: list[str] | tuple[str, ...],
    what: str,
    *,
    optional: Container[str] = (),
) -> None:
    """Raise `ConfigError` for a name that there is not, or for one that is missing."""
    for name in values:
        if name not in names:
            raise ConfigError(f"there is no {what} {shown(name)}.{did_you_mean(name, list(names))}")
    for name in names:
        if name not in values and name not in optional:
            raise ConfigError(f"{what} {name!r} is missing; a saved configuration is complete.")
