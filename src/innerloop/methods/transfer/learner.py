"""Transfer learning: pretrain on all training classes, freeze, train a head per support set."""

from collections.abc import Hashable
from functools import partial
from typing import ClassVar, Self

from torch import Tensor, nn
from torch.nn import functional as F

from innerloop.data.images import LabelledImages
from innerloop.fast_weights.objectives import Objective
from innerloop.methods.heads.frozen import FrozenFeatures
from innerloop.methods.heads.pretrained import (
    by_batch,
    classes_of,
    fraction_right,
    refuse_few_outputs,
)
from innerloop.settings.run import RunConfig


class Transfer(FrozenFeatures):
    """Pretrain a classifier of all training classes, freeze it, train a new head per support set.

    Pretraining minimises the cross-entropy over mini-batches of all training classes, with body,
    batch norm and classification layer trained together; batch norm normalises by the mini-batch
    and gathers running statistics. `transfer_learn` then discards the classification layer, freezes
    the body and its statistics, and trains a new head of ``ways`` outputs by a few gradient steps
    on the support set. The baseline of Chen et al. (2019, arXiv 1904.04232, "Baseline") and Tian et
    al. (2020, arXiv 2003.11539), with the assignment's head: 5 steps of gradient descent at 0.4.

    Args:
        model: has ``embed``, and one output for each training class.
    """

    training_only: ClassVar[tuple[str, ...]] = ("model.head.",)

    @classmethod
    def from_config(cls, config: RunConfig, model: nn.Module) -> Self:
        """The settings ``inner_lr``, ``inner_steps`` and ``head_init`` are the new head's."""
        return cls(
            model,
            inner_lr=config.own.inner_lr,
            inner_steps=config.own.inner_steps,
            head_init=config.network.head_init,
        )

    def step_signature(self) -> Hashable | None:
        """Every step is the same; of a subclass nothing is known."""
        return () if type(self) is Transfer else None

    def meta_loss(self, batch: LabelledImages) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy and accuracy on images (n, channels, height, width) with labels (n,)."""
        classes = classes_of(batch)
        # One set of images with the network's own weights: an episode dimension of one.
        one = LabelledImages(batch.images[None], batch.labels[None])
        objective = Objective(F.cross_entropy, partial(refuse_few_outputs, classes))
        losses = self._network().losses({}, one, objective, by_batch())
        return losses.values[0], {"accuracy": fraction_right(losses.outputs[0], batch.labels)}
