"""What learners are given, checked once: every operation of every learner begins here.

`innerloop.methods.base.Learner` sends the arguments of its operations through `admit`, a
subclass's own operations too, so that no learner has to check anything again.
"""

import inspect
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import wraps
from numbers import Integral
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import get_total_norm

from innerloop.core.errors import ConfigError, DataError, NonFiniteError
from innerloop.data.episodes import EpisodeBatch
from innerloop.data.images import LabelledImages
from innerloop.fast_weights.copies import Snapshot, version
from innerloop.networks.batch_norm import LONE, BatchNorm2d, BatchNormMode
from innerloop.networks.checks import refuse_random_layers

ON_SUPPORT = ("adapt", "trajectory", "inner_loop")
"""Operations of a learner that take support sets."""
OF_TRAINING = ("meta_loss", "outer_loop")
"""Operations of a learner whose result is what training makes small."""
OPERATIONS = (
    *ON_SUPPORT,
    *OF_TRAINING,
    *("predict", "block_outputs", "transfer_learn", "begin_outer_step"),
)
"""Operations of a learner whose arguments are checked."""


@dataclass(frozen=True)
class Checked(LabelledImages):
    """Labelled images that came through the door.

    Attributes:
        ways: one more than the largest label, of a query set its support set's; None where labels
            are targets, which are no classes.
        versions: of both tensors when they were looked at.
        of_support: whether every class was looked for in every set.
    """

    ways: int | None
    versions: tuple[int, int]
    of_support: bool

    @property
    def is_fresh(self) -> bool:
        """Whether both tensors still hold what was looked at."""
        return self.versions == (version(self.images), version(self.labels)) and -1 not in (
            self.versions
        )


def checked(images: Tensor, labels: Tensor, ways: int | None, *, of_support: bool) -> Checked:
    """Labelled images of which all that `Checked` says is known, so that nothing is looked at."""
    return Checked(images, labels, ways, (version(images), version(labels)), of_support)


def ways_of(batch: LabelledImages) -> int | None:
    """One more than the largest label; None where labels are targets."""
    if isinstance(batch, Checked):
        return batch.ways
    return None if batch.labels.is_floating_point() else int(batch.labels.max()) + 1


def part_of(checked: LabelledImages, part: LabelledImages) -> LabelledImages:
    """A part of labelled images as they were checked: a GPU would wait for another look."""
    if not isinstance(checked, Checked):
        return part
    versions = version(part.images), version(part.labels)
    return Checked(part.images, part.labels, checked.ways, versions, of_support=False)


def guarded(operation: Callable[..., Any]) -> Callable[..., Any]:
    """A learner's operation whose arguments come through the door."""
    signature = inspect.signature(operation)
    on_support = operation.__name__ in ON_SUPPORT

    @wraps(operation)
    def at_the_door(*arguments: Any, **named: Any) -> Any:
        bound = signature.bind(*arguments, **named)
        learner: nn.Module = bound.args[0]
        given = bound.arguments
        # Somebody may have called train() of the network itself.
        refuse_random_layers(learner)
        for name, value in given.items():
            wanted = signature.parameters[name].annotation
            if wanted in (LabelledImages, EpisodeBatch) and not isinstance(value, wanted):
                raise ConfigError(
                    f"{type(learner).__name__}.{operation.__name__} takes innerloop."
                    f"{wanted.__name__}: got {type(value).__name__}."
                )
            if isinstance(value, LabelledImages | EpisodeBatch):
                admitted = admit(learner, value, on_support)
                if on_support and isinstance(admitted, Checked) and admitted is not value:
                    # An adaptation keeps it, whatever is written into the caller's later.
                    admitted = _of_its_own(admitted)
                given[name] = admitted
        if "steps" in given:
            refuse_wrong_steps(given["steps"])
        if "adaptation" in given and not hasattr(given["adaptation"], "fast_weights"):
            raise ConfigError(
                f"{type(learner).__name__}.{operation.__name__} takes what adapt returned: got "
                f"{type(given['adaptation']).__name__}."
            )
        if "adaptation" in given and "images" in given:
            mode = learner.mode(given.get("batch_norm"))  # pyright: ignore[reportCallIssue]
            refuse_other_images(learner, given["adaptation"], given["images"], mode)
            if mode == "running":
                _warn_of_statistics(learner)
        if operation.__name__ == "trajectory":
            refuse_broken_weights(learner)
        if operation.__name__ in OF_TRAINING:
            refuse_one_class(learner, given)
        if operation.__name__ == "begin_outer_step":
            refuse_other_step(*bound.args[1:3])
        return operation(*bound.args, **bound.kwargs)

    _GUARDED.add(at_the_door)
    return at_the_door


