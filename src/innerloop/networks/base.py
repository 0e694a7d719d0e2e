"""What a network has, beyond mapping images to logits, if it is cut or adapted in parts."""

from collections.abc import Mapping, Sequence
from typing import Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn
from torch.func import functional_call

from innerloop.core.errors import ConfigError


@runtime_checkable
class Embeds(Protocol):
    """A network that can be cut before its head."""

    def embed(self, images: Tensor) -> Tensor:
        """Features (n, features) of images (n, channels, height, width)."""
        ...


@runtime_checkable
class HasMaps(Embeds, Protocol):
    """A network whose features have places in the image.

    Attributes:
        map_shape: channels, height and width of its maps.
    """

    map_shape: tuple[int, int, int]

    def maps(self, images: Tensor) -> Tensor:
        """The last block's output ``(n, *map_shape)`` of images (n, channels, height, width)."""
        ...


@runtime_checkable
class HasBlocks(Embeds, Protocol):
    """A network whose parts have names: its logits are ``head(embed(images))``.

    Attributes:
        head: the last layer.
    """

    head: nn.Module

    @property
    def blocks(self) -> Mapping[str, Sequence[str]]:
        """A block's name -> names of its submodules; the output of the last is normalised.

        From the images to the features; one without parameters is looked at, never adapted.
        """
        ...


def feature_size(model: nn.Module) -> int:
    """How many features ``embed`` gives of an image.

    Raises:
        ConfigError: if the network does not say it.
    """
    size = getattr(model, "feature_size", None) or getattr(
        getattr(model, "head", None), "in_features", None
    )
    if not isinstance(size, int):
        raise ConfigError(
            f"{type(model).__name__} does not say how many features it gives: give it an attribute "
            "feature_size, or a torch.nn.Linear as head."
        )
    return size


def blocks_of(model: nn.Module) -> Mapping[str, Sequence[str]]:
    """The network's ``blocks``.

    Raises:
        ConfigError: if the network's blocks have no names.
    """
    if not isinstance(model, HasBlocks):
        raise ConfigError(
            f"The blocks of {type(model).__name__} have no names: give it a method embed(images), "
            "a last layer head, and a property blocks, as innerloop.Conv4 has."
        )
    if "logits" in model.blocks:
        raise ConfigError(
            f"{type(model).__name__} has a block 'logits', which is what the head's output is "
            "called: give the block another name."
        )
    return model.blocks


def last_of_blocks(model: nn.Module) -> dict[str, str]:
    """A block's name -> the submodule whose output is the block's."""
    return {name: modules[-1] for name, modules in blocks_of(model).items()}


def parameters_under(model: nn.Module, modules: Sequence[str]) -> list[str]:
    """Names of the parameters of some submodules, in the model's order."""
    # With the dot, or "head" would be the beginning of "header" too. A tied parameter is under
    # either of its names, and is called by the first.
    starts = tuple(f"{module}." for module in modules)
    under = {
        id(parameter)
        for name, parameter in model.named_parameters(remove_duplicate=False)
        if name.startswith(starts)
    }
    return [name for name, parameter in model.named_parameters() if id(parameter) in under]


def refuse_other_forward(model: nn.Module, images: Tensor) -> None:
    """Raise `ConfigError` unless logits of images (n, ...) are ``head(embed(images))``.

    By a head of random weights: one that starts from zero has the same logits whatever it is given.
    """
    with torch.no_grad():
        features = cast(Embeds, model).embed(images.clone())
        refuse_other_features(features[None], model, "embed")
        head = model.get_submodule("head")
        draw = torch.Generator().manual_seed(0)
        drawn = {
            name: (torch.randn(of.shape, generator=draw) / features.shape[1] ** 0.5).to(of)
            for name, of in head.named_parameters()
        }
        cut = functional_call(head, drawn, (features,))
        of_model = {f"head.{name}": of for name, of in drawn.items()}
        whole = functional_call(model, of_model, (images.clone(),))
    alike = whole.shape == cut.shape
    # Without numbers there is nothing to compare; who computes with them says so.
    if not alike or not torch.allclose(whole, cut, rtol=1e-3, atol=1e-4, equal_nan=True):
        raise ConfigError(
            f"The logits of {type(model).__name__} are not head(embed(images)), for which they are "
            "taken here: let embed return what the head is given."
        )


def refuse_other_features(features: Tensor, model: nn.Module, method: str) -> None:
    """Raise `ConfigError` unless they are rows (E, n, features), or maps (E, n, C, H, W)."""
    ndim, wanted = (5, "maps (n, C, H, W)") if method == "maps" else (3, "features (n, features)")
    if features.ndim != ndim:
        raise ConfigError(
            f"{method} of {type(model).__name__} returns {tuple(features.shape[1:])} for "
            f"{features.shape[1]} images: let it return {wanted}, one row each."
        )
