"""The laws of Reptile, in float64, each against an oracle of its own."""

import copy
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from innerloop.core.errors import ConfigError, DataError
from innerloop.data.episodes import EpisodeBatch
from innerloop.data.images import LabelledImages
from innerloop.experiments.experiment import build_learner
from innerloop.experiments.meta_gradient import accumulate_meta_gradient
from innerloop.methods.catalogue import read_config, settings_of
from innerloop.methods.maml.learner import MAML
from innerloop.methods.reptile.learner import Reptile
from innerloop.methods.reptile.mini_batches import mini_batches
from innerloop.networks.conv4 import Conv4
from killing import campaign
from laws.test_meta_gradient import DOUBLE, SmallConv, flat, random_episodes, relative
from laws.test_sums import assert_same_bits_however_divided, five_episodes

WAYS, SHOTS, QUERIES = 3, 2, 4


def outer_gradient(learner: Reptile, episodes: EpisodeBatch) -> Tensor:
    loss, _ = learner.meta_loss(episodes)
    return flat(torch.autograd.grad(loss, list(learner.params.values())))


def images_of_class(episodes: EpisodeBatch, episode: int, label: int) -> Tensor:
    """Shots, then queries, found by their labels."""
    return torch.cat(
        [
            part.images[episode][part.labels[episode] == label]
            for part in (episodes.support, episodes.query)
        ]
    )


def plain_loop(
    model: nn.Module,
    episodes: EpisodeBatch,
    optimiser_of: Any,
    *,
    steps: int,
    shots: int,
    among: int,
) -> tuple[list[nn.Module], list[float]]:
    """Each episode's trained copy of a network, by PyTorch's own optimiser in place; and every
    mini-batch's loss."""
    trained, losses = [], []
    for episode in range(len(episodes)):
        adapted = copy.deepcopy(model)
        optimiser = optimiser_of(adapted.parameters())
        of_classes = [images_of_class(episodes, episode, label) for label in range(WAYS)]
        for number in range(steps):
            chosen = [(number * shots + place) % among for place in range(shots)]
            images = torch.cat([images[chosen] for images in of_classes])
            labels = torch.arange(WAYS).repeat_interleave(shots)
            optimiser.zero_grad()
            loss = F.cross_entropy(adapted(images), labels)
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        trained.append(adapted)
    return trained, losses


OPTIMISERS: dict[str, Any] = {
    "sgd": lambda weights: torch.optim.SGD(weights, lr=0.05),
    "adam": lambda weights: torch.optim.Adam(weights, lr=0.05, betas=(0.0, 0.999)),
}


@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize("fresh_head", [None, "head"])
@pytest.mark.parametrize(("shots", "among"), [(2, 0), (2, 3), (1, 2)])
def test_the_outer_gradient_is_the_difference_of_weights_of_a_plain_loop(
    optimiser, fresh_head, shots, among
):
    """θ minus the mean of the trained copies; where images end, they begin again."""
    model, episodes = SmallConv(F.relu), random_episodes(3)
    if fresh_head:
        with torch.no_grad():
            for weight in model.head.parameters():
                weight.zero_()
    learner = Reptile(
        model,
        inner_lr=0.05,
        inner_steps=4,
        inner_optimiser=optimiser,
        inner_shots=shots,
        train_shots=among,
        fresh_head=fresh_head,
    )

    loss, logged = learner.meta_loss(episodes)
    gradient = flat(torch.autograd.grad(loss, list(learner.params.values())))

    trained, losses = plain_loop(
        model,
        episodes,
        OPTIMISERS[optimiser],
        steps=4,
        shots=shots,
        among=among or SHOTS + QUERIES,
    )
    difference = flat(
        weight - torch.stack([of.get_parameter(name) for of in trained]).mean(dim=0)
        for name, weight in learner.params.items()
    )
    assert relative(gradient - difference, difference) <= 1e-10
    assert loss.item() == pytest.approx(sum(losses) / len(losses), rel=1e-12)
    assert logged["loss_of_first_batch"].item() == pytest.approx(sum(losses[::4]) / 3, rel=1e-12)
    assert logged["loss_of_last_batch"].item() == pytest.approx(sum(losses[3::4]) / 3, rel=1e-12)


