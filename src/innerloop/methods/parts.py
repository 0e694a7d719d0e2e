"""Names of what can be adapted in a trained network, and of the heads that it can be given."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, get_args

import numpy as np
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from innerloop.core.errors import ConfigError
from innerloop.networks.base import blocks_of, parameters_under
from innerloop.networks.batch_norm import BatchNormMode
from innerloop.networks.checks import norms_by_batch_alone
from innerloop.settings.fields import Rate, between, check

InnerSteps = Annotated[int, between(0, 1000)]
"""A number of inner steps."""

Parts = Literal["own", "head", "head+1", "head+2", "head+3", "all", "body"]
"""What takes inner steps: what the method itself adapts, the head, it and the last blocks,
everything, or the body."""

Head = Literal["gradient", "logistic", "cosine"]
"""How a head is found on frozen features: some gradient steps, a converged logistic regression, or
prototypes."""

HeadInit = Literal["zero", "glorot", "prototypes"]
"""Where a new head starts: at zero, at uniform weights, the same draw in every episode, or at the
means of each class's support features."""

PARTS: tuple[Parts, ...] = ("own", "head", "head+1", "head+2", "head+3", "all", "body")


Penalty = Annotated[float, between(1e-12, 1e6)]
"""λ of a logistic head."""


def refuse_contradictions(
    parts: Parts, rate: float | None, head: Head, head_init: HeadInit | None, penalty: float
) -> None:
    """Raise `ConfigError` for a way to adapt that there is not, or that contradicts itself.

    Args:
        parts: what takes inner steps.
        rate: of the inner steps; None: it is not asked for.
        head: how the head is found.
        head_init: where a new head starts; None: it is not asked for.
        penalty: λ of a ``logistic`` head.
    """
    if parts not in PARTS:
        raise ConfigError(f"What is adapted must be one of {', '.join(PARTS)}: got {parts!r}.")
    checked("head", Head, head)
    checked("penalty", Penalty, penalty)
    if head_init is not None:
        checked("head_init", HeadInit, head_init)
    if rate is not None:
        checked("inner_lr", Rate, rate)
    if head != "gradient" and parts != "head":
        raise ConfigError(f"A {head} head is found on frozen features: it needs --adapt head.")
    if head != "gradient" and (head_init or rate is not None):
        raise ConfigError(
            f"A {head} head takes no inner steps: it has no initial head and no rate."
        )
    if parts == "body" and head_init:
        raise ConfigError(
            "Adapting the body alone takes a fixed uniform head: leave --head-init out."
        )


def submodules(model: nn.Module, parts: Parts) -> list[str] | None:
    """Names of the submodules that take inner steps; None: all of the network.

    Raises:
        ConfigError: if the network's parts have no names, or it has fewer blocks.
    """
    blocks = [names for names in blocks_of(model).values() if parameters_under(model, names)]
    if parts in ("own", "all"):
        return None
    if parts == "body":
        return [name for block in blocks for name in block]
    count = int(parts.partition("+")[2] or 0)
    if count > len(blocks):
        raise ConfigError(f"{type(model).__name__} has {len(blocks)} blocks: {parts} is too many.")
    return ["head", *(name for block in blocks[len(blocks) - count :] for name in block)]


def checked(name: str, kind: Any, value: Any) -> Any:
    """A learner's setting, of numpy's scalars the Python number.

    Args:
        name: what the error calls it.
        kind: a type as fields of settings have it.
        value: what was given.

    Raises:
        ConfigError: if it is not of the kind.
    """
    value = value.item() if isinstance(value, np.generic) else value
    check(name, kind, value)
    return value


def linear_head(model: nn.Module, name: str) -> list[str]:
    """Names of the parameters of the submodule that starts anew in every episode.

    Raises:
        ConfigError: if it is no linear layer of its own.
    """
    parameters = parameters_to_adapt(
        model,
        [name],
        "to be a fresh head",
        " Name the last linear layer, or leave the head to training: fresh_head=None, "
        "--no-fresh-head.",
    )
    head = model.get_submodule(name)
    if not isinstance(head, nn.Linear) or is_parametrized(head):
        raise ConfigError(
            "A fresh head is a torch.nn.Linear, which can start from zero with any number of "
            f"outputs: {name!r} is a {type(head).__name__}. Name the last linear layer, or leave "
            "fresh_head out."
        )
    own = {id(parameter) for parameter in head.parameters()}
    tied = [
        other
        for other, parameter in model.named_parameters(remove_duplicate=False)
        if id(parameter) in own and not other.startswith(f"{name}.")
    ]
    if tied:
        raise ConfigError(
            f"The fresh head {name!r} shares a parameter with {tied[0]!r}, which would be zero "
            "too: give the head weights of its own."
        )
    return parameters


def parameters_to_adapt(
    model: nn.Module, modules: Sequence[str], purpose: str = "to adapt", remedy: str = ""
) -> list[str]:
    """Names of the parameters of some submodules, refusing one that has none."""
    if isinstance(modules, str):
        raise ConfigError(f"adapts is a list of names: write [{modules!r}].")
    for module in modules:
        if not parameters_under(model, [module]):
            names = [name for name, child in model.named_children() if [*child.parameters()]]
            there = ", ".join(map(repr, names))
            raise ConfigError(
                f"The model has no parameters under {module!r} {purpose}. "
                + (f"It has some under {there}." if there else "None of its submodules has any.")
                + remedy
            )
    return parameters_under(model, modules)


def refuse_fixed(method: str, settings: Mapping[str, Any], *fixed: str) -> None:
    """Raise `ConfigError` for a setting that is a part of the method, and none of its user's."""
    for name in fixed:
        if name in settings:
            raise ConfigError(
                f"{method} has a {name} of its own, by which it is {method}: omit it."
            )


def possible_modes(model: nn.Module, asked: tuple[BatchNormMode, ...]) -> tuple[BatchNormMode, ...]:
    """The batch-norm modes of those asked for that the network has.

    Raises:
        ConfigError: if there is none, or no such mode.
    """
    known = get_args(BatchNormMode)
    if isinstance(asked, str) or not asked or any(mode not in known for mode in asked):
        raise ConfigError(
            f"batch_norm_modes is a tuple of some of {', '.join(known)}: got {asked!r}."
        )
    by_batch = norms_by_batch_alone(model)
    if not by_batch:
        return tuple(asked)
    # PyTorch's layers take no statistics: they would go on with their batch's, without a word.
    if "transductive" not in asked:
        raise ConfigError(
            f"Layer {by_batch[0]!r} normalises by its own batch only, so batch norm by "
            f"{', '.join(asked)} is not possible: use innerloop.BatchNorm2d."
        )
    return ("transductive",)
