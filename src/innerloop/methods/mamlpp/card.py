"""MAML++: its switches, and what it changes in the common settings."""

from dataclasses import dataclass
from typing import Any, Literal

from innerloop.core.errors import ConfigError
from innerloop.methods.card import Card, DiagnosticFigure, Paper
from innerloop.methods.maml import card as maml
from innerloop.settings.fields import Fraction, setting
from innerloop.settings.presets import paper_presets
from innerloop.settings.run import RunConfig


@dataclass(frozen=True)
class Settings(maml.AdaptationSettings):
    """MAML++'s own settings."""

    multi_step_loss: bool = True
    """Early on, learn from the loss at every inner step."""
    multi_step_fraction: Fraction = setting(0.1, seldom=True, when=("multi_step_loss", True))
    """Part of the run over which the multi-step loss moves its weight to the last step."""
    derivative_order_annealing: bool = True
    """First order early on, then second."""
    first_order_fraction: Fraction = setting(
        1 / 3, seldom=True, when=("derivative_order_annealing", True)
    )
    """Part of the run with first-order gradients, where derivative-order annealing is on."""
    per_step_statistics: bool = True
    """Batch-norm statistics by inner step."""
    per_step_affine: bool = True
    """Batch-norm weights for each inner step."""
    learned_rates: Literal["layer", "tensor", "off"] = "layer"
    """Learn inner rates by step and layer or tensor; off: keep inner_lr."""
    cosine_annealing: bool = True
    """Let the outer rate fall along a cosine."""
    outer_lr_floor: Fraction = setting(0.5, seldom=True, when=("cosine_annealing", True))
    """Where the cosine ends, as a fraction of the outer rate."""

    @property
    def learns_rates(self) -> bool:
        """Unless they are switched off."""
        return self.learned_rates != "off"

    @property
    def can_be_explained(self) -> bool:
        """Its rates and statistics are of its own inner steps alone."""
        return False

    def schedule(self, outer_lr: float) -> str:
        """The cosine, where it is on."""
        if not self.cosine_annealing:
            return ""
        return f", falling along a cosine to {self.outer_lr_floor * outer_lr:g}"

    def refuse_misfits(self, config: RunConfig) -> None:
        """The multi-step loss is on for whole epochs, a hundredth of the run each."""
        super().refuse_misfits(config)
        if self.multi_step_loss and round(100 * self.multi_step_fraction) == 0:
            raise ConfigError(
                f"multi_step_fraction={self.multi_step_fraction} is less than one of the run's 100 "
                "epochs: take 0.01 or more, or switch multi_step_loss off."
            )

    def image_passes(self, config: RunConfig, steps: int) -> int:
        """As for MAML, and N − 1 query passes more while the multi-step loss is on."""
        passes = super().image_passes(config, steps)
        if not self.multi_step_loss:
            return passes
        query = config.episode.ways * config.episode.queries
        extra = (self.inner_steps - 1) * query * self.meta_batch_size
        with_them = min(steps, round(self.multi_step_fraction * config.training.meta_steps))
        return passes + with_them * extra


# Undoes what a training of 1000 outer steps needs, for both presets alike.
_PUBLISHED: dict[str, Any] = dict(
    outer_lr=0.001, outer_lr_floor=0.01, clip_gradient=0.0, feature_scale=1.0
)

_PAPER: dict[str, Any] = _PUBLISHED | dict(
    downsample="max-pool",
    fresh_head=False,
    inner_steps=5,
    inner_lr=0.1,
    meta_batch_size=16,
    meta_steps=75_000,
)
"""Antoniou et al. (2019), section 6: 150 epochs of 500 outer steps of 16 episodes.

Network, rate and queries are those of their code's configurations. Deviation: Adam's second beta is
0.999 here and 0.99 there.
"""

CARD = Card(
    name="mamlpp",
    title="MAML++",
    settings=Settings,
    learner="innerloop.methods.mamlpp.learner:MAMLpp",
    idea=(
        "MAML++ changes MAML in six parts: a loss over every inner step early in the training, "
        "first order before second, batch-norm statistics and batch-norm weights of their own "
        "for every inner step, learnt inner rates for each step, and an outer rate that falls "
        "along a cosine."
    ),
    adapts="all weights but those of batch norm",
    papers=(
        Paper(
            "A. Antoniou, H. Edwards, A. Storkey",
            "How to train your MAML",
            "ICLR",
            2019,
            "1810.09502",
        ),
    ),
    defaults=dict(conv_init="kaiming", clip_gradient=0.3, outer_lr=0.003, feature_scale=0.3),
    reason=(
        "Second order needs other initial weights and clipping. 1000 outer steps are short for a "
        "cosine to almost nothing; learnt rates make the loss small by larger steps instead of "
        "better features, unless the features are scaled down. Chosen on background-heldout."
    ),
    presets={
        "course": maml.COURSE_BATCHES | dict(outer_lr_floor=0.01),
        "paper": dict(
            derivative_order_annealing=True,
            per_step_statistics=True,
            learned_rates="layer",
            **_PUBLISHED,
        ),
        "authors-code": dict(
            derivative_order_annealing=False,
            per_step_statistics=False,
            learned_rates="tensor",
            **_PUBLISHED,
        ),
    }
    | paper_presets({5: _PAPER, 20: _PAPER}),
    parts=(
        "multi_step_loss",
        "derivative_order_annealing",
        "per_step_statistics",
        "per_step_affine",
        "learned_rates",
        "cosine_annealing",
    ),
    figures=(
        DiagnosticFigure(
            "learned_rates",
            "learned-rates",
            "Learnt inner rates",
            "rate",
            "the learnt inner rate of each layer and inner step",
        ),
        DiagnosticFigure(
            "step_weights",
            "step-weights",
            "Weights of the multi-step loss",
            "weight of the query loss",
            "the weight of each inner step in the multi-step loss",
        ),
        DiagnosticFigure(
            "running_var",
            "running-statistics",
            "Running variance by inner step",
            "mean over channels",
            "the running variance of each batch norm and inner step",
        ),
    ),
)
