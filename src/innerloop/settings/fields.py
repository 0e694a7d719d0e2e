"""Settings as frozen dataclasses: each field says its type and range, and is checked.

msgspec checks the types and the ranges, since it reads them from the annotations of plain
dataclasses and takes neither a dependency nor time to import; the sentences are ours.
"""

import ast
import dataclasses
import inspect
import math
import reprlib
import textwrap
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Annotated, Any, Literal, Self, get_args, get_origin, get_type_hints

import msgspec

from innerloop.core.errors import ConfigError, did_you_mean


def between(low: float, high: float) -> msgspec.Meta:
    """For ``Annotated``: a number from ``low`` to ``high``, both included."""
    return msgspec.Meta(ge=low, le=high)


Rate = Annotated[float, between(0.0, 1000.0)]
"""A learning rate."""
Smoothing = Annotated[float, between(0.0, 0.99)]
"""How much of a target is spread over all classes."""
Fraction = Annotated[float, between(0.0, 1.0)]
"""A part of a whole."""
Steps = Annotated[int, between(1, 10_000_000)]
"""A number of outer steps."""


def setting(
    default: Any,
    *,
    flag: str = "",
    seldom: bool = False,
    formerly: Any = dataclasses.MISSING,
    place: bool = False,
    networks: tuple[str, ...] = (),
    when: tuple[str, Any] | None = None,
) -> Any:
    """A field of which more is said than its type and default.

    Args:
        default: its default.
        flag: its name among all settings and on the command line, where that is not the
            attribute's.
        seldom: leave it out of ``--help``, for ``--help-all``.
        formerly: what files of this version mean that lack it, since they are older.
        place: where something lies, which decides no number: kept in files, and no option.
        networks: names of the networks that have it; none: whatever the network, it is there.
        when: another attribute of the section and the value at which this one decides something.
    """
    metadata: dict[str, Any] = {
        "seldom": seldom,
        "formerly": formerly,
        "place": place,
        "networks": networks,
        "when": when,
    }
    if flag:
        metadata["flag"] = flag
    return dataclasses.field(default=default, metadata=metadata)


def flag_of(field: dataclasses.Field) -> str:
    """What a setting is called among all settings, on the command line and in tables."""
    return field.metadata.get("flag", field.name)


