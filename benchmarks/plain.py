"""The plain PyTorch loop that innerloop is measured beside: what a user would write.

NCHW, PyTorch's own batch norm, one task at a time, autograd.
"""

import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from innerloop import MAML, EpisodeBatch, EpisodeSampler
from innerloop.experiments.meta_gradient import accumulate_meta_gradient

STEPS = 5
RATE = 0.4


class PlainConv4(nn.Module):
    """The same network with PyTorch's own batch norm, in PyTorch's default layout."""

    def __init__(self, downsample: str, ways: int = 5, filters: int = 64):
        super().__init__()
        stride = 2 if downsample == "stride" else 1
        layers: list[nn.Module] = []
        for inputs in (1, filters, filters, filters):
            layers += [nn.Conv2d(inputs, filters, 3, stride=stride, padding=1, bias=False)]
            layers += [nn.BatchNorm2d(filters, track_running_stats=False), nn.ReLU()]
            layers += [nn.MaxPool2d(2)] if downsample == "max-pool" else []
        self.body = nn.Sequential(*layers)
        self.feature_norm = nn.BatchNorm1d(filters, affine=False, track_running_stats=False)
        self.head = nn.Linear(filters, ways)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (n, ways)."""
        return self.head(self.feature_norm(self.body(images).mean(dim=(2, 3))))


def adapted(
    model: nn.Module, images: Tensor, labels: Tensor, *, create_graph: bool = False
) -> dict[str, Tensor]:
    """The weights after 5 steps at 0.4 on a support set."""
    weights: dict[str, Tensor] = dict(model.named_parameters())
    for _ in range(STEPS):
        loss = F.cross_entropy(torch.func.functional_call(model, weights, (images,)), labels)
        gradients = torch.autograd.grad(loss, list(weights.values()), create_graph=create_graph)
        weights = {
            name: w - RATE * g for (name, w), g in zip(weights.items(), gradients, strict=True)
        }
    return weights


def plain_step(model: nn.Module, episodes: EpisodeBatch, *, first_order: bool) -> None:
    """Leave the meta-gradient of one outer step in ``.grad``."""
    model.zero_grad()
    for images, labels, query, truth in one_by_one(episodes):
        weights = adapted(model, images, labels, create_graph=not first_order)
        logits = torch.func.functional_call(model, weights, (query,))
        (F.cross_entropy(logits, truth) / len(episodes)).backward()


def plain_evaluation(model: nn.Module, episodes: EpisodeBatch) -> None:
    """Predict the query images of each episode before and after adaptation."""
    for images, labels, query, _ in one_by_one(episodes):
        weights = adapted(model, images, labels)
        with torch.no_grad():
            model(query)
            torch.func.functional_call(model, weights, (query,))


def one_by_one(episodes: EpisodeBatch) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Support images and labels, query images and labels, of each episode."""
    support, query = episodes.support, episodes.query
    return zip(support.images, support.labels, query.images, query.labels, strict=True)


def gradient_of(model: nn.Module) -> Tensor:
    """All gradients, flat."""
    return torch.cat(
        [weight.grad.reshape(-1) for weight in model.parameters() if weight.grad is not None]
    )


def seconds(function: Callable[[], object]) -> float:
    """How long a call takes."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def train(learner: MAML, sampler: EpisodeSampler, *, steps: int) -> None:
    """Train a little: at random weights many activations lie on a kink, where rounding decides."""
    optimiser = torch.optim.Adam(learner.parameters(), lr=0.001)
    for step in range(steps):
        accumulate_meta_gradient(learner, sampler.batch(4 * step, 4), 1)
        optimiser.step()


def in_our_order(plain: PlainConv4, *, gradients: bool = False) -> list[Tensor]:
    """The plain network's tensors in the order of `Conv4`: convolutions, norms, head."""

    def of(weight: Tensor) -> Tensor:
        return weight.grad if gradients and weight.grad is not None else weight.detach()

    convs = [layer for layer in plain.body if isinstance(layer, nn.Conv2d)]
    norms = [layer for layer in plain.body if isinstance(layer, nn.BatchNorm2d)]
    modules = [*convs, *norms, plain.head]
    return [of(weight) for module in modules for weight in module.parameters()]
