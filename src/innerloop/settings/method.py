"""What the settings of any method have in common; each method's own are in its folder."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from innerloop.core.errors import ConfigError
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
    def descent_in_words(self) -> str:
        """What an inner step is of."""
        return "plain gradient descent"

    @property
    def adaptation_in_words(self) -> str:
        """What turns a support set into predictions, as a result is quoted after it."""
        return adaptation_in_words(
            self.adaptation_steps, self.adaptation_rate, learnt=self.learns_rates
        )

    @property
    def inner_loop_in_words(self) -> str:
        """What is done in an episode, as tables of settings say it."""
        if self.adaptation_rate is None:
            return "no gradient steps: what is adapted is computed from the support set in one go"
        return f"{self.adaptation_steps} steps of {self.descent_in_words} at {self.rate_in_words}"

    @property
    def can_be_explained(self) -> bool:
        """Whether its learner can be adapted in other ways than its own, as explanations do."""
        return False

    @property
    def fixed_in_words(self) -> str:
        """What no setting changes, in words."""
        schedule = "" if self.schedule(1.0) else ", no schedule"
        return (
            "outer optimiser Adam with betas 0.9 and 0.999, eps 1e-8, no weight "
            f"decay{schedule}; {self.objective_in_words}."
        )

    @property
    def objective_in_words(self) -> str:
        """What an outer step makes small, and by what batch norm normalises meanwhile."""
        return (
            f"an outer step is over {self.trains_on}, with the mean loss of a batch; batch norm "
            "has eps 1e-5"
        )

    def starts_at_chance(self, config: "RunConfig") -> bool:
        """Whether every episode's head starts from zero: all logits are equal before a step."""
        return self.has_fresh_head and config.network.head_init == "zero"

    def task_in_words(self, config: "RunConfig") -> str:
        """What a network does in training, as the end of a sentence about it."""
        ways = self.training_shape(config).get("ways", config.episode.ways)
        return f"told {ways} characters apart at a time, new ones in every episode"

    def training_shape(self, config: "RunConfig") -> dict[str, int]:
        """``ways``, ``shots``, ``queries`` of training episodes, where not those of ``config``."""
        return {}

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
        return f"{self.batch} {self.trains_on if self.batch != 1 else self.trains_on[:-1]}"

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

    @property
    def can_be_explained(self) -> bool:
        """With a new head in every episode: an explanation gives new heads to both networks."""
        return self.has_fresh_head

    @property
    def fixed_in_words(self) -> str:
        """With the inner optimiser."""
        return f"inner optimiser {self.descent_in_words}; {super().fixed_in_words}"


NO_STEP = (
    "A head that starts from zero in every episode and takes no inner step would learn nothing, "
    "and let nothing be learnt: take at least one inner step, at a rate above 0, or a meta-learned "
    "head (fresh_head=None, --no-fresh-head)."
)
"""What is said of a training that could learn nothing."""


@dataclass(frozen=True)
class EpisodicSettings(MethodSettings):
    """Of methods that train on episodes."""

    meta_batch_size: Annotated[int, between(1, 10_000)] = 4
    """Episodes in an outer step."""

    def starts_at_chance(self, config: "RunConfig") -> bool:
        """A head that is new in every episode starts from zero, or there is none before a step."""
        return self.has_fresh_head

    def without_effect(self) -> dict[str, str]:
        """Also the start of a head that is learnt, where every episode's is new."""
        found = super().without_effect()
        if self.has_fresh_head and self.adaptation_rate is not None:
            found["head_init"] = "it is of a head that is learnt, and here every episode's is new"
        return found

    def refuse_misfits(self, config: "RunConfig") -> None:
        """A new head that starts from zero has to move."""
        super().refuse_misfits(config)
        # Of training: how evaluation adapts may be another matter.
        still = isinstance(self, InnerLoopSettings) and 0 in (self.inner_steps, self.inner_lr)
        if still and not self.learns_rates and self.starts_at_chance(config):
            raise ConfigError(NO_STEP)

    @property
    def batch(self) -> int:
        """Episodes."""
        return self.meta_batch_size

    @property
    def objective_in_words(self) -> str:
        """The mean over the episodes."""
        return (
            "the outer loss is the mean over the episodes of a meta-batch; batch norm in "
            "training by the statistics of each batch (transductive), eps 1e-5"
        )

    def image_passes(self, config: "RunConfig", steps: int) -> int:
        """The support set once for every inner step, and the query set once."""
        support = config.episode.ways * config.episode.shots
        query = config.episode.ways * config.episode.queries
        return steps * self.meta_batch_size * (self.adaptation_steps * support + query)


