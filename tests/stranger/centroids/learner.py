"""The maths of the nearest class means."""

from collections.abc import Iterator
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import innerloop
from innerloop.data.episodes import EpisodeBatch
from innerloop.data.images import LabelledImages
from innerloop.methods.base import Adaptation, accuracy
from innerloop.networks.batch_norm import BatchNormMode
from innerloop.networks.conv4 import Conv4
from innerloop.settings.run import RunConfig

from .card import Settings


class Centroids(innerloop.Learner):
    batch_norm_modes: tuple[BatchNormMode, ...] = ("transductive",)

    def __init__(self, model: Conv4, *, temperature: float):
        super().__init__()
        self.model, self.temperature = model, temperature
        self.spread = 0.0

    @classmethod
    def from_config(cls, config: RunConfig[Settings], model: nn.Module) -> Self:
        assert isinstance(model, Conv4)
        return cls(model, temperature=config.own.temperature)

    def embed(self, images: Tensor) -> Tensor:
        return torch.stack([self.model.embed(of_one) for of_one in images])

    def means(self, support: LabelledImages) -> Tensor:
        one_hot = F.one_hot(support.labels).float()
        return one_hot.transpose(1, 2) @ self.embed(support.images) / one_hot.sum(dim=1)[..., None]

    def logits(self, images: Tensor, means: Tensor) -> Tensor:
        return -(torch.cdist(self.embed(images), means) ** 2) / self.temperature

    def meta_loss(self, batch: EpisodeBatch) -> tuple[Tensor, dict[str, Tensor]]:
        means = self.means(batch.support)
        self.spread = torch.cdist(means.detach(), means.detach()).mean().item()
        logits = self.logits(batch.query.images, means)
        loss = F.cross_entropy(logits.flatten(0, 1), batch.query.labels.flatten())
        return loss, {"query_accuracy_after": accuracy(logits.detach(), batch.query.labels).mean()}

    def diagnostics(self) -> dict[str, Any]:
        return {"spread": self.spread}

    def trajectory(self, support: LabelledImages, *, steps: int) -> Iterator[Adaptation]:
        with torch.no_grad():
            means = self.means(support)
            labels = self.logits(support.images, means)
        fraction = accuracy(labels, support.labels)[:, None]
        for count in range(1, steps + 2):
            same = fraction.expand(-1, count)
            yield Adaptation({"means": means}, support, torch.zeros_like(same), same)

    def predict(
        self, adaptation: Adaptation, images: Tensor, *, batch_norm: BatchNormMode | None = None
    ) -> Tensor:
        return self.logits(images, adaptation.fast_weights["means"])
