"""Every learner answers wrong inputs with a sentence, a stranger's learner too."""

import copy
import dataclasses
import re
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from innerloop.core.errors import ConfigError, DataError, InnerloopError, NonFiniteError
from innerloop.data.episodes import EpisodeBatch
from innerloop.data.images import LabelledImages
from innerloop.methods.anil.learner import ANIL
from innerloop.methods.base import Adaptation, Learner
from innerloop.methods.baselinepp.learner import BaselinePP
from innerloop.methods.boil.learner import BOIL
from innerloop.methods.heads.episodic import EpisodicFeatures
from innerloop.methods.heads.frozen import FrozenFeatures
from innerloop.methods.heads.pretrained import PretrainedFeatures
from innerloop.methods.imaml.learner import IMAML
from innerloop.methods.maml.learner import MAML
from innerloop.methods.mamlpp.learner import MAMLpp
from innerloop.methods.matchingnet.learner import MatchingNet
from innerloop.methods.metaoptnet.learner import MetaOptNet
from innerloop.methods.metasgd.learner import MetaSGD
from innerloop.methods.protomaml.learner import ProtoMAML
from innerloop.methods.protonet.learner import ProtoNet
from innerloop.methods.r2d2.learner import R2D2
from innerloop.methods.relationnet.learner import RelationNet
from innerloop.methods.reptile.learner import Reptile
from innerloop.methods.simpleshot.learner import SimpleShot
from innerloop.methods.tim.learner import TIM
from innerloop.methods.transfer.learner import Transfer
from innerloop.networks.batch_norm import BatchNormMode
from innerloop.networks.conv4 import Conv4
from laws.test_meta_gradient import half_squared_error, random_episodes, relative

EPISODES = random_episodes(2, size=16)
SUPPORT, QUERY = EPISODES.support, EPISODES.query


def network(outputs: int = 3) -> Conv4:
    torch.manual_seed(3)
    return Conv4(outputs, image_size=16, filters=4, head_init="glorot").double()


class Stranger(Learner):
    """A method of someone else's, which checks nothing: nearest class means."""

    def __init__(self, model: Conv4):
        super().__init__()
        self.model = model

    def meta_loss(self, batch: EpisodeBatch) -> tuple[Tensor, dict[str, Tensor]]:
        *_, last = self.trajectory(batch.support, steps=0)
        logits = self.predict(last, batch.query.images)
        return F.cross_entropy(logits.flatten(0, 1), batch.query.labels.flatten()), {}

    def trajectory(self, support: LabelledImages, *, steps: int) -> Iterator[Adaptation]:
        one_hot = F.one_hot(support.labels).double().transpose(1, 2)
        features = torch.stack([self.model.embed(images) for images in support.images])
        means = one_hot @ features / one_hot.sum(dim=2, keepdim=True)
        for count in range(1, steps + 2):
            nothing = torch.zeros(len(support), count)
            yield Adaptation({"means": means}, support, nothing, nothing)

    def predict(
        self, adaptation: Adaptation, images: Tensor, *, batch_norm: BatchNormMode | None = None
    ) -> Tensor:
        features = torch.stack([self.model.embed(of_one) for of_one in images])
        return -torch.cdist(features, adaptation.fast_weights["means"])


LEARNERS: dict[str, Callable[[], Learner]] = {
    "maml": lambda: MAML(network(), inner_steps=2),
    "maml, fresh head": lambda: MAML(network(7), inner_steps=2, fresh_head="head"),
    "maml++": lambda: MAMLpp(network(), inner_steps=2),
    "transfer": lambda: Transfer(network(7)),
    "frozen": lambda: FrozenFeatures(network(), batch_norm_modes=("transductive", "support")),
    "stranger's": lambda: Stranger(network()),
    "anil": lambda: ANIL(network(), inner_steps=2),
    "boil": lambda: BOIL(network(), inner_steps=2),
    "meta-sgd": lambda: MetaSGD(network(), inner_steps=2),
    "reptile": lambda: Reptile(network(), inner_steps=2),
    "imaml": lambda: IMAML(network(), inner_steps=2),
    "protomaml": lambda: ProtoMAML(network(), inner_steps=2),
    "protonet": lambda: ProtoNet(network()),
    "protonet, cosine": lambda: ProtoNet(network(), distance="cosine"),
    "matchingnet": lambda: MatchingNet(network()),
    "matchingnet, full context": lambda: MatchingNet(network(), full_context=True),
    "relationnet": lambda: RelationNet(network()),
    "r2d2": lambda: R2D2(network()),
    "metaoptnet": lambda: MetaOptNet(network()),
    "metaoptnet, ridge": lambda: MetaOptNet(network(), solver="ridge"),
    "baseline++": lambda: BaselinePP(network(7)),
    "simpleshot": lambda: SimpleShot(network(7)),
    "tim": lambda: TIM(network(7)),
}
MINI_BATCH = LabelledImages(QUERY.images.flatten(0, 1), QUERY.labels.flatten())
BY_STORED = {"transfer", "baseline++", "simpleshot", "tim"}
"""Whose predictions normalise by stored statistics alone; they are pretrained on mini-batches."""
BY_RULES = {name for name in LEARNERS if isinstance(LEARNERS[name](), EpisodicFeatures)}
"""Which learn features for a rule, on episodes."""


def support(**changes: Any) -> LabelledImages:
    return dataclasses.replace(SUPPORT, **changes)


def spoilt(value: float) -> Tensor:
    images = SUPPORT.images.clone()
    images[1, 2, 0, 3, 3] = value
    return images


WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "a pair": (lambda: (SUPPORT.images, SUPPORT.labels), "takes innerloop.LabelledImages: got tup"),
    "episodes": (lambda: EPISODES, "takes innerloop.LabelledImages: got EpisodeBatch"),
    "numpy": (
        lambda: LabelledImages(SUPPORT.images.numpy(), SUPPORT.labels.numpy()),  # type: ignore[arg-type]
        "support images are of type ndarray: give a torch.Tensor",
    ),
    "lists": (lambda: LabelledImages([1], [0]), "images are of type list: give"),  # type: ignore[arg-type]
    "negative labels": (lambda: support(labels=SUPPORT.labels - 1), "counted from 0: got -1"),
    "a label that cross-entropy passes over": (
        lambda: support(labels=SUPPORT.labels.masked_fill(SUPPORT.labels == 1, -100)),
        "counted from 0: got -100",
    ),
    "a class that is missing": (
        lambda: support(labels=SUPPORT.labels.masked_fill(SUPPORT.labels == 1, 0)),
        r"labelled 0 to 2: in 2 of 2 a label is missing",
    ),
    "the last class of one episode missing": (
        lambda: support(labels=torch.stack([SUPPORT.labels[0], SUPPORT.labels[0].clamp(max=1)])),
        r"labelled 0 to 2: in 1 of 2 a label is missing",
    ),
    "numbers of all classes": (
        lambda: support(labels=5 * SUPPORT.labels + 4),
        r"labelled 0 to 14: in 2 of 2 a label is missing. Number the classes of an episode anew",
    ),
    "complex labels": (lambda: support(labels=SUPPORT.labels.to(torch.complex64)), "complex64 of"),
    "fewer labels": (lambda: support(labels=SUPPORT.labels[:, :4]), "must pair up: got images"),
    "one episode": (
        lambda: LabelledImages(SUPPORT.images[0], SUPPORT.labels[0]),
        r"have shape \(6,\): give \(E, n\), with one episode as a batch of one",
    ),
    "nothing": (
        lambda: support(images=SUPPORT.images[:, :0], labels=SUPPORT.labels[:, :0]),
        "at least one",
    ),
    "not a number": (lambda: support(images=spoilt(torch.nan)), "images hold NaN or infinity"),
    "infinity": (lambda: support(images=spoilt(torch.inf)), "images hold NaN or infinity"),
    "float32": (lambda: support(images=SUPPORT.images.float()), r"images as torch\.float64\.$"),
    "bytes": (lambda: support(images=SUPPORT.images.byte()), r"torch\.float64, in \[0, 1\]\.$"),
    "another device": (lambda: support(images=SUPPORT.images.to("meta")), "are on meta and labels"),
    "both elsewhere": (
        lambda: LabelledImages(SUPPORT.images.to("meta"), SUPPORT.labels.to("meta")),
        "images are on meta and the network is on cpu",
    ),
}
"""What is given as a support set -> the sentence."""


@pytest.mark.parametrize("learner", LEARNERS)
@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_support_set_is_refused_by_every_learner(name, learner):
    make, sentence = WRONG[name]
    of = LEARNERS[learner]()

    for operation in (of.adapt, of.trajectory):
        with pytest.raises(InnerloopError, match=sentence):
            operation(make(), steps=1)


@pytest.mark.parametrize("learner", [name for name in LEARNERS if name not in BY_STORED])
@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        (lambda: LabelledImages(QUERY.images, QUERY.labels + 1), "query set has label 3, and the"),
        (lambda: LabelledImages(QUERY.images, QUERY.labels - 1), "query labels are counted from 0"),
        (lambda: LabelledImages(QUERY.images * torch.nan, QUERY.labels), "query images hold NaN"),
        (lambda: LabelledImages(QUERY.images, QUERY.labels.double()), "both are classes"),
        (lambda: QUERY[:1], "All parts of a batch are of the same episodes: got support 2, query"),
    ],
)
def test_a_wrong_query_set_is_refused_by_every_objective(query, sentence, learner):
    of = LEARNERS[learner]()
    names = ("meta_loss", "outer_loop", "transfer_learn")
    if isinstance(of, FrozenFeatures):  # it has no training of its own
        names = ("transfer_learn",)
    objectives: list[Callable[[Any], Any]] = [getattr(of, n) for n in names if hasattr(of, n)]

    for objective in objectives:
        with pytest.raises(DataError, match=sentence):
            objective(dataclasses.replace(EPISODES, query=query()))
        with pytest.raises(ConfigError, match=r"takes innerloop\.EpisodeBatch: got LabelledImages"):
            objective(SUPPORT)


@pytest.mark.parametrize("name", ["maml", "maml++"])
def test_one_query_image_under_its_own_statistics_is_no_objective(name):
    lone = LabelledImages(QUERY.images[:, :1], QUERY.labels[:, :1])
    drawings = torch.zeros(2, 3, 1, dtype=torch.int64)
    batch = dataclasses.replace(EPISODES, query=lone, query_drawings=drawings)

    with pytest.raises(ConfigError, match="One image alone has no batch"):
        LEARNERS[name]().meta_loss(batch)


class AdaptsToQueries(MAML):
    """A method that takes a query set for a support set."""

    def meta_loss(self, batch: EpisodeBatch) -> tuple[Tensor, dict[str, Tensor]]:
        self.adapt(batch.query, steps=1)
        return torch.zeros(()), {}


