"""What the settings of any method have in common; each method's own are in its folder."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from innerloop.settings.fields import Rate, Section, between, setting

if TYPE_CHECKING:
    from innerloop.settings.run import RunConfig


@dataclass(frozen=True)
class MethodSettings(Section):
    """The settings of one method, beside those that all have. A method's card names a subclass.

    What other rooms ask of a method without knowing it is answered here: what it trains on, how
    many inner steps it takes, what they cost, and how results are quoted.
    """

    trains_on: ClassVar[Literal["episodes", "images"]] = "episodes"
    """What an outer step is over: episodes, or a mini-batch of images of all training classes."""

    @property
    def adaptation_steps(self) -> int:
        """Inner steps after which an accuracy is reported; 1 where a head is found in one go."""
        return 1

    @property
    def adaptation_rate(self) -> float | None:
        """Rate of the inner steps; None where none are taken."""
        return None

    @property
    def learns_rates(self) -> bool:
        """Whether the inner rates are learnt."""
        return False

    @property
    def rate_in_words(self) -> str:
        """The rate of the inner steps, as what is quoted with a result says it."""
        if self.adaptation_rate is None:
            return "no rate"
        return rate_in_words(self.adaptation_rate, learnt=self.learns_rates)

    @property
    def has_fresh_head(self) -> bool:
        """Whether every episode gets a new head, so that nothing of it was learnt before."""
        return True

    @property
    def batch(self) -> int:
        """Episodes, or images, in an outer step."""
        raise NotImplementedError(f"{type(self).__name__} must say its batch.")  # pragma: no cover

    @property
    def batch_in_words(self) -> str:
        """The same with its unit."""
        return f"{self.batch} {self.trains_on}"

    def schedule(self, outer_lr: float) -> str:
        """How the outer rate changes over the run, as the end of a clause; nothing if it stays."""
        return ""

    def image_passes(self, config: "RunConfig", steps: int) -> int:
        """Images sent forward and backward in ``steps`` outer steps."""
        raise NotImplementedError(
            f"{type(self).__name__} must count its image passes."
        )  # pragma: no cover

    def refuse_misfits(self, config: "RunConfig") -> None:
        """Raise `ConfigError` for a setting that does not fit the common ones; called once."""


@dataclass(frozen=True)
class InnerLoopSettings(MethodSettings):
    """Of methods that take gradient steps on the support set."""

    inner_steps: Annotated[int, between(0, 1000)] = 5
    """Gradient steps on the support set."""
    inner_lr: Rate = 0.4
    """Learning rate of the inner steps."""

    @property
    def adaptation_steps(self) -> int:
        """K."""
        return self.inner_steps

    @property
    def adaptation_rate(self) -> float | None:
        """α."""
        return self.inner_lr


@dataclass(frozen=True)
class EpisodicSettings(MethodSettings):
    """Of methods that train on episodes."""

    meta_batch_size: Annotated[int, between(1, 10_000)] = 4
    """Episodes in an outer step."""

    @property
    def batch(self) -> int:
        """Episodes."""
        return self.meta_batch_size

    def image_passes(self, config: "RunConfig", steps: int) -> int:
        """The support set once for every inner step, and the query set once."""
        support = config.episode.ways * config.episode.shots
        query = config.episode.ways * config.episode.queries
        return steps * self.meta_batch_size * (self.adaptation_steps * support + query)


@dataclass(frozen=True)
class PretrainingSettings(MethodSettings):
    """Of methods that train on images of all training classes."""

    trains_on: ClassVar[Literal["episodes", "images"]] = "images"

    batch_size: Annotated[int, between(2, 100_000)] = 64
    """Images in an outer step."""
    rotations_as_classes: bool = setting(True, seldom=True)
    """Where training images are turned, pretraining tells a character's four rotations apart, as
    classes of their own; otherwise they are one class."""

    @property
    def batch(self) -> int:
        """Images."""
        return self.batch_size

    def image_passes(self, config: "RunConfig", steps: int) -> int:
        """Every image of every mini-batch, once."""
        return steps * self.batch_size


def rate_in_words(rate: float, *, learnt: bool) -> str:
    """An inner rate as results are quoted with it: a number, or what learnt rates started from."""
    return f"rates learnt from {rate:g} on" if learnt else f"{rate:g}"