def _of_its_own(support: Checked) -> Checked:
    """The same support sets, in memory that nobody else writes to."""
    images, labels = support.images.clone(), support.labels.clone()
    return checked(images, labels, support.ways, of_support=support.of_support)


def is_guarded(operation: Callable[..., Any]) -> bool:
    """Whether an operation's arguments come through the door already."""
    return operation in _GUARDED


_GUARDED: WeakSet[Callable[..., Any]] = WeakSet()


def refuse_one_class(learner: nn.Module, given: dict[str, Any]) -> None:
    """Raise `DataError` for episodes of one class, of which no loss of classes learns anything."""
    by_classes = getattr(learner, "loss_fn", F.cross_entropy) is F.cross_entropy
    episodes = [value for value in given.values() if isinstance(value, EpisodeBatch)]
    if by_classes and any(ways_of(of.support) == 1 for of in episodes):
        raise DataError(
            "The episodes have one class each, so that there is nothing to tell apart: train on "
            "episodes of at least two."
        )


def refuse_other_step(step: int, total: int) -> None:
    """Raise `ConfigError` unless it is one of so many outer steps, counted from 0."""
    if not 0 <= step < total:
        raise ConfigError(f"Outer steps are 0 to total - 1: got step {step} of {total}.")


def refuse_wrong_steps(steps: Any) -> None:
    """Raise `ConfigError` unless it is a number of inner steps."""
    if isinstance(steps, bool) or not isinstance(steps, Integral):
        raise ConfigError(f"inner steps must be a whole number: got {steps!r}.")
    if steps < 0:
        raise ConfigError(f"inner steps must be at least 0: got {steps}.")


def admit(
    learner: nn.Module, batch: LabelledImages | EpisodeBatch, of_support: bool
) -> LabelledImages | EpisodeBatch:
    """Episodes, support sets or a mini-batch as a learner may trust them; labels become int64.

    Args:
        learner: who is to take them.
        batch: an `EpisodeBatch`; or `LabelledImages`, support sets (E, n, ...) or a mini-batch
            (n, ...).
        of_support: whether it is support sets.

    Raises:
        ConfigError: in torch.inference_mode.
        DataError: if images or labels are not what they have to be.
    """
    if isinstance(batch, EpisodeBatch):
        return _episodes(learner, batch)
    return _labelled(learner, batch, "support" if of_support else "batch", of_support)


def _episodes(learner: nn.Module, batch: EpisodeBatch) -> EpisodeBatch:
    support = _labelled(learner, batch.support, "support", True)
    query = _labelled(learner, batch.query, "query", False)
    _refuse_lone_images(learner, query.images, _training_mode(learner))
    if (support.ways is None) != (query.ways is None):
        raise DataError(
            f"Support labels are {support.labels.dtype} and query labels {query.labels.dtype}: "
            "both are classes (int64), or both are targets of a regression (floating)."
        )
    if support.ways is not None and query.ways is not None and query.ways > support.ways:
        raise DataError(
            f"The query set has label {query.ways - 1}, and the support set has labels 0 to "
            f"{support.ways - 1}: a class has to be in both."
        )
    # A query set may lack the last classes.
    query = query if query.ways == support.ways else replace(query, ways=support.ways)
    if support is batch.support and query is batch.query:
        return batch
    return EpisodeBatch(support, query, batch.classes, batch.support_drawings, batch.query_drawings)


def _training_mode(learner: nn.Module) -> str:
    return getattr(learner, "training_mode", "")


