"""The meta-gradient of two inner steps, on the product's path and by plain autograd."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import get_total_norm

from innerloop.data.episodes import EpisodeBatch
from innerloop.data.images import LabelledImages
from innerloop.fast_weights.network import Network
from innerloop.fast_weights.sums import tree_mean
from innerloop.methods.maml.learner import MAML


@dataclass(frozen=True)
class Kind:
    """A way to take the meta-gradient.

    Attributes:
        name: in words.
        first_order: as in `MAML`.
        at_once: whether the episodes run at once.
        fails: what is said where it fails.
    """

    name: str
    first_order: bool
    at_once: bool
    fails: str


STEPS = 2
EPISODES = 2


def episodes_of(trial: nn.Module, images: Tensor) -> EpisodeBatch:
    """Episodes with these images in several orders, and random targets."""
    several = torch.stack([images.roll(episode, 0) for episode in range(EPISODES)])
    with torch.no_grad():
        outputs = torch.stack([trial(of_one.clone()) for of_one in several])
    targets = noise(torch.stack([outputs, outputs]))
    nothing = torch.zeros(EPISODES, 1, 1, dtype=torch.int64)
    return EpisodeBatch(
        LabelledImages(several, targets[0]),
        LabelledImages(several.flip(1), targets[1]),
        nothing[:, 0],
        nothing,
        nothing,
    )


def rate_of(trial: nn.Module, batch: EpisodeBatch) -> float:
    """An inner rate by which a step changes the weights by some percent."""
    weights = [weight for weight in trial.parameters() if weight.requires_grad]
    loss = F.mse_loss(trial(batch.support.images[0].clone()), batch.support.labels[0])
    gradients = torch.autograd.grad(loss, weights, materialize_grads=True, allow_unused=True)
    ratio = float(get_total_norm(weights) / get_total_norm(gradients).clamp(min=1e-6))
    # Weights of zero have no scale of their own, and must move all the same.
    return min(0.05 * ratio or 0.1, 1.0)


def by_learner(trial: nn.Module, batch: EpisodeBatch, rate: float, kind: Kind) -> dict[str, Tensor]:
    """The meta-gradient as every training takes it."""
    learner = MAML(
        trial,
        inner_lr=rate,
        inner_steps=STEPS,
        first_order=kind.first_order,
        loss_fn=F.mse_loss,
    )
    losses, *_ = learner._objective(Network(trial, vectorised=kind.at_once), batch)
    gradients = torch.autograd.grad(
        tree_mean(losses), list(learner.params.values()), materialize_grads=True, allow_unused=True
    )
    return dict(zip(learner.params, gradients, strict=True))


def by_copies(
    trial: nn.Module, batch: EpisodeBatch, rate: float, first_order: bool
) -> dict[str, Tensor]:
    """The same by plain autograd, on copies that hold the weights of each step.

    From the query gradient at the adapted weights, v, backward through the steps of second order:
    v <- v - α H v, where H v is the gradient of the support gradient's product with v.
    """
    names = [name for name, weight in trial.named_parameters() if weight.requires_grad]
    total = [torch.zeros_like(trial.get_parameter(name)) for name in names]
    for episode in range(EPISODES):
        images, targets = batch.support.images[episode], batch.support.labels[episode]
        holders = [copy.deepcopy(trial)]
        for _ in range(STEPS):
            gradients = _gradients(holders[-1], names, images, targets)
            holders.append(_stepped(holders[-1], names, gradients, rate))
        v = _gradients(holders[-1], names, batch.query.images[episode], batch.query.labels[episode])
        for holder in [] if first_order else reversed(holders[:-1]):
            gradients = _gradients(holder, names, images, targets, create_graph=True)
            product = sum((g * of).sum() for g, of in zip(gradients, v, strict=True))
            second = _derivatives(product, holder, names)
            v = [of - rate * change for of, change in zip(v, second, strict=True)]
        total = [of + part / EPISODES for of, part in zip(total, v, strict=True)]
    return dict(zip(names, total, strict=True))


def _gradients(
    holder: nn.Module, names: list[str], images: Tensor, targets: Tensor, create_graph: bool = False
) -> list[Tensor]:
    loss = F.mse_loss(holder(images.clone()), targets)
    return _derivatives(loss, holder, names, create_graph)


def _derivatives(
    value: Any, holder: nn.Module, names: list[str], create_graph: bool = False
) -> list[Tensor]:
    weights = [holder.get_parameter(name) for name in names]
    if not value.requires_grad:  # linear in all weights: no second derivative
        return [torch.zeros_like(weight) for weight in weights]
    return list(
        torch.autograd.grad(
            value, weights, create_graph=create_graph, materialize_grads=True, allow_unused=True
        )
    )


def _stepped(
    holder: nn.Module, names: list[str], gradients: list[Tensor], rate: float
) -> nn.Module:
    following = copy.deepcopy(holder)
    with torch.no_grad():
        for name, gradient in zip(names, gradients, strict=True):
            following.get_parameter(name).sub_(rate * gradient)
    return following


def difference(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> float:
    """The largest relative difference of a parameter's gradient; small ones are of no weight."""
    whole = get_total_norm(list(theirs.values()))
    errors = [
        (ours[name] - value).norm() / (value.norm() + 0.01 * whole).clamp(min=1e-12)
        for name, value in theirs.items()
    ]
    return float(torch.stack(errors).max())


def noise(like: Tensor) -> Tensor:
    """Normal numbers of the same shape, the same at every call."""
    drawn = torch.randn(like.shape, generator=torch.Generator().manual_seed(0), dtype=like.dtype)
    return drawn.to(like.device)
