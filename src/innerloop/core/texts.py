"""Texts that a person chose, such as the names of folders and classes, as they can be shown."""

import unicodedata

UNKNOWN = "\N{REPLACEMENT CHARACTER}"


def whole(text: str) -> str:
    """The text with the bytes that Python could not decode in a file's name read as UTF-8.

    In a shell without UTF-8 that is every name that is not ASCII; what is no UTF-8 gets a mark.
    """
    if not any(unicodedata.category(character) == "Cs" for character in text):
        return text
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    except UnicodeEncodeError:  # half of a character that no file's name gave
        return text


def printable(text: str) -> str:
    """The text, with a mark for each character that no file of text or page can hold.

    These are control characters, but for tabs and line ends, and what is left by `whole`.
    """
    return "".join(
        UNKNOWN
        if unicodedata.category(character) in ("Cc", "Cs") and character not in "\t\n"
        else character
        for character in whole(text)
    )
