"""Regression: the sine waves of `docs/regression.md`, and MAML on them against a plain loop."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from innerloop.data.episodes import EpisodeBatch
from innerloop.data.images import LabelledImages
from innerloop.experiments.outer_loop import meta_train
from innerloop.methods.maml.learner import MAML

PAGE = Path(__file__).parents[2] / "docs" / "regression.md"
DEFINING = 2
"""Blocks of the page that define waves and network, and train nothing."""


def run_blocks(count: int | None = None) -> dict[str, Any]:
    """The names that the page's blocks define, the first few or all."""
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)
    names: dict[str, Any] = {}
    for number, block in enumerate(blocks[:count], start=1):
        exec(compile(block, f"regression.md, block {number}", "exec"), names)
    return names


@pytest.fixture(scope="module")
def page() -> dict[str, Any]:
    return run_blocks(DEFINING)


def all_points(batch: EpisodeBatch) -> Tensor:
    return torch.cat(
        [of for part in (batch.support, batch.query) for of in (part.images, part.labels)], 1
    )


def test_a_wave_is_the_same_whatever_the_batch(page):
    waves = page["Waves"]("waves/train")

    whole = all_points(waves.batch(0, 12))

    in_parts = [all_points(waves.batch(*part)) for part in ((0, 1), (1, 4), (5, 7))]
    assert torch.equal(torch.cat(in_parts), whole)
    assert len({float(of.abs().sum()) for of in whole}) == 12


def test_shots_and_queries_do_not_move_one_another(page):
    few = page["Waves"]("waves/test", shots=5, queries=10).batch(3, 2)
    many = page["Waves"]("waves/test", shots=20, queries=100).batch(3, 2)

    assert torch.equal(few.support.images, many.support.images[:, :5])
    assert torch.equal(few.query.labels, many.query.labels[:, :10])
    assert not np.isin(many.support.images, many.query.images).any()


def test_another_stream_or_seed_has_other_waves(page):
    usual, *others = (
        page["Waves"](name, seed=seed).batch(0, 5).query.labels
        for name, seed in (("waves/train", 0), ("waves/test", 0), ("waves/train", 1))
    )

    assert not any(torch.isclose(usual, other).any() for other in others)


def test_waves_are_those_of_the_paper(page):
    """Every wave is a sin x + b cos x, found by least squares: amplitude and phase follow."""
    batch = page["Waves"]("waves/train", shots=40).batch(0, 500)
    x, y = (of[..., 0].double().numpy() for of in (batch.support.images, batch.support.labels))
    amplitudes, phases = [], []
    for of_x, of_y in zip(x, y, strict=True):
        basis = np.stack([np.sin(of_x), np.cos(of_x)], axis=1)
        (sine, cosine), *_ = np.linalg.lstsq(basis, of_y)
        assert np.abs(basis @ (sine, cosine) - of_y).max() < 1e-5
        amplitudes.append(np.hypot(sine, cosine))
        phases.append(np.arctan2(-cosine, sine))

    for values, low, high in ((x, -5, 5), (amplitudes, 0.1, 5), (phases, 0, np.pi)):
        # Uniform: within the range, to its ends, and with its mean.
        width = high - low
        assert low - 1e-4 <= np.min(values) <= low + 0.02 * width
        assert high - 0.02 * width <= np.max(values) <= high + 1e-4
        assert np.mean(values) == pytest.approx((low + high) / 2, abs=0.05 * width)


class InDouble:
    """Waves in float64."""

    def __init__(self, waves: Any):
        self.waves = waves

    def batch(self, start: int, count: int) -> EpisodeBatch:
        batch = self.waves.batch(start, count)
        return EpisodeBatch.of_regression(
            *(
                LabelledImages(part.images.double(), part.labels.double())
                for part in (batch.support, batch.query)
            )
        )


def plain_training(
    model: nn.Module, waves: InDouble, steps: int, adapts: str, second: bool
) -> None:
    """MAML as in any textbook: a loop over waves, PyTorch's autograd, PyTorch's Adam."""
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    for number in range(steps):
        batch = waves.batch(4 * number, 4)
        losses = []
        for wave in range(4):
            params: dict[str, Tensor] = dict(model.named_parameters())
            for _ in range(2):
                moving = {name: of for name, of in params.items() if name.startswith(adapts)}
                outputs = functional_call(model, params, (batch.support.images[wave],))
                loss = F.mse_loss(outputs, batch.support.labels[wave])
                slopes = torch.autograd.grad(loss, list(moving.values()), create_graph=second)
                params = params | {
                    name: of - 0.01 * slope
                    for (name, of), slope in zip(moving.items(), slopes, strict=True)
                }
            outputs = functional_call(model, params, (batch.query.images[wave],))
            losses.append(F.mse_loss(outputs, batch.query.labels[wave]))
        optimiser.zero_grad()
        torch.stack(losses).mean().backward()
        optimiser.step()


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("adapts", ["", "head"])
def test_training_on_waves_is_a_plain_loop(page, adapts, first_order):
    network: Callable[[], nn.Module] = page["network"]
    waves = InDouble(page["Waves"]("waves/train"))
    plain, ours = network().double(), network().double()
    plain_training(plain, waves, 3, adapts, not first_order)

    learner = MAML(
        ours,
        inner_lr=0.01,
        inner_steps=2,
        first_order=first_order,
        adapts=[adapts] if adapts else None,
        loss_fn=F.mse_loss,
    )
    meta_train(learner, waves, meta_steps=3, meta_batch_size=4, outer_lr=0.01, averaging=0.0)

    start = dict(network().double().named_parameters())
    for name, weight in ours.named_parameters():
        expected = plain.get_parameter(name) - start[name]
        assert (weight - start[name] - expected).norm() <= 1e-10 * expected.norm()


@pytest.mark.slow
def test_the_page_runs_and_learns(capsys):
    names = run_blocks()

    measured = names["measured"]
    assert set(measured) == set(names["METHODS"])
    for method in ("MAML", "FO-MAML", "ANIL", "Reptile"):
        before, after_one, *_, after_ten = measured[method].tolist()
        assert after_one < 0.75 * before
        assert after_ten < 0.5 * before
    # What learns no adaptation adapts little: else the numbers above would say nothing.
    assert measured["pretrained"][1] > 0.8 * measured["pretrained"][0]
