"""Which network a run has: one by its name with its own settings, or a stranger's by its place."""

import dataclasses
import html
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from innerloop import cli
from innerloop.core.errors import ConfigError
from innerloop.data.images import LabelledImages
from innerloop.experiments.experiment import build_learner
from innerloop.methods.catalogue import read_config, settings_of
from innerloop.methods.check import check_model, refuse_faults_in_passes
from innerloop.networks.base import Embeds
from innerloop.networks.build import build_network
from innerloop.networks.conv4 import Conv4
from innerloop.networks.resnet12 import SLOPE, ResidualBlock, ResNet12
from innerloop.runs.directory import RunDirectory
from innerloop.settings.sections import NETWORKS, NetworkSettings

SMALL = (
    "--data=strokes --ways=3 --shots=2 --queries=3 --meta-steps=4 --meta-batch-size=2 "
    "--validation-every=2 --validation-episodes=2 --checkpoint-every=1 --image-size=16 --threads=1"
).split()
MODULE = """
from torch import nn
from innerloop import BatchNorm2d
from innerloop.core.errors import ConfigError

class Small(nn.Module):
    def __init__(self, outputs, channels, image_size):
        super().__init__()
        self.conv = nn.Conv2d(channels, 4, 3, stride=4)
        self.norm = BatchNorm2d(4)
        self.head = nn.Linear(4, outputs)

    def forward(self, images):
        return self.head(self.norm(self.conv(images)).relu().mean(dim=(2, 3)))

class Embedding(Small):
    def embed(self, images):
        return self.norm(self.conv(images)).relu().mean(dim=(2, 3))

    def forward(self, images):
        return self.head(self.embed(images))

def nothing(outputs, channels, image_size):
    return None

def fails(outputs, channels, image_size):
    raise RuntimeError("no such shape.\\nMore of it")

def refuses(outputs, channels, image_size):
    raise ConfigError("Images are too small for me.")

def takes_others(classes):
    return Small(classes, 1, 16)

number = 3
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of the working directory; its name."""
    monkeypatch.chdir(tmp_path)
    name = f"networks_of_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    return name


def parameter_count(model: nn.Module) -> int:
    return sum(weight.numel() for weight in model.parameters())


def wrong(**settings: Any) -> NetworkSettings:
    """Settings that no type checker would let through."""
    return NetworkSettings(**settings)


# ResNet-12


def residual_count(inputs: int, outputs: int) -> int:
    """Three 3x3 convolutions and one of 1x1, without bias, and four batch norms."""
    convolutions = 9 * inputs * outputs + 2 * 9 * outputs * outputs + inputs * outputs
    return convolutions + 4 * 2 * outputs


@pytest.mark.parametrize(
    ("widths", "filters", "published"),
    [("wide", (64, 160, 320, 640), 12.42e6), ("doubling", (64, 128, 256, 512), 8.00e6)],
    ids=["MetaOptNet", "TADAM"],
)
def test_resnet12_has_the_published_number_of_parameters(widths, filters, published):
    settings = NetworkSettings(name="resnet12", widths=widths)

    model = build_network(settings, 5, channels=3, image_size=84)

    body = sum(residual_count(*pair) for pair in zip((3, *filters), filters, strict=False))
    assert parameter_count(model) == body + 5 * (filters[-1] + 1)
    assert body == pytest.approx(published, rel=5e-4)


@pytest.mark.parametrize(
    ("channels", "size", "features", "count"),
    [
        (1, 28, "mean", 40),
        (1, 28, "flatten", 40),
        (3, 84, "mean", 40),
        (3, 84, "flatten", 40 * 5 * 5),
    ],
)
def test_resnet12_maps_images_of_usual_sizes_to_features_and_logits(
    channels, size, features, count
):
    model = ResNet12(
        7, channels=channels, image_size=size, filters=(4, 10, 20, 40), features=features
    )
    images = torch.rand(3, channels, size, size)

    assert model.feature_size == count
    assert model.embed(images).shape == (3, count)
    assert model(images).shape == (3, 7)


@pytest.mark.parametrize("halvings", [-1, 5])
def test_resnet12_halves_in_its_four_blocks_alone(halvings):
    with pytest.raises(ConfigError, match=f"halvings must be between 0 and 4: got {halvings}"):
        ResNet12(2, channels=1, image_size=64, filters=(2, 3, 4, 5), halvings=halvings)