def test_what_was_checked_as_a_query_set_is_looked_at_again_as_a_support_set():
    query = LabelledImages(QUERY.images, torch.full_like(QUERY.labels, 2))

    with pytest.raises(DataError, match="labelled 0 to 2: in 2 of 2 a label is missing"):
        AdaptsToQueries(network()).meta_loss(dataclasses.replace(EPISODES, query=query))


def test_a_support_set_of_another_learner_must_fit_this_one():
    checked = MAML(network()).adapt(SUPPORT, steps=0).support

    with pytest.raises(DataError, match=r"images are torch\.float64 and the network's weights"):
        MAML(network().float()).adapt(checked, steps=1)


class Beside:
    """Half a method, which is no learner itself."""

    def meta_loss(self, batch: EpisodeBatch) -> tuple[Tensor, dict[str, Tensor]]:
        return batch.support.labels.sum().double(), {}


class FromBeside(Beside, Stranger):
    """A method whose objective comes from a class beside."""


def test_an_operation_from_a_class_beside_goes_through_the_door_too():
    gap = dataclasses.replace(EPISODES, support=support(labels=2 * SUPPORT.labels))

    with pytest.raises(DataError, match="in 2 of 2 a label is missing"):
        FromBeside(network()).meta_loss(gap)


class Drops(Conv4):
    """A network with dropout before its head."""

    drop: nn.Dropout

    def embed(self, images: Tensor) -> Tensor:
        return self.drop(super().embed(images))


def test_dropout_that_somebody_turned_on_is_refused_and_a_refusal_changes_nothing():
    model = Drops(3, image_size=16, filters=4).double()
    model.drop = nn.Dropout(0.5)
    learner = MAML(model.eval())
    expected = learner.adapt(SUPPORT, steps=1).fast_weights

    with pytest.raises(ConfigError, match="is dropout"):
        learner.train()
    assert not any(module.training for module in model.modules())
    for name, weight in learner.adapt(SUPPORT, steps=1).fast_weights.items():
        assert torch.equal(weight, expected[name])
    model.train()
    for operate in (lambda: learner.adapt(SUPPORT, steps=1), lambda: learner.meta_loss(EPISODES)):
        with pytest.raises(ConfigError, match="is dropout"):
            operate()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_learner_that_was_made_coarse_later_is_refused(dtype):
    learner = MAML(network()).to(dtype)

    with pytest.raises(ConfigError, match=r"weights are .*, too coarse for inner steps"):
        learner.adapt(support(images=SUPPORT.images.to(dtype)), steps=1)


@pytest.mark.parametrize("learner", LEARNERS)
@pytest.mark.parametrize("adaptation", [None, {}, SUPPORT])
def test_what_is_no_adaptation_is_refused(adaptation, learner):
    with pytest.raises(ConfigError, match="predict takes what adapt returned: got"):
        LEARNERS[learner]().predict(adaptation, QUERY.images)


def test_an_adaptation_of_another_network_is_refused():
    other = MAML(Line(3), loss_fn=F.cross_entropy).adapt(SUPPORT, steps=1)

    with pytest.raises(ConfigError, match="The adaptation is another learner's"):
        MAML(network()).predict(other, QUERY.images)


