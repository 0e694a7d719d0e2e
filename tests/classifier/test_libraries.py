"""Backbones of other libraries: their own small networks with random weights, really loaded."""

import sys

import numpy as np
import pytest
import torch

from innerloop import FewShotClassifier
from innerloop.classifier import backbones
from innerloop.classifier.libraries import load
from innerloop.core.errors import ConfigError
from picturing import COLOURS, photo

NETWORKS = {
    "timm:test_vit": 64,
    "timm:resnet10t": 512,
    "torchvision:mobilenet_v3_small": 1024,
    "torchvision:resnet18": 512,
    "open_clip:RN50": 1024,
}
"""A network -> the features that it has before its last layer."""


@pytest.fixture(scope="module", autouse=True)
def torchvision_beside_any_pytorch():
    """torchvision's wheel may be built for another PyTorch than is installed, a CPU's for instance.

    It then lacks the operators of detection, which it tells PyTorch about; networks need none.
    """
    register = torch.library.register_fake

    def if_there(operator, *arguments, **named):
        def decorated(function):
            try:
                return register(operator, *arguments, **named)(function)
            except RuntimeError:
                return function

        return decorated

    torch.library.register_fake = if_there
    import torchvision  # noqa: F401

    torch.library.register_fake = register


@pytest.mark.parametrize("wanted", NETWORKS)
@pytest.mark.filterwarnings("default")
def test_a_network_of_another_library_gives_vectors(wanted):
    library, _, name = wanted.partition(":")
    backbone = load(library, name, pretrained=False)
    pixels = np.asarray(photo("sea", 0))

    vector = backbone.vector(pixels, "picture")

    assert vector.shape == (NETWORKS[wanted],)
    assert np.array_equal(backbone.vector(pixels, "picture"), vector)
    assert backbone.vector(pixels[..., 0], "grey").shape == vector.shape
    assert backbone.version != load(library, name, pretrained=False).version


@pytest.mark.filterwarnings("default")
def test_a_classifier_is_fitted_to_them(monkeypatch):
    network = load("timm", "test_vit", pretrained=False)
    monkeypatch.setattr(backbones, "find_backbone", lambda wanted: network)
    monkeypatch.setattr("innerloop.classifier.estimator.find_backbone", lambda wanted: network)
    pictures = [photo(kind, seed) for kind in COLOURS for seed in range(4)]

    classifier = FewShotClassifier("timm:test_vit").fit(pictures, np.repeat(list(COLOURS), 4))

    assert classifier.backbone_ == "timm:test_vit"
    assert classifier.predict(pictures).shape == (12,)


@pytest.mark.parametrize("library", ["timm", "torchvision", "open_clip"])
def test_a_library_that_is_not_there_is_named_with_the_command(library, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)

    with pytest.raises(ConfigError, match=rf"needs {library}.*pip install {library}"):
        load(library, "any")


def test_a_library_that_does_not_import_is_not_said_to_be_missing(tmp_path, monkeypatch):
    (tmp_path / "timm.py").write_text("raise RuntimeError('operator nms does not exist')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "timm", raising=False)

    with pytest.raises(ConfigError, match=r"timm is installed and does not import \(operator nms"):
        load("timm", "resnet18")


@pytest.mark.parametrize("wanted", ["timm:none", "torchvision:none", "open_clip:none/x"])
def test_a_network_that_a_library_does_not_have_is_said_in_a_sentence(wanted):
    with pytest.raises(ConfigError, match=r"cannot be loaded \(.*\): check its name") as error:
        load(*wanted.split(":"))

    assert len(str(error.value)) < 400
