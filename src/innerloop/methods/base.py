"""What every method is to the rest of the package, and how a method is found by name."""

import copy
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self, TypeVar

import torch
from torch import Tensor, nn

from innerloop.core.errors import ConfigError
from innerloop.data.images import LabelledImages
from innerloop.fast_weights.engine import Engine, network_of
from innerloop.fast_weights.functional import FastWeights
from innerloop.fast_weights.network import Network
from innerloop.fast_weights.precision import Wanted
from innerloop.methods.door import OPERATIONS, guarded, is_guarded
from innerloop.methods.parts import Head, HeadInit, Parts, refuse_contradictions
from innerloop.networks.batch_norm import BatchNormMode
from innerloop.networks.checks import refuse_random_layers
from innerloop.settings.run import RunConfig

AnyLearner = TypeVar("AnyLearner", bound="Learner")


@dataclass(frozen=True)
class Adaptation:
    """What adapting to E support sets left behind; `Learner.predict` takes it as it is.

    Attributes:
        fast_weights: φ_K, E tensors for each parameter, stacked: (E, shape of the parameter).
        support: the support set adapted to, whose statistics batch norm may need.
        support_loss: (E, K + 1) mean support loss at φ_0 ... φ_K.
        support_accuracy: (E, K + 1) fraction of the support set classified right at φ_0 ... φ_K;
            NaN where the labels are not classes.
        memo: what `Learner.predict` may keep between the steps of one trajectory, which share it.
        made_by: the class of the learner; None: not said.
        head_kind: what of the learner's settings says what its head means; None: nothing does.
    """

    fast_weights: FastWeights
    support: LabelledImages
    support_loss: Tensor
    support_accuracy: Tensor
    memo: dict[str, Any] = field(default_factory=dict, repr=False)
    made_by: type | None = field(default=None, repr=False)
    head_kind: Hashable | None = field(default=None, repr=False)

    @property
    def steps(self) -> int:
        """Inner steps taken so far, K."""
        return self.support_loss.shape[1] - 1

    def of_episode(self, episode: int) -> "Adaptation":
        """What adapting to one of the support sets left behind, E = 1.

        Raises:
            ConfigError: if there is no such episode.
        """
        if not 0 <= episode < len(self.support_loss):
            raise ConfigError(
                f"There is no episode {episode}: the adaptation has {len(self.support_loss)}, "
                "counted from 0."
            )
        chosen = slice(episode, episode + 1)
        return Adaptation(
            {name: weight[chosen] for name, weight in self.fast_weights.items()},
            LabelledImages(self.support.images[chosen], self.support.labels[chosen]),
            self.support_loss[chosen],
            self.support_accuracy[chosen],
            made_by=self.made_by,
            head_kind=self.head_kind,
        )


