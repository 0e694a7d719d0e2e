"""What processes of one run send one another, as bytes: parts of a meta-gradient, and tensors."""

from collections.abc import Sequence

import torch
from torch import Tensor

from innerloop.experiments.meta_gradient import Part
from innerloop.methods.base import Learner


def message_of(part: Part, learner: Learner) -> list[Tensor]:
    """A part as tensors, of the same shapes in every process."""
    weights = list(learner.parameters())
    gradients = [
        torch.zeros_like(weight) if gradient is None else gradient
        for gradient, weight in zip(part.gradients, weights, strict=True)
    ]
    device = next(iter(part.measures.values())).device
    there = torch.tensor([gradient is not None for gradient in part.gradients], device=device)
    measures = torch.stack([value.double() for value in part.measures.values()])
    return [*gradients, there, measures]


def part_of(tensors: Sequence[Tensor], example: Part) -> Part:
    """The part that `message_of` made tensors of, like another one."""
    *gradients, there, measures = tensors
    return Part(
        [
            gradient if is_there else None
            for gradient, is_there in zip(gradients, there.tolist(), strict=True)
        ],
        {
            name: value.to(like.dtype)
            for (name, like), value in zip(example.measures.items(), measures, strict=True)
        },
    )


def packed(tensors: Sequence[Tensor]) -> Tensor:
    """Their bytes, one after the other."""
    return torch.cat([of.detach().contiguous().reshape(-1).view(torch.uint8) for of in tensors])


def unpacked(content: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """The tensors whose bytes were `packed`, of the shapes and types of others."""
    sizes = [of.numel() * of.element_size() for of in like]
    # Copies begin where a number of their type may.
    return [
        part.clone().view(of.dtype).reshape(of.shape)
        for part, of in zip(content.split(sizes), like, strict=True)
    ]
