"""The laws of the GPU engine's kernels: each computes its formula, and so do both convolutions.

Without a GPU they run in Triton's interpreter, where Triton is installed; it is no dependency of
innerloop, since PyTorch for CUDA brings it, and is a gigabyte. What only a compiler can refuse is
seen on a GPU alone.
"""

import dataclasses
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from innerloop.fast_weights.fused_gpu import choice, kernels, layers
from innerloop.fast_weights.fused_gpu.choice import Shape
from innerloop.fast_weights.fused_gpu.convolution import ByGroups, ByPatches
from innerloop.fast_weights.fused_gpu.layers import Back, Grid, Norm
from innerloop.fast_weights.fused_gpu.patches import from_patches, patches_of
from innerloop.networks.batch_norm import Moments
from laws.test_fused_gpu import DEVICE, far

needs_triton = pytest.mark.skipif(
    find_spec("triton") is None,
    reason="Triton is not installed: the kernels of the GPU engine are NOT tested here.",
)
DOUBLE = torch.float64
EPISODES, IMAGES = 2, 2
GRIDS = {
    "plain": Grid((5, 4), pooled=False, relu=True),
    "without a ReLU": Grid((5, 4), pooled=False, relu=False),
    "pooled": Grid((5, 4), pooled=True, relu=True),
    "pooled without a ReLU": Grid((4, 7), pooled=True, relu=False),
}
CHANNELS = 70
"""More than a program has, and no power of two."""


@pytest.fixture
def _interpreted(monkeypatch) -> Iterator[None]:
    """Kernels where there is a CUDA device; else Triton's interpreter, and small parts."""
    if DEVICE == "cpu":
        monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr(kernels, "SPAN", 32)
    monkeypatch.setattr(kernels, "ROWS", 16)
    kernels.why_formulas.cache_clear()
    yield
    kernels.why_formulas.cache_clear()


def drawn(*shape: int, dtype: torch.dtype = DOUBLE, seed: int = 0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=draw, dtype=DOUBLE).to(DEVICE, dtype)


