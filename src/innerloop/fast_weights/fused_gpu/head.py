"""Features from the last block, and the loss of logits, forward and backward."""

import torch
from torch import Tensor


def features_of(blocks: Tensor, flatten: bool) -> Tensor:
    """(E, n, height, width, channels) -> (E, n, features), before their norm.

    Flattened features are channel by channel, as the head's weights have them; else they are means
    over the positions.
    """
    return blocks.movedim(4, 2).flatten(2) if flatten else blocks.mean(dim=(2, 3))


def from_features(features: Tensor, flatten: bool, sides: tuple[int, int]) -> Tensor:
    """The adjoint of `features_of`: (E, n, height, width, channels), contiguous."""
    if flatten:
        return features.unflatten(2, (-1, *sides)).movedim(2, 4).contiguous()
    height, width = sides
    share = (features / (height * width))[:, :, None, None]
    return share.expand(-1, -1, height, width, -1).contiguous()


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Each episode's mean cross-entropy (E,); a label that is no class is PyTorch's error.

    Args:
        logits: (E, n, ways).
        labels: (E, n).
    """
    likelihoods = logits.log_softmax(-1).gather(-1, labels[..., None])
    return -likelihoods.squeeze(-1).mean(-1)


def cross_entropy_back(logits: Tensor, labels: Tensor) -> Tensor:
    """Its gradient (E, n, ways) with respect to the logits."""
    classes = torch.arange(logits.shape[-1], device=logits.device)
    right = (labels[..., None] == classes).to(logits)
    return (logits.softmax(-1) - right) / logits.shape[1]


def cross_entropy_back_along(logits: Tensor, along: Tensor) -> Tensor:
    """The derivative of that gradient where logits move along (E, n, ways)."""
    likely = logits.softmax(-1)
    return likely * (along - (likely * along).sum(-1, keepdim=True)) / logits.shape[1]
