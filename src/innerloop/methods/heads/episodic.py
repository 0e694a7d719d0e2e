"""Features that are learnt on episodes, by a rule that tells classes apart with them."""

from collections.abc import Hashable, Mapping
from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn

from innerloop.core.errors import ConfigError, DataError
from innerloop.data.episodes import EpisodeBatch
from innerloop.fast_weights.functional import FastWeights, expand
from innerloop.fast_weights.network import Network
from innerloop.fast_weights.sums import tree_mean
from innerloop.methods.base import accuracy
from innerloop.methods.door import ways_of
from innerloop.methods.heads.frozen import FrozenFeatures
from innerloop.methods.heads.rule import Rule, RuleHead
from innerloop.methods.parts import Parts, checked
from innerloop.networks.base import refuse_other_features
from innerloop.networks.batch_norm import (
    BatchNormMode,
    Moments,
    Statistics,
    batch_norm_layers,
    keep_running_statistics,
    refuse_several_passes,
    unbiased_moments,
)
from innerloop.settings.fields import between


class EpisodicFeatures(FrozenFeatures):
    """Learns features f by a rule h, so that h, given a support set's, tells its queries' classes.

    With S the support set and Q the query set of an episode::

        h_S = fit({(f(x), y) : (x, y) in S})
        minimise over f and h:  mean over episodes of  mean over (x, y) in Q of L(h_S(f(x)), y)

    Adaptation is `fit`, with f as it is: after 0 steps nothing is known, after one all is, and
    further steps change nothing.

    Training normalises support and query set in one batch, as the published versions do, and
    gathers running statistics of it, one update in an outer step with the mean over its episodes;
    predictions use these. Batch norms of h itself see the queries' logits being computed, and are
    kept and used alike. By ``support`` and ``transductive``, where they come first, training
    normalises as predictions do.

    Args:
        model: has ``embed(images) -> (n, features)``; its head, if it has one, is not used.
        rule: h.
        halve_every: the outer rate is halved after so many outer steps; 0: never.
        batch_norm_modes: the modes that `predict` knows, the method's own first.

    Raises:
        ConfigError: as of `FrozenFeatures`.
    """

    own_parts: ClassVar[Parts | None] = None
    own_choices: ClassVar[tuple[str, ...]] = ()
    training_only: ClassVar[tuple[str, ...]] = ("model.head.",)

    def __init__(
        self,
        model: nn.Module,
        rule: Rule,
        *,
        halve_every: int = 0,
        batch_norm_modes: tuple[BatchNormMode, ...] = ("running", "support", "transductive"),
    ):
        super().__init__(model, batch_norm_modes=batch_norm_modes)
        # As the network's weights are, wherever they are.
        like = next((of for of in self.model.parameters() if of.is_floating_point()), None)
        self.rule = rule if like is None else rule.to(like)
        self.halve_every: int = checked(
            "halve_every", Annotated[int, between(0, 10**7)], halve_every
        )
        if "running" in batch_norm_modes:
            keep_running_statistics(rule)
        self._gathered: dict[str, list[Tensor]] = {}

    @property
    def params(self) -> dict[str, Tensor]:
        """What is trained, by name: the network's parameters without a head, and the rule's."""
        return {
            name: weight
            for name, weight in self.named_parameters()
            if weight.requires_grad and not name.startswith(self.training_only)
        }

    @property
    def head_kind(self) -> Hashable:
        """That of the rule."""
        return self.rule.kind

    def head_of(self, episodes: int, batch_norm: BatchNormMode) -> RuleHead:
        """The rule, with its weights in so many episodes."""
        return RuleHead(self.rule, expand(_of(self.params, "rule."), episodes), batch_norm)

    def meta_loss(self, batch: EpisodeBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """The mean query loss, and ``query_accuracy_after``; see `Learner.meta_loss`."""
        ways = ways_of(batch.support)
        if ways is None:
            raise ConfigError("A rule tells classes apart: give int64 labels.")
        support, query = self._embedded(batch)
        head, logits = self._answers(support, batch.support.labels, ways, query)
        losses = head.losses(logits, batch.query.labels)
        correct = accuracy(logits.detach(), batch.query.labels)
        return tree_mean(losses), {"query_accuracy_after": tree_mean(correct)}

    def _embedded(self, batch: EpisodeBatch) -> tuple[Tensor, Tensor]:
        """Features (E, n, features) of support and query sets, as training normalises them."""
        network = self._network(self.network_method)
        weights = expand(network.laid_out(_of(self.params, "model.")), len(batch))
        support, query = batch.support.images, batch.query.images
        mode = self.batch_norm_modes[0]
        if support.shape[2:] != query.shape[2:]:
            raise DataError(
                f"Support images have shape {tuple(support.shape[2:])} and query images "
                f"{tuple(query.shape[2:])}: features of one size are compared."
            )
        if mode == "running":
            both = self._embedded_together(network, weights, torch.cat([support, query], dim=1))
            refuse_other_features(both, self.model, self.network_method)
            of_support, of_query = both.split([support.shape[1], query.shape[1]], dim=1)
            return of_support, of_query
        of_support, statistics = network.call_and_measure(weights, support)
        refuse_other_features(of_support, self.model, self.network_method)
        return of_support, network.call(weights, query, statistics if mode == "support" else None)

    def _answers(
        self, support: Tensor, labels: Tensor, ways: int, query: Tensor
    ) -> tuple[RuleHead, Tensor]:
        """The rule, and its logits (E, n, ways) for the queries, as training normalises them."""
        mode = self.batch_norm_modes[0]
        head = self.head_of(len(query), mode)
        fitted = head.fit(support, labels, ways)
        if mode != "running":
            return head, head.logits(fitted, query)
        logits, seen = head.measured(fitted, query, unbiased_moments)
        self._keep("rule", seen)
        return head, logits

    def _embedded_together(self, network: Network, weights: FastWeights, images: Tensor) -> Tensor:
        """Features by the statistics of the batch, which are gathered."""
        features, seen = network.call_and_measure(weights, images, unbiased_moments)
        self._keep("model", seen)
        return features

    def _keep(self, owner: str, seen: Statistics) -> None:
        """Gather what batch norms saw in each episode; without gradients nothing is trained."""
        refuse_several_passes(seen, episodes=1)
        if not torch.is_grad_enabled():
            return
        for name, of_layer in seen.items():
            for part in Moments._fields:
                rows = getattr(of_layer, part).detach()
                self._gathered.setdefault(f"{owner}.{name}/{part}", []).append(rows)

    def begin_outer_step(self, step: int, total: int) -> float:
        """Nothing is gathered yet; a half for every ``halve_every`` steps that are done."""
        self._gathered = {}
        return 0.5 ** (step // self.halve_every) if self.halve_every else 1.0

    def gathered(self) -> dict[str, Tensor]:
        """Moments (E, channels) of every batch norm; see `Learner.gathered`."""
        return {name: torch.cat(rows) for name, rows in self._gathered.items()}

    def gather(self, rows: Mapping[str, Tensor]) -> None:
        """See `Learner.gather`."""
        self._gathered = {name: [value] for name, value in rows.items()}

    @torch.no_grad()
    def end_outer_step(self) -> None:
        """Move the running statistics once, towards the mean of what the episodes saw."""
        layers = batch_norm_layers(self)
        for key, rows in self.gathered().items():
            name, _, part = key.rpartition("/")
            # Over all episodes at once, so that the size of chunks changes nothing.
            getattr(layers[name].running(), part).lerp_(rows.mean(0), layers[name].momentum)
        self._gathered = {}


def _of(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Those whose names begin so, by the rest of their names."""
    return {
        name.removeprefix(prefix): weight
        for name, weight in weights.items()
        if name.startswith(prefix)
    }