class Learner(nn.Module):
    """A method of few-shot learning. Training, evaluation and reports know only this.

    Its `innerloop.methods.card.Card` names it; `innerloop.methods.catalogue` finds that. What it
    trains are its parameters, what is saved is its ``state_dict``.
    """

    batch_norm_modes: tuple[BatchNormMode, ...] = ("transductive", "support")
    """The modes that `predict` knows, the method's own first."""
    adaptable: ClassVar[tuple[Parts, ...]] = ()
    """What `adapting` can be asked for."""
    own_parts: ClassVar[Parts | None] = None
    """What `adapt` itself adapts; None: nothing that has such a name."""
    training_only: ClassVar[tuple[str, ...]] = ()
    """How names of tensors begin that adaptation and prediction do not use; published weights are
    without them."""
    network_method: ClassVar[str] = "forward"
    """Which method of the network gives what it works on; `adapting` may call another."""
    engine: Engine = "auto"
    """What computes the network; ``auto``, or one that is to be used."""
    precision: Wanted = "auto"
    """Of products of matrices, on a GPU."""
    meta_learned_head: bool = False
    """Whether the head is part of what training learns, and episodes start from it."""

    def __init_subclass__(cls, **named: Any) -> None:
        """Check what operations are given, those of anyone's subclass too: see `methods.door`."""
        super().__init_subclass__(**named)
        for name in OPERATIONS:
            # It may come from a class beside, which is no learner.
            operation = getattr(cls, name, None)
            if operation and not is_guarded(operation):
                setattr(cls, name, guarded(operation))

    def train(self, mode: bool = True) -> Self:
        """As every module's; a learner whose layers would then be random refuses.

        Raises:
            ConfigError: if there is active dropout.
        """
        former = {module: module.training for module in self.modules()}
        super().train(mode)
        try:
            refuse_random_layers(self)
        except ConfigError:
            for module, training in former.items():
                module.training = training
            raise
        return self

    @classmethod
    def from_config(cls, config: RunConfig, model: nn.Module) -> Self:
        """Build the method around a network, from the settings of a run.

        ``config.own`` are the method's own settings, of the class that its card names. The network
        has ``config.episode.ways`` outputs, or, if the method trains on images, one for each class
        of them.
        """
        raise NotImplementedError(
            f"{cls.__name__} must say how it is built from a RunConfig."
        )  # pragma: no cover

    def meta_loss(self, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """The objective of one outer step, and what to log beside it.

        Args:
            batch: E episodes, an `EpisodeBatch`: the objective is a mean over them, so that chunks
                can be averaged. Or, where the card says that it trains on images, `LabelledImages`
                without an episode dimension.

        Returns:
            A scalar to minimise, and detached scalars by name, also means over the episodes or
            images.

        Under ``torch.no_grad()``, as of a validation loss, nothing is gathered, and no statistics
        that the learner keeps move.

        Raises:
            ConfigError: if the learner adapts and predicts, and is not trained.
        """
        raise ConfigError(f"{type(self).__name__} defines no meta_loss, so it cannot be trained.")

    @property
    def training_mode(self) -> BatchNormMode:
        """By which of the modes training and inner steps normalise."""
        return self.batch_norm_modes[0]

    def _network(self, method: str = "forward") -> Network:
        """Its ``model``, to be called with each episode's own weights, by its engine."""
        model = self.get_submodule("model")
        return network_of(model, self.engine, method, self.precision)

    def begin_outer_step(self, step: int, total: int) -> float:
        """Called before outer step ``step`` (from 0) of ``total``; returns an outer-rate factor.

        Schedules depend on these two alone, so that a resumed run goes on where it was.
        """
        return 1.0

    def gathered(self) -> dict[str, Tensor]:
        """What `meta_loss` saw since `begin_outer_step` and `end_outer_step` needs, by name.

        (E, ...), a row for each episode in its order. A run on many processes takes it along.
        """
        return {}

    def gather(self, rows: Mapping[str, Tensor]) -> None:
        """Take, instead of what was `gathered`, that of all episodes of the outer step."""

    def end_outer_step(self) -> None:
        """Called after the optimiser's step."""

    def step_signature(self) -> Hashable | None:
        """What an outer step's operations follow from beside tensors, after `begin_outer_step`.

        Steps of one signature are the same operations on the same tensors, `end_outer_step`
        included, so that a GPU records one and replays it for the others. None: that is not known,
        and every step is computed anew.
        """
        return None

    def diagnostics(self) -> dict[str, Any]:
        """What the learner's own figures are drawn from, as JSON; recorded at every validation."""
        return {}

    def trajectory(self, support: LabelledImages, *, steps: int) -> Iterator[Adaptation]:
        """Adapt, yielding the state after 0, 1, ..., ``steps`` steps; the learner is unchanged."""
        raise NotImplementedError(
            f"{type(self).__name__} must define trajectory."
        )  # pragma: no cover

    @guarded
    def adapt(self, support: LabelledImages, *, steps: int) -> Adaptation:
        """Adapt to E support sets by ``steps`` inner steps. The learner is not changed.

        Args:
            support: images (E, ways * shots, channels, height, width), labels (E, ways * shots).
            steps: K >= 0; may be more than in training.

        Raises:
            ConfigError: if ``steps`` is negative or the labels do not fit the network.
            DataError: if images or labels are not what they have to be.
        """
        *_, last = self.trajectory(support, steps=steps)
        return last

    def predict(
        self, adaptation: Adaptation, images: Tensor, *, batch_norm: BatchNormMode | None = None
    ) -> Tensor:
        """Logits (E, n, ways) for images (E, n, channels, height, width).

        Args:
            adaptation: what `adapt` returned for the same E episodes.
            images: what to classify.
            batch_norm: whose statistics normalise; by default the first of ``batch_norm_modes``.

        Raises:
            ConfigError: if there is no such mode, the adaptation is of other episodes, or a lone
                image is to be normalised by its batch.
            DataError: if images are not what they have to be.
        """
        raise NotImplementedError(f"{type(self).__name__} must define predict.")  # pragma: no cover

    def lone_mode(self, batch_norm: BatchNormMode | None) -> BatchNormMode:
        """The mode asked for, by default one under which a single image can be predicted.

        Raises:
            ConfigError: if `predict` does not know it.
        """
        if batch_norm is None:
            for mode in ("running", "support"):
                if mode in self.batch_norm_modes:
                    return mode
        return self.mode(batch_norm)

    def mode(self, batch_norm: BatchNormMode | None) -> BatchNormMode:
        """The batch-norm mode asked for, by default the method's own.

        Raises:
            ConfigError: if `predict` does not know it.
        """
        if batch_norm is not None and batch_norm not in self.batch_norm_modes:
            raise ConfigError(
                f"{type(self).__name__} predicts with batch norm by "
                f"{', '.join(self.batch_norm_modes)}: got {batch_norm!r}."
            )
        return batch_norm or self.batch_norm_modes[0]

    def adapting(
        self,
        parts: Parts = "own",
        *,
        rate: float | None = None,
        head: Head = "gradient",
        head_init: HeadInit | None = None,
        penalty: float = 0.1,
    ) -> "Learner":
        """The learner that adapts this one's network another way; shares weights, changes nothing.

        Args:
            parts: what takes inner steps.
            rate: of the inner steps; None: this learner's.
            head: how the head is found, where it alone is adapted.
            head_init: where a new head starts; None: as the method does. A meta-learned head is
                part of what was learnt: it is kept unless a new one is asked for.
            penalty: λ of a ``logistic`` head.

        Raises:
            ConfigError: if the method cannot be adapted so.
        """
        refuse_contradictions(parts, rate, head, head_init, penalty)
        if (parts, rate, head, head_init) == ("own", None, "gradient", None):
            return self
        raise ConfigError(
            f"{type(self).__name__} adapts in its own way alone: {parts!r} with a {head} head, or "
            "at another rate, is not to be had."
        )

    def block_outputs(self, adaptation: Adaptation, images: Tensor) -> dict[str, Tensor]:
        """What the network's blocks and head say under the method's own batch norm.

        Args:
            adaptation: what `adapt` returned for the same E episodes.
            images: (E, n, channels, height, width).

        Returns:
            (E, n, values) without a graph for each of ``network.blocks``, and ``logits``.

        Raises:
            ConfigError: if they are not known.
        """
        raise ConfigError(f"The blocks of {type(self).__name__}'s network are not known.")

    def as_module(
        self,
        adaptation: Adaptation,
        *,
        episode: int = 0,
        batch_norm: BatchNormMode | None = None,
    ) -> nn.Module:
        """One adapted episode as a plain module: images (n, C, H, W) to logits (n, ways).

        It has tensors of its own, so later training of this learner does not change it, and
        PyTorch's own batch norm, which holds the statistics of ``support`` and ``running``.

        Args:
            adaptation: what `adapt` returned.
            episode: which of its episodes.
            batch_norm: whose statistics normalise; by default ``running`` or ``support``, so that
                one image is enough, and ``transductive`` only where it is asked for.

        Raises:
            ConfigError: if the method has no such module, or no such episode or batch norm.
        """
        raise ConfigError(f"{type(self).__name__} cannot turn an adaptation into a module.")


def sharing_weights(learner: AnyLearner) -> AnyLearner:
    """Another learner with the same settings and the very same tensors and submodules."""
    same = copy.copy(learner)
    for name in ("_parameters", "_buffers", "_modules"):  # a plain copy would share the dicts
        vars(same)[name] = vars(learner)[name].copy()
    return same


def computed_alike(made: AnyLearner, by: Learner) -> AnyLearner:
    """A learner that was made of another one, by its engine and precision."""
    made.engine = by.engine
    made.precision = by.precision
    return made


def accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """Fraction classified right, per episode.

    Args:
        logits: (E, n, ways).
        labels: (E, n) int64; other labels (a regression's targets) have no accuracy.

    Returns:
        (E,) in [0, 1], or NaN. An image without numbers for logits is not classified right.
    """
    if labels.dtype != torch.int64 or logits.ndim != 3:
        return torch.full((len(labels),), torch.nan, device=labels.device)
    # Where all logits are equal, as of a zero head, the first class wins: one in `ways` is right.
    # The largest of logits that are NaN is the first of them, as if class 0 had been said.
    right = (logits.argmax(dim=-1) == labels) & ~logits.isnan().any(dim=-1)
    return right.float().mean(dim=-1)


def refuse_another_function(
    plain: nn.Module, learner: Learner, adaptation: Adaptation, batch_norm: BatchNormMode
) -> None:
    """Raise `ConfigError` unless a module says of the support images what its learner predicts.

    Args:
        plain: in evaluation mode.
        learner: in the mode that it is in.
        adaptation: of one episode.
        batch_norm: whose statistics normalise.
    """
    images = adaptation.support.images
    expected = learner.predict(adaptation, images, batch_norm=batch_norm)[0]
    said = plain(images[0].clone())
    if not torch.allclose(said, expected, rtol=1e-2, atol=1e-2 * float(expected.abs().max())):
        raise ConfigError(
            "The network computes otherwise in evaluation mode, in which the module of an episode "
            "is, than the learner does now: call eval() of the learner before adapting, or let "
            "forward not look at self.training."
        )
