"""Adam, as PyTorch computes it, without the compiler that PyTorch's own imports."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

BETAS = (0.9, 0.999)
EPSILON = 1e-8


class Adam:
    """The optimiser of the outer loop (Kingma and Ba, 2015), to the bits of `torch.optim.Adam`.

    Not that class itself: every use of it imports ``torch._dynamo``, which takes two seconds before
    the first step. Its state has the same names, so a checkpoint of either is read by both.

    Attributes:
        weights: what is trained.
        state: of each weight that had a gradient once, ``step`` (a number of steps, of its own),
            and ``exp_avg`` and ``exp_avg_sq`` of the weight's shape.
    """

    def __init__(self, weights: Iterable[Tensor]):
        self.weights = list(weights)
        self.state: dict[Tensor, dict[str, Tensor]] = {}

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Change every weight that has a gradient.

        Args:
            rate: the learning rate of this step.
        """
        moved = [weight for weight in self.weights if weight.grad is not None]
        if not moved:
            return
        gradients = [weight.grad for weight in moved]
        states = [self._state_of(weight) for weight in moved]
        first = [state["exp_avg"] for state in states]
        second = [state["exp_avg_sq"] for state in states]
        for state in states:
            state["step"] += 1
        steps = [state["step"].item() for state in states]
        each: Any = torch  # its operations on lists are missing in its types
        # On all weights at once: on a GPU a loop over them would wait for every small kernel.
        each._foreach_lerp_(first, gradients, 1 - BETAS[0])
        each._foreach_mul_(second, BETAS[1])
        each._foreach_addcmul_(second, gradients, gradients, 1 - BETAS[1])
        scale = each._foreach_sqrt(second)
        each._foreach_div_(scale, [(1 - BETAS[1] ** step) ** 0.5 for step in steps])
        each._foreach_add_(scale, EPSILON)
        each._foreach_addcdiv_(
            moved, first, scale, [-(rate / (1 - BETAS[0] ** step)) for step in steps]
        )

    def _state_of(self, weight: Tensor) -> dict[str, Tensor]:
        """What is kept of a weight: zeros before its first gradient."""
        if weight not in self.state:
            self.state[weight] = fresh_state(weight)
        return self.state[weight]


def fresh_state(weight: Tensor) -> dict[str, Tensor]:
    """The state of a weight before its first step, in the weight's own memory layout."""
    return {
        # Its type and place are PyTorch's, whatever the default ones of the process are.
        "step": torch.zeros((), dtype=torch.float32, device="cpu"),
        "exp_avg": torch.zeros_like(weight),
        "exp_avg_sq": torch.zeros_like(weight),
    }