def _labelled(learner: nn.Module, batch: LabelledImages, what: str, of_support: bool) -> Checked:
    if isinstance(batch, Checked) and batch.is_fresh and batch.of_support >= of_support:
        # By a learner, which need not be of this one's type or device.
        _refuse_misfit(learner, batch.images, what)
        _refuse_lone_batch(learner, batch.images, what, _training_mode(learner))
        return batch
    if torch.is_inference_mode_enabled():
        raise ConfigError(
            "Learning takes gradients, which torch.inference_mode forbids: call it outside, or "
            "under torch.no_grad()."
        )
    images, labels = batch.images, batch.labels
    _refuse_wrong_tensors(learner, images, labels, what)
    of_episodes = of_support or what == "query"
    if of_episodes and (labels.ndim < 2 or (labels.ndim > 2 and not labels.is_floating_point())):
        raise DataError(
            f"{what} labels have shape {tuple(labels.shape)}: give (E, n), with one episode as a "
            "batch of one."
        )
    _refuse_lone_batch(learner, images, what, _training_mode(learner))
    if not labels.is_floating_point():
        labels = labels.long()
    ways = _looked_at(images, labels, what, of_support)
    return checked(images, labels, ways, of_support=of_support)


def _refuse_wrong_tensors(learner: nn.Module, images: Any, labels: Any, what: str) -> None:
    """What can be said of both tensors without their values."""
    for name, tensor in (("images", images), ("labels", labels)):
        if not isinstance(tensor, Tensor):
            raise DataError(
                f"{what} {name} are of type {type(tensor).__name__}: give a torch.Tensor."
            )
        if tensor.is_inference():
            raise DataError(
                f"{what} {name} were made in torch.inference_mode, where no gradient can follow: "
                "make them outside, or take their clone()."
            )
    if labels.is_complex() or labels.numel() == 0:
        raise DataError(
            f"{what} labels are {labels.dtype} of shape {tuple(labels.shape)}: give at least one, "
            "of classes (int64) or of targets (floating)."
        )
    if images.device != labels.device:
        raise DataError(
            f"{what} images are on {images.device} and labels on {labels.device}: move them "
            "with .to(device)."
        )
    _refuse_misfit(learner, images, what)


def _refuse_lone_batch(learner: nn.Module, images: Tensor, what: str, mode: str) -> None:
    """Raise `ConfigError` for one image that inner steps or pretraining would normalise by itself.

    Args:
        learner: with batch norm or without.
        images: (E, n, ...), or a mini-batch (n, ...).
        what: these are.
        mode: whose statistics normalise.
    """
    is_lone = {
        "support": mode in ("support", "transductive") and images.shape[1] == 1,
        "batch": len(images) == 1,
    }
    if is_lone.get(what) and _has_batch_norm(learner):
        of_what = "support set" if what == "support" else "mini-batch"
        raise ConfigError(
            f"A {of_what} of one image has no batch to be normalised by: give more images, or a "
            "network without batch norm."
        )


def _refuse_misfit(learner: nn.Module, images: Tensor, what: str) -> None:
    """Raise unless images are of the type, and where, the learner's weights are."""
    if images.ndim < 2 or 0 in images.shape:
        raise DataError(f"{what} images have shape {tuple(images.shape)}: there are none.")
    weight = next((of for of in learner.parameters() if of.is_floating_point()), None)
    if weight is not None and weight.dtype in (torch.float16, torch.bfloat16):
        raise ConfigError(
            f"The learner's weights are {weight.dtype} by now, too coarse for inner steps: call "
            "float() of it."
        )
    wanted = torch.float32 if weight is None else weight.dtype
    if not images.is_floating_point() or (weight is not None and images.dtype != wanted):
        # Whole numbers are bytes of pictures that were not divided yet.
        scaled = "" if images.is_floating_point() else ", in [0, 1]"
        raise DataError(
            f"{what} images are {images.dtype} and the network's weights {wanted}: give images "
            f"as {wanted}{scaled}."
        )
    if weight is not None and images.device != weight.device:
        raise DataError(
            f"{what} images are on {images.device} and the network is on {weight.device}: move "
            "one of them with .to(device)."
        )


def _looked_at(images: Tensor, labels: Tensor, what: str, of_support: bool) -> int | None:
    """The ways, after a look at the values: all in one go, since a GPU waits for each."""
    if labels.is_floating_point():
        total = torch.stack([_total(images), _total(labels)]).tolist()
        _refuse_not_finite(total[0], images, f"{what} images")
        _refuse_not_finite(total[1], labels, f"{what} targets")
        return None
    least, most = (of.double() for of in torch.aminmax(labels))
    least, most, gaps, total = torch.stack([least, most, _gaps(labels), _total(images)]).tolist()
    _refuse_not_finite(total, images, f"{what} images")
    if least < 0:
        raise DataError(f"{what} labels are counted from 0: got {int(least)}.")
    if of_support and gaps:
        raise DataError(
            f"Every support set has a picture of every class, labelled 0 to {int(most)}: in "
            f"{int(gaps)} of {len(labels)} a label is missing. Number the classes of an episode "
            "anew."
        )
    return int(most) + 1


