"""How gradients change when weights move: the product of the Hessian with a direction.

Both passes are differentiated along the direction, step by step (Pearlmutter, 1994, "Fast exact
multiplication by the Hessian"). What is largest in a window of the max-pooling, and which side of
its kink a ReLU is on, are constants, as in PyTorch's derivatives. A name ending in ``_along`` is
the derivative of what has the name without it.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from innerloop.fast_weights.fused_gpu.buffers import from_taps
from innerloop.fast_weights.fused_gpu.convolution import Convolution
from innerloop.fast_weights.fused_gpu.head import (
    cross_entropy_back_along,
    features_of,
    from_features,
)
from innerloop.fast_weights.fused_gpu.layers import (
    Back,
    Norm,
    back_of,
    behind_norm,
    selected,
    sum_of,
)
from innerloop.fast_weights.fused_gpu.passes import Backward, Forward, Weights
from innerloop.fast_weights.fused_gpu.products import product
from innerloop.fast_weights.stock import BLOCKS


class NormAlong(NamedTuple):
    """The derivative of a norm, (E, channels) each; of its input, (E, rows, channels).

    Attributes:
        scale, shift: of `Norm`.
        standard: of the standardised input.
    """

    scale: Tensor
    shift: Tensor
    standard: Tensor


def hessian_vector(backward: Backward, logits: Tensor, along: Weights) -> list[Tensor]:
    """The Hessian of each episode's loss times a direction, in the order of `Architecture.names`.

    Args:
        backward: with its body.
        logits: of the pass.
        along: the direction.
    """
    forward = backward.forward
    moving = _ForwardAlong(forward, along)
    head, of_logits = forward.weights.head, backward.of_logits
    logits_along = (
        product(moving.features, head.mT, "float32")
        + product(forward.features, along.head.mT, "float32")
        + along.head_bias[:, None]
    )
    of_logits_along = cross_entropy_back_along(logits, logits_along)
    of_features_along = product(of_logits_along, head, "float32") + product(
        of_logits, along.head, "float32"
    )
    of_head = product(of_logits_along.mT, forward.features, "float32") + product(
        of_logits.mT, moving.features, "float32"
    )
    body = _body_along(backward, moving, along, of_features_along)
    return [*body, of_head, of_logits_along.sum(1)]


class _ForwardAlong:
    """The derivative of the pass forward.

    Attributes:
        inputs: of each convolution's inputs; that of the images is zero, and is not there.
        raw: of what each convolution gives.
        norms: of each norm, the features' last.
        features: of the features.
    """

    def __init__(self, forward: Forward, along: Weights):
        self.inputs: dict[int, Tensor] = {}
        self.raw: list[Tensor] = []
        self.norms: list[NormAlong] = []
        outputs = torch.empty(0)
        for number, (block, convolution) in enumerate(
            zip(forward.blocks, forward.convolutions, strict=True)
        ):
            raw = convolution.forward(block.inputs, along.convolutions[number])
            if number:
                self.inputs[number] = convolution.of_images(outputs)
                weight = forward.weights.convolutions[number]
                raw = raw + convolution.forward(self.inputs[number], weight)
            if along.biases:
                raw = raw + along.biases[number][:, None]
            affine = forward.weights.gammas[number], along.gammas[number], along.betas[number]
            by_batch = forward.by_batch(number)
            norm = _norm_along(block.raw, raw, block.norm, affine, by_batch=by_batch)
            self.raw.append(raw)
            self.norms.append(norm)
            moved = _moved(block.raw, raw, block.norm, norm)
            outputs = selected(moved, block.raw, block.norm, block.grid)
        self.features = features_of(outputs, forward.architecture.flatten)
        if forward.feature_norm is not None:
            raw, by_batch = forward.raw_features, forward.by_batch(BLOCKS)
            norm = _norm_along(raw, self.features, forward.feature_norm, None, by_batch=by_batch)
            self.raw.append(self.features)
            self.norms.append(norm)
            self.features = _moved(raw, self.features, forward.feature_norm, norm)
        self.features = self.features * forward.architecture.feature_scale


def _norm_along(
    raw: Tensor,
    raw_along: Tensor,
    norm: Norm,
    affine: tuple[Tensor, Tensor, Tensor] | None,
    *,
    by_batch: bool,
) -> NormAlong:
    """The derivative of a norm: ``affine`` are its scale, and the directions of scale and shift."""
    rows = raw.shape[1]
    centred = raw - norm.mean[:, None]
    mean = inverse = torch.zeros_like(norm.mean)
    if by_batch:
        mean = sum_of(raw_along) / rows
        inverse = -(norm.inverse**3) * sum_of(centred * raw_along) / rows
    standard = (raw_along - mean[:, None]) * norm.inverse[:, None] + centred * inverse[:, None]
    if affine is None:
        return NormAlong(inverse, -mean * norm.scale - norm.mean * inverse, standard)
    gamma, gamma_along, beta_along = affine
    scale = gamma_along * norm.inverse + gamma * inverse
    return NormAlong(scale, beta_along - mean * norm.scale - norm.mean * scale, standard)


def _moved(raw: Tensor, raw_along: Tensor, norm: Norm, along: NormAlong) -> Tensor:
    """The derivative of what a norm gives."""
    return raw_along * norm.scale[:, None] + raw * along.scale[:, None] + along.shift[:, None]


def _body_along(
    backward: Backward, moving: _ForwardAlong, along: Weights, of_features: Tensor
) -> list[Tensor]:
    """The derivatives of the body's gradients; ``of_features`` is that of the features'."""
    forward = backward.forward
    back = of_features * forward.architecture.feature_scale
    if forward.feature_norm is not None and backward.of_features is not None:
        raw, norm = forward.raw_features, forward.feature_norm
        behind = _with_sums(back_of(back, raw, norm), backward.of_features, moving.norms[BLOCKS])
        back = _through_along(
            behind, backward.of_features, raw, norm, moving.norms[BLOCKS], forward.by_batch(BLOCKS)
        )
    back = from_features(back, forward.architecture.flatten, forward.blocks[-1].grid.after)
    stride = None
    convolutions: dict[int, Tensor] = {}
    behinds: dict[int, Back] = {}
    of_raws: dict[int, Tensor] = {}
    for number in reversed(range(BLOCKS)):
        inputs, raw, norm, grid = forward.blocks[number]
        convolution, norm_along = forward.convolutions[number], moving.norms[number]
        behind = _with_sums(
            behind_norm(back, raw, norm, grid, stride), backward.behind[number], norm_along
        )
        by_batch = forward.by_batch(number)
        of_raw = _through_along(behind, backward.behind[number], raw, norm, norm_along, by_batch)
        behinds[number], of_raws[number] = behind, of_raw
        gradient = convolution.of_weights(inputs, of_raw)
        if number:
            gradient = gradient + convolution.of_weights(
                moving.inputs[number], backward.of_raw[number]
            )
            back = _of_inputs_along(
                convolution,
                (of_raw, backward.of_raw[number]),
                (forward.weights.convolutions[number], along.convolutions[number]),
            )
            stride = convolution.stride if convolution.of_patches else None
        convolutions[number] = gradient
    blocks = range(BLOCKS)
    return [
        *(from_taps(convolutions[number]) for number in blocks),
        *(behinds[number].gamma for number in blocks),
        *(behinds[number].beta for number in blocks),
        *(sum_of(of_raws[number]) for number in blocks if along.biases),
    ]


def _with_sums(behind: Back, still: Back, norm: NormAlong) -> Back:
    """A gradient's derivative with that of its sums: the standardised input moves as well."""
    return behind._replace(gamma=behind.gamma + sum_of(still.values * norm.standard))


def _through_along(
    along: Back, still: Back, raw: Tensor, norm: Norm, norm_along: NormAlong, by_batch: bool
) -> Tensor:
    """The derivative of `layers.through_norm`."""
    scale, scale_along = norm.scale[:, None], norm_along.scale[:, None]
    if not by_batch:
        return along.values * scale + still.values * scale_along
    rows = raw.shape[1]
    standard = (raw - norm.mean[:, None]) * norm.inverse[:, None]
    shares = [of[:, None] / rows for of in (still.beta, still.gamma, along.beta, along.gamma)]
    beta, gamma, beta_along, gamma_along = shares
    centred = still.values - beta - standard * gamma
    centred_along = along.values - beta_along - norm_along.standard * gamma - standard * gamma_along
    return scale_along * centred + scale * centred_along


def _of_inputs_along(
    convolution: Convolution, upstream: tuple[Tensor, Tensor], weights: tuple[Tensor, Tensor]
) -> Tensor:
    """The derivative of `Convolution.of_inputs`: of each pair the derivative is of the one part."""
    of_upstream = convolution.of_inputs(upstream[0], weights[0])
    return of_upstream + convolution.of_inputs(upstream[1], weights[1])