@pytest.mark.parametrize(("halvings", "side"), [(1, 14), (2, 7), (3, 3), (4, 1)])
def test_resnet12_halves_the_image_in_its_first_blocks_alone(halvings, side):
    model = ResNet12(
        2, channels=1, image_size=28, filters=(2, 3, 4, 5), halvings=halvings, features="flatten"
    )
    images = torch.rand(3, 1, 28, 28)
    whole = nn.Sequential(*model.residual[:halvings])(images)

    assert model.maps(images).shape == (3, 5, side, side)
    assert model.embed(images).shape == (3, model.feature_size) == (3, 5 * side * side)
    # Up to the last that halves it is the network that it was.
    assert whole.shape[-1] == side


def test_how_often_resnet12_halves_is_a_setting_and_said():
    settings = NetworkSettings(name="resnet12", filters=4, widths="doubling", halvings=3)

    assert build_network(settings, 5, channels=1, image_size=28).get_submodule("residual.2").halves
    assert (
        not build_network(settings, 5, channels=1, image_size=28).get_submodule("residual.3").halves
    )
    assert "4 residual blocks of 4, 8, 16, 32 filters, pooled in the first 3" in settings.in_words


def test_a_residual_block_is_its_formula_in_pytorchs_own_layers():
    block, x = ResidualBlock(2, 5).double(), torch.randn(4, 2, 9, 9).double()
    for weight in block.parameters():
        nn.init.normal_(weight)

    def normed(values: torch.Tensor, layer: nn.Module) -> torch.Tensor:
        theirs = nn.BatchNorm2d(5, track_running_stats=False).double()
        theirs.load_state_dict(layer.state_dict())
        return theirs(values)

    (c1, c2, c3), (n1, n2, n3) = block.convs, block.norms
    rectified = nn.LeakyReLU(SLOPE)
    inner = rectified(normed(c2(rectified(normed(c1(x), n1))), n2))
    both = normed(c3(inner), n3) + normed(block.shortcut(x), block.shortcut_norm)
    expected = nn.MaxPool2d(2)(rectified(both))
    assert torch.allclose(block(x), expected, rtol=0, atol=1e-12)


def test_the_blocks_of_resnet12_are_all_its_body():
    model = ResNet12(3, filters=(2, 5, 10, 20))
    under = {name for names in model.blocks.values() for name in names}

    outside = [
        name
        for name, _ in model.named_parameters()
        if not any(name.startswith(f"{part}.") for part in under)
    ]

    assert list(model.blocks) == [*(f"block {number}" for number in (1, 2, 3, 4)), "features"]
    assert outside == ["head.weight", "head.bias"]


def test_initial_weights_of_resnet12_have_the_deviation_of_their_source():
    """He's normal for a rectifier of slope 0.1: sqrt(2 / (1.01 * 9 * 64))."""
    weight = ResNet12(3, filters=(64, 64, 8, 8), conv_init="kaiming").get_parameter(
        "residual.1.convs.0.weight"
    )

    assert weight.std().item() == pytest.approx((2 / (1.01 * 9 * 64)) ** 0.5, rel=0.02)


def test_images_that_vanish_in_resnet12_are_refused_and_so_are_other_numbers_of_blocks():
    with pytest.raises(
        ConfigError, match="Images of 15 pixels vanish in 4 halvings; use 16 or more"
    ):
        ResNet12(5, image_size=15)
    with pytest.raises(ConfigError, match="four blocks, and filters are four numbers: got"):
        ResNet12(5, filters=(1, 2, 3))


# Conv4 as others have it


@pytest.mark.parametrize(
    ("settings", "channels", "size", "body", "features"),
    [
        # Vinyals et al. (2016) and Snell et al. (2017): 64 filters and max pooling.
        ({"downsample": "max-pool"}, 1, 28, 111_936, 64),
        ({"downsample": "max-pool"}, 3, 84, 113_088, 64 * 5 * 5),
        # Finn et al. (2017) on mini-ImageNet: with the head of 5 ways 32,901 in all.
        ({"downsample": "max-pool", "filters": 32}, 3, 84, 32_901 - 5 * 801, 32 * 5 * 5),
        # Finn et al. (2017) on Omniglot: convolutions of stride 2, and the mean.
        ({"features": "mean"}, 1, 28, 111_936, 64),
    ],
    ids=["Snell, Omniglot", "Snell, mini-ImageNet", "Finn, mini-ImageNet", "Finn, Omniglot"],
)
def test_published_variants_of_conv4_have_their_number_of_parameters(
    settings, channels, size, body, features
):
    published = {"features": "flatten", "feature_norm": False, "conv_bias": True}
    config = NetworkSettings(**published | settings)

    model = build_network(config, 5, channels=channels, image_size=size)

    assert isinstance(model, Conv4)
    assert model.feature_size == features
    assert parameter_count(model) == body + 5 * (features + 1)