class Wide(nn.Module):
    """Logits with a dimension too many."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(256, 9).double()

    def forward(self, images: Tensor) -> Tensor:
        return self.head(images.flatten(1)).view(-1, 3, 3)


def test_logits_with_a_dimension_too_many_are_refused():
    with pytest.raises(ConfigError, match=r"shape \(6, 3, 3\) for 6 images: let forward return"):
        MAML(Wide()).adapt(SUPPORT, steps=1)


class MapEmbedded(Conv4):
    """An ``embed`` that gives a map, which forward flattens."""

    def embed(self, images: Tensor) -> Tensor:
        return super().embed(images)[:, :, None, None]

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.embed(images).flatten(1))


OF_FEATURES = (
    *(Transfer, ProtoNet, MatchingNet, R2D2, MetaOptNet, BaselinePP, SimpleShot, TIM, ProtoMAML),
)


@pytest.mark.parametrize("kind", OF_FEATURES)
def test_features_that_are_a_map_are_refused(kind):
    learner = kind(MapEmbedded(3, image_size=16, filters=4, head_init="glorot").double())
    refused = pytest.raises(ConfigError, match=r"embed of MapEmbedded returns \(\d+, 4, 1, 1\)")

    with refused:
        learner.adapt(SUPPORT, steps=1)
    if isinstance(learner, EpisodicFeatures):
        with refused:
            learner.meta_loss(EPISODES)
    if isinstance(learner, PretrainedFeatures):
        with refused:
            learner.meta_loss(LabelledImages(SUPPORT.images[0], SUPPORT.labels[0]))


@pytest.mark.parametrize("learner", LEARNERS)
def test_predictions_are_of_what_numpy_wrote_into_the_images_and_not_into_the_support(learner):
    of = LEARNERS[learner]()
    drawn = np.random.default_rng(0)
    frame, support = QUERY.images.clone().numpy(), SUPPORT.images.clone().numpy()
    images = torch.from_numpy(frame)
    adaptation = of.adapt(LabelledImages(torch.from_numpy(support), SUPPORT.labels), steps=1)
    of.predict(adaptation, images)
    frame[:] = drawn.random(frame.shape)
    support[:] = drawn.random(support.shape)

    for mode in of.batch_norm_modes:
        fresh = of.predict(of.adapt(SUPPORT, steps=1), images.clone(), batch_norm=mode)
        assert torch.equal(of.predict(adaptation, images, batch_norm=mode), fresh)
    if learner != "stranger's":
        frame[0, 0] = np.nan
        with pytest.raises(DataError, match="query images hold NaN"):
            of.predict(adaptation, images)


@pytest.mark.parametrize("learner", sorted(LEARNERS.keys() - {"frozen"}))
def test_a_validation_loss_changes_nothing(learner):
    of = LEARNERS[learner]()
    batch = MINI_BATCH if learner in BY_STORED else EPISODES
    trained, _ = of.meta_loss(batch)
    of.end_outer_step()
    before = {name: value.clone() for name, value in of.state_dict().items()}
    again, _ = of.meta_loss(batch)
    of.begin_outer_step(0, 1)
    of.load_state_dict(before)

    with torch.no_grad():
        loss, _ = of.meta_loss(batch)
    of.end_outer_step()

    assert not loss.requires_grad and torch.allclose(loss, again, rtol=1e-12)
    assert trained.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in of.state_dict().items())


@pytest.mark.parametrize("learner", sorted(LEARNERS.keys() - BY_STORED - {"frozen"}))
def test_episodes_of_one_class_teach_nothing(learner):
    def first(of: LabelledImages) -> LabelledImages:
        images = torch.stack([x[y == 0] for x, y in zip(of.images, of.labels, strict=True)])
        return LabelledImages(images, torch.zeros(images.shape[:2], dtype=torch.int64))

    lone = dataclasses.replace(EPISODES, support=first(SUPPORT), query=first(QUERY))

    with pytest.raises(DataError, match="one class each, so that there is nothing to tell apart"):
        LEARNERS[learner]().meta_loss(lone)


@pytest.mark.parametrize("modes", [("support", "transductive"), ("transductive", "support")])
@pytest.mark.parametrize("kind", [MAML, MAMLpp, ANIL, BOIL, MetaSGD, IMAML, ProtoMAML, Reptile])
def test_one_query_image_is_no_batch_whatever_mode_is_first(kind, modes):
    lone = LabelledImages(QUERY.images[:, :1], QUERY.labels[:, :1])

    with pytest.raises(ConfigError, match="One image alone"):
        kind(network(), batch_norm_modes=modes).meta_loss(dataclasses.replace(EPISODES, query=lone))


KINDS_OF_HEADS: dict[str, tuple[Callable[[], Learner], Callable[[], Learner]]] = {
    "cosine": (lambda: FrozenFeatures(network()), lambda: FrozenFeatures(network(), head="cosine")),
    "transform": (lambda: SimpleShot(network(7)), lambda: SimpleShot(network(7), transform="un")),
    "context": (lambda: MatchingNet(network()), lambda: MatchingNet(network(), full_context=True)),
    "distance": (lambda: ProtoNet(network()), lambda: ProtoNet(network(), distance="cosine")),
}


@pytest.mark.parametrize("kind", KINDS_OF_HEADS)
def test_an_adaptation_with_a_head_of_another_kind_is_refused(kind):
    one, other = (make() for make in KINDS_OF_HEADS[kind])
    again, _ = (make() for make in KINDS_OF_HEADS[kind])

    for of, another in ((one, other), (other, one)):
        adaptation = of.adapt(SUPPORT, steps=1)
        for given in (adaptation, adaptation.of_episode(0)):
            images = QUERY.images[: len(given.support)]
            with pytest.raises(ConfigError, match="which has heads of another kind: give what"):
                another.predict(given, images)
    assert again.predict(one.adapt(SUPPORT, steps=1), QUERY.images).isfinite().all()


@pytest.mark.parametrize("learner", LEARNERS)
def test_an_adaptation_has_no_graph_and_can_be_copied(learner):
    of = LEARNERS[learner]()
    if learner == "stranger's":
        return
    adaptation = of.adapt(SUPPORT, steps=1)
    copied = copy.deepcopy(adaptation)

    assert torch.equal(of.predict(copied, QUERY.images), of.predict(adaptation, QUERY.images))


@pytest.mark.parametrize("learner", sorted(BY_RULES | {"reptile"}))
def test_queries_of_another_size_than_the_support_are_refused_where_both_are_one_batch(learner):
    larger = LabelledImages(F.pad(QUERY.images, (2, 2, 2, 2)), QUERY.labels)

    with pytest.raises(DataError, match=r"\(1, 16, 16\) and .*\(1, 20, 20\)"):
        LEARNERS[learner]().meta_loss(dataclasses.replace(EPISODES, query=larger))


def test_maps_of_another_size_are_refused_in_predictions_too():
    of = RelationNet(network())
    larger = F.pad(QUERY.images, (16, 16, 16, 16))

    with pytest.raises(ConfigError, match="give images of the size in training"):
        of.predict(of.adapt(SUPPORT, steps=1), larger)


@pytest.mark.parametrize("learner", sorted(BY_RULES))
def test_a_rule_is_of_the_networks_type(learner):
    of = LEARNERS[learner]()

    assert {of_one.dtype for of_one in of.parameters()} == {torch.float64}
    assert of.meta_loss(EPISODES)[0].dtype == torch.float64
    of.end_outer_step()
    logits = of.predict(of.adapt(SUPPORT, steps=1), QUERY.images)
    assert logits.dtype == torch.float64


HEADS_ALIKE = sorted(BY_RULES | BY_STORED)


@pytest.mark.parametrize("learner", HEADS_ALIKE)
def test_an_adaptation_by_another_method_is_refused(learner):
    of = LEARNERS[learner]()
    others = {name: LEARNERS[name]() for name in [*HEADS_ALIKE, "maml", "protomaml"]}

    for other in others.values():
        adaptation = other.adapt(SUPPORT, steps=1)
        assert adaptation.of_episode(0).made_by is type(other)
        if type(other) is not type(of):
            with pytest.raises(ConfigError, match=f"another learner's, of {type(other).__name__}:"):
                of.predict(adaptation, QUERY.images)


@pytest.mark.parametrize("learner", [name for name in LEARNERS if name not in BY_STORED])
def test_a_support_set_of_one_image_has_no_batch_to_be_normalised_by(learner):
    of = LEARNERS[learner]()
    lone = LabelledImages(SUPPORT.images[:, :1], SUPPORT.labels[:, :1])
    refused = pytest.raises(ConfigError, match="A support set of one image has no batch")

    if learner not in BY_RULES:
        with refused:
            of.adapt(lone, steps=1)
    else:
        with refused:
            of.predict(of.adapt(lone, steps=1), QUERY.images, batch_norm="support")


@pytest.mark.parametrize("learner", sorted(BY_STORED))
def test_a_mini_batch_of_one_image_has_no_batch_to_be_normalised_by(learner):
    with pytest.raises(ConfigError, match="A mini-batch of one image has no batch"):
        LEARNERS[learner]().meta_loss(LabelledImages(SUPPORT.images[0, :1], SUPPORT.labels[0, :1]))


@pytest.mark.parametrize("learner", sorted(BY_RULES | {"maml++"}))
def test_statistics_that_were_gathered_and_never_moved_are_warned_of(learner):
    of = LEARNERS[learner]()
    of.meta_loss(EPISODES)
    adaptation = of.adapt(SUPPORT, steps=1)

    with pytest.warns(UserWarning, match=r"those of the start, .* call end_outer_step\(\) after"):
        of.predict(adaptation, QUERY.images, batch_norm="running")
    of.end_outer_step()
    of.meta_loss(EPISODES)  # seen, and not taken over yet
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        of.predict(of.adapt(SUPPORT, steps=1), QUERY.images, batch_norm="running")


class Between(Conv4):
    """Something between features and head."""

    def forward(self, images: Tensor) -> Tensor:
        return self.head(2 * self.embed(images))


@pytest.mark.parametrize("kind", [ANIL, ProtoMAML])
@pytest.mark.parametrize("head_init", ["glorot", "zero"])
def test_logits_that_are_not_the_heads_of_the_features_are_refused(kind, head_init):
    torch.manual_seed(3)
    learner = kind(Between(3, image_size=16, filters=4, head_init=head_init).double())

    for operate in (lambda: learner.adapt(SUPPORT, steps=1), lambda: learner.meta_loss(EPISODES)):
        with pytest.raises(ConfigError, match=r"logits of Between are not head\(embed\(images\)\)"):
            operate()


def test_a_head_of_prototypes_without_a_bias_is_refused():
    model = network()
    model.head = nn.Linear(4, 3, bias=False).double()

    for make in (ProtoMAML, partial(MAML, fresh_head="head", fresh_head_init="prototypes")):
        with pytest.raises(ConfigError, match="prototypes has a bias"):
            make(model)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        *(("rate", torch.nan), ("rate", -1.0), ("temperature", -1.0), ("temperature", "warm")),
        *(("steps", 2.5), ("steps", -1), ("label_smoothing", 2.0), ("support_weight", torch.inf)),
        *(("marginal_weight", -0.1), ("conditional_weight", None)),
    ],
)
def test_tims_settings_are_in_their_ranges(setting, value):
    with pytest.raises(ConfigError, match=f"{setting} must be "):
        TIM(network(7), **{setting: value})


@pytest.mark.parametrize("value", [torch.nan, -5.0, 0.0, "a"])
def test_the_scale_of_cosines_is_in_its_range(value):
    with pytest.raises(ConfigError, match="initial_scale must be "):
        ProtoNet(network(), distance="cosine", initial_scale=value)


def test_tim_counts_the_classes_of_the_labels():
    of = TIM(network(7))
    ways = torch.zeros(2, 5, dtype=torch.int64)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        of.transfer_learn(dataclasses.replace(EPISODES, classes=ways))
        of.transfer_learn(dataclasses.replace(EPISODES, classes=ways[:, :1]))
    targets = LabelledImages(SUPPORT.images, SUPPORT.labels.double())
    with pytest.raises(ConfigError, match="tells classes apart: give int64 labels"):
        of.transfer_learn(
            dataclasses.replace(
                EPISODES,
                support=targets,
                query=LabelledImages(QUERY.images, QUERY.labels.double()),
            )
        )


class ByMode(Conv4):
    """A network that is another function in evaluation mode."""

    def embed(self, images: Tensor) -> Tensor:
        return super().embed(images) * (2 if self.training else 1)


@pytest.mark.parametrize("kind", [MAML, Transfer])
def test_an_episodes_module_is_the_function_that_predicted_or_is_refused(kind):
    learner = kind(ByMode(3, image_size=16, filters=4, head_init="glorot").double())
    training = learner.adapt(SUPPORT, steps=2)

    with pytest.raises(ConfigError, match="The network computes otherwise in evaluation mode"):
        learner.as_module(training)
    learner.eval()
    plain = learner.as_module(learner.adapt(SUPPORT, steps=2))
    assert not plain.training


@pytest.mark.parametrize(("step", "total"), [(0, 0), (-1, 10), (10, 10)])
def test_outer_steps_that_there_are_not_are_refused(step, total):
    with pytest.raises(ConfigError, match=f"got step {step} of {total}"):
        MAMLpp(network(), inner_steps=2).begin_outer_step(step, total)


@pytest.mark.parametrize("name", ["maml", "transfer", "frozen"])
@pytest.mark.parametrize("parts", ["own", "head", "all"])
def test_another_rate_is_in_its_range_too(name, parts):
    for rate, got in ((torch.nan, "nan"), (-1.0, "-1.0"), ("x", "'x'")):
        with pytest.raises(ConfigError, match=f"inner_lr must be .*: got {got}"):
            LEARNERS[name]().adapting(parts, rate=rate)  # type: ignore[arg-type]


@pytest.mark.parametrize("learner", LEARNERS)
@pytest.mark.parametrize("steps", [1.5, None, True, -1])
def test_steps_that_are_no_number_of_steps_are_refused(steps, learner):
    with pytest.raises(ConfigError, match=r"inner steps must be (a whole number|at least 0): got"):
        LEARNERS[learner]().trajectory(SUPPORT, steps=steps)


@pytest.mark.parametrize("learner", LEARNERS)
@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        (lambda: torch.cat([QUERY.images, QUERY.images]), "adaptation is of 2 episodes"),
        (lambda: QUERY.images[:1], "adaptation is of 2 episodes"),
        (lambda: QUERY.images[0], "adaptation is of 2 episodes"),
        (lambda: QUERY.images[:, :0], "there are none"),
        (lambda: QUERY.images * torch.nan, "query images hold NaN or infinity"),
        (lambda: QUERY.images.float(), r"query images are torch\.float32"),
        (lambda: QUERY.images.numpy(), "images are of type ndarray"),
    ],
)
def test_wrong_query_images_are_refused_by_every_learner(images, sentence, learner):
    of = LEARNERS[learner]()
    adaptation = of.adapt(SUPPORT, steps=1)

    with pytest.raises(InnerloopError, match=sentence):
        of.predict(adaptation, images())


@pytest.mark.parametrize("learner", LEARNERS)
def test_a_batch_norm_that_a_learner_does_not_have_is_refused(learner):
    of = LEARNERS[learner]()

    with pytest.raises(ConfigError, match=r"predicts with batch norm by .*: got 'layer'"):
        of.predict(of.adapt(SUPPORT, steps=0), QUERY.images, batch_norm="layer")  # type: ignore[arg-type]


@pytest.mark.parametrize("learner", [name for name in LEARNERS if name not in BY_STORED])
def test_one_image_under_its_own_statistics_is_refused(learner):
    of = LEARNERS[learner]()
    adaptation = of.adapt(SUPPORT, steps=1)

    with pytest.raises(ConfigError, match="One image alone has no batch to be normalised by"):
        of.predict(adaptation, QUERY.images[:, :1], batch_norm="transductive")
    if learner != "stranger's":
        module = of.as_module(adaptation, batch_norm="transductive")
        with pytest.raises(ConfigError, match="One image alone has no batch to be normalised by"):
            module(QUERY.images[0, :1])
        assert of.predict(adaptation, QUERY.images[:, :1], batch_norm="support").shape == (2, 1, 3)


@pytest.mark.parametrize("learner", LEARNERS)
@pytest.mark.parametrize("kind", [torch.int32, torch.uint8, torch.int16])
def test_labels_of_another_integer_type_are_served_as_int64(kind, learner):
    of = LEARNERS[learner]()
    expected = of.predict(of.adapt(SUPPORT, steps=2), QUERY.images)

    adaptation = of.adapt(support(labels=SUPPORT.labels.to(kind)), steps=2)

    assert torch.equal(of.predict(adaptation, QUERY.images), expected)
    if learner not in BY_STORED | {"frozen"}:
        other = dataclasses.replace(
            EPISODES, query=LabelledImages(QUERY.images, QUERY.labels.to(kind))
        )
        assert torch.equal(of.meta_loss(other)[0], of.meta_loss(EPISODES)[0])


@pytest.mark.parametrize("learner", LEARNERS)
def test_a_weight_that_is_no_number_is_refused_with_its_name(learner):
    of = LEARNERS[learner]()
    with torch.no_grad():
        next(of.parameters()).view(-1)[3] = torch.nan

    with pytest.raises(NonFiniteError, match=r"'model\.convs\.0\.weight' of \w+ holds NaN"):
        of.adapt(SUPPORT, steps=1)


def test_images_are_looked_at_again_when_they_hold_other_pixels():
    learner = LEARNERS["maml"]()
    adaptation = learner.adapt(SUPPORT, steps=1)
    images = QUERY.images.clone()
    learner.predict(adaptation, images)

    images[0, 0] = torch.nan

    with pytest.raises(DataError, match="query images hold NaN"):
        learner.predict(adaptation, images)


def test_a_support_set_is_looked_at_again_when_it_holds_other_labels():
    learner = LEARNERS["maml"]()
    again = learner.adapt(support(labels=SUPPORT.labels.clone()), steps=0).support

    again.labels[0, 0] = -1

    with pytest.raises(DataError, match="counted from 0"):
        learner.adapt(again, steps=1)


def test_large_images_whose_sum_overflows_are_no_infinity():
    learner = LEARNERS["maml"]()

    assert learner.adapt(support(images=SUPPORT.images + 1e307), steps=0).steps == 0


@pytest.mark.parametrize("learner", ["maml", "transfer"])
def test_learning_under_inference_mode_is_refused_and_predicting_is_served(learner):
    of = LEARNERS[learner]()
    adaptation = of.adapt(SUPPORT, steps=1)
    expected = of.predict(adaptation, QUERY.images)

    with torch.inference_mode():
        with pytest.raises(ConfigError, match=r"torch\.inference_mode forbids"):
            of.adapt(SUPPORT, steps=1)
        made_inside = QUERY.images.clone()
        assert torch.equal(of.predict(adaptation, made_inside), expected)
        made_inside.zero_()
        assert not torch.equal(of.predict(adaptation, made_inside), expected)
        support_made_inside = support(images=SUPPORT.images.clone())
    with pytest.raises(DataError, match=r"made in torch\.inference_mode"):
        of.adapt(support_made_inside, steps=1)


# A mini-batch


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        (QUERY.labels[0] + 9, "label 11 and the network 7 outputs"),
        (QUERY.labels[0] - 1, "counted from 0: got -1"),
        (QUERY.labels[0].double(), r"images \(n, ...\) with class labels \(n,\): got"),
    ],
)
def test_a_wrong_mini_batch_is_refused(labels, sentence):
    with pytest.raises(InnerloopError, match=sentence):
        Transfer(network(7)).meta_loss(LabelledImages(QUERY.images[0], labels))


# Queries in mini-batches


def shuffled(order: Tensor) -> EpisodeBatch:
    query = LabelledImages(QUERY.images[:, order], QUERY.labels[:, order])
    return dataclasses.replace(EPISODES, query=query)


@pytest.mark.parametrize("order", [torch.arange(12).flip(0), torch.zeros(12, dtype=torch.int64)])
def test_query_batches_of_queries_that_do_not_lie_by_class_are_refused(order):
    learner = MAML(network(), inner_steps=1, query_batches=2)

    with pytest.raises(DataError, match="takes the query set class by class, 4 pictures of each"):
        learner.meta_loss(shuffled(order))
    assert MAML(network(), inner_steps=1).meta_loss(shuffled(order))[0].isfinite()


# Regression


class Line(nn.Module):
    """A linear map of the images' flat pixels."""

    def __init__(self, outputs: int):
        super().__init__()
        self.head = nn.Linear(256, outputs).double()

    def forward(self, images: Tensor) -> Tensor:
        return self.head(images.flatten(1))


