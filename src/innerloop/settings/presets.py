"""Parts of presets that several methods share; a method's card adds its own settings to them."""

from typing import Any

_PLAIN: dict[str, Any] = dict(
    averaging=0.0,
    clip_gradient=0.0,
    outer_lr=0.001,
    features="flatten",
    feature_norm=False,
    feature_scale=1.0,
    conv_bias=True,
    conv_init="glorot",
    head_init="glorot",
    validation_episodes=100,
)
"""The network and the training as published codes have them, without what was added here."""

COURSE: dict[str, Any] = _PLAIN | dict(rotations=False)
"""Of the preset ``course``: the network of the course's own code, and how it is trained."""

PAPER: dict[str, Any] = _PLAIN | dict(
    data="omniglot",
    split="1100-100-423",
    rotations=True,
    validation_every=500,
    checkpoint_every=500,
)
"""Of the presets ``paper-...``: what the papers' Omniglot trainings have in common.

Deviations: Finn et al. (2017) draw 1,200 training characters at random, of which their code keeps
100 for validation, and Antoniou et al. (2019) keep 50: here it is one list of 1,100, 100 and 423.
The published heads start from normal numbers of variance 1, these from Glorot's. Test classes are
not turned.
"""


def paper_presets(of_ways: dict[int, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The published shapes: 1 and 5 shots for some numbers of ways, and as many queries as shots.

    Args:
        of_ways: ways -> what a method changes in `PAPER` and in the shape for them.
    """
    return {
        f"paper-{ways}w{shots}s": PAPER | dict(ways=ways, shots=shots, queries=shots) | own
        for ways, own in of_ways.items()
        for shots in (1, 5)
    }
