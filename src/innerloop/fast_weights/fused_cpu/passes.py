"""One episode's passes through the network, forward and backward, in one call each.

Names: x inputs of the blocks, y outputs of their convolutions, u what came through a pool, m, v and
r statistics, z features, and a leading d for gradients. While a pass runs other threads run too.
"""

from collections.abc import Sequence

import numpy as np

from innerloop.fast_weights.fused_cpu import winograd
from innerloop.fast_weights.fused_cpu.architecture import BLOCKS, Plan
from innerloop.fast_weights.fused_cpu.blocks import (
    direct_backward,
    norm_backward,
    norm_forward,
)
from innerloop.fast_weights.fused_cpu.buffers import (
    Activations,
    Kept,
    Patches,
    Scratch,
    Statistics,
    Weights,
    activations,
    first_total,
    forward,
    zeros,
)
from innerloop.fast_weights.fused_cpu.compiling import jit
from innerloop.fast_weights.fused_cpu.convolution import convolve
from innerloop.fast_weights.fused_cpu.features import features_backward, features_forward
from innerloop.fast_weights.fused_cpu.first_layer import (
    first_backward,
    first_forward,
    first_gradients,
    folded,
    statistics_of,
)
from innerloop.fast_weights.fused_cpu.head import by_tiles, cross_entropy, head_backward, linear
from innerloop.fast_weights.fused_cpu.norm import rates_of

Given = Sequence[tuple[np.ndarray, np.ndarray] | None]
"""Mean and variance that each block's batch norm, and last the features' norm, is given; None: the
batch's own."""


@jit
def forward_pass(sizes, patches, weights, a, s, work):
    """From patches to features; statistics that are not the batch's own are given in ``s``.

    Args:
        sizes: `architecture.Sizes`.
        patches: `Patches` of the images.
        weights: `Weights`.
        a: `Activations`, to be filled.
        s: `Statistics`, to be filled.
        work: `Work`.
    """
    w = weights.w[0][0]
    if s.own[0]:
        statistics_of(w, patches.mean, patches.covariance, s.m[0], s.v[0])
    rates_of(s.v[0], sizes.eps, s.r[0])
    folded(w, weights.g[0], weights.h[0], s.m[0], s.r[0], work.folded)
    first_forward(
        patches.values,
        work.folded,
        a.x[1],
        sizes.where,
        sizes.pool,
        s.which[0],
        work.block,
        sizes.floors[0],
    )
    for k in range(1, BLOCKS):
        if k == 1 and sizes.winograd:
            winograd.forward(
                a.x[1],
                weights.w[1],
                work.u,
                work.ut,
                a.y[1],
                sizes.grids[1],
                work.v[0],
                work.m[0],
            )
        else:
            convolve(
                a.x[k], weights.w[k], a.y[k], sizes.forward.pairs[k], sizes.forward.counts[k], False
            )
        norm_forward(
            a.y[k],
            weights.g[k],
            weights.h[k],
            s.m[k],
            s.v[k],
            s.r[k],
            sizes.eps,
            s.own[k],
            sizes.floors[k],
            sizes.grids[k],
            sizes.pooled,
            a.x[k + 1],
            a.u[k],
            s.which[k],
        )
    features_forward(
        a.x[4],
        sizes.flatten,
        sizes.standardise,
        s.own[4],
        sizes.eps,
        s.m[4],
        s.v[4],
        s.r[4],
        a.z,
    )


@jit
def backward_pass(sizes, patches, weights, a, s, d, total, work, out):
    """From the features' gradient ``d.z`` to those of all weights before the head.

    Args:
        sizes: as in `forward_pass`; so are patches, weights and work.
        a: what `forward_pass` left behind; so is s.
        d: `Activations`: gradients of a, to be filled but for z.
        total: see `first_layer.first_backward`.
        out: `Weights`, to be filled.
    """
    features_backward(d.z, a.z, s.r[4], sizes.flatten, sizes.standardise, s.own[4], d.x[4])
    for k in range(BLOCKS - 1, 0, -1):
        norm_backward(
            d.x[k + 1],
            a.x[k + 1],
            a.u[k],
            a.y[k],
            weights.g[k],
            s.m[k],
            s.r[k],
            s.own[k],
            sizes.floors[k],
            sizes.grids[k],
            sizes.pooled,
            s.which[k],
            out.g[k],
            out.h[k],
            d.y[k],
        )
        if k == 1 and sizes.winograd:
            winograd.backward(
                a.x[1],
                d.y[1],
                weights.w[1],
                work.u,
                work.ut,
                d.x[1],
                work.du,
                out.w[1],
                sizes.grids[1],
                work.v,
                work.m,
            )
        else:
            direct_backward(
                a.x[k],
                d.y[k],
                weights.w[k],
                sizes.backward.pairs[k],
                sizes.backward.counts[k],
                sizes.weights.pairs[k],
                sizes.weights.counts[k],
                sizes.at_once,
                work.transposed,
                out.w[k],
                d.x[k],
            )
    first_backward(
        patches.values,
        d.x[1],
        a.x[1],
        sizes.where,
        sizes.pool,
        s.which[0],
        work.block,
        sizes.floors[0],
        total,
    )
    first_gradients(
        total,
        weights.w[0][0],
        weights.g[0],
        s.m[0],
        s.r[0],
        patches.mean,
        patches.covariance,
        s.own[0],
        out.w[0][0],
        out.g[0],
        out.h[0],
    )