def test_the_outer_gradient_is_no_gradient_of_a_query_set():
    """Where training goes through the shots alone, queries may be anything; and FO-MAML, which
    takes their gradient at the same weights, has another direction."""
    model, episodes = SmallConv(F.relu), random_episodes(2)
    learner = Reptile(model, inner_lr=0.3, inner_steps=3, inner_shots=SHOTS, train_shots=SHOTS)
    other = LabelledImages(episodes.query.images.flip(0, 3) * 0.1, episodes.query.labels.flip(1))
    others = EpisodeBatch(
        episodes.support,
        other,
        episodes.classes,
        episodes.support_drawings,
        episodes.query_drawings,
    )

    gradient = outer_gradient(learner, episodes)
    of_query = flat(
        torch.autograd.grad(
            MAML(model, inner_lr=0.3, inner_steps=3, first_order=True).meta_loss(episodes)[0],
            list(learner.params.values()),
        )
    )

    assert torch.equal(gradient, outer_gradient(learner, others))
    assert F.cosine_similarity(gradient, of_query, dim=0).abs() < 0.9


def test_with_one_step_it_is_joint_training():
    """α times the gradient of the mean loss of the first mini-batches, and that loss."""
    model, episodes = SmallConv(F.softplus), random_episodes(3)
    learner = Reptile(model, inner_lr=0.3, inner_steps=1, inner_shots=SHOTS)

    loss, _ = learner.meta_loss(episodes)
    gradient = flat(torch.autograd.grad(loss, list(learner.params.values())))

    # Mini-batches of as many images as there are shots: the first is the support set.
    joint = torch.stack(
        [
            F.cross_entropy(model(images), labels)
            for images, labels in zip(episodes.support.images, episodes.support.labels, strict=True)
        ]
    ).mean()
    expected = 0.3 * flat(torch.autograd.grad(joint, list(model.parameters())))
    assert relative(gradient - expected, expected) <= 1e-12
    assert loss.item() == pytest.approx(joint.item(), rel=1e-12)


def test_with_two_steps_the_leading_terms_are_those_of_the_papers_expansion():
    """θ − φ_2 = α (g_0 + g_1) − α² H_1 g_0 + O(α³), section 5.1: what is left falls with the third
    power of the rate, and without the second term with the second."""
    model, episodes = SmallConv(F.softplus), random_episodes(1)
    weights = list(model.parameters())
    batches = list(mini_batches(episodes, 2, shots=2, among=0))

    def slope(number: int, create_graph: bool = False) -> Tensor:
        images, labels = batches[number].images[0], batches[number].labels[0]
        loss = F.cross_entropy(model(images), labels)
        return flat(torch.autograd.grad(loss, weights, create_graph=create_graph))

    first, second = slope(0), slope(1)
    product = flat(torch.autograd.grad(slope(1, create_graph=True) @ first, weights))
    left = {1: [], 2: []}
    for rate in (0.01, 0.005):
        learner = Reptile(model, inner_lr=rate, inner_steps=2, inner_shots=2)
        of_first_order = outer_gradient(learner, episodes) - rate * (first + second)
        left[1].append(of_first_order.norm().item())
        left[2].append((of_first_order + rate**2 * product).norm().item())

    assert left[1][0] / left[1][1] == pytest.approx(4, rel=0.05)
    assert left[2][0] / left[2][1] == pytest.approx(8, rel=0.05)


class Counting(SmallConv):
    """Counts the images that it is given."""

    images = 0

    def forward(self, images: Tensor) -> Tensor:
        Counting.images += len(images)
        return super().forward(images)


def test_an_outer_step_passes_as_many_images_as_the_settings_say():
    config = settings_of(
        "reptile",
        ways=WAYS,
        shots=SHOTS,
        queries=QUERIES,
        meta_batch_size=2,
        inner_steps=3,
        eval_inner_steps=7,
    )
    learner = Reptile.from_config(config, Counting(F.relu))
    Counting.images = 0

    learner.meta_loss(random_episodes(2))

    assert Counting.images == config.own.image_passes(config, 1) == 2 * 3 * WAYS * 2
    assert config.own.adaptation_steps == 7


def test_mini_batches_hold_every_image_once_before_any_twice():
    episodes = random_episodes(2)
    seen = torch.cat([batch.images for batch in mini_batches(episodes, 6, shots=2, among=0)], dim=1)
    everything = torch.cat([episodes.support.images, episodes.query.images], dim=1)

    def sums(images: Tensor) -> Tensor:
        return images.flatten(2).sum(dim=2).sort(dim=1).values

    half = seen.shape[1] // 2
    assert torch.allclose(sums(seen[:, :half]), sums(everything), rtol=1e-12)
    assert torch.equal(seen[:, :half], seen[:, half:])


