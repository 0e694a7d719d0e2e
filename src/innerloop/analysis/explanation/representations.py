"""What adaptation does to a network: its blocks' outputs and its weights, before and after."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call

from innerloop.analysis.explanation.formulas import relative_change, spread_ratio, unbiased_cka
from innerloop.data.episodes import EpisodeBatch
from innerloop.fast_weights.functional import FastWeights
from innerloop.methods.base import Learner
from innerloop.methods.transfer.learner import FrozenFeatures
from innerloop.networks.batch_norm import batch_norm_statistics
from innerloop.networks.conv4 import Conv4


@contextmanager
def recorded_blocks(model: Conv4) -> Iterator[dict[str, Tensor]]:
    """In the context a forward pass leaves each block's normalised output (n, values) by name."""
    outputs: dict[str, Tensor] = {}
    named = {f"block {number + 1}": norm for number, norm in enumerate(model.norms)}
    if model.feature_norm is not None:
        named["features"] = model.feature_norm

    def keep(name: str):
        def hook(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            outputs[name] = output.detach().flatten(1)

        return hook

    handles = [module.register_forward_hook(keep(name)) for name, module in named.items()]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def blocks_and_logits(learner: Learner, weights: FastWeights, images: Tensor) -> dict[str, Tensor]:
    """What blocks, features and head say of one episode's images (n, channels, height, width)."""
    model = learner.model
    assert isinstance(model, Conv4)
    running = learner.batch_norm_modes == ("running",)
    images = images.contiguous(memory_format=torch.channels_last)
    with (
        recorded_blocks(model) as outputs,
        batch_norm_statistics(model, "running" if running else "batch"),
    ):
        if isinstance(learner, FrozenFeatures):
            features = model.embed(images)
            outputs["logits"] = learner.logits(
                {name: value[:1] for name, value in weights.items()}, features[None]
            )[0]
        else:
            of_one = {name: value[0] for name, value in weights.items()}
            outputs["logits"] = functional_call(model, of_one, (images,))
    return dict(outputs)


def change_by_adaptation(
    learner: Learner, batch: EpisodeBatch, *, steps: int
) -> dict[str, dict[str, float]]:
    """How one episode's adaptation changes the network.

    Args:
        learner: around an `innerloop.Conv4`.
        batch: one episode.
        steps: inner steps K.

    Returns:
        ``cka``: unbiased linear CKA of each block's output on the query set before and after
            adaptation;
        ``spread_before`` and ``spread_after``: variance within the classes over that of their
            means, by block;
        ``weights``: relative change of each adapted tensor; NaN for one that starts from zero.
    """
    states = list(learner.trajectory(batch.support, steps=steps))
    first, last = states[0], states[-1]
    images, labels = batch.query.images[0], batch.query.labels[0]
    before, after = (
        blocks_and_logits(learner, state.fast_weights, images) for state in (first, last)
    )
    return {
        "cka": {name: unbiased_cka(before[name], after[name]) for name in before},
        "spread_before": {name: spread_ratio(value, labels) for name, value in before.items()},
        "spread_after": {name: spread_ratio(value, labels) for name, value in after.items()},
        "weights": {
            name: relative_change(first.fast_weights[name][0].detach(), value[0].detach())
            for name, value in last.fast_weights.items()
        },
    }
