"""A learner leaves the caller's network as it was made, whatever its layers are called."""

import copy
import multiprocessing
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from innerloop.core.errors import ConfigError
from innerloop.data.images import FewShotDataset
from innerloop.data.minibatches import ImageSampler
from innerloop.data.sampling import EpisodeSampler
from innerloop.methods.heads.frozen import FrozenFeatures
from innerloop.methods.keys import key_of, name_of
from innerloop.methods.maml.learner import MAML
from innerloop.methods.mamlpp.learner import MAMLpp
from innerloop.methods.transfer.learner import Transfer
from innerloop.networks.base import blocks_of
from innerloop.networks.batch_norm import BatchNorm2d
from innerloop.networks.conv4 import Conv4
from laws.test_meta_gradient import random_episodes, relative

EPISODES = random_episodes(2, size=16)


def network(outputs: int = 3) -> Conv4:
    torch.manual_seed(3)
    return Conv4(outputs, image_size=16, filters=4, head_init="glorot").double()


def made(model: nn.Module) -> dict[str, Any]:
    """What a network is, but for the values of its weights."""
    return {
        "state": list(model.state_dict()),
        "trainable": [(name, weight.requires_grad) for name, weight in model.named_parameters()],
        "parameters": [id(weight) for weight in model.parameters()],
        "modes": [module.training for module in model.modules()],
        "attributes": [sorted(vars(module)) for module in model.modules()],
    }


@pytest.mark.parametrize("kind", [MAML, MAMLpp, Transfer, FrozenFeatures])
def test_a_learner_leaves_the_callers_network_as_it_was_made(kind):
    model = network()
    before = made(model)

    learner = kind(model)
    if kind is Transfer:
        one = EPISODES.query
        learner.meta_loss(type(one)(one.images[0], one.labels[0]))
    learner.predict(learner.adapt(EPISODES.support, steps=2), EPISODES.query.images)

    assert made(model) == before


@pytest.mark.parametrize("kind", [MAMLpp, Transfer])
def test_what_a_learner_trains_are_the_callers_own_weights(kind):
    model = network()
    learner = kind(model)

    with torch.no_grad():
        for weight in learner.parameters():
            weight.add_(1)

    assert all(
        torch.equal(weight, learner.model.get_parameter(name))
        for name, weight in model.named_parameters()
    )
    assert next(model.parameters()).detach().mean().item() > 0.5


@pytest.mark.parametrize("outer", [MAML, MAMLpp, Transfer])
def test_one_network_serves_a_second_learner_after_a_first(outer):
    model = network()
    alone = MAML(copy.deepcopy(model)).outer_loop(EPISODES)[0]

    outer(model)

    assert torch.equal(MAML(model).outer_loop(EPISODES)[0], alone)


NAMES = ["keys", "values", "items", "pop", "update", "get", "clear", "train", "x/y", "~1", "x~y"]


class Named(nn.Module):
    """Layers whose names are those of a dictionary's methods, or hold slashes."""

    def __init__(self, names: list[str]):
        super().__init__()
        for number, name in enumerate(names):
            self.add_module(name if not hasattr(self, name) else f"{name}{number}", BatchNorm2d(1))
        self.head = nn.Linear(256, 3)
        self.double()

    def forward(self, images: Tensor) -> Tensor:
        x = images
        for name, layer in self.named_children():
            x = layer(x).sin() if name != "head" else x
        return self.head(x.flatten(1))


@pytest.mark.parametrize("unit", ["layer", "tensor"])
@pytest.mark.parametrize("sets", [False, True])
def test_layers_may_have_any_names(sets, unit):
    """A learner around a network is the same learner around a network with other names."""
    plain = Named([f"layer{number}" for number in range(len(NAMES))])
    named = Named(NAMES)
    named.load_state_dict(dict(zip(named.state_dict(), plain.state_dict().values(), strict=True)))

    losses = []
    rates = []
    for model in (plain, named):
        learner = MAMLpp(model, inner_steps=2, learned_rates=unit, per_step_affine=sets).double()
        losses.append(learner.meta_loss(EPISODES)[0].item())
        learner.end_outer_step()
        rates.append(learner.diagnostics())
        assert (
            pickle.loads(pickle.dumps(learner)).state_dict().keys() == learner.state_dict().keys()
        )

    assert losses[0] == losses[1]
    assert len(rates[0]["learned_rates"]) == len(rates[1]["learned_rates"])
    assert set(rates[1]["running_var"]) == {
        name for name, _ in named.named_children() if name != "head"
    }


