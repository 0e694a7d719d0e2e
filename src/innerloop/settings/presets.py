"""Named sets of settings for any method; a method's own are in its card."""

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    "course": dict(
        meta_batch_size=20,
        batch_size=25,
        query_batches=3,
        rotations=False,
        averaging=0.0,
        # From here to `outer_lr_floor`, and `feature_scale`: undoes what methods have as defaults
        # of their own, so that all train as the course does.
        clip_gradient=0.0,
        outer_lr=0.001,
        outer_lr_floor=0.01,
        features="flatten",
        feature_norm=False,
        feature_scale=1.0,
        conv_bias=True,
        conv_init="glorot",
        head_init="glorot",
        fresh_head=False,
        validation_episodes=100,
    ),
}
"""``course``: the network and batches of the course's own code; a method takes what it has of
them."""