def regression(*of_each: int) -> EpisodeBatch:
    def targets(of: LabelledImages) -> LabelledImages:
        return LabelledImages(of.images, torch.rand(*of.labels.shape, *of_each).double())

    return dataclasses.replace(EPISODES, support=targets(SUPPORT), query=targets(QUERY))


@pytest.mark.parametrize("fresh", [None, "head"])
def test_targets_of_several_numbers_are_learnt_as_by_plain_gradient_descent(fresh):
    episodes, model = regression(2), Line(2)
    learner = MAML(model, inner_lr=0.01, fresh_head=fresh, loss_fn=F.mse_loss)

    adapted = learner.adapt(episodes.support, steps=3)

    for episode in range(2):
        plain = Line(2)
        plain.load_state_dict(model.state_dict())
        if fresh:
            nn.init.zeros_(plain.head.weight)
            nn.init.zeros_(plain.head.bias)
        optimiser = torch.optim.SGD(plain.parameters(), lr=0.01)
        for _ in range(3):
            optimiser.zero_grad()
            loss = F.mse_loss(plain(SUPPORT.images[episode]), episodes.support.labels[episode])
            loss.backward()
            optimiser.step()
        for name, weight in plain.named_parameters():
            assert relative(adapted.fast_weights[name][episode] - weight, weight) <= 1e-12