class Pass:
    """One episode's images at one set of weights.

    Args:
        plan: sizes and tables.
        ways: outputs of the head.
        known: features that were computed before, with the same weights before the head.

    Attributes:
        kept: what the forward pass left behind, for another pass that shares it.
        a: of it, the activations.
        s: of it, the statistics.
        p: (n, ways) softmax of the logits.
        d_logits: (n, ways) gradients of the logits.
        total: see `first_layer.first_backward`.
        dg: (filters,) gradients of the batch norms' scales.
        dh: (filters,) gradients of their shifts.
    """

    def __init__(
        self, plan: Plan, ways: int, known: Kept[tuple[Activations, Statistics]] | None = None
    ):
        self.plan = plan
        self.kept = known or Kept(plan, forward)
        self.a, self.s = self.kept.buffers
        self.logits, self.p, self.d_logits = (zeros(plan.images, ways) for _ in range(3))
        self._gradients: Kept[Activations] | None = None
        self.total = first_total(plan)
        self.dg: tuple[np.ndarray, ...] = ()
        self.dh: tuple[np.ndarray, ...] = ()

    @property
    def d(self) -> Activations:
        """Gradients with respect to what the forward pass left behind."""
        if self._gradients is None:
            self._gradients = Kept(self.plan, activations)
        return self._gradients.buffers

    def features(self, patches: Patches, weights: Weights, given: Given, scratch: Scratch) -> None:
        """Forward to the features ``a.z``."""
        for block, value in enumerate(given):
            self.s.own[block] = value is None
            if value is not None:
                self.s.m[block][:], self.s.v[block][:] = value
        forward_pass(self.plan.sizes, patches, weights, self.a, self.s, scratch.work)

    def head(self, weights: Weights) -> None:
        """Forward from the features to ``logits``."""
        z = self.scaled_features()
        linear(z, weights.a, by_tiles(weights.a), weights.b, self.logits)

    def loss(self, labels: np.ndarray) -> float:
        """Forward from the logits to the mean cross-entropy."""
        return cross_entropy(self.logits, labels, self.p)

    def scaled_features(self) -> np.ndarray:
        """(n, features), what the head reads."""
        return self.a.z * np.float32(self.plan.architecture.feature_scale)

    def head_backward(self, weights: Weights, labels: np.ndarray, out: Weights) -> None:
        """Gradients of the head, and ``d.z``."""
        z = self.scaled_features()
        head_backward(z, weights.a, self.p, labels, self.d_logits, out.a, out.b, self.d.z)
        self._scale(self.d.z)

    def from_features(
        self,
        gradients: np.ndarray,
        patches: Patches,
        weights: Weights,
        scratch: Scratch,
        out: Weights,
    ) -> None:
        """As `backward`, from gradients (n, features) of what the head would read."""
        self._scale(gradients)
        self.backward(patches, weights, scratch, out)

    def _scale(self, gradients: np.ndarray) -> None:
        """``d.z`` from the gradients of what the head reads."""
        np.multiply(gradients, np.float32(self.plan.architecture.feature_scale), out=self.d.z)

    def backward(self, patches: Patches, weights: Weights, scratch: Scratch, out: Weights) -> None:
        """Gradients of the blocks, from those of the features, ``d.z``."""
        self.backward_of(self.d, self.total, patches, weights, scratch, out)
        self.dg = tuple(dg.copy() for dg in out.g)
        self.dh = tuple(dh.copy() for dh in out.h)

    def backward_of(
        self,
        d: Activations,
        total: np.ndarray,
        patches: Patches,
        weights: Weights,
        scratch: Scratch,
        out: Weights,
    ) -> None:
        """As `backward`, where ``d`` and ``total`` are given."""
        backward_pass(
            self.plan.sizes, patches, weights, self.a, self.s, d, total, scratch.work, out
        )
