"""Which methods there are, and what they need: found, never listed. Imports no torch."""

import pkgutil
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from innerloop.core.errors import ConfigError, did_you_mean
from innerloop.core.imports import load
from innerloop.methods.card import Card
from innerloop.settings.method import MethodSettings
from innerloop.settings.run import RunConfig

if TYPE_CHECKING:
    from innerloop.methods.base import Learner

GROUP = "innerloop.methods"
"""Entry points of this group name the cards of other packages: ``name = "module:CARD"``."""


@cache
def _places() -> dict[str, list[str]]:
    """Name of a method -> where its cards are said to be; more than one is an error."""
    places: dict[str, list[str]] = {}
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if module.ispkg and (Path(__file__).parent / module.name / "card.py").is_file():
            places[module.name] = [f"innerloop.methods.{module.name}.card:CARD"]
    for entry in entry_points(group=GROUP):
        places.setdefault(entry.name, []).append(entry.value)
    return {name: list(dict.fromkeys(values)) for name, values in places.items()}


def names() -> list[str]:
    """Every method that is installed, this package's first, in the order of the alphabet."""
    return list(_places())


def cards() -> tuple[list[Card], list[str]]:
    """The cards of all methods, and a sentence for each method whose card cannot be used."""
    whole = []
    faults = []
    for name in names():
        try:
            whole.append(find_card(name))
        except ConfigError as error:
            faults.append(str(error))
    return whole, faults


def find_card(method: str) -> Card:
    """The card of a method, by its name or by ``module:CARD``.

    Raises:
        ConfigError: if there is none, with the nearest name; or if it cannot be imported, is of
            another kind, is wrong in itself, or is not the only one of its name.
    """
    places = _places().get(method, [method] if ":" in method else [])
    if not places:
        titles = {card.title.casefold(): card.name for card in cards()[0]}
        hint = did_you_mean(titles.get(method.casefold(), method), names())
        raise ConfigError(f"There is no method {method!r}.{hint} One of your own is module:CARD.")
    if len(places) > 1:
        raise ConfigError(
            f"There are {len(places)} methods {method!r}: {' and '.join(places)}. Uninstall all "
            "but one, or name one by its place."
        )
    return _card_at(places[0], method)


@cache
def _card_at(place: str, method: str) -> Card:
    card = load(place, f"The card of method {method!r}")
    if not isinstance(card, Card):
        raise ConfigError(f"Method {method!r}: {place} is not an innerloop Card.")
    try:
        card.refuse_faults()
    except Exception as error:  # whatever somebody else's card holds, the others still work
        reason = (
            str(error) if isinstance(error, ConfigError) else f"{type(error).__name__}: {error}."
        )
        raise ConfigError(f"Method {method!r} has a card that is wrong: {reason}") from error
    if ":" not in method and card.name != method:
        raise ConfigError(f"Method {method!r} has a card with another name, {card.name!r}.")
    return card


def find_learner(method: str) -> "type[Learner]":
    """The class behind a method's name.

    Raises:
        ConfigError: if there is no such method, or its learner cannot be imported or is none.
    """
    # Here, since it imports torch, and nothing else of the catalogue needs it.
    from innerloop.methods.base import Learner

    learner = load(find_card(method).learner, f"The learner of method {method!r}")
    if not (isinstance(learner, type) and issubclass(learner, Learner)):
        raise ConfigError(f"Method {method!r} has a learner that is no innerloop.Learner.")
    return learner


def title_of(method: str) -> str:
    """How tables and figures call a method, also one whose card is not installed here.

    Where another method has the same title, its name follows in brackets: results are kept by it.
    A transductive method says so, too.
    """
    try:
        own = find_card(method)
    except ConfigError:
        return method
    alike = any(card.title == own.title and card is not own for card in cards()[0])
    remarks = [*([method] if alike else []), *(["transductive"] if own.transductive else [])]
    return f"{own.title} ({', '.join(remarks)})" if remarks else own.title


def settings_of(method: str, preset: str | None = None, /, **changes: Any) -> RunConfig:
    """A method's default settings, or those that a preset and some changes make of them.

    Args:
        method: its name.
        preset: one of the card's `presets`.
        changes: settings by name.

    Raises:
        ConfigError: if there is no such method, preset or setting, or a value is wrong.
    """
    card = find_card(method)
    config = RunConfig(method, card.settings()).replace(**card.defaults)
    if preset is not None:
        if preset not in card.presets:
            raise ConfigError(_no_such_preset(preset, card))
        config = config.replace(**card.presets[preset])
    return config.replace(**changes)


def _no_such_preset(preset: str, card: Card) -> str:
    """Says which methods have it, or which is meant."""
    owners = [other.name for other in cards()[0] if preset in other.presets]
    known = ", ".join(card.presets)
    there_are = f"There are: {known}." if known else "It has none."
    if owners:
        have = "has" if len(owners) == 1 else "have"
        others = " and ".join(filter(None, [", ".join(owners[:-1]), owners[-1]]))
        return f"{card.name} has no preset {preset!r}, {others} {have}. {there_are}"
    if not known:
        return f"There is no preset {preset!r}. {card.name} has none."
    return f"There is no preset {preset!r}.{did_you_mean(preset, list(card.presets))}"


def read_config(text: str, *, source: str = "config.json") -> RunConfig:
    """Read a configuration of this or the former version; see `RunConfig.from_json`."""
    return RunConfig.from_json(text, _own_settings, source=source)


def _own_settings(method: str) -> type[MethodSettings]:
    return find_card(method).settings


def load_config(path: Path) -> RunConfig:
    """Read a ``config.json``.

    Raises:
        ConfigError: if it cannot be read or is not one.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"Cannot read the configuration {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"The configuration {path} is not JSON: it is not even UTF-8 text."
        ) from error
    return read_config(text, source=str(path))
