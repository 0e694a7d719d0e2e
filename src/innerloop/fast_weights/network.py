"""A network as a function of weights and batch statistics, safe for several threads.

`torch.func.functional_call` swaps the tensors of the module that it calls while it runs, so two
threads that call one module would see each other's weights. A `Network` calls a copy of its own.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from innerloop.core.errors import ConfigError, InnerloopError, first_line
from innerloop.data.images import LabelledImages
from innerloop.fast_weights.copies import PrivateCopy
from innerloop.fast_weights.norms import measuring, normalising_by
from innerloop.fast_weights.objectives import Losses, Objective, Watched, of_ways
from innerloop.fast_weights.sums import shared
from innerloop.networks.batch_norm import (
    Moments,
    Statistics,
    Stored,
    batch_norm_layers,
    moments,
)

FastWeights = dict[str, Tensor]
"""Name of a parameter -> (E, *shape): one copy for each episode."""

OfOne = Callable[[dict[str, Tensor], Tensor, Statistics], dict[str, Tensor]]
"""(weights, images, statistics) of one episode -> named outputs."""


class Network:
    """A module that is called with each episode's own weights and batch statistics.

    It holds a private copy of the module tree, whose parameters and buffers are the model's own
    tensors; the model itself is never touched. A copy takes less than a millisecond: make one for
    each operation, not for each forward pass, and use it in one thread only.

    Args:
        model: any module that maps (n, ...) to (n, ...). Its `innerloop.BatchNorm2d` layers,
            wherever they are, take the statistics given here.
        method: what to call, for instance ``embed``.
        vectorised: one vectorised pass over the episodes, or a loop; None: what is faster on the
            images' device. On a CPU per-episode convolutions under vmap become grouped ones, which
            are slower than a loop.

    Attributes:
        gathered: where a method puts what batch norm saw, by its own numbers; None: nowhere.
        shares: what else a method learns, by name, as each episode has it; see `share`.
        memory: what an inner optimiser remembers from step to step, by the weight's name.

    Raises:
        ConfigError: if the module cannot be copied.
    """

    def __init__(
        self, model: nn.Module, method: str = "forward", *, vectorised: bool | None = None
    ):
        self._copy = PrivateCopy(model)
        self._model = self._copy.module
        self._layers = batch_norm_layers(self._model)
        self._vectorised = vectorised
        self.gathered: dict[int, list[Statistics]] | None = None
        self.shares: dict[tuple[str, bool], Tensor] = {}
        self.memory: FastWeights = {}
        self._watched: Watched | None = None
        if method != "forward":
            # functional_call knows only how to call a module, so the method takes forward's place.
            self._model.forward = getattr(self._model, method)

    def share(self, name: str, weight: Tensor, episodes: int) -> Tensor:
        """A learnt tensor (...) as each episode has it, (E, ...), under a name of the method's own.

        The same one for the whole operation: so an episode's gradients by all its uses are added
        before those of the episodes are (`innerloop.fast_weights.sums`).
        """
        # What is made without a graph cannot serve where one is needed.
        key = name, torch.is_grad_enabled()
        if key not in self.shares:
            self.shares[key] = shared(weight, episodes)
        return self.shares[key]

    def call(
        self,
        weights: Mapping[str, Tensor],
        images: Tensor,
        statistics: Statistics | Stored | None = None,
    ) -> Tensor:
        """Run each episode's images through the model with that episode's weights.

        Args:
            weights: φ, (E, *shape) each; parameters that it does not name are the model's own.
            images: (E, n, channels, height, width).
            statistics: what batch norm normalises by: None, each pass by its own batch; given
                moments (E, channels) by layer; or what the layers keep, see `Stored`.

        Returns:
            (E, n, ...) outputs, for instance logits.
        """

        def of_one(weights: dict[str, Tensor], images: Tensor, given: Statistics):
            # vmap hands on tensors alone; words and None come from around the function.
            with normalising_by(
                self._layers, given if isinstance(statistics, dict) else statistics
            ):
                return {"": self._outputs(weights, images)}

        return self._over_episodes(of_one, weights, images, statistics)[""]

    def call_and_measure(
        self,
        weights: Mapping[str, Tensor],
        images: Tensor,
        measure: Callable[[Tensor], Moments] = moments,
    ) -> tuple[Tensor, Statistics]:
        """`call` by the batch's own statistics, which come back beside the outputs.

        Gradients flow through them.

        Args:
            weights: as in `call`.
            images: as in `call`.
            measure: takes the moments of a layer's input.

        Returns:
            The outputs; and moments (E, channels) for every `innerloop.BatchNorm2d` that ran; of
            one that ran several times, (E, times, channels).
        """

        def of_one(weights: dict[str, Tensor], images: Tensor, _: Statistics):
            with measuring(self._layers, measure) as seen:
                outputs = self._outputs(weights, images)
            # One flat dict of tensors: the loop stacks it by name, and vmap returns it.
            means = {f"mean {name}": mean for name, (mean, _) in seen.items()}
            variances = {f"variance {name}": variance for name, (_, variance) in seen.items()}
            return {"": outputs} | means | variances

        values = self._over_episodes(of_one, weights, images)
        return values[""], {
            name: Moments(values[f"mean {name}"], values[f"variance {name}"])
            for name in self._layers
            if f"mean {name}" in values
        }

    def losses(
        self,
        weights: Mapping[str, Tensor],
        batch: LabelledImages,
        objective: Objective,
        statistics: Statistics | Stored | None = None,
    ) -> Losses:
        """Each episode's loss on its labelled images.

        Args:
            weights: as in `call`.
            batch: images (E, n, channels, height, width), labels (E, n, ...).
            objective: the loss.
            statistics: as in `call`; None, where moments are measured.

        Raises:
            ConfigError: if outputs do not suit the labels, or a loss is no scalar.
        """
        seen: Statistics = {}
        with self._watching(objective.zero_head) as watched:
            if objective.measure:
                outputs, seen = self.call_and_measure(weights, batch.images, objective.measure)
            else:
                outputs = self.call(weights, batch.images, statistics)
        objective.check(outputs)
        outputs = of_ways(outputs, objective.ways)
        pairs = zip(outputs, batch.labels, strict=True)
        values = [objective.loss_of(*pair) for pair in pairs]
        return Losses(torch.stack(values), outputs, seen, watched is not None and watched.alone)

    def laid_out(self, params: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights as they are best kept in memory; the same numbers, with their graph."""
        return dict(params)

    def call_by_support(
        self, weights: Mapping[str, Tensor], support_images: Tensor, images: Tensor
    ) -> Tensor:
        """`call` by the statistics of the support images at the same weights; n may be one."""
        _, statistics = self.call_and_measure(weights, support_images)
        return self.call(weights, images, statistics)

    def call_blocks(
        self,
        weights: Mapping[str, Tensor],
        images: Tensor,
        blocks: Mapping[str, str],
        statistics: Statistics | Stored | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """`call`, and what some submodules give on the way.

        Args:
            weights: as in `call`.
            images: as in `call`.
            blocks: a block's name -> the submodule whose output is wanted.
            statistics: as in `call`.

        Returns:
            The outputs; and (E, n, ...) for every block.
        """

        def of_one(weights: dict[str, Tensor], images: Tensor, given: Statistics):
            by = given if isinstance(statistics, dict) else statistics
            with normalising_by(self._layers, by), self._outputs_of(blocks) as outputs:
                last = self._outputs(weights, images)
            return {"": last} | {f"block {name}": value for name, value in outputs.items()}

        values = self._over_episodes(of_one, weights, images, statistics)
        return values[""], {name: values[f"block {name}"] for name in blocks}

    def _outputs(self, weights: dict[str, Tensor], images: Tensor) -> Tensor:
        """Outputs (n, ...) of one episode."""
        outputs = functional_call(self._model, weights, (images,))
        if self._watched is not None:
            self._watched.look_at(outputs)
        refuse_wrong_outputs(outputs, images)
        return outputs

    def _over_episodes(
        self,
        of_one: OfOne,
        weights: Mapping[str, Tensor],
        images: Tensor,
        statistics: Statistics | Stored | None = None,
    ) -> dict[str, Tensor]:
        """What ``of_one`` gives for each episode, stacked: (E, ...) each."""
        given = statistics if isinstance(statistics, dict) else {}
        self._copy.lend(weights)
        try:
            values = self._all_episodes(of_one, weights, images, given)
        except (InnerloopError, MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # whatever a user's own network raises
            raise ConfigError(self._failure(images, error)) from error
        self._copy.refuse_changed_buffers()
        return values

    def _failure(self, images: Tensor, error: Exception) -> str:
        """That the network's own code failed, on what, and how it says so."""
        return (
            f"The network {type(self._model).__name__} fails on {len(images)} times "
            f"{images.shape[1]} images of shape {tuple(images.shape[2:])}, {images.dtype} on "
            f"{images.device}: {first_line(error)}. Give images that it takes; "
            "innerloop.check_model tells what else would break."
        )

    def _all_episodes(
        self,
        of_one: OfOne,
        weights: Mapping[str, Tensor],
        images: Tensor,
        given: Statistics,
    ) -> dict[str, Tensor]:
        """What `_over_episodes` gives, at once or in a loop."""
        vectorised = self._vectorised
        if vectorised is None:
            # A single episode is called as it is; under vmap no running statistics could be moved.
            vectorised = len(images) > 1 and images.device.type != "cpu"
        if vectorised:
            # A copy, since a network may change its input in place, and these are the caller's.
            return torch.vmap(of_one)(dict(weights), images.clone(), given)
        values = [
            of_one(
                {name: weight[episode] for name, weight in weights.items()},
                # A copy for the same reason. Not in channels_last, whatever the caller's layout:
                # there PyTorch's norms on a CPU have statistics off by up to 1e-4, which a
                # rectifier's kinks amplify.
                images[episode].clone(memory_format=torch.contiguous_format),
                {name: Moments(*(part[episode] for part in of)) for name, of in given.items()},
            )
            for episode in range(len(images))
        ]
        return {name: torch.stack([value[name] for value in values]) for name in values[0]}

    @contextmanager
    def _watching(self, path: str | None) -> Iterator[Watched | None]:
        """Within the context it is seen whether a layer's outputs are the network's, and no more.

        Then, and where the layer's weights are zero, nothing before it has a gradient.
        """
        if path is None:
            yield None
            return
        self._watched = watched = Watched()
        hook = self._model.get_submodule(path).register_forward_hook(watched.keep)
        try:
            yield watched
        finally:
            hook.remove()
            self._watched = None

    @contextmanager
    def _outputs_of(self, blocks: Mapping[str, str]) -> Iterator[dict[str, Tensor]]:
        """Within the context the submodules leave their outputs in the dict."""
        outputs: dict[str, Tensor] = {}

        def keeping(name: str):
            def hook(_module: nn.Module, _inputs: object, output: Tensor) -> None:
                outputs[name] = output

            return hook

        with ExitStack() as hooks:
            for name, path in blocks.items():
                module = self._model.get_submodule(path)
                hooks.enter_context(module.register_forward_hook(keeping(name)))
            yield outputs


def refuse_wrong_outputs(outputs: Any, images: Tensor) -> None:
    """Raise `ConfigError` unless a network's output is a tensor with a row for each image."""
    if not isinstance(outputs, Tensor):
        raise ConfigError(
            f"The network's output is of type {type(outputs).__name__}: let forward return one "
            "tensor, the logits."
        )
    if outputs.shape[:1] != images.shape[:1]:
        raise ConfigError(
            f"The network's output for images of shape {tuple(images.shape)} has shape "
            f"{tuple(outputs.shape)}: let forward return one row for each image."
        )
