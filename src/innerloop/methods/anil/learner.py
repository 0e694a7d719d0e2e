"""ANIL: MAML whose inner loop adapts the head alone, on features that are computed once."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from innerloop.core.errors import ConfigError
from innerloop.data.images import LabelledImages
from innerloop.fast_weights.functional import FastWeights
from innerloop.fast_weights.network import Network
from innerloop.fast_weights.objectives import Losses, Objective
from innerloop.methods.maml.learner import MAML
from innerloop.methods.parts import Parts, refuse_fixed
from innerloop.networks.base import Embeds
from innerloop.networks.batch_norm import Moments, Statistics, Stored, moments

HEAD = "head"


class ANIL(MAML):
    """Almost no inner loop (Raghu, Raghu, Bengio and Vinyals, 2020, arXiv 1909.09157, section 4).

    Let θ be the body's parameters, f_θ(x) the features of an image, w the head's, L the loss, α the
    inner rate. For each episode, from w_0 = w::

        w_{k+1} = w_k − α ∇_w L(w_k; f_θ(support))           k = 0 ... K − 1    (inner loop)
        minimise over θ, w:  mean over episodes of L(w_K; f_θ(query))           (outer loop)

    The body takes no inner step, and learns from the outer loop alone: through the query features,
    and through the support features that every inner gradient is of. With ``first_order=True`` the
    inner gradients are constants, and only the query features teach it.

    As θ stays, the body sees each set of images once: the support set at the first step, and the
    features serve the other steps too. This is `MAML` with ``adapts=["head"]``, for less.

    Deviations: those of `MAML`; and by default of a run the head starts from zero in every episode
    instead of from learnt weights, so that ways are free.

    Args:
        model: its logits are ``head(embed(images))``.
        settings: those of `MAML` without ``adapts``; the ``fresh_head`` is ``head`` or None.

    Raises:
        ConfigError: as `MAML`; or if the model has no ``embed`` or no ``head``.
    """

    own_parts: ClassVar[Parts | None] = "head"
    computes_as_maml: ClassVar[bool] = True
    cuts_network: ClassVar[bool] = True

    def __init__(self, model: nn.Module, **settings: Any):
        if not isinstance(model, Embeds) or not isinstance(getattr(model, HEAD, None), nn.Module):
            raise ConfigError(
                "ANIL adapts the head on features that are computed once: give "
                f"{type(model).__name__} a method embed(images) that returns them, and a last "
                "layer head, so that its logits are head(embed(images))."
            )
        refuse_fixed("ANIL", settings, "adapts")
        super().__init__(model, adapts=[HEAD], **settings)

    def _network(self, method: str = "forward") -> Network:
        if method != "forward":
            return super()._network(method)
        return BodyOnce(self.model, super()._network("embed"))


class BodyOnce(Network):
    """A network for one operation in which every episode's body stays as it is.

    Args:
        model: its logits are ``head(embed(images))``.
        embed: computes the features.
    """

    def __init__(self, model: nn.Module, embed: Network):
        super().__init__(model)
        self._embed = embed
        self._head = Network(model.get_submodule(HEAD))
        # By the images' id; they are kept, so that no others take it.
        self._known: dict[int, tuple[Tensor, Tensor, bool]] = {}

    def laid_out(self, params: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """As the body wants them."""
        return self._embed.laid_out(params)

    def call(
        self,
        weights: Mapping[str, Tensor],
        images: Tensor,
        statistics: Statistics | Stored | None = None,
    ) -> Tensor:
        """As `Network.call`."""
        return self._head.call(_of_head(weights), self._features(weights, images, statistics))

    def call_and_measure(
        self,
        weights: Mapping[str, Tensor],
        images: Tensor,
        measure: Callable[[Tensor], Moments] = moments,
    ) -> tuple[Tensor, Statistics]:
        """As `Network.call_and_measure`."""
        features, seen = self._embed.call_and_measure(weights, images, measure)
        return self._head.call(_of_head(weights), features), seen

    def losses(
        self,
        weights: Mapping[str, Tensor],
        batch: LabelledImages,
        objective: Objective,
        statistics: Statistics | Stored | None = None,
    ) -> Losses:
        """As `Network.losses`; nothing but the head has a gradient that is asked for."""
        features = self._features(weights, batch.images, statistics)
        on_features = LabelledImages(features, batch.labels)
        return self._head.losses(_of_head(weights), on_features, objective._replace(zero_head=None))

    def _features(
        self,
        weights: Mapping[str, Tensor],
        images: Tensor,
        statistics: Statistics | Stored | None,
    ) -> Tensor:
        """Features (E, n, ...), computed once for the same images; not by given statistics."""
        if isinstance(statistics, dict):
            return self._embed.call(weights, images, statistics)
        with_graph = torch.is_grad_enabled()
        known = self._known.get(id(images))
        # What was made without a graph cannot serve where one is needed.
        if known is None or (with_graph and not known[2]):
            features = self._embed.call(weights, images, statistics)
            known = self._known[id(images)] = images, features, with_graph
        return known[1]


def _of_head(weights: Mapping[str, Tensor]) -> FastWeights:
    """The head's weights by their names in the head."""
    start = f"{HEAD}."
    return {name[len(start) :]: of for name, of in weights.items() if name.startswith(start)}