# Settings of a network


def test_every_setting_that_not_all_networks_have_says_in_its_help_which_have_it():
    sentences = NetworkSettings.descriptions()
    fields = [field for field in dataclasses.fields(NetworkSettings) if field.name != "name"]

    for field in fields:
        named = tuple(name for name in NETWORKS if name in sentences[field.name])
        assert named == (field.metadata["networks"] or NETWORKS)


def test_a_setting_that_the_network_does_not_have_is_refused():
    with pytest.raises(ConfigError, match="downsample is a setting of conv4, and the network is r"):
        NetworkSettings(name="resnet12", downsample="max-pool")
    with pytest.raises(ConfigError, match="widths is a setting of resnet12, and the network is c"):
        settings_of("fomaml", widths="doubling")
    with pytest.raises(
        ConfigError, match="filters is a setting of conv4 and resnet12, and the net"
    ):
        settings_of("fomaml", network="mine:make", filters=8)


@pytest.mark.parametrize(("name", "hint"), [("resnet", "mean 'resnet12'"), ("zzz", "There are: c")])
def test_a_network_that_there_is_not_is_answered_with_those_that_there_are(name, hint):
    with pytest.raises(ConfigError, match=rf"no network '{name}'\. *.*{hint}.*module:factory"):
        NetworkSettings(name=name)
    with pytest.raises(ConfigError, match="network must not be empty"):
        NetworkSettings(name=" ")
    with pytest.raises(ConfigError, match="network must be a text: got 12"):
        wrong(name=12)


def test_what_a_methods_defaults_say_of_the_former_network_is_left_behind():
    maml = settings_of("maml")

    changed = maml.replace(network="mine:make", head_init="glorot")

    assert maml.network.conv_init == "kaiming"
    assert changed.network == NetworkSettings(name="mine:make", head_init="glorot")
    assert maml.replace(network="resnet12").network.conv_init == "kaiming"


def test_a_configuration_of_before_has_conv4():
    values = json.loads(settings_of("maml", filters=8).to_json())
    del values["network"]["name"], values["network"]["widths"]

    assert read_config(json.dumps(values)) == settings_of("maml", filters=8)


def test_only_what_a_network_has_is_shown_of_its_settings():
    shown = settings_of("fomaml", network="resnet12").in_use()

    assert {"network", "filters", "widths", "features", "head_init"} <= shown.keys()
    assert not {"downsample", "last_relu", "conv_bias"} & shown.keys()


def test_the_help_of_a_training_imports_no_torch():
    code = (
        "import atexit, sys; atexit.register(lambda: print('torch' in sys.modules)); "
        "from innerloop import cli; cli.main(['train', 'fomaml', '--help-all'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.endswith("False\n") and "--network" in done.stdout


# A stranger's


def built(place: str) -> Any:
    return build_network(NetworkSettings(name=place), 5, channels=3, image_size=20)


def test_a_factory_is_given_outputs_channels_and_image_size(mine):
    model = built(f"{mine}:Small")

    assert (model.head.out_features, model.conv.in_channels) == (5, 3)
    assert model(torch.rand(2, 3, 20, 20)).shape == (2, 5)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("missing", r"The network cannot be imported from .*:missing: .*no attribute 'missing'"),
        ("nothing", r":nothing returned NoneType: it is to return a torch.nn.Module\."),
        (
            "number",
            r":number is of type int: name a function or class that takes outputs, channels",
        ),
        (
            "fails",
            r":fails makes no network of outputs=5, channels=3, image_size=20: Runtime.*pe\.",
        ),
        ("takes_others", r":takes_others makes no network of outputs=5.*unexpected keyword"),
        ("refuses", r"^Images are too small for me\.$"),
    ],
)
def test_a_factory_that_makes_no_network_is_a_sentence(mine, name, sentence):
    with pytest.raises(ConfigError, match=sentence):
        built(f"{mine}:{name}")


def test_a_module_that_there_is_not_is_a_sentence():
    with pytest.raises(ConfigError, match="The network cannot be imported from nowhere_at:all"):
        built("nowhere_at:all")


def test_the_example_of_the_page_on_networks_is_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[1] / "docs" / "networks.md").read_text("utf-8")
    (example,) = re.findall(r"^```python\n(.*?)^```", page, re.M | re.S)
    Path("network_of_the_page.py").write_text(example)

    model = built("network_of_the_page:Make")

    assert check_model(model, torch.rand(6, 3, 20, 20)) == []
    assert isinstance(model, Embeds)