@pytest.mark.parametrize(
    ("outputs", "of_each"),
    # Images are 6 an episode: (6, 6) against (6,) is as many images as numbers of each.
    [(1, ()), (6, ()), (1, (3,)), (3, (1,)), (3, (6, 3))],
)
def test_targets_that_would_be_broadcast_against_the_outputs_are_refused(outputs, of_each):
    shapes = f"shape (2, 6, {outputs}) and the targets {(2, 6, *of_each)}: give both the same"

    with pytest.raises(ConfigError, match=re.escape(shapes)):
        MAML(Line(outputs), loss_fn=half_squared_error).adapt(regression(*of_each).support, steps=1)


def test_a_loss_may_take_several_outputs_for_a_target():
    """A mean and a log variance; (6, 2) and (6,) do not broadcast, so the loss means it."""

    def gaussian(outputs: Tensor, targets: Tensor) -> Tensor:
        mean, log_variance = outputs.T
        return (log_variance + (targets - mean).square() / log_variance.exp()).mean()

    adapted = MAML(Line(2), loss_fn=gaussian).adapt(regression().support, steps=1)

    assert all(bool(weight.isfinite().all()) for weight in adapted.fast_weights.values())


def test_targets_are_refused_where_classes_are_told_apart():
    for learner in (MAML(Line(3)), Transfer(network())):
        with pytest.raises(ConfigError, match=r"Labels are torch\.float64.*give int64 labels"):
            learner.adapt(regression().support, steps=1)