def raw_of(grid: Grid, dtype: torch.dtype = DOUBLE) -> Tensor:
    """Convolution outputs, some of them equal, as those of empty corners are."""
    raw = drawn(EPISODES, IMAGES * grid.sides[0] * grid.sides[1], CHANNELS, dtype=dtype)
    raw[:, : len(raw[0]) // 2, ::3] = 0.7
    return raw


def both(function: Any, monkeypatch: Any) -> tuple[Any, Any]:
    """What a function gives by the kernels, and by its formula."""
    assert kernels.why_formulas(torch.device(DEVICE)) is None
    found = function()
    monkeypatch.setattr(kernels, "take", lambda raw: False)
    return found, function()


def norm_for(raw: Tensor, seed: int = 1) -> Norm:
    shape = len(raw), raw.shape[2]
    gamma, beta = (drawn(*shape, dtype=raw.dtype, seed=seed + number) for number in (0, 1))
    variance, mean = torch.var_mean(raw, dim=1, correction=0)
    return layers.given_norm(Moments(mean, variance), gamma, beta, 1e-5)


@needs_triton
@pytest.mark.parametrize("affine", ["none", "own", "shared", "of a buffer"])
@pytest.mark.parametrize("dtype", [DOUBLE, torch.float32])
def test_norms_are_those_of_the_formula(dtype, affine, _interpreted, monkeypatch):
    raw = 3 + drawn(EPISODES, 75, CHANNELS, dtype=dtype)
    gamma, beta = {
        "none": (None, None),
        "own": (drawn(EPISODES, CHANNELS, dtype=dtype), drawn(EPISODES, CHANNELS, dtype=dtype)),
        "shared": (drawn(CHANNELS, dtype=dtype).expand(EPISODES, -1),) * 2,
        "of a buffer": drawn(EPISODES, 2 * CHANNELS, dtype=dtype).split(CHANNELS, dim=1),
    }[affine]
    ours, formula = both(lambda: layers.norm_of(raw, gamma, beta, 1e-5), monkeypatch)

    for name, values in formula._asdict().items():
        assert far(getattr(ours, name), values.double()) <= (1e-12 if dtype == DOUBLE else 3e-7)


@needs_triton
@pytest.mark.parametrize("stride", [None, 1, 2])
@pytest.mark.parametrize("name", GRIDS)
def test_what_a_block_gives_is_the_formulas(name, stride, _interpreted, monkeypatch):
    grid = GRIDS[name]
    raw = raw_of(grid)
    norm, values = norm_for(raw), drawn(*raw.shape, seed=3)

    def given() -> tuple[Tensor, Tensor]:
        if stride is None:
            return layers.activated(raw, norm, grid), layers.selected(values, raw, norm, grid)
        patches = layers.activated_patches(raw, norm, grid, stride, torch.float32)
        return patches, patches_of(layers.selected(values, raw, norm, grid), stride)

    for ours, formula in zip(*both(given, monkeypatch), strict=True):
        assert ours.shape == formula.shape and ours.dtype == formula.dtype
        assert far(ours, formula.double()) <= (1e-12 if ours.dtype == DOUBLE else 1e-7)


@needs_triton
@pytest.mark.parametrize("stride", [None, 1, 2])
@pytest.mark.parametrize("name", GRIDS)
def test_what_comes_back_through_a_block_is_the_formulas(name, stride, _interpreted, monkeypatch):
    grid = GRIDS[name]
    raw = raw_of(grid)
    norm, (height, width) = norm_for(raw), grid.after
    upstream = drawn(EPISODES, IMAGES, height, width, CHANNELS, seed=4)
    if stride is not None:
        upstream = drawn(*patches_of(upstream, stride).shape, seed=4)
    ours, formula = both(lambda: layers.behind_norm(upstream, raw, norm, grid, stride), monkeypatch)

    for found, expected in zip(ours, formula, strict=True):
        assert far(found, expected) <= 1e-12


@needs_triton
def test_what_comes_back_through_a_norm_is_the_formulas(_interpreted, monkeypatch):
    raw = 2 + drawn(EPISODES, 75, CHANNELS)
    gamma, beta = (drawn(EPISODES, CHANNELS, seed=seed) for seed in (5, 6))
    back = Back(drawn(*raw.shape), gamma, beta)
    norm = norm_for(raw)
    ours, formula = both(lambda: layers.through_norm(back, raw, norm, by_batch=True), monkeypatch)

    assert far(ours, formula) <= 1e-12


@needs_triton
def test_patches_of_bfloat16_are_rounded_once(_interpreted):
    grid = GRIDS["plain"]
    raw = raw_of(grid, torch.float32)
    norm = norm_for(raw)
    rounded, exact = (
        layers.activated_patches(raw, norm, grid, 2, dtype)
        for dtype in (torch.bfloat16, torch.float32)
    )
    # Half a unit in the last place; Triton's interpreter cuts off, where a device rounds.
    unit = 2.0**-8 if DEVICE == "cuda" else 2.0**-7

    assert kernels.why_formulas(torch.device(DEVICE)) is None
    assert rounded.dtype == torch.bfloat16 and (rounded != exact).any()
    assert ((rounded - exact).abs() <= unit * exact.abs()).all()


@needs_triton
def test_nan_comes_through_the_kernels(_interpreted):
    grid = GRIDS["pooled"]
    raw = raw_of(grid)
    raw[0, 1, 0] = torch.nan
    norm = norm_for(raw)

    assert kernels.norm_of(raw, None, None, 1e-5)[1][0, 0].isnan()
    assert kernels.activated(raw, norm.scale, norm.shift, grid)[0, 0, 0, 0, 0].isnan()


def test_where_triton_is_not_taken_it_is_said_why(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    kernels.why_formulas.cache_clear()
    assert kernels.why_formulas(torch.device("cpu")) == "it is computed on cpu"

    monkeypatch.setattr(kernels, "find_spec", lambda name: None)
    assert kernels.why_formulas(torch.device("cuda:7")) == "Triton is not installed"

    kernels.why_formulas.cache_clear()
    monkeypatch.setattr(kernels, "find_spec", lambda name: True)
    monkeypatch.setattr(kernels, "norm_of", lambda *given: 1 / 0)
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    because = kernels.why_formulas(torch.device("cpu"))
    assert because == "Triton cannot be used (ZeroDivisionError: division by zero)"
    kernels.why_formulas.cache_clear()


COMPILING = """
import itertools
from triton import compile
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from innerloop.fast_weights.fused_gpu import triton_kernels as kernels

ALL = {"ROWS": 16, "WIDTH": 64, "SPAN": 512, "EPS": 1e-5}
CHOICES = {"STRIDE": (2,), "AFFINE": (False, True), "POOLED": (False, True), "RELU": (True,)}
CHOICES |= {"TAPS": (1, 9), "SELECT": (False, True)}
for name in ("sums", "norm", "activated", "behind_norm", "added", "through_norm"):
    kernel = getattr(kernels, name)
    choices = {key: values for key, values in CHOICES.items() if key in kernel.arg_names}
    sizes = {*kernels.SIZES, "channels"}
    for chosen in itertools.product(*choices.values()):
        constants = ALL | dict(zip(choices, chosen))
        constants = {key: constants[key] for key in kernel.arg_names if key in constants}
        kinds = {key: "i32" if key in sizes else "*fp32" for key in kernel.arg_names}
        kinds |= dict.fromkeys(constants, "constexpr") | (
            {"parts": "*fp64"} if "parts" in kinds else {}
        )
        source = ASTSource(fn=kernel, signature=kinds, constexprs=constants)
        made = compile(source, target=GPUTarget("cuda", 90, 32))
        print(name, len(made.asm["cubin"]))
"""


@needs_triton
@pytest.mark.slow
def test_kernels_compile_for_a_gpu_that_is_not_there():
    """For that of an H100, compute capability 9.0."""
    plain = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-c", COMPILING], env=plain, capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr
    sizes = [int(line.split()[1]) for line in done.stdout.splitlines()]
    assert len(sizes) == 1 + 2 + 8 + 4 + 1 + 1 and all(sizes)


@pytest.mark.parametrize("name", GRIDS)
def test_a_block_and_what_comes_back_are_those_of_pytorch_where_numbers_are_equal(name):
    """Of the largest in a window the first has the gradient: empty corners are full of equals."""
    grid = GRIDS[name]
    raw = raw_of(grid)
    norm = norm_for(raw)
    normed = raw * norm.scale[:, None] + norm.shift[:, None]
    leaf = normed.detach().requires_grad_()
    images = leaf.unflatten(1, (IMAGES, *grid.sides)).flatten(0, 1).permute(0, 3, 1, 2)
    images = images.relu() if grid.relu else images
    images = F.max_pool2d(images, 2) if grid.pooled else images
    expected = images.permute(0, 2, 3, 1).unflatten(0, (EPISODES, IMAGES))
    upstream = drawn(*expected.shape, seed=4)
    (gradient,) = torch.autograd.grad(expected, leaf, upstream)
    found = layers.behind_norm(upstream, raw, norm, grid, None)
    standard = (raw - norm.mean[:, None]) * norm.inverse[:, None]

    assert far(layers.activated(raw, norm, grid), expected) <= 1e-12
    assert far(layers.selected(normed, raw, norm, grid), expected) <= 1e-12
    assert torch.equal(found.values, gradient)
    assert far(found.gamma, (gradient * standard).sum(1)) <= 1e-12
    assert far(found.beta, gradient.sum(1)) <= 1e-12


# Convolutions


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("sides", [(8, 8), (7, 9)])
def test_patches_times_weights_are_the_convolution(sides, stride):
    images, weight = drawn(2, 3, *sides, 4), drawn(2, 36, 5, seed=1)
    found = patches_of(images, stride) @ weight
    for episode in range(2):
        filters = weight[episode].view(3, 3, 4, 5).permute(3, 2, 0, 1)
        expected = F.conv2d(images[episode].permute(0, 3, 1, 2), filters, None, stride, 1)
        assert far(found[episode], expected.permute(0, 2, 3, 1).reshape(found[0].shape)) <= 1e-12


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("sides", [(8, 8), (7, 9)])
def test_gradients_go_back_from_patches_by_the_adjoint(sides, stride):
    images = drawn(2, 3, *sides, 4).requires_grad_()
    patches = patches_of(images, stride)
    upstream = drawn(*patches.shape, seed=1)
    (expected,) = torch.autograd.grad(patches, images, upstream)

    assert far(from_patches(upstream, sides, stride), expected) <= 1e-12


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("sides", [(8, 8), (7, 9)])
def test_groups_compute_what_patches_do(sides, stride):
    images, weight = drawn(2, 3, *sides, 4), drawn(2, 36, 5, seed=1)
    by_patches, by_groups = ByPatches(stride, "float32"), ByGroups(stride, sides, "float32")
    outputs = [of.forward(of.of_images(images), weight) for of in (by_patches, by_groups)]
    upstream = drawn(*outputs[0].shape, seed=2)
    weights = [of.of_weights(of.of_images(images), upstream) for of in (by_patches, by_groups)]
    from_rows = from_patches(by_patches.of_inputs(upstream, weight), sides, stride)

    assert far(*outputs) <= 1e-12 and far(*weights) <= 1e-12
    assert far(by_groups.of_inputs(upstream, weight), from_rows) <= 1e-12


SHAPE = Shape(2, 3, (8, 8), 4, 5, 2, "float32", torch.float32, torch.device("cuda"))


@pytest.mark.parametrize(("times", "kind"), [((1.0, 2.0), ByPatches), ((2.0, 1.0), ByGroups)])
def test_the_faster_way_is_taken_and_measured_once(times, kind, monkeypatch):
    monkeypatch.setattr(choice, "measured", {})
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    taken = iter(times)
    monkeypatch.setattr(choice, "_milliseconds", lambda work: next(taken))

    for _ in range(3):
        assert type(choice.convolution_for(SHAPE)) is kind
    assert choice.measured == {SHAPE: dict(zip(("patches", "groups"), times, strict=True))}


@pytest.mark.parametrize("reason", ["cpu", "bfloat16", "capturing", "deterministic"])
def test_patches_are_taken_unmeasured_where_nothing_may_be_measured(reason, monkeypatch):
    monkeypatch.setattr(choice, "measured", {})
    monkeypatch.setattr(choice, "_milliseconds", lambda work: pytest.fail("measured"))
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: reason == "capturing")
    monkeypatch.setattr(
        torch, "are_deterministic_algorithms_enabled", lambda: reason == "deterministic"
    )
    changes: dict[str, Any] = {
        "cpu": {"device": torch.device("cpu")},
        "bfloat16": {"precision": "bfloat16"},
    }
    shape = dataclasses.replace(SHAPE, **changes.get(reason, {}))

    assert type(choice.convolution_for(shape)) is ByPatches and not choice.measured


@pytest.mark.parametrize("kind", ["patches", "groups"])
def test_what_is_measured_is_a_whole_pass(kind):
    shape = dataclasses.replace(SHAPE, device=torch.device(DEVICE))
    made = ByPatches(2, "float32") if kind == "patches" else ByGroups(2, (8, 8), "float32")
    outputs, of_weights, of_inputs = choice.once(made, shape)

    assert outputs.shape == (2, 3 * 16, 5) and of_weights.shape == (2, 36, 5)
    assert of_inputs.shape == ((2, 3 * 16, 36) if kind == "patches" else (2, 3, 8, 8, 4))