@pytest.mark.parametrize(
    "name", ["keys", "pop", "a.b", "a/b", "a~b", "a~1b", "~2keys", "a./b", "a/.b", "", "training"]
)
def test_a_key_says_its_name_again(name):
    assert name_of(key_of(name)) == name
    assert "." not in key_of(name)


def test_other_names_have_other_keys():
    names = ["a.b", "a/b", "a~1b", "a~b", "a~0b", "keys", "~2keys", "~02keys", "a./b", "a/.b"]

    assert len({key_of(name) for name in names}) == len(names)


def test_usual_names_have_the_keys_of_earlier_weight_files():
    assert key_of("convs.0.weight") == "convs/0/weight"
    assert key_of("head") == "head"


class Failing(nn.Module):
    """Its own code raises."""

    def __init__(self, error: Exception):
        super().__init__()
        self.head = nn.Linear(256, 3)
        self._error = error

    def forward(self, images: Tensor) -> Tensor:
        raise self._error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (TypeError("no map"), "no map"),
        (KeyError("layer"), "KeyError: 'layer'"),
        (AttributeError("scale"), "AttributeError: scale"),
        (IndexError("7"), "IndexError: 7"),
        (AssertionError(), "AssertionError"),
        (ZeroDivisionError("division by zero"), "division by zero"),
        (OSError("gone"), "gone"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_whatever_a_network_raises_is_a_sentence(error, words):
    learner = MAML(Failing(error).double())
    with pytest.raises(ConfigError, match=rf"Failing fails on .*: {words}\. Give images"):
        learner.adapt(EPISODES.support, steps=1)


def test_memory_that_ends_is_no_fault_of_the_network():
    learner = MAML(Failing(MemoryError()).double())
    with pytest.raises(MemoryError):
        learner.adapt(EPISODES.support, steps=1)


def test_whatever_a_loss_raises_is_a_sentence():
    def loss(outputs: Tensor, labels: Tensor) -> Tensor:
        raise TypeError("no loss")

    learner = MAML(network(), loss_fn=loss)
    with pytest.raises(
        ConfigError, match=r"loss_fn fails on outputs of shape \(.*, 3\).*: no loss"
    ):
        learner.adapt(EPISODES.support, steps=1)


def test_a_block_called_logits_is_refused():
    class Network(Conv4):
        @property
        def blocks(self) -> dict[str, tuple[str, ...]]:
            return {"logits": ("norms.3",)}

    with pytest.raises(ConfigError, match="has a block 'logits'"):
        blocks_of(Network(3))


def test_a_layer_at_two_places_is_normalised_at_each_by_what_comes_there():
    norm = BatchNorm2d(1)
    model = nn.Sequential(norm, nn.Conv2d(1, 1, 3), norm, nn.Flatten(), nn.Linear(196, 3)).double()
    learner = MAML(model)
    adaptation = learner.adapt(EPISODES.support, steps=1)

    by_support = learner.predict(adaptation, EPISODES.support.images, batch_norm="support")

    by_batch = learner.predict(adaptation, EPISODES.support.images, batch_norm="transductive")
    assert relative(by_support - by_batch, by_batch) <= 1e-10
    with pytest.raises(ConfigError, match="Layer '0' runs more than once in a forward pass"):
        learner.as_module(adaptation, batch_norm="support")
    with pytest.raises(ConfigError, match="Layer '0' runs more than once in a forward pass"):
        MAMLpp(model, inner_steps=1).double().meta_loss(EPISODES)


# Worker processes

DATA = FewShotDataset(
    "points", np.arange(4 * 5 * 4, dtype=np.uint8).reshape(4, 5, 1, 2, 2), ("a", "b", "c", "d")
)
SAMPLERS = {
    "episodes": EpisodeSampler(
        DATA, np.arange(4), ways=2, shots=1, queries=2, seed=0, stream_name="episodes/train"
    ),
    "images": ImageSampler(DATA, np.arange(4), seed=0, stream_name="images/train"),
}


def batch_of(sampler: EpisodeSampler | ImageSampler) -> Any:
    return sampler.batch(17, 6)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sampler_in_a_worker_process_gives_the_batches_of_this_one(name):
    here = batch_of(SAMPLERS[name])

    with multiprocessing.get_context("spawn").Pool(1) as pool:
        there = pool.apply(batch_of, (SAMPLERS[name],))

    here, there = (getattr(batch, "support", batch) for batch in (here, there))
    assert torch.equal(here.images, there.images) and torch.equal(here.labels, there.labels)
