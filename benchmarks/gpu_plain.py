"""Outer steps as others take them on a GPU: learn2learn's algorithm, and a vmapped plain version.

learn2learn's MAML is one task at a time: a clone of the module tree with cloned weights, steps
that put new weights in their places, and one backward pass. It is written out here, since its
package needs a compiler; on a GPU its time is that of launching its operations one by one.
"""

import copy
from functools import partial

import torch
from plain import RATE, STEPS, one_by_one
from torch import Tensor, nn
from torch.nn import functional as F

from innerloop import EpisodeBatch, LabelledImages


def learn2learn_step(model: nn.Module, episodes: EpisodeBatch, *, first_order: bool) -> None:
    """Leave the meta-gradient of one outer step in ``.grad``."""
    model.zero_grad()
    for images, labels, query, truth in one_by_one(episodes):
        learner = cloned(model)
        for _ in range(STEPS):
            adapt(learner, F.cross_entropy(learner(images), labels), first_order=first_order)
        (F.cross_entropy(learner(query), truth) / len(episodes)).backward()


def cloned(module: nn.Module) -> nn.Module:
    """A module tree whose weights are clones, through which gradients reach the module's own."""
    same = copy.copy(module)
    weights = {name: of.clone() for name, of in module._parameters.items() if of is not None}
    same._parameters = {**module._parameters, **weights}  # type: ignore[assignment]
    same._modules = {name: of and cloned(of) for name, of in module._modules.items()}
    return same


def adapt(learner: nn.Module, loss: Tensor, *, first_order: bool) -> None:
    """One inner step of a clone, in place."""
    places = [
        (module, name, weight)
        for module in learner.modules()
        for name, weight in module._parameters.items()
        if weight is not None
    ]
    weights = [weight for _, _, weight in places]
    gradients = torch.autograd.grad(
        loss, weights, retain_graph=not first_order, create_graph=not first_order
    )
    for (module, name, weight), gradient in zip(places, gradients, strict=True):
        module._parameters[name] = weight - RATE * gradient  # type: ignore[assignment]


def vmapped_step(model: nn.Module, episodes: EpisodeBatch) -> None:
    """Leave the meta-gradient of second order in ``.grad``: all tasks at once, by `torch.vmap`.

    Forward passes alone are vmapped: `torch.func.grad` within `torch.vmap` within `torch.func.grad`
    has another second derivative of batch norm than a loop (1 % off here, torch 2.13).
    """
    model.zero_grad()
    tasks = len(episodes)
    weights = {name: of.expand(tasks, *of.shape) for name, of in model.named_parameters()}

    def losses(weights: dict[str, Tensor], part: LabelledImages) -> Tensor:
        logits = torch.vmap(partial(torch.func.functional_call, model))(weights, (part.images,))
        each = F.cross_entropy(logits.flatten(0, 1), part.labels.flatten(), reduction="none")
        return each.view(part.labels.shape).mean(1)

    for _ in range(STEPS):
        loss = losses(weights, episodes.support).sum()
        gradients = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
        weights = {
            name: of - RATE * gradient
            for (name, of), gradient in zip(weights.items(), gradients, strict=True)
        }
    losses(weights, episodes.query).mean().backward()