def test_training_on_targets_of_a_regression_is_the_same_loop():
    """One class of everything; the gradient of a plain loop on ½ (w x − y)²."""

    def sets(values: list[float]) -> LabelledImages:
        inputs = torch.tensor(values, dtype=DOUBLE)[None, :, None]
        return LabelledImages(inputs, 2 * inputs)

    nothing = torch.zeros(1, 1, 1, dtype=torch.int64)
    episodes = EpisodeBatch(sets([1.0, 2.0]), sets([3.0, 4.0]), nothing[:, 0], nothing, nothing)
    model = nn.Linear(1, 1, bias=False).double()
    weight = model.weight.item()
    learner = Reptile(
        model, inner_lr=0.1, inner_steps=3, inner_shots=2, loss_fn=lambda a, b: F.mse_loss(a, b) / 2
    )

    gradient = outer_gradient(learner, episodes)

    adapted = weight
    for one, other in ((1.0, 2.0), (3.0, 4.0), (1.0, 2.0)):
        adapted -= 0.1 * (one**2 + other**2) / 2 * (adapted - 2)
    assert gradient.item() == pytest.approx(weight - adapted, rel=1e-12)


def test_the_outer_rate_falls_along_a_line():
    learner = Reptile(SmallConv(F.relu))

    assert [learner.begin_outer_step(step, 4) for step in range(4)] == [1.0, 0.75, 0.5, 0.25]
    flat_one = Reptile(SmallConv(F.relu), outer_annealing=False)
    assert [flat_one.begin_outer_step(step, 4) for step in range(4)] == [1.0] * 4
    assert settings_of("reptile").own.schedule(0.1) == ", falling linearly to 0"


@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize("engine", ["fused", "reference"])
def test_the_outer_gradient_has_the_same_bits_in_chunks_and_slices(optimiser, engine):
    def make() -> Reptile:
        torch.manual_seed(0)
        learner = Reptile(
            Conv4(5, filters=16), inner_steps=3, inner_optimiser=optimiser, inner_shots=1
        )
        learner.engine = engine
        return learner

    assert_same_bits_however_divided(make, five_episodes())


@pytest.mark.parametrize("fresh_head", [None, "head"])
def test_the_fused_engine_has_the_gradient_of_the_reference(fresh_head):
    """Of gradient descent. Adam divides each gradient by its size, so that of one that is next to
    nothing rounding decides the step, by either engine."""
    torch.manual_seed(0)
    model = Conv4(5, filters=16, head_init="glorot")
    learner = Reptile(model, inner_lr=0.01, inner_steps=3, inner_shots=1, fresh_head=fresh_head)
    episodes = five_episodes()
    gradients = []
    for engine in ("fused", "reference"):
        learner.engine = engine
        accumulate_meta_gradient(learner, episodes, 8)
        gradients.append(flat(weight.grad for weight in learner.params.values()))

    assert relative(gradients[0] - gradients[1], gradients[1]) <= 1e-5


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_adaptation_takes_the_optimisers_steps_on_the_whole_support_set(optimiser):
    model, episodes = SmallConv(F.relu), random_episodes(2)
    learner = Reptile(model, inner_lr=0.05, inner_optimiser=optimiser)

    adaptation = learner.adapt(episodes.support, steps=6)

    for episode in range(2):
        adapted = copy.deepcopy(model)
        chosen = OPTIMISERS[optimiser](adapted.parameters())
        for _ in range(6):
            chosen.zero_grad()
            support = episodes.support
            F.cross_entropy(adapted(support.images[episode]), support.labels[episode]).backward()
            chosen.step()
        for name, weight in adapted.named_parameters():
            found = adaptation.fast_weights[name][episode]
            assert torch.allclose(found, weight, rtol=0, atol=1e-10)


def test_it_adapts_to_other_ways_and_shots_predicts_lone_images_and_becomes_a_module():
    learner = Reptile(Conv4(3, image_size=16, filters=4).double(), fresh_head="head")
    episodes = random_episodes(2, ways=5, shots=1, size=16)

    adaptation = learner.adapt(episodes.support, steps=3)
    together = learner.predict(adaptation, episodes.query.images, batch_norm="support")
    alone = learner.predict(adaptation, episodes.query.images[:, :1], batch_norm="support")
    module = learner.as_module(adaptation, episode=1)

    assert together.shape == (2, 20, 5)
    assert torch.allclose(together[:, :1], alone, rtol=0, atol=1e-12)
    assert torch.allclose(module(episodes.query.images[1]), together[1], rtol=0, atol=1e-10)
    assert "logits" in learner.block_outputs(adaptation, episodes.query.images)
    assert learner.adapting() is learner
    with pytest.raises(ConfigError, match="Reptile adapts in its own way alone"):
        learner.adapting("head")


