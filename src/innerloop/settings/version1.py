"""Configurations of version 1: every setting of every method in one row, used or not."""

from typing import Any

from innerloop.settings.fields import Section

NAMES = (
    "method",
    "data",
    "split",
    "ways",
    "shots",
    "queries",
    "inner_steps",
    "inner_lr",
    "outer_lr",
    "meta_steps",
    "meta_batch_size",
    "batch_size",
    "query_batches",
    "clip_gradient",
    "averaging",
    "rotations",
    "rotations_as_classes",
    "multi_step_loss",
    "multi_step_fraction",
    "derivative_order_annealing",
    "first_order_fraction",
    "per_step_statistics",
    "per_step_affine",
    "learned_rates",
    "cosine_annealing",
    "outer_lr_floor",
    "seed",
    "image_size",
    "filters",
    "downsample",
    "features",
    "last_relu",
    "feature_norm",
    "feature_scale",
    "conv_bias",
    "conv_init",
    "head_init",
    "fresh_head",
    "validation_every",
    "validation_episodes",
    "checkpoint_every",
    "device",
    "threads",
    "episodes_per_chunk",
)
"""All settings that version 1 had. Those that a method does not have did not touch its training."""

LATER: dict[str, Any] = {
    "clip_gradient": 0.0,
    "batch_size": 64,
    # Not today's default: before there was this setting, turned images were one class.
    "rotations_as_classes": False,
    "multi_step_loss": True,
    "multi_step_fraction": 0.1,
    "derivative_order_annealing": True,
    "first_order_fraction": 1 / 3,
    "per_step_statistics": True,
    "per_step_affine": True,
    "learned_rates": "layer",
    "cosine_annealing": True,
    # Not today's default either, which was chosen later for short trainings.
    "outer_lr_floor": 0.01,
}
"""Settings that the first files of version 1 lack, with what was then the only way."""


def named(kind: type[Section]) -> dict[str, str]:
    """The settings of a section that version 1 had: its name there -> the attribute."""
    return {flag: attribute for flag, attribute in kind.flags().items() if flag in NAMES}