@pytest.mark.parametrize("outputs", [1, 2])
def test_targets_that_are_no_shares_of_classes_need_a_loss(outputs):
    """Cross-entropy of one output is 0, whatever the target, and of several it may be negative."""
    with pytest.raises(ConfigError, match=r"cross-entropy takes classes: give .* or loss_fn"):
        MAML(Line(outputs)).adapt(regression(outputs).support, steps=1)


def test_shares_of_classes_are_learnt_as_classes_are():
    shares = F.one_hot(SUPPORT.labels).double()
    learner = MAML(Line(shares.shape[-1]), inner_lr=0.01)

    by_shares = learner.adapt(LabelledImages(SUPPORT.images, shares), steps=2)
    by_classes = learner.adapt(SUPPORT, steps=2)

    for name, weight in by_classes.fast_weights.items():
        torch.testing.assert_close(by_shares.fast_weights[name], weight)


@pytest.mark.parametrize(
    ("loss_fn", "got"),
    [
        (lambda outputs, labels: F.cross_entropy(outputs, labels, reduction="none"), r"\(6,\)"),
        (lambda outputs, labels: F.cross_entropy(outputs, labels)[None], r"\(1,\)"),
        (lambda outputs, labels: F.cross_entropy(outputs, labels).item(), "float"),
    ],
)
def test_a_loss_that_is_no_mean_over_the_examples_is_refused(loss_fn, got):
    with pytest.raises(ConfigError, match=f"the mean over the examples of one episode: got {got}"):
        MAML(network(), loss_fn=loss_fn).adapt(SUPPORT, steps=1)


