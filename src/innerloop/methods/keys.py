"""What a learner calls what it learns for each tensor or layer of a network."""

from torch import nn

_ESCAPES = (("~", "~0"), ("/", "~1"), (".", "/"))
"""Dots become slashes, since PyTorch keeps dots for submodules; slashes are escaped before."""
_RESERVED = "~2"
"""Before a key that would be an attribute of the dictionary, such as ``keys``."""


def key_of(name: str) -> str:
    """A tensor's or layer's name as a key, another one for every name; see `name_of`."""
    for part, escape in _ESCAPES:
        name = name.replace(part, escape)
    return f"{_RESERVED}{name}" if hasattr(_EMPTY, name) else name


def name_of(key: str) -> str:
    """The name behind `key_of`."""
    name = key.removeprefix(_RESERVED)
    for part, escape in reversed(_ESCAPES):
        name = name.replace(escape, part)
    return name


_EMPTY = nn.ParameterDict()