@pytest.mark.slow
def test_a_strangers_network_is_trained_resumed_evaluated_and_described(mine, capsys):
    train = ["train", "fomaml", "--network", f"{mine}:Small", *SMALL]
    assert cli.main(train) == 0
    assert cli.main([*train, "--max-minutes", "0"]) == 0
    whole, paused = (RunDirectory(Path(f"runs/fomaml-strokes-3w2s-s0{end}")) for end in ("", "-2"))
    assert paused.status.state == "paused"

    assert cli.main(["resume", str(paused.path)]) == 0
    assert cli.main(["evaluate", str(paused.path), "--episodes", "4"]) == 0
    assert cli.main(["report", str(paused.path), "--out", "report"]) == 0

    assert paused.weights_sha256() == whole.weights_sha256()
    assert "engine: reference, because the network is a Small and not a" in capsys.readouterr().out
    card = (paused.path / "MODEL_CARD.md").read_text("utf-8")
    assert "A network of its user's own" in card and "no batch norm predicts each image" in card
    page = Path("report/report.html").read_text("utf-8")
    assert "has no batch norm predicts each image by itself" in html.unescape(page)
    table = (paused.path / "hyperparameters.md").read_text("utf-8")
    assert f"{mine}:Small" in table and "`filters`" not in table


def test_a_method_that_needs_embed_refuses_a_network_without_it(mine, capsys):
    sentences = {}
    for name in ("Small", "Embedding"):
        config = settings_of("transfer", network=f"{mine}:{name}", device="cpu", image_size=20)
        try:
            build_learner(config, 3, training_labels=5)
        except ConfigError as error:
            sentences[name] = str(error)

    assert list(sentences) == ["Small"] and "embed" in sentences["Small"]


NOISY = """
import torch
from torch import nn
from torch.nn import functional as F

from innerloop import BatchNorm2d


class Base(nn.Module):
    def __init__(self, outputs, channels, image_size):
        super().__init__()
        self.conv = nn.Conv2d(channels, 8, 5, stride=4)
        self.norm = BatchNorm2d(8)
        self.head = nn.Linear(8, outputs)

    def embed(self, images):
        return self.norm(self.conv(images)).relu().mean(dim=(2, 3))

    def forward(self, images):
        return self.head(self.embed(images))


class Dropping(Base):
    def embed(self, images):
        return F.dropout(super().embed(images), 0.5, training=True)


class Noise(Base):
    def embed(self, images):
        return super().embed(images) + torch.randn(8)


class OfTheBatch(Base):
    def embed(self, images):
        norm = F.batch_norm(self.conv(images), None, None, training=True)
        return norm.relu().mean(dim=(2, 3))


class Centred(Base):
    def embed(self, images):
        features = super().embed(images)
        return features - features.mean(0)


class Counting(Base):
    def __init__(self, **sizes):
        super().__init__(**sizes)
        self.register_buffer("seen", torch.zeros(()))

    def embed(self, images):
        self.seen += 1
        return super().embed(images)


class Pair(Base):
    def embed(self, images):
        return (super().embed(images),)


def Double(**sizes):
    return Base(**sizes).double()


class PairOfFeatures(Base):
    def embed(self, images):
        return super().embed(images), 1

    def forward(self, images):
        return self.head(self.embed(images)[0])


class Halved(Base):
    def embed(self, images):
        return super().embed(images).half()

    def forward(self, images):
        return self.head(self.embed(images).float())


class Wide(Base):
    def embed(self, images):
        features = super().embed(images)
        return torch.cat([features, features], 1)

    def forward(self, images):
        return self.head(self.embed(images)[:, :8])
"""
FAULTS_OF_PASSES = {
    "Dropping": "changes from pass to pass, by random numbers",
    "Noise": "changes from pass to pass, by random numbers",
    "OfTheBatch": "depends on the other images: let only innerloop.BatchNorm2d layers look at",
    "Centred": "depends on the other images: let only innerloop.BatchNorm2d layers look at",
    "Counting": "Buffer 'seen' is changed by a forward pass",
    "Pair": "The network's output is of type tuple",
    "Double": "weights are torch.float64, and images are torch.float32: let its factory return it",
}


