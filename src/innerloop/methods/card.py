"""What a method says of itself before it is built; imports no torch."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from innerloop.core.errors import ConfigError
from innerloop.settings.fields import is_known
from innerloop.settings.method import MethodSettings
from innerloop.settings.run import COMMON, RunConfig


@dataclass(frozen=True)
class Paper:
    """Where a method comes from.

    Attributes:
        authors: as a list of references has them.
        title: of the paper.
        venue: where it appeared; nothing for a preprint alone.
        year: of that.
        arxiv: its arXiv number, or nothing.
    """

    authors: str
    title: str
    venue: str
    year: int
    arxiv: str = ""

    def __str__(self) -> str:
        """The line of a list of references."""
        place = f"{self.venue} {self.year}" if self.venue else f"{self.year}"
        number = f" arXiv {self.arxiv}." if self.arxiv else ""
        title = self.title if self.title.endswith("?") else f"{self.title}."
        return f"{self.authors}. {title} {place}.{number}"


@dataclass(frozen=True)
class DiagnosticFigure:
    """A figure of what a learner's `diagnostics` record over the training.

    Attributes:
        key: of the diagnostics: a number, a list with a number for each of a series, or such lists
            by name.
        name: of the figure's files.
        title: of the figure.
        axis: label of the vertical axis.
        words: what it shows, in a sentence: "the weight of each inner step".
        series: what a list has a number for.
    """

    key: str
    name: str
    title: str
    axis: str
    words: str
    series: str = "inner step"


@dataclass(frozen=True)
class Card:
    """A method: its names, settings and learner. It is all that other rooms know of it.

    Found by `innerloop.methods.catalogue`: a package ``innerloop.methods.<name>`` has it as
    ``card.CARD``; one of another distribution is named by an entry point of the group
    ``innerloop.methods``.

    Attributes:
        name: for the command line and for files, lower case.
        title: for tables and figures.
        settings: the class of its own settings; their defaults are the method's.
        learner: ``module:Class`` of the `innerloop.Learner`, imported when one is built.
        idea: what it does, in two or three sentences.
        adapts: what a support set changes, in a few words: "all weights", "the head".
        transductive: whether a prediction depends on the other query images, whatever batch norm
            does; every result then says so.
        papers: where it comes from.
        defaults: common settings whose default is another one, by name.
        reason: why they are, where there are some.
        presets: named sets of settings, by name.
        parts: settings that switch a part of it on or off.
        figures: what its diagnostics are drawn as.
    """

    name: str
    title: str
    settings: type[MethodSettings]
    learner: str
    idea: str
    adapts: str = ""
    transductive: bool = False
    papers: tuple[Paper, ...] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    parts: tuple[str, ...] = ()
    figures: tuple[DiagnosticFigure, ...] = ()

    @property
    def trains_on(self) -> Literal["episodes", "images"]:
        """What an outer step is over."""
        return self.settings.trains_on

    def refuse_faults(self) -> None:
        """Raise `ConfigError` for what would only be noticed in the middle of something else."""
        if not (isinstance(self.settings, type) and issubclass(self.settings, MethodSettings)):
            raise ConfigError(f"its settings are no MethodSettings: {self.settings!r}.")
        self._refuse_bare_settings()
        common = {flag for section in COMMON.values() for flag in section.flags()}
        if twice := common & self.settings.flags().keys():
            raise ConfigError(f"its setting {min(twice)!r} is one that every method has.")
        if unknown := self.defaults.keys() - common:
            raise ConfigError(f"it changes {min(unknown)!r}, which is no common setting.")
        # Made once here, or a wrong default would be met only by whoever trains the method.
        config = RunConfig(self.name, self.settings()).replace(**self.defaults)
        for preset, values in self.presets.items():
            if unknown := values.keys() - config.flat().keys():
                raise ConfigError(f"its preset {preset!r} has {min(unknown)!r}, no setting of it.")
            try:
                config.replace(**values)
            except ConfigError as error:
                raise ConfigError(f"its preset {preset!r}: {error}") from error
        self._refuse_mute_settings(config)
        if unknown := set(self.parts) - self.settings.flags().keys():
            raise ConfigError(f"its part {min(unknown)!r} is none of its settings.")

    def _refuse_mute_settings(self, config: RunConfig) -> None:
        """What other rooms ask of the settings has an answer; better now than in a training."""
        own = config.own
        try:
            own.image_passes(config, 1)
            own.schedule(config.training.outer_lr)
            _ = own.batch_in_words, own.adaptation_steps, own.rate_in_words
        except NotImplementedError as error:
            raise ConfigError(
                f"{error} Its settings are best a subclass of EpisodicSettings or "
                "PretrainingSettings."
            ) from error

    def _refuse_bare_settings(self) -> None:
        """Every setting has a type that can be checked, a default and a sentence."""
        if "__dataclass_fields__" not in vars(self.settings):
            raise ConfigError(
                f"its settings {self.settings.__name__} lack @dataclass(frozen=True), so that its "
                "own fields are none."
            )
        kinds = self.settings.kinds()
        for setting in dataclasses.fields(self.settings):
            if setting.default is dataclasses.MISSING:
                raise ConfigError(f"its setting {setting.name!r} has no default.")
            if not is_known(kinds[setting.name]):
                raise ConfigError(
                    f"its setting {setting.name!r} must be int, float, bool, str, a Literal of "
                    f"texts, or a number between two others: got {kinds[setting.name]}."
                )
        try:
            self.settings.descriptions()
        except KeyError as missing:
            raise ConfigError(f"its setting {missing} has no sentence under it.") from missing
