"""Transfer learning: pretrain on all training classes, freeze, train a head per support set."""

from collections.abc import Iterator
from typing import Literal, Protocol, Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from innerloop.core.errors import ConfigError
from innerloop.data.episodes import EpisodeBatch
from innerloop.data.images import LabelledImages
from innerloop.fast_weights.functional import (
    FastWeights,
    call,
    call_with_support_statistics,
    gradient,
    step,
)
from innerloop.methods.base import Adaptation, Learner, accuracy
from innerloop.methods.heads.logistic import fit_logistic
from innerloop.networks.batch_norm import (
    BatchNormMode,
    batch_norm_layers,
    batch_norm_statistics,
    keep_running_statistics,
)
from innerloop.networks.checks import refuse_running_statistics
from innerloop.settings.run import RunConfig

Head = Literal["gradient", "logistic", "cosine"]
"""How a head is found on frozen features: some gradient steps, a converged logistic regression, or
prototypes."""


class FrozenFeatures(Learner):
    """A frozen body f with a new linear head (W, b) for every episode; L is the mean cross-entropy.

    ``gradient`` takes K steps of gradient descent at the inner rate α, on the head alone::

        (W, b)_{k+1} = (W, b)_k − α ∇ L((W, b)_k; f(support))

    ``logistic`` is what they converge to with a penalty, multinomial logistic regression by
    Newton's method::

        argmin over (W, b):  L((W, b); f(support)) + λ/2 ‖W‖²

    ``cosine`` takes no step: logits are s cos(f(x), c_j), where c_j is the mean of class j's
    support features, each of length one (s = 10 does not change which class wins). After 0 steps
    these two are the initial head, after one step they are done, and further steps change nothing.

    Args:
        model: has ``embed(images) -> (n, features)``, and ``head``, a linear layer that is not used
            here.
        batch_norm_modes: whose statistics normalise, the method's own first. With ``running`` the
            stored ones do, and `BatchNorm2d` layers get them if they have none; otherwise the
            support features are normalised by the support set.
        head: how the head is found.
        head_init: ``zero``, or ``glorot``: uniform weights, the same draw in every episode.
        inner_lr: α.
        inner_steps: K of `transfer_learn`.
        penalty: λ of ``logistic``.

    Raises:
        ConfigError: if the model has no ``embed``, or layers of PyTorch's own that keep running
            statistics.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        batch_norm_modes: tuple[BatchNormMode, ...] = ("running",),
        head: Head = "gradient",
        head_init: Literal["zero", "glorot"] = "zero",
        inner_lr: float = 0.4,
        inner_steps: int = 5,
        penalty: float = 0.1,
    ):
        super().__init__()
        if not callable(getattr(model, "embed", None)):
            raise ConfigError(
                "Transfer needs a network that can be cut before its head: give "
                f"{type(model).__name__} a method embed(images) that returns features (n, "
                "features)."
            )
        refuse_running_statistics(model)
        if "running" in batch_norm_modes and any(
            layer.running_mean is None for layer in batch_norm_layers(model)
        ):
            keep_running_statistics(model)
        self.model, self.batch_norm_modes = model, batch_norm_modes
        self.head, self.head_init, self.penalty = head, head_init, penalty
        self.inner_lr, self.inner_steps = inner_lr, inner_steps

    def transfer_learn(self, episodes: EpisodeBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Give every episode a new head, adapt it to the support set, and measure on the query set.

        The body and its batch norm are frozen; nothing of the learner changes.

        Args:
            episodes: E episodes.

        Returns:
            The mean query loss after adaptation, a scalar; and (E,) each:
            ``support_accuracy_before``, ``support_accuracy_after``, ``query_accuracy_before``,
            ``query_accuracy_after``.
        """
        first, *_, last = self.trajectory(episodes.support, steps=max(1, self.inner_steps))
        adapted = last if self.inner_steps else first
        before, after = (self.predict(state, episodes.query.images) for state in (first, adapted))
        loss = F.cross_entropy(after.flatten(0, 1), episodes.query.labels.flatten())
        return loss, {
            "support_accuracy_before": first.support_accuracy[:, 0],
            "support_accuracy_after": adapted.support_accuracy[:, -1],
            "query_accuracy_before": accuracy(before, episodes.query.labels),
            "query_accuracy_after": accuracy(after, episodes.query.labels),
        }

    def trajectory(self, support: LabelledImages, *, steps: int) -> Iterator[Adaptation]:
        """The head after 0, 1, ..., ``steps`` steps; see `Learner.trajectory`."""
        features = self.features(support.images, support.images, self.batch_norm_modes[0])
        losses, accuracies, memo = [], [], {}
        for head, loss, correct in self.head_steps(features, support.labels, steps=steps):
            losses.append(loss)
            accuracies.append(correct)
            yield Adaptation(
                head, support, torch.stack(losses, 1), torch.stack(accuracies, 1), memo
            )

    def head_steps(
        self, features: Tensor, labels: Tensor, *, steps: int
    ) -> Iterator[tuple[FastWeights, Tensor, Tensor]]:
        """The head after 0, 1, ..., ``steps`` steps on support features, with loss and accuracy.

        Args:
            features: (E, n, features) of the support set.
            labels: (E, n).
            steps: K >= 0.

        Yields:
            The heads, ``weight`` (E, ways, features) and ``bias`` (E, ways); losses (E,);
            accuracies (E,).
        """
        head = self._start(features, int(labels.max()) + 1)
        for index in range(steps + 1):
            loss, correct, following = self._head_step(head, features, labels, index)
            yield head, loss, correct
            head = following

    @torch.no_grad()
    def predict(
        self, adaptation: Adaptation, images: Tensor, *, batch_norm: BatchNormMode | None = None
    ) -> Tensor:
        """Logits (E, n, ways), see `Learner.predict`; features of the same images computed once."""
        mode = batch_norm or self.batch_norm_modes[0]
        known_images, features = adaptation.memo.get(mode, (None, None))
        if known_images is not images:
            features = self.features(images, adaptation.support.images, mode)
            adaptation.memo[mode] = images, features
        assert features is not None
        return self.logits(adaptation.fast_weights, features)

    @torch.no_grad()
    def features(self, images: Tensor, support_images: Tensor, batch_norm: BatchNormMode) -> Tensor:
        """Features (E, n, features) of images (E, n, C, H, W), normalised as the mode says."""
        body = _Body(self.model)
        if batch_norm == "support":
            return call_with_support_statistics(body, {}, support_images, images)
        with batch_norm_statistics(self.model, "running" if batch_norm == "running" else "batch"):
            return call(body, {}, images)

    def _start(self, features: Tensor, ways: int) -> FastWeights:
        """The initial heads: ``weight`` (E, ways, features) and ``bias`` (E, ways)."""
        episodes, _, size = features.shape
        weight = features.new_zeros(ways, size)
        if self.head_init == "glorot":
            generator = torch.Generator().manual_seed(0)
            weight = nn.init.xavier_uniform_(torch.empty(ways, size), generator=generator).to(
                features
            )
        return {
            "weight": weight.expand(episodes, -1, -1),
            "bias": features.new_zeros(episodes, ways),
        }

    def _head_step(
        self, head: FastWeights, features: Tensor, labels: Tensor, index: int
    ) -> tuple[Tensor, Tensor, FastWeights]:
        """Support loss and accuracy (E,) of a head after ``index`` steps, and the next head."""
        with torch.enable_grad():
            # Heads made anew, so that no graph reaches back over the steps.
            leaves = {name: value.detach().requires_grad_() for name, value in head.items()}
            logits = self.logits(leaves, features)
            loss = _episode_losses(logits, labels)
            if self.head == "gradient":
                following = step(leaves, gradient(loss, leaves, create_graph=False), self.inner_lr)
                following = {name: value.detach() for name, value in following.items()}
            elif index > 0:
                following = head
            elif self.head == "logistic":
                weight, bias = fit_logistic(features, labels, head["bias"].shape[1], self.penalty)
                following = {"weight": weight, "bias": bias}
            else:
                following = self._prototypes(features, labels)
        return loss.detach(), accuracy(logits.detach(), labels), following

    def logits(self, head: FastWeights, features: Tensor) -> Tensor:
        """Logits (E, n, ways) of features (E, n, features)."""
        if self.head == "cosine":
            features = 10 * F.normalize(features, dim=-1)
        return torch.baddbmm(head["bias"].unsqueeze(1), features, head["weight"].transpose(1, 2))

    def _prototypes(self, features: Tensor, labels: Tensor) -> FastWeights:
        """Each class's mean direction, of length one."""
        one_hot = F.one_hot(labels).to(features)  # (E, n, ways)
        means = one_hot.transpose(1, 2) @ F.normalize(features, dim=-1)
        return {"weight": F.normalize(means, dim=-1), "bias": features.new_zeros(means.shape[:2])}


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

    @classmethod
    def from_config(cls, config: RunConfig, model: nn.Module) -> Self:
        """The settings ``inner_lr``, ``inner_steps`` and ``head_init`` are the new head's."""
        return cls(
            model,
            inner_lr=config.own.inner_lr,
            inner_steps=config.own.inner_steps,
            head_init=config.network.head_init,
        )

    def meta_loss(self, batch: LabelledImages) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy and accuracy on images (n, channels, height, width) with labels (n,)."""
        with batch_norm_statistics(self.model, "update"):
            logits = self.model(batch.images.contiguous(memory_format=torch.channels_last))
        return F.cross_entropy(logits, batch.labels), {
            "accuracy": (logits.detach().argmax(dim=1) == batch.labels).float().mean()
        }


class _Embeds(Protocol):
    def embed(self, images: Tensor) -> Tensor: ...


class _Body(nn.Module):
    """A network without its head."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return cast(_Embeds, self.model).embed(images)


def _episode_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy (E,) of logits (E, n, ways)."""
    losses = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
    return losses.view(labels.shape).mean(dim=1)
