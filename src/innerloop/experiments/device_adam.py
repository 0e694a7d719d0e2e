"""Adam whose numbers of the step are tensors, so that a step can be recorded and replayed."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from innerloop.fast_weights.adam import BETAS, EPSILON, Adam


class DeviceAdam(Adam):
    """`Adam`, to rounding, in three parts: numbers, the step on the device, and the count.

    What depends on the number of the step comes as a tensor, so that the operations of every step
    are the same. The counts stay on the CPU: nothing is read from the device. Every weight has its
    moments from the beginning, so that none is made while a step is recorded.

    Args:
        weights: what is trained.
    """

    def __init__(self, weights: Iterable[Tensor]):
        super().__init__(weights)
        for weight in self.weights:
            self._state_of(weight)

    @property
    def moments(self) -> list[Tensor]:
        """The tensors that a step changes, beside the weights."""
        states = [self._state_of(weight) for weight in self.weights]
        return [state[name] for state in states for name in ("exp_avg", "exp_avg_sq")]

    def numbers(self, rate: float) -> list[float]:
        """What `step_on_device` takes, of the coming step: two numbers for each weight.

        Args:
            rate: the learning rate of this step.

        Returns:
            The square root of 1 − β2^t for each weight, then −rate / (1 − β1^t) for each; t is the
            weight's own number of steps, this one included.
        """
        steps = [self._state_of(weight)["step"].item() + 1 for weight in self.weights]
        corrections = [(1 - BETAS[1] ** step) ** 0.5 for step in steps]
        return corrections + [-(rate / (1 - BETAS[0] ** step)) for step in steps]

    @torch.no_grad()
    def step_on_device(self, numbers: Tensor) -> None:
        """Change every weight that has a gradient; `count` has to follow.

        Args:
            numbers: (2 * weights,) float64, those of `numbers`, on the weights' device.
        """
        corrections, rates = numbers.view(2, len(self.weights))
        moved = [index for index, weight in enumerate(self.weights) if weight.grad is not None]
        if not moved:
            return
        weights = [self.weights[index] for index in moved]
        gradients = [weight.grad for weight in weights]
        states = [self._state_of(weight) for weight in weights]
        first = [state["exp_avg"] for state in states]
        second = [state["exp_avg_sq"] for state in states]
        each: Any = torch  # its operations on lists are missing in its types
        each._foreach_lerp_(first, gradients, 1 - BETAS[0])
        each._foreach_mul_(second, BETAS[1])
        each._foreach_addcmul_(second, gradients, gradients, 1 - BETAS[1])
        scale = each._foreach_sqrt(second)
        each._foreach_div_(scale, [corrections[index] for index in moved])
        each._foreach_add_(scale, EPSILON)
        change = each._foreach_div(first, scale)
        each._foreach_mul_(change, [rates[index] for index in moved])
        each._foreach_add_(weights, change)

    def count(self) -> None:
        """Count the step that was taken on the device."""
        for weight in self.weights:
            if weight.grad is not None:
                self._state_of(weight)["step"] += 1
