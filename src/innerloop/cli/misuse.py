"""What was typed wrong, in a sentence: tyro says it in a box of many lines, in Python's words."""

import re
from collections import Counter
from collections.abc import Sequence

from innerloop.core.errors import ConfigError, did_you_mean, nearest

NUMBERS = {"invalid literal for int()": "a whole number", "could not convert string": "a number"}
"""How Python's complaint of a value begins, and what the value must be."""


def _name(argument: str) -> str:
    return argument.removeprefix("--").partition("=")[0].replace("_", "-")


def refuse_repeated(arguments: Sequence[str], names: Sequence[str], how: str = "") -> None:
    """Raise `ConfigError` where one of some options is given more than once.

    Args:
        arguments: as they were typed.
        names: options without dashes, of which it would not be seen that the last one wins.
        how: more words on how to give it once.
    """
    typed = Counter(_name(argument) for argument in arguments if argument.startswith("--"))
    for name in names:
        if typed[name] > 1:
            raise ConfigError(f"--{name} is given {typed[name]} times: give it once{how}.")


def sentence_of(box: str, command: str, flags: Sequence[str]) -> str:
    """What tyro's box says, as a sentence.

    Args:
        box: as it was printed.
        command: what was typed before the options.
        flags: the options there are, without dashes.
    """
    said = " ".join(re.sub(r"[│╭╮╰╯─|+]|-{4,}", " ", box).split())
    for pattern, in_words in (
        (r"Error parsing (\S+): (.*?) Argument helptext", _wrong_value),
        (r"invalid choice '(.*?)' for argument '(\S+)'\. Expected one of \((.*?)\)", _wrong_choice),
        (r"Missing value for argument '(\S+)'. Expected (\d+)", _missing_value),
    ):
        if found := re.search(pattern, said):
            return in_words(*found.groups())
    if found := re.search(r"Missing from .*?: ((?:PATH ?)+|\{\S+\}) (.*?)\.? \(required\)", said):
        return f"innerloop {command} needs {found[1]}: {found[2]}."
    if found := re.search(r"Unrecognized options: (.*?)(?: Perhaps| Similar| For full|$)", said):
        return _unknown(found[1].split(", ")[0], command, flags)
    reason = re.split(r" (?:For full|Argument helptext)", said)[0]
    return f"{reason}: see innerloop {command} --help."


def _wrong_value(flag: str, reason: str) -> str:
    value = reason.partition(": ")[2]
    for beginning, words in NUMBERS.items():
        if reason.startswith(beginning):
            point = " Write it with a point." if re.fullmatch(r"'[+-]?\d*,\d+'", value) else ""
            return f"{flag} must be {words}: got {value}.{point}"
    return f"{flag}: {reason.rstrip('.')}."


def _wrong_choice(value: str, flag: str, choices: str) -> str:
    known = re.findall(r"'(.*?)'", choices)
    return f"{flag} must be one of {', '.join(known)}: got {value!r}.{nearest(value, known)}"


def _missing_value(flag: str, count: str) -> str:
    values = "a value" if count == "1" else f"{count} values"
    return f"{flag} needs {values}, and there {'is none' if count == '1' else 'are fewer'}."


def _unknown(token: str, command: str, flags: Sequence[str]) -> str:
    if not token.startswith("-"):
        return f"innerloop {command} takes no {token!r}: see innerloop {command} --help."
    meant = did_you_mean(_name(token), flags) if nearest(_name(token), flags) else ""
    meant = re.sub(r"'(.*?)'", r"--\1", meant)
    return f"There is no option {token}.{meant} See innerloop {command} --help."