def value_in_words(value: Any) -> str:
    """Of a setting, as sentences have it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)


@dataclass(frozen=True)
class Section:
    """Some settings that belong together; made whole and right, or not at all.

    Raises:
        ConfigError: if a value has the wrong type or is out of its range.
    """

    def __post_init__(self):
        """Check types and ranges once; afterwards they are trusted."""
        kinds = self.kinds()
        for field in dataclasses.fields(self):
            check(flag_of(field), kinds[field.name], getattr(self, field.name))

    def without_effect(self) -> dict[str, str]:
        """Settings that decide nothing beside the others, with the reason, by their names."""
        found = {}
        for field in dataclasses.fields(self):
            other, value = field.metadata.get("when") or ("", None)
            if other and getattr(self, other) != value:
                found[flag_of(field)] = (
                    f"it is read where {other} is {value_in_words(value)}, and that is "
                    f"{value_in_words(getattr(self, other))}"
                )
        return found

    def flat(self) -> dict[str, Any]:
        """The settings by their names among all settings; not the places."""
        return {
            flag_of(field): getattr(self, field.name)
            for field in dataclasses.fields(self)
            if not field.metadata.get("place")
        }

    def replaced(self, **changes: Any) -> Self:
        """A copy with some attributes changed, checked again."""
        return dataclasses.replace(self, **changes)

    @classmethod
    @cache
    def kinds(cls) -> dict[str, Any]:
        """The type of each attribute, with its range; also where annotations are texts."""
        hints = get_type_hints(cls, include_extras=True)
        return {field.name: hints[field.name] for field in dataclasses.fields(cls)}

    @classmethod
    def flags(cls) -> dict[str, str]:
        """Name among all settings -> name of the attribute."""
        return {flag_of(field): field.name for field in dataclasses.fields(cls)}

    @classmethod
    def formerly(cls) -> dict[str, Any]:
        """Attributes that a file of this version may lack, with what that means."""
        missing = dataclasses.MISSING
        values = {
            field.name: field.metadata.get("formerly", missing) for field in dataclasses.fields(cls)
        }
        return {name: value for name, value in values.items() if value is not missing}

    @classmethod
    def descriptions(cls) -> dict[str, str]:
        """The sentence under each setting, by its name among all settings."""
        sentences: dict[str, str] = {}
        # From the base class on, so that a subclass's sentence replaces the one that it inherits.
        for base in reversed(cls.__mro__):
            if dataclasses.is_dataclass(base):
                sentences |= attribute_docstrings(base)
        return {
            flag_of(field): sentences[field.name]
            for field in dataclasses.fields(cls)
            if not field.metadata.get("place")
        }


@lru_cache
def attribute_docstrings(cls: type) -> dict[str, str]:
    """The docstring under each attribute that a class itself declares."""
    # Python keeps no docstring of an attribute: they are in the source alone.
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    docstrings: dict[str, str] = {}
    if not isinstance(definition, ast.ClassDef):  # for the type checker
        return docstrings
    for attribute, following in zip(definition.body, definition.body[1:], strict=False):
        if not isinstance(attribute, ast.AnnAssign) or not isinstance(attribute.target, ast.Name):
            continue
        if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
            docstrings[attribute.target.id] = " ".join(str(following.value.value).split())
    return docstrings


def check(name: str, kind: Any, value: Any) -> None:
    """Refuse a value that is not of a kind.

    Args:
        name: what the error calls the setting.
        kind: a type as fields have it, such as ``Annotated[int, between(1, 10)]``.
        value: what was given.

    Raises:
        ConfigError: with the kind in words, the value, and the nearest choice where there are some.
    """
    of_type, ranges = _taken_apart(kind)
    # The type before the range, so that the sentence says which of the two is wrong.
    if not _fits(value, of_type):
        hint = ""
        if get_origin(of_type) is Literal and isinstance(value, str):
            hint = did_you_mean(value, list(get_args(of_type)))
        raise ConfigError(f"{name} must be {_in_words(of_type)}: got {shown(value)}.{hint}")
    # msgspec refuses NaN where there is a range, and lets it pass where there is none.
    if not _fits(value, kind) or (isinstance(value, float) and not math.isfinite(value)):
        words = f"between {ranges[0].ge:,} and {ranges[0].le:,}" if ranges else "finite"
        raise ConfigError(f"{name} must be {words}: got {shown(value)}.")


def is_known(kind: Any) -> bool:
    """Whether a kind is one that settings can be of: it is checked, and said, by its words."""
    of_type, ranges = _taken_apart(kind)
    if get_origin(of_type) is Literal:
        return all(isinstance(choice, str) for choice in get_args(of_type))
    whole = all(one.ge is not None and one.le is not None for one in ranges)
    return of_type in (int, float, bool, str) and whole


def plain_type(kind: Any) -> Any:
    """The type of a field without its range."""
    return _taken_apart(kind)[0]


def _taken_apart(kind: Any) -> tuple[Any, list[msgspec.Meta]]:
    """The type behind an annotation, and its ranges."""
    if get_origin(kind) is not Annotated:
        return kind, []
    of_type, *metadata = get_args(kind)
    return of_type, [one for one in metadata if isinstance(one, msgspec.Meta)]


def _fits(value: Any, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind, strict=True)
    except (msgspec.ValidationError, UnicodeEncodeError):  # the latter from a lone surrogate
        return False
    return True


def _in_words(of_type: Any) -> str:
    if get_origin(of_type) is Literal:
        return f"one of {', '.join(get_args(of_type))}"
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    return words[of_type]


def shown(value: Any) -> str:
    """A value as an error shows it: cut short, however long or deep it is."""
    return reprlib.repr(value)
