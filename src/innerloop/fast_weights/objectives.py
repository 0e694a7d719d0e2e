"""What is minimised over episodes, and what a network says of it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from innerloop.core.errors import ConfigError, InnerloopError, first_line
from innerloop.networks.batch_norm import Moments, Statistics

LossFunction = Callable[[Tensor, Tensor], Tensor]
"""(outputs of one episode (n, ...), labels (n,)) -> scalar mean over the n examples."""


class Objective(NamedTuple):
    """What is to be minimised, and what will be asked of it.

    Attributes:
        loss_fn: of each episode.
        check: raises where outputs (E, n, ...) do not suit the labels.
        ways: of labels that are classes; logits (E, n, more) are cut to so many. None: none is.
        measure: takes moments of each batch norm's input; None: nothing is measured.
        zero_head: path of a linear layer whose weights are zero, so that nothing before it has a
            gradient; None: there is none.
        twice: whether the gradient will be differentiated.
    """

    loss_fn: LossFunction
    check: Callable[[Tensor], None] = lambda outputs: None
    ways: int | None = None
    measure: Callable[[Tensor], Moments] | None = None
    zero_head: str | None = None
    twice: bool = False

    def loss_of(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Of one episode, a scalar.

        Raises:
            ConfigError: if a function of the user's fails, or gives no scalar.
        """
        try:
            loss = self.loss_fn(outputs, labels)
        except (InnerloopError, MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # whatever a user's own function raises
            raise ConfigError(
                f"loss_fn fails on outputs of shape {tuple(outputs.shape)}, {outputs.dtype}, and "
                f"labels of shape {tuple(labels.shape)}, {labels.dtype}: {first_line(error)}."
            ) from error
        if not isinstance(loss, Tensor) or loss.shape:
            shape = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
            raise ConfigError(
                "loss_fn must return a tensor without dimensions, the mean over the examples "
                f"of one episode: got {shape}."
            )
        return loss


class Losses(NamedTuple):
    """What `Network.losses` gives.

    Attributes:
        values: (E,) one loss an episode.
        outputs: (E, n, ...), cut to the ways; not always with a graph.
        seen: what batch norm saw, if it was measured.
        head_alone: whether the ``zero_head`` alone has a gradient that is not zero.
    """

    values: Tensor
    outputs: Tensor
    seen: Statistics
    head_alone: bool


class Watched:
    """Whether in each pass a layer ran once, and gave what the network gave.

    Attributes:
        alone: whether it was so in every pass.
    """

    def __init__(self):
        self.alone = True
        self._outputs: list[Any] = []

    def keep(self, _module: nn.Module, _inputs: object, output: Any) -> None:
        """The layer's output in a pass."""
        self._outputs.append(output)

    def look_at(self, outputs: Any) -> None:
        """The network's output in that pass."""
        self.alone &= len(self._outputs) == 1 and self._outputs[0] is outputs
        self._outputs.clear()


def of_ways(outputs: Tensor, ways: int | None) -> Tensor:
    """Logits (E, n, ways) of outputs (E, n, more), the first so many; others as they are."""
    is_wider = ways is not None and outputs.ndim == 3 and outputs.shape[-1] > ways
    return outputs[..., :ways] if is_wider else outputs
