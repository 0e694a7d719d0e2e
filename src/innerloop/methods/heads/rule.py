"""Rules that tell an episode's classes apart by features, from those of its support set."""

from collections.abc import Callable, Hashable, Iterator
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from innerloop.fast_weights.each import EachEpisode
from innerloop.fast_weights.functional import FastWeights
from innerloop.methods.base import accuracy
from innerloop.methods.heads.linear import linear_module
from innerloop.networks.batch_norm import (
    BatchNormMode,
    Moments,
    Statistics,
    Stored,
    batch_norm_layers,
    moments,
    of_episode,
)
from innerloop.networks.plain import plain_network

Fitted = dict[str, Tensor]
"""What a rule keeps of one support set, by names of its own."""
UNKNOWING = "ways"
"""Of a head that has seen no support set: (E, ways) zeros, which are its logits."""


class Rule(nn.Module):
    """How classes are told apart by features, in one episode.

    Both functions are differentiable. A rule's parameters, if it has some, are learnt with the
    network's. One that fits a ``weight`` (ways, features) and a ``bias`` (ways,) is a linear layer.
    Where ``logits`` runs an `innerloop.BatchNorm2d`, it is called without statistics: `RuleHead`
    gives them. Features of a method that calls ``maps`` are maps (n, C, H, W) instead of rows.
    """

    def fit(self, features: Tensor, labels: Tensor, ways: int) -> Fitted:
        """What is known of the classes.

        Args:
            features: (n, features) of the support set.
            labels: (n,) int64 in [0, ways); every class is there.
            ways: number of classes.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must say what it keeps of a support set."
        )  # pragma: no cover

    def logits(self, fitted: Fitted, features: Tensor) -> Tensor:
        """Logits (m, ways) of features (m, features)."""
        return F.linear(features, fitted["weight"], fitted["bias"])

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """What training makes small: of logits (m, ways) and labels (m,), a mean over them."""
        return F.cross_entropy(logits, labels)

    @property
    def kind(self) -> Hashable:
        """What says what is fitted: the classes of its modules, and their numbers and texts."""
        return tuple(
            (path, type(module).__name__, *_settings_of(module))
            for path, module in self.named_modules()
        )

    def module(self, fitted: Fitted) -> nn.Module:
        """What is fitted, as a module of its own: features (n, features) -> logits (n, ways)."""
        if fitted.keys() == {"weight", "bias"} and type(self).logits is Rule.logits:
            return linear_module({name: of[None] for name, of in fitted.items()}, 0)
        return FittedRule(self, fitted)


def _settings_of(module: nn.Module) -> list[tuple[str, int | float | str]]:
    """What a module was made with, and not whether it is in training."""
    return [
        (name, value)
        for name, value in vars(module).items()
        if not name.startswith("_") and name != "training" and isinstance(value, int | float | str)
    ]


class FittedRule(nn.Module):
    """A rule with what it knows of one support set.

    Args:
        rule: is not changed later: it should be a copy.
        fitted: what it kept.
    """

    def __init__(self, rule: Rule, fitted: Fitted):
        super().__init__()
        self.rule = rule
        self._names = list(fitted)
        for name, value in fitted.items():
            self.register_buffer(f"fitted_{name}", value.detach().clone())

    def forward(self, features: Tensor) -> Tensor:
        """Logits (n, ways) of features (n, features)."""
        fitted = {name: self.get_buffer(f"fitted_{name}") for name in self._names}
        return self.rule.logits(fitted, features)


class RuleHead:
    """A rule as the head of many episodes, each with the rule's weights of its own.

    Args:
        rule: what is computed.
        weights: its parameters, (E, *shape) each; those that it does not name are the rule's own.
        batch_norm: what batch norms of the rule, if it has some, normalise logits by: what they
            keep (``running``), what they see when the support set is asked about itself
            (``support``), or what is asked about (``transductive``).
    """

    def __init__(
        self, rule: Rule, weights: FastWeights, batch_norm: BatchNormMode = "transductive"
    ):
        self._rule = rule
        self._weights = weights
        self._batch_norm: BatchNormMode = batch_norm
        self._layers = list(batch_norm_layers(rule))

    def trajectory(
        self, features: Tensor, labels: Tensor, *, steps: int
    ) -> Iterator[tuple[FastWeights, Tensor, Tensor]]:
        """Knowing nothing, and after each of ``steps`` steps: all is known after one.

        Args:
            features: (E, n, features) of the support set.
            labels: (E, n).
            steps: K >= 0.

        Yields:
            The heads, losses (E,) and accuracies (E,) on the support set.
        """
        ways = int(labels.max()) + 1
        head: FastWeights = {UNKNOWING: features.new_zeros(len(features), ways)}
        for index in range(steps + 1):
            # An adaptation has no graph to the rule's own parameters.
            with torch.no_grad():
                if index == 1:
                    head = self.fit(features, labels, ways)
                logits = self.logits(head, features)
                losses = self.losses(logits, labels)
            yield head, losses, accuracy(logits, labels)

    def fit(self, features: Tensor, labels: Tensor, ways: int) -> FastWeights:
        """What the rule keeps of each support set, stacked: (E, ...) each.

        Moments (E, channels) of its batch norms are there too, unless they normalise by others.
        """
        fit = EachEpisode(self._rule, "fit", self._weights)
        pairs = zip(features, labels, strict=True)
        fitted = [fit(episode, _moved(x), y, ways) for episode, (x, y) in enumerate(pairs)]
        head = {name: torch.stack([_moved(of[name]) for of in fitted]) for name in fitted[0]}
        if self._layers and self._batch_norm != "running":
            _, seen = self.measured(head, features, moments)
            head |= {
                _name_of(layer, part): getattr(of, part)
                for layer, of in seen.items()
                for part in Moments._fields
            }
        return head

    def logits(self, head: FastWeights, features: Tensor) -> Tensor:
        """Logits (E, n, ways) of features (E, n, features)."""
        if UNKNOWING in head:
            return head[UNKNOWING][:, None].expand(-1, features.shape[1], -1)
        logits = EachEpisode(self._rule, "logits", self._weights, self._statistics(head))
        return torch.stack(
            [
                _moved(logits(episode, self._fitted(head, episode), _moved(of_one)))
                for episode, of_one in enumerate(features)
            ]
        )

    def measured(
        self, head: FastWeights, features: Tensor, measure: Callable[[Tensor], Moments]
    ) -> tuple[Tensor, Statistics]:
        """`logits` by what is asked about, and moments (E, channels) that the batch norms saw.

        Args:
            head: what was fitted.
            features: (E, n, features).
            measure: takes the moments of a layer's input.
        """
        logits = EachEpisode(self._rule, "logits", self._weights)
        values, seen = zip(
            *(
                logits.measured(measure, episode, self._fitted(head, episode), _moved(of_one))
                for episode, of_one in enumerate(features)
            ),
            strict=True,
        )
        stacked = {
            layer: Moments(*map(torch.stack, zip(*(of[layer] for of in seen), strict=True)))
            for layer in seen[0]
        }
        return torch.stack([_moved(of_one) for of_one in values]), stacked

    def losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Losses (E,) of logits (E, n, ways) and labels (E, n)."""
        pairs = zip(logits, labels, strict=True)
        return torch.stack([self._rule.loss(*pair) for pair in pairs])

    def module(self, head: FastWeights, episode: int) -> nn.Module:
        """One episode's head as a module of its own: features (n, features) -> (n, ways)."""
        rule = _Unknowing() if UNKNOWING in head else self._rule_of(head, episode)
        return rule.module(self._fitted(head, episode))

    def _rule_of(self, head: FastWeights, episode: int) -> Rule:
        """A copy of the rule with the weights and statistics of an episode."""
        weights = {name: of[episode] for name, of in self._weights.items()}
        statistics = of_episode(self._statistics(head), episode)
        return cast(Rule, plain_network(self._rule, weights, statistics))

    def _fitted(self, head: FastWeights, episode: int) -> Fitted:
        """What the rule itself kept of one support set."""
        moments = {_name_of(layer, part) for layer in self._layers for part in Moments._fields}
        return {name: _moved(of[episode]) for name, of in head.items() if name not in moments}

    def _statistics(self, head: FastWeights) -> Statistics | Stored | None:
        """What the rule's batch norms normalise by."""
        if self._batch_norm == "running":
            return "stored"
        if self._batch_norm == "transductive":
            return None
        return {
            layer: Moments(*(head[_name_of(layer, part)] for part in Moments._fields))
            for layer in self._layers
        }


def _moved(of_one: Tensor) -> Tensor:
    """The same numbers in memory of their own, and so their gradient, which a clone's is not.

    Bits of a product of matrices depend on where these begin: an episode's would on its place.
    """
    return of_one * 1 if of_one.is_floating_point() else of_one


def _name_of(layer: str, part: str) -> str:
    """What a moment of one of a rule's batch norms is called in a head."""
    return f"{layer}/{part}"


class _Unknowing(Rule):
    """What is said before anything is known: all classes are alike."""

    def logits(self, fitted: Fitted, features: Tensor) -> Tensor:
        """Zeros (m, ways)."""
        return fitted[UNKNOWING].expand(len(features), -1)