def test_training_leaves_the_model_bit_equal():
    model, episodes = SmallConv(F.relu), random_episodes(2)
    before = copy.deepcopy(model.state_dict())

    Reptile(model, inner_optimiser="adam").meta_loss(episodes)[0].backward()

    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (dict(train_shots=21), "train_shots=21 is more than the 20 images that an episode has"),
        (dict(inner_shots=21), "inner_shots=21 is more than the 20 images of a class"),
        (dict(inner_shots=3, train_shots=2), "inner_shots=3 is more than the 2 images"),
        (dict(inner_steps=1), "After one inner step only a fresh head has moved"),
        (dict(inner_steps=0), "inner_steps must be between 1 and 1,000: got 0"),
        (dict(inner_optimiser="adams"), "Did you mean 'adam'"),
    ],
)
def test_settings_that_could_not_train_are_refused(settings, sentence):
    with pytest.raises(ConfigError, match=sentence):
        settings_of("reptile", **settings)


def test_a_learner_that_could_not_train_is_refused():
    with pytest.raises(ConfigError, match="After one inner step only a fresh head has moved"):
        Reptile(SmallConv(F.relu), inner_steps=1, fresh_head="head")
    with pytest.raises(ConfigError, match="inner_steps must be between 1"):
        Reptile(SmallConv(F.relu), inner_steps=0)
    with pytest.raises(ConfigError, match=r"train_shots=7 .* an episode has 6"):
        Reptile(SmallConv(F.relu), train_shots=7).meta_loss(random_episodes(1))
    with pytest.raises(ConfigError, match=r"inner_shots=7 .* an episode has 6"):
        Reptile(SmallConv(F.relu), inner_shots=7).meta_loss(random_episodes(1))


def test_episodes_without_as_many_images_of_each_class_are_refused():
    whole = random_episodes(1)
    images, labels = whole.support.images, whole.support.labels
    of_queries = whole.query.images, whole.query.labels
    wrong = {
        "a query less": {"query": LabelledImages(*(of[:, 1:] for of in of_queries))},
        "another order": {"support": LabelledImages(images, labels.sort(stable=True)[0].roll(1))},
        "more of one": {"support": LabelledImages(images, torch.tensor([[0, 0, 0, 1, 1, 2]]))},
        "one class in all": {"classes": whole.classes[:, :1]},
    }
    for changes in wrong.values():
        with pytest.raises(DataError, match=r"as many images of each of (3|1) classes"):
            Reptile(SmallConv(F.relu)).meta_loss(dataclasses.replace(whole, **changes))
    larger = LabelledImages(F.pad(of_queries[0], (1, 1, 1, 1)), of_queries[1])
    with pytest.raises(DataError, match="support and query images together"):
        Reptile(SmallConv(F.relu)).meta_loss(dataclasses.replace(whole, query=larger))


@pytest.mark.parametrize(("ways", "shots"), [(5, 1), (5, 5), (20, 1), (20, 5)])
def test_the_papers_protocol_is_a_preset_with_its_numbers(ways, shots):
    """Mini-batches of 10 or 20 images; once through 10 images of each class."""
    config = settings_of("reptile", f"paper-{ways}w{shots}s")
    own = config.own

    assert ways * own.inner_shots == {5: 10, 20: 20}[ways]
    assert own.inner_steps * own.inner_shots == own.train_shots == 10
    assert config.episode.shots + config.episode.queries == 10
    assert (own.inner_steps, own.inner_lr) == {5: (5, 0.001), 20: (10, 0.0005)}[ways]
    assert (own.inner_optimiser, own.outer_annealing, own.fresh_head) == ("adam", True, False)
    assert (own.meta_batch_size, own.eval_inner_steps) == (5, 50)
    assert config.training.meta_steps == {5: 100_000, 20: 200_000}[ways]
    assert read_config(config.to_json()) == config
    assert isinstance(build_learner(config.replace(device="cpu"), 1), Reptile)


@pytest.mark.slow
def test_a_training_that_is_killed_ends_with_the_bits_of_one_that_was_not(tmp_path: Path):
    tally = campaign(tmp_path, 3, method="reptile")

    assert tally.kills >= 3 and not tally.failures