@pytest.mark.parametrize("name", FAULTS_OF_PASSES)
@pytest.mark.parametrize("method", ["protonet", "simpleshot"])
def test_what_only_a_pass_tells_of_a_network_is_refused_before_anything_is_written(
    method, name, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    Path("noisy_nets.py").write_text(NOISY)

    small = [one for one in SMALL if method == "protonet" or "meta-batch" not in one]

    assert cli.main(["train", method, "--network", f"noisy_nets:{name}", *small]) == 2
    assert FAULTS_OF_PASSES[name] in capsys.readouterr().err
    assert not Path("runs").exists()


@pytest.mark.parametrize("name", ["PairOfFeatures", "Halved", "Wide"])
@pytest.mark.parametrize("method", ["anil", "protomaml", "tim", "baselinepp"])
def test_features_that_a_head_cannot_take_are_refused_before_anything_is_written(
    method, name, tmp_path, monkeypatch, capsys
):
    """The networks' own logits are right; their features are of another kind, type or number."""
    monkeypatch.chdir(tmp_path)
    Path("noisy_nets.py").write_text(NOISY)
    small = [one for one in SMALL if method in ("anil", "protomaml") or "meta-batch" not in one]

    assert cli.main(["train", method, "--network", f"noisy_nets:{name}", *small]) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert not Path("runs").exists()


def test_a_network_without_those_faults_passes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("noisy_nets.py").write_text(NOISY)
    config = settings_of("protonet", network="noisy_nets:Base", device="cpu", image_size=20)
    learner = build_learner(config, 3)
    before = {name: value.clone() for name, value in learner.state_dict().items()}

    refuse_faults_in_passes(learner, torch.rand(4, 3, 20, 20))

    assert all(torch.equal(value, before[name]) for name, value in learner.state_dict().items())


# ResNet-12 in runs


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fomaml", "mamlpp", "transfer"])
def test_resnet12_is_trained_evaluated_and_adapted_in_parts(method, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = [option for option in SMALL if method != "transfer" or "meta-batch" not in option]
    train = ["train", method, "--network", "resnet12", "--filters", "4", *small]
    assert cli.main(train) == 0
    run = f"runs/{method}-strokes-3w2s-s0"

    assert cli.main(["evaluate", run, "--episodes", "3"]) == 0
    if method != "mamlpp":
        assert cli.main(["evaluate", run, "--episodes", "3", "--adapt", "head+1"]) == 0
    assert cli.main(["report", run, "--out", "report"]) == 0

    card = Path(run, "MODEL_CARD.md").read_text("utf-8")
    assert "A network of 4 residual blocks of 4, 10, 20, 40 filters" in card
    page = Path("report.html") if Path("report.html").exists() else next(Path().rglob("*.html"))
    assert re.search(r"4 residual blocks of 4, 10, 20, 40 filters", page.read_text("utf-8"))


@pytest.mark.parametrize("method", ["fomaml", "transfer"])
def test_an_adapted_resnet12_as_a_module_says_what_its_learner_says(method):
    config = settings_of(method, network="resnet12", filters=4, ways=3, image_size=16, device="cpu")
    learner = build_learner(config, 1, training_labels=3).double()
    random = torch.Generator().manual_seed(0)
    images = torch.rand(1, 6, 1, 16, 16, generator=random).double()
    support = LabelledImages(images, torch.tensor([[0, 0, 1, 1, 2, 2]]))

    adaptation = learner.adapt(support, steps=3)
    module = learner.as_module(adaptation)

    mode = learner.lone_mode(None)
    expected = learner.predict(adaptation, images, batch_norm=mode)[0]
    assert torch.allclose(module(images[0]), expected, rtol=0, atol=1e-9)
    assert set(learner.block_outputs(adaptation, images)) == {
        *(f"block {number}" for number in (1, 2, 3, 4)),
        "features",
        "logits",
    }


@pytest.mark.parametrize("network", [Conv4, ResNet12])
@pytest.mark.parametrize(
    "words",
    [
        {"features": "avg"},
        {"conv_init": "he"},
        {"head_init": "zeros"},
        {"halvings": 9},
        {"ways": 0},
        {"channels": 0},
        {"image_size": "28"},
        {"filters": 0},
        {"feature_norm": "no"},
        {"feature_scale": float("nan")},
    ],
    ids=str,
)
def test_words_that_a_network_does_not_know_are_refused(network, words):
    """They made another network, without a word."""
    given: dict[str, Any] = {"ways": 5, **words}
    if network is ResNet12 and "filters" in words:
        given["filters"] = (64, 64, 0, 64)

    with pytest.raises(ConfigError, match=f"^{next(iter(words))} must be "):
        network(**given)


@pytest.mark.parametrize("filters", [64, (64, 64), "64"])
def test_a_resnet_of_another_number_of_blocks_is_refused(filters):
    with pytest.raises(ConfigError, match="has four blocks, and filters are four numbers: got"):
        ResNet12(5, filters=filters)


def test_a_downsampling_that_is_none_is_refused():
    word: Any = "maxpool"
    with pytest.raises(ConfigError, match="downsample must be one of stride, max-pool"):
        Conv4(5, downsample=word)