def _gaps(labels: Tensor) -> Tensor:
    """How many of some label sets (E, n) lack a label between 0 and the largest of all."""
    ordered = labels.reshape(len(labels), -1).sort(dim=1).values
    lacking = (ordered[:, 0] != 0) | (ordered[:, -1] != ordered.max())
    return (lacking | (ordered.diff(dim=1) > 1).any(dim=1)).sum().double()


def _total(values: Tensor) -> Tensor:
    """A sum that is not finite if a value is not."""
    return (
        values.detach().sum(dtype=torch.float64 if values.device.type == "cpu" else None).double()
    )


def _refuse_not_finite(total: float, values: Tensor, what: str) -> None:
    # A sum can overflow where no value is infinite: the values say it, if the sum does.
    if total - total != 0 and not bool(values.isfinite().all()):
        raise DataError(f"{what} hold NaN or infinity: take them out.")


def refuse_broken_weights(learner: nn.Module) -> None:
    """Raise `NonFiniteError` if a weight is NaN or infinite: it would predict one class for all."""
    state = learner.state_dict()
    floating = [tensor for tensor in state.values() if tensor.is_floating_point()]
    if floating and not bool(get_total_norm(floating).isfinite()):
        for name, tensor in state.items():
            if not bool(tensor.isfinite().all()):
                raise NonFiniteError(
                    f"{name!r} of {type(learner).__name__} holds NaN or infinity: load or "
                    "initialise the weights again."
                )


def refuse_other_images(
    learner: nn.Module, adaptation: Any, images: Any, mode: BatchNormMode
) -> None:
    """Raise unless these are images that an adaptation can predict.

    Args:
        learner: whose adaptation it is.
        adaptation: what `innerloop.Learner.adapt` returned.
        images: (E, n, ...).
        mode: whose statistics normalise.

    Raises:
        ConfigError: if they are not of the adaptation's episodes, or lone under the statistics of
            a batch.
        DataError: if they are not what images have to be.
    """
    if not isinstance(images, Tensor):
        raise DataError(f"images are of type {type(images).__name__}: give a torch.Tensor.")
    support = adaptation.support.images
    if images.ndim != support.ndim or len(images) != len(support):
        raise ConfigError(
            f"The adaptation is of {len(support)} episodes, with support images of shape "
            f"{tuple(support.shape)}: got images of shape {tuple(images.shape)}. Give (E, n, ...), "
            "each episode's own."
        )
    _refuse_lone_images(learner, images, mode)
    _refuse_lone_batch(learner, support, "support", mode)
    known = adaptation.memo.get("checked images")
    if known is not None and known.is_of(images):
        return
    _refuse_misfit(learner, images, "query")
    _refuse_not_finite(float(_total(images)), images, "query images")
    adaptation.memo["checked images"] = Snapshot(images)


def _warn_of_statistics(learner: nn.Module) -> None:
    """Warn where running statistics were gathered in training and never moved."""
    gathered = getattr(learner, "gathered", dict)()
    means = [of for name, of in learner.named_buffers() if "running_mean" in name]
    if gathered and not any(bool(of.any()) for of in means):
        warnings.warn(
            "The running statistics that predictions use are those of the start, though training "
            "gathered some: call end_outer_step() after every step of the optimiser, and "
            "begin_outer_step(step, total) before it.",
            stacklevel=3,
        )


def _refuse_lone_images(learner: nn.Module, images: Tensor, mode: str) -> None:
    """Raise `ConfigError` for one image (E, 1, ...) that would be normalised by itself."""
    if mode == "transductive" and images.shape[1] == 1 and _has_batch_norm(learner):
        raise ConfigError(LONE)


def _has_batch_norm(learner: nn.Module) -> bool:
    return any(isinstance(module, BatchNorm2d | _BatchNorm) for module in learner.modules())