@dataclass(frozen=True)
class EpisodicFeaturesSettings(EpisodicSettings):
    """Of methods that learn features on episodes, and tell classes apart by a rule."""

    training_ways: Annotated[int, between(0, 1000)] = 0
    """Classes in a training episode; 0: as many as ways."""
    training_shots: Annotated[int, between(0, 1000)] = 0
    """Support images of each class in a training episode; 0: as many as shots."""

    def __post_init__(self):
        super().__post_init__()
        if self.training_ways == 1:
            raise ConfigError(
                "training_ways must be 0, as many as ways, or at least 2: with one class there is "
                "nothing to tell apart."
            )

    @property
    def can_be_explained(self) -> bool:
        """Features take any head."""
        return True

    @property
    def objective_in_words(self) -> str:
        """The mean over the episodes."""
        return (
            "the outer loss is the mean over the episodes of a meta-batch; batch norm in "
            "training by the statistics of each episode's support and query images together, with "
            "running statistics of momentum 0.1 that predictions use, eps 1e-5"
        )

    def training_shape(self, config: "RunConfig") -> dict[str, int]:
        """Of other ways and shots, if that is asked for."""
        asked = {"ways": self.training_ways, "shots": self.training_shots}
        return {name: count for name, count in asked.items() if count}

    @property
    def batch_in_words(self) -> str:
        """With the classes of an episode, where they are others than those of the settings."""
        of_ways = f" of {self.training_ways} classes" if self.training_ways else ""
        return f"{super().batch_in_words}{of_ways}"

    def image_passes(self, config: "RunConfig", steps: int) -> int:
        """Every image of every episode, once."""
        of_class = (self.training_shots or config.episode.shots) + config.episode.queries
        ways = self.training_ways or config.episode.ways
        return steps * self.meta_batch_size * ways * of_class


@dataclass(frozen=True)
class UnrolledSettings(EpisodicSettings, InnerLoopSettings):
    """Of methods that train on episodes, with a gradient through the inner steps."""

    first_order: bool = setting(False, seldom=True)
    """Leave out derivatives of second order."""


@dataclass(frozen=True)
class HalvingSettings(EpisodicFeaturesSettings):
    """Of those whose papers halve the outer rate as training goes on."""

    halve_every: Annotated[int, between(0, 10_000_000)] = setting(0, seldom=True)
    """Halve the outer rate after every so many outer steps; 0 keeps it."""

    def schedule(self, outer_lr: float) -> str:
        """The halvings, if there are some."""
        return f", halved every {self.halve_every:,} outer steps" if self.halve_every else ""


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

    @property
    def objective_in_words(self) -> str:
        """The mean over the images."""
        return (
            "the pretraining loss is the mean cross-entropy over the images of a mini-batch; "
            "batch norm in pretraining by the statistics of each mini-batch, with running "
            "statistics of momentum 0.1 that predictions use, eps 1e-5"
        )

    def task_in_words(self, config: "RunConfig") -> str:
        """All classes at once; rotations are classes only where images are turned."""
        apart = config.data.rotations and self.rotations_as_classes
        turned = ", each of its four rotations a class of its own," if apart else ""
        return f"told all training characters{turned} apart at once"

    def image_passes(self, config: "RunConfig", steps: int) -> int:
        """Every image of every mini-batch, once."""
        return steps * self.batch_size


def rate_in_words(rate: float, *, learnt: bool) -> str:
    """An inner rate as results are quoted with it: a number, or what learnt rates started from."""
    return f"rates learnt from {rate:g} on" if learnt else f"{rate:g}"


def adaptation_in_words(steps: int, rate: float | None, *, learnt: bool) -> str:
    """What was done to adapt: steps and their rate; without steps, that a head was computed."""
    if rate is None:
        return "a head found in one go"
    return f"{steps_in_words(steps)} at {rate_in_words(rate, learnt=learnt)}"


def steps_in_words(steps: int) -> str:
    """A number of inner steps."""
    return f"{steps} inner step{'' if steps == 1 else 's'}"
