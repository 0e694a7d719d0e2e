"""Second order: the derivative of an episode's gradient in a direction V, without a graph.

That is the Hessian's product with V (Pearlmutter, 1994): forward and backward pass are
differentiated by hand, kernel by kernel. Names are those of `passes`, with a leading r for
derivatives in direction V.
"""

import numpy as np

from innerloop.fast_weights.fused_cpu import winograd
from innerloop.fast_weights.fused_cpu.architecture import BLOCKS
from innerloop.fast_weights.fused_cpu.blocks import (
    direct_backward_tangent,
    direct_forward_tangent,
    norm_backward_tangent,
    norm_forward_tangent,
)
from innerloop.fast_weights.fused_cpu.buffers import Patches, Scratch, Weights
from innerloop.fast_weights.fused_cpu.compiling import jit
from innerloop.fast_weights.fused_cpu.features import features_backward_tangent, features_tangent
from innerloop.fast_weights.fused_cpu.first_layer import (
    first_backward,
    first_gradients_tangent,
    first_tangent,
    folded_tangent,
)
from innerloop.fast_weights.fused_cpu.head import head_tangent
from innerloop.fast_weights.fused_cpu.passes import Pass


@jit
def forward_pass_tangent(sizes, patches, weights, v, a, s, r, work):
    """The derivative r of `passes.forward_pass` in direction v; of statistics, in ``work``."""
    folded_tangent(
        weights.w[0][0],
        weights.g[0],
        patches.mean,
        patches.covariance,
        s.m[0],
        s.r[0],
        s.own[0],
        v.w[0][0],
        v.g[0],
        v.h[0],
        work.folded,
        work.rm[0],
        work.rr[0],
    )
    first_tangent(
        patches.values,
        work.folded,
        r.x[1],
        a.x[1],
        sizes.where,
        sizes.pool,
        s.which[0],
        work.block,
        sizes.floors[0],
    )
    for k in range(1, BLOCKS):
        if k == 1 and sizes.winograd:
            winograd.forward_tangent(
                a.x[1],
                r.x[1],
                weights.w[1],
                v.w[1],
                work.u,
                work.ut,
                work.ru,
                work.rut,
                r.y[1],
                sizes.grids[1],
                work.v[0],
                work.m[0],
            )
        else:
            direct_forward_tangent(
                a.x[k],
                r.x[k],
                weights.w[k],
                v.w[k],
                sizes.forward.pairs[k],
                sizes.forward.counts[k],
                r.y[k],
            )
        norm_forward_tangent(
            a.y[k],
            r.y[k],
            a.u[k],
            r.u[k],
            a.x[k + 1],
            weights.g[k],
            s.m[k],
            s.r[k],
            v.g[k],
            v.h[k],
            s.own[k],
            sizes.floors[k],
            sizes.grids[k],
            sizes.pooled,
            s.which[k],
            work.rm[k],
            work.rr[k],
            r.x[k + 1],
        )
    features_tangent(
        r.x[4], a.z, s.r[4], sizes.flatten, sizes.standardise, s.own[4], work.rr[4], r.z
    )


@jit
def backward_pass_tangent(
    sizes, patches, weights, v, a, s, d, total, dg, dh, r, rd, rdz, spare, work, out
):
    """The derivative of `passes.backward_pass` in direction v, after `forward_pass_tangent`.

    Args:
        d: what `passes.backward_pass` left behind; so are total, dg and dh.
        r: of `forward_pass_tangent`.
        rd: the derivative of d, to be filled.
        rdz: (n, features), that of the features' gradient.
        spare: `Activations`, for gradients under a pool.
        out: `Weights`, to be filled.
    """
    features_backward_tangent(
        d.z,
        rdz,
        a.z,
        r.z,
        s.r[4],
        work.rr[4],
        sizes.flatten,
        sizes.standardise,
        s.own[4],
        rd.x[4],
    )
    for k in range(BLOCKS - 1, 0, -1):
        norm_backward_tangent(
            d.x[k + 1],
            rd.x[k + 1],
            a.x[k + 1],
            a.u[k],
            r.u[k],
            a.y[k],
            r.y[k],
            weights.g[k],
            v.g[k],
            s.m[k],
            s.r[k],
            work.rm[k],
            work.rr[k],
            dg[k],
            dh[k],
            s.own[k],
            sizes.floors[k],
            sizes.grids[k],
            sizes.pooled,
            s.which[k],
            spare.y[k],
            out.g[k],
            out.h[k],
            rd.y[k],
        )
        if k == 1 and sizes.winograd:
            # The weights are transformed since the forward tangent.
            winograd.backward_tangent(
                a.x[1],
                r.x[1],
                d.y[1],
                rd.y[1],
                work.ut,
                work.rut,
                rd.x[1],
                work.du,
                out.w[1],
                sizes.grids[1],
                work.v,
                work.m,
            )
        else:
            direct_backward_tangent(
                a.x[k],
                r.x[k],
                d.y[k],
                rd.y[k],
                weights.w[k],
                v.w[k],
                sizes.backward.pairs[k],
                sizes.backward.counts[k],
                sizes.weights.pairs[k],
                sizes.weights.counts[k],
                sizes.at_once,
                work.transposed,
                out.w[k],
                rd.x[k],
            )
    first_backward(
        patches.values,
        rd.x[1],
        a.x[1],
        sizes.where,
        sizes.pool,
        s.which[0],
        work.block,
        sizes.floors[0],
        work.total,
    )
    first_gradients_tangent(
        total,
        work.total,
        weights.w[0][0],
        weights.g[0],
        s.m[0],
        s.r[0],
        patches.mean,
        patches.covariance,
        s.own[0],
        v.w[0][0],
        v.g[0],
        work.rm[0],
        work.rr[0],
        out.w[0][0],
        out.g[0],
        out.h[0],
    )


def hessian_vector(
    p: Pass,
    patches: Patches,
    weights: Weights,
    v: Weights,
    scratch: Scratch,
    out: Weights,
    *,
    head_alone: bool,
) -> None:
    """The derivative of the gradient, in direction v, after the passes of it.

    Args:
        p: after `Pass.features`, ``head``, ``loss``, ``head_backward`` and ``backward``.
        patches: as in `Pass.features`; so are weights and scratch.
        v: the direction.
        out: H v, to be filled.
        head_alone: v is zero but in the head; then ``backward`` need not have been called.
    """
    sizes, work = p.plan.sizes, scratch.work
    scale = np.float32(p.plan.architecture.feature_scale)
    z = p.scaled_features()
    rz = np.zeros_like(z)
    if not head_alone:
        forward_pass_tangent(sizes, patches, weights, v, p.a, p.s, scratch.tangent, work)
        rz = scratch.tangent.z * scale
    rdz = np.empty_like(z)
    head_tangent(z, rz, weights.a, v.a, v.b, p.p, p.d_logits, out.a, out.b, rdz)
    rdz *= scale
    if head_alone:
        # Without tangents before the head, what remains is a backward pass of its part.
        scratch.d_tangent.z[:] = rdz
        p.backward_of(scratch.d_tangent, work.total, patches, weights, scratch, out)
        return
    backward_pass_tangent(
        sizes,
        patches,
        weights,
        v,
        p.a,
        p.s,
        p.d,
        p.total,
        p.dg,
        p.dh,
        scratch.tangent,
        scratch.d_tangent,
        rdz,
        scratch.unpooled,
        work,
        out,
    )
