"""The papers' Omniglot protocols as presets: each is a whole configuration with the paper's
numbers."""

from typing import Any

import pytest

from innerloop.experiments.experiment import build_learner
from innerloop.methods.catalogue import find_card, read_config, settings_of

SHAPES = [(5, 1), (5, 5), (20, 1), (20, 5)]
FINN: dict[int, dict[str, Any]] = {
    5: dict(inner_steps=1, inner_lr=0.4, meta_batch_size=32, meta_steps=60_000),
    20: dict(inner_steps=5, inner_lr=0.1, meta_batch_size=16, meta_steps=60_000),
}
ANTONIOU: dict[str, Any] = dict(inner_steps=5, inner_lr=0.1, meta_batch_size=16, meta_steps=75_000)
OF_EACH = {
    "maml": FINN,
    "fomaml": FINN,
    "mamlpp": {5: ANTONIOU, 20: ANTONIOU},
}
"""What the papers say, by method and ways."""


@pytest.mark.parametrize("method", OF_EACH)
@pytest.mark.parametrize(("ways", "shots"), SHAPES)
def test_a_papers_protocol_is_a_whole_configuration_with_its_numbers(method, ways, shots):
    config = settings_of(method, f"paper-{ways}w{shots}s")

    common = dict(
        data="omniglot",
        split="1100-100-423",
        rotations=True,
        ways=ways,
        shots=shots,
        queries=shots,
        filters=64,
        image_size=28,
        outer_lr=0.001,
        clip_gradient=0.0,
        averaging=0.0,
        fresh_head=False,
        feature_norm=False,
        feature_scale=1.0,
    )
    assert (common | OF_EACH[method][ways]).items() <= config.flat().items()
    assert read_config(config.to_json()) == config
    # That of Finn et al. has strides and a mean: 64 features; that of Antoniou et al. pools to 1x1.
    learner = build_learner(config.replace(device="cpu"), 1)
    assert learner.get_parameter("model.head.weight").shape == (ways, 64)


@pytest.mark.parametrize(("ways", "shots"), SHAPES)
def test_protonets_protocol_is_that_of_its_paper(ways, shots):
    config = settings_of("protonet", f"paper-{ways}w{shots}s")

    paper = dict(
        ways=ways,
        shots=shots,
        queries=5,
        training_ways=60,
        meta_batch_size=1,
        outer_lr=0.001,
        halve_every=2000,
        downsample="max-pool",
        distance="euclidean",
    )
    assert paper.items() <= config.flat().items()
    assert read_config(config.to_json()) == config
    learner = build_learner(config.replace(device="cpu"), 1)
    factors = [learner.begin_outer_step(step, 30_000) for step in (0, 1999, 2000, 5999)]
    assert factors == [1.0, 1.0, 0.5, 0.25]


@pytest.mark.parametrize("method", [*OF_EACH, "protonet"])
def test_a_method_has_no_other_protocols_than_these(method):
    named = [name for name in find_card(method).presets if name.startswith("paper-")]

    assert named == [f"paper-{ways}w{shots}s" for ways, shots in SHAPES]


def test_mamlpps_parts_are_all_on_and_its_rate_falls_to_a_hundredth():
    config = settings_of("mamlpp", "paper-20w1s")

    assert [getattr(config.own, part) for part in find_card("mamlpp").parts] == [
        True,
        True,
        True,
        True,
        "layer",
        True,
    ]
    assert config.own.outer_lr_floor == 0.01
