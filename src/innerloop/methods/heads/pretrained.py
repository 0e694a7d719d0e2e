"""Features that are pretrained by telling all training classes apart."""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from innerloop.core.errors import ConfigError
from innerloop.data.images import LabelledImages
from innerloop.methods.door import ways_of
from innerloop.methods.heads.frozen import FrozenFeatures
from innerloop.methods.parts import Parts, checked
from innerloop.networks.base import refuse_other_features
from innerloop.networks.batch_norm import Stored
from innerloop.settings.fields import Smoothing


class PretrainedFeatures(FrozenFeatures):
    """Pretrains features f with a layer (V, c) that tells all training classes apart.

    With mini-batches B of images of all training classes, and L the cross-entropy::

        minimise over f, V and c:  mean over (x, y) in B of  L(V f(x) + c, y)

    Batch norm normalises by the mini-batch, and gathers running statistics that predictions use.
    Then f is frozen, and (V, c) is used no more: how heads are found on f is the subclass's.

    Args:
        model: has ``embed``, and ``head``, a linear layer with an output for each training class.
        label_smoothing: ε; targets are 1 − ε for the class, and ε spread over all of them (Szegedy
            et al. 2016, arXiv 1512.00567, section 7).
        inner_lr: rate of the inner steps, if there are some.
        inner_steps: K of `transfer_learn`.

    Raises:
        ConfigError: as of `FrozenFeatures`, or if the head is no linear layer.
    """

    own_parts: ClassVar[Parts | None] = None
    own_choices: ClassVar[tuple[str, ...]] = ()
    training_only: ClassVar[tuple[str, ...]] = ("model.head.",)

    def __init__(
        self,
        model: nn.Module,
        *,
        label_smoothing: float = 0.0,
        inner_lr: float = 0.4,
        inner_steps: int = 1,
    ):
        super().__init__(model, inner_lr=inner_lr, inner_steps=inner_steps)
        self.label_smoothing: float = checked("label_smoothing", Smoothing, label_smoothing)
        _ = self.classification  # refuses another head

    @property
    def classification(self) -> nn.Linear:
        """The layer of all training classes."""
        head = getattr(self.model, "head", None)
        if isinstance(head, nn.Linear):
            return head
        raise ConfigError(
            f"{type(self).__name__} needs a network whose head tells the training classes apart: "
            f"give {type(self.model).__name__} a torch.nn.Linear as its last layer head."
        )

    def meta_loss(self, batch: LabelledImages) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and accuracy on images (n, channels, height, width) with labels (n,)."""
        classes = classes_of(batch)
        # One set of images with the network's own weights: an episode dimension of one.
        features = self._network("embed").call({}, batch.images[None], by_batch())
        refuse_other_features(features, self.model, "embed")
        logits = self.class_logits(features[0])
        refuse_few_outputs(classes, logits)
        loss = F.cross_entropy(logits, batch.labels, label_smoothing=self.label_smoothing)
        return loss, {"accuracy": fraction_right(logits, batch.labels)}

    def class_logits(self, features: Tensor) -> Tensor:
        """Logits (n, training classes) of the features (n, features) of a mini-batch."""
        return self.classification(features)


def by_batch() -> Stored | None:
    """A mini-batch's own statistics, towards which stored ones move; not without gradients."""
    return "update" if torch.is_grad_enabled() else None


def classes_of(batch: LabelledImages) -> int:
    """One more than the largest label of a mini-batch, images (n, ...) with class labels (n,).

    Raises:
        ConfigError: if it is another kind of batch.
    """
    classes = ways_of(batch)
    if batch.labels.ndim != 1 or classes is None:
        raise ConfigError(
            f"Pretraining takes a mini-batch, images (n, ...) with class labels (n,): got "
            f"labels of shape {tuple(batch.labels.shape)}, {batch.labels.dtype}."
        )
    return classes


def refuse_few_outputs(classes: int, outputs: Tensor) -> None:
    """Raise `ConfigError` if a mini-batch has more classes than the network outputs."""
    if classes > outputs.shape[-1]:
        raise ConfigError(
            f"A mini-batch has label {classes - 1} and the network {outputs.shape[-1]} outputs: "
            "give it one for each training class."
        )


def fraction_right(logits: Tensor, labels: Tensor) -> Tensor:
    """The fraction of a mini-batch that logits (n, classes) classify right; no graph."""
    return (logits.detach().argmax(dim=1) == labels).float().mean()