# Settings of learners


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"inner_lr": -0.1}, "inner_lr must be between 0.0 and 1,000.0: got -0.1"),
        ({"inner_lr": torch.nan}, "inner_lr must be between 0.0 and 1,000.0: got nan"),
        ({"inner_lr": "0.4"}, "inner_lr must be a number: got '0.4'"),
        ({"inner_steps": -1}, "inner_steps must be between 0 and 1,000: got -1"),
        ({"inner_steps": 2.0}, "inner_steps must be a whole number: got 2.0"),
        ({"query_batches": 0}, "query_batches must be between 1 and 1,000: got 0"),
        ({"query_batches": 1.5}, "query_batches must be a whole number: got 1.5"),
        ({"first_order": "no"}, "first_order must be true or false: got 'no'"),
        ({"loss_fn": 3}, "loss_fn must be a function of outputs and labels: got 3"),
        ({"loss_fn": nn.MSELoss}, r"got <class '.*MSELoss'>. Give MSELoss\(\)"),
        (
            {"fresh_head_init": "one"},
            "fresh_head_init must be one of zero, glorot, prototypes: got 'one'",
        ),
        ({"batch_norm_modes": ()}, r"some of transductive, support, running: got \(\)"),
        ({"batch_norm_modes": "support"}, "some of transductive, support, running: got 'support'"),
        ({"adapts": []}, "No parameter of Conv4 would take inner steps"),
        ({"adapts": "head"}, r"adapts is a list of names: write \['head'\]"),
        ({"fresh_head": "convs"}, "'convs' is a ModuleList. Name the last linear layer"),
        ({"fresh_head": "convs.3"}, "'convs.3' is a Conv2d. Name the last linear layer"),
        ({"fresh_head": "norms.0"}, "'norms.0' is a BatchNorm2d. Name the last linear layer"),
        ({"fresh_head": ""}, "no parameters under '' to be a fresh head"),
        ({"fresh_head": "fc"}, "under 'fc' to be a fresh head.* fresh_head=None, --no-fresh-head"),
    ],
)
@pytest.mark.parametrize("kind", [MAML, MAMLpp])
def test_wrong_settings_are_refused_when_a_learner_is_made(settings, sentence, kind):
    if kind is MAMLpp and "first_order" in settings:
        return  # which it does not have

    with pytest.raises(ConfigError, match=sentence):
        kind(network(), **settings)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"head": "svm"}, "head must be one of gradient, logistic, cosine: got 'svm'"),
        ({"head_init": "one"}, "head_init must be one of zero, glorot, prototypes: got 'one'"),
        ({"penalty": 0.0}, "penalty must be between .*: got 0"),
        ({"inner_lr": -1.0}, "inner_lr must be between"),
        ({"inner_steps": 0.5}, "inner_steps must be a whole number"),
    ],
)
def test_wrong_settings_of_a_frozen_network_are_refused(settings, sentence):
    with pytest.raises(ConfigError, match=sentence):
        FrozenFeatures(network(), **settings)


def test_settings_may_be_numpys_numbers():
    learner = MAML(network(), inner_lr=np.float64(0.3), inner_steps=np.int64(2))  # type: ignore[arg-type]

    assert (learner.inner_lr, learner.inner_steps) == (0.3, 2)
    assert learner.adapt(SUPPORT, steps=np.int64(2)).steps == 2  # type: ignore[arg-type]


def test_a_head_that_is_no_linear_layer_of_its_own_is_no_fresh_head():
    tied = Line(256)
    tied.embedding = nn.Linear(256, 256).double()
    tied.embedding.weight = tied.head.weight
    normed = Line(3)
    nn.utils.parametrizations.weight_norm(normed.head)

    with pytest.raises(ConfigError, match=r"shares a parameter with 'embedding\.weight'"):
        MAML(tied, fresh_head="head")
    with pytest.raises(ConfigError, match=r"A fresh head is a torch\.nn\.Linear.*is a Par"):
        MAML(normed, fresh_head="head")


def test_layers_that_normalise_by_their_batch_alone_leave_no_support_mode():
    model = nn.Sequential(
        nn.BatchNorm2d(1, track_running_stats=False), nn.Flatten(), nn.Linear(256, 3)
    ).double()
    learner = MAML(model)

    assert learner.batch_norm_modes == ("transductive",)
    with pytest.raises(ConfigError, match="by transductive: got 'support'"):
        learner.predict(learner.adapt(SUPPORT, steps=1), QUERY.images, batch_norm="support")
    with pytest.raises(ConfigError, match="batch norm by running is not possible"):
        MAML(model, batch_norm_modes=("running",))
