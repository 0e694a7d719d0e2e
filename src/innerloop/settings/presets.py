"""Parts of presets that several methods share; a method's card adds its own settings to them."""

from typing import Any

COURSE: dict[str, Any] = dict(
    rotations=False,
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
"""Of the preset ``course``: the network of the course's own code, and how it is trained."""
