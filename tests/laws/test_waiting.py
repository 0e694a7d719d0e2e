"""Nothing in an outer step waits for the device, or moves something to or from it.

A device computes behind the back of the process, until that asks for a value; and while a CUDA
graph is captured none can be asked for. Without a GPU the device is PyTorch's ``meta``, on which
there are no values, so that whatever looks at one fails.
"""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from innerloop.data.episodes import EpisodeBatch
from innerloop.data.images import LabelledImages
from innerloop.fast_weights.copies import version
from innerloop.methods.base import Learner
from innerloop.methods.door import Checked
from innerloop.methods.maml.learner import MAML
from laws.test_fused_gpu import LEARNERS, conv4
from laws.test_meta_gradient import random_episodes

aten = torch.ops.aten
WAITING = {
    aten._local_scalar_dense,
    aten.is_nonzero,
    aten.equal,
    aten.nonzero,
    aten.masked_select,
    aten._unique2,
    aten.unique_dim,
    aten.repeat_interleave,
}
"""Operations whose result, or its size, the process has to know."""


class NothingWaits(TorchDispatchMode):
    """Within the context an operation that waits for a device, or goes between two, is an error."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [of for of in tree_leaves((args, kwargs or {})) if isinstance(of, Tensor)]
        by_mask = func.overloadpacket in (aten.index, aten.index_put, aten.index_put_) and any(
            of.dtype == torch.bool for of in given[1:]
        )
        if func.overloadpacket in WAITING or by_mask:
            raise AssertionError(f"{func} waits")
        result = func(*args, **(kwargs or {}))
        # A number on the CPU is handed on with the operation that takes it.
        devices = {of.device.type for of in given if of.ndim}
        if isinstance(result, Tensor):
            devices |= {result.device.type} if devices else set()
        if len(devices) > 1:
            raise AssertionError(f"{func} goes between {devices}")
        return result


def checked(of: LabelledImages, device: str, ways: int) -> Checked:
    """As what came through the door of a learner, which looks at values once."""
    images, labels = of.images.to(device), of.labels.to(device)
    return Checked(images, labels, ways, (version(images), version(labels)), of_support=True)


def episodes_on(device: str) -> EpisodeBatch:
    drawn = random_episodes(2, shots=2, queries=4, size=16)
    return EpisodeBatch(
        checked(drawn.support, device, 3),
        checked(drawn.query, device, 3),
        drawn.classes,
        drawn.support_drawings,
        drawn.query_drawings,
    )


def outer_step(learner: Learner, episodes: EpisodeBatch) -> None:
    loss, _ = learner.meta_loss(episodes)
    loss.backward()
    learner.end_outer_step()


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("step", [0, 40])
@pytest.mark.parametrize("name", LEARNERS)
def test_no_outer_step_waits_for_the_device(name, step, device, by_gpu_network):
    learner = LEARNERS[name](conv4(filters=4)).double().to(device)
    episodes = episodes_on(device)
    # Once for a batch it is seen whether it lies class by class; initial weights are drawn on the
    # CPU once.
    vars(episodes)["is_by_class"] = True, True
    vars(learner)["_is_cut_known"] = True  # seen once, on the first images of all
    learner.begin_outer_step(step, 100)
    if "glorot" in name:
        outer_step(learner, episodes)
    with NothingWaits():
        outer_step(learner, episodes)

    assert any(of.grad is not None for of in learner.parameters())


@pytest.mark.parametrize(
    "waiting",
    [
        lambda x: x.sum().item(),
        lambda x: bool((x > 0).any()),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: torch.equal(x, x),
        lambda x: x.to("meta"),
        lambda x: x.unique(),
    ],
)
def test_what_waits_is_noticed(waiting):
    values = torch.rand(3)
    with pytest.raises(AssertionError, match=r"waits|goes between"), NothingWaits():
        waiting(values)


def test_a_learner_that_looks_at_a_value_is_noticed(by_gpu_network):
    class Looking(MAML):
        def _refuse_outputs(self, batch: LabelledImages, outputs: Tensor) -> None:
            if outputs.abs().max().item() < 0:
                raise ValueError

    learner = Looking(conv4(), first_order=True)
    with pytest.raises(AssertionError, match="_local_scalar_dense"), NothingWaits():
        outer_step(learner, episodes_on("cpu"))
