"""A head by gradient descent on frozen features."""

from torch import Tensor

from innerloop.fast_weights.functional import FastWeights, gradient, step


def gradient_step(loss: Tensor, head: FastWeights, rate: float) -> FastWeights:
    """The heads after one step down their losses (E,), without a graph."""
    following = step(head, gradient(loss, head, create_graph=False), rate)
    return {name: value.detach() for name, value in following.items()}
