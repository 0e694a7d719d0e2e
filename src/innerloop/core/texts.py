"""Texts that a person chose, such as the names of folders and classes, as they can be shown."""

import unicodedata

UNKNOWN = "\N{REPLACEMENT CHARACTER}"


def printable(text: str) -> str:
    """The text, with a mark for each character that no file of text or page can hold.

    These are control characters, but for tabs and line ends, and the halves of characters that
    Python makes of a folder's name that is not UTF-8.
    """
    return "".join(
        UNKNOWN
        if unicodedata.category(character) in ("Cc", "Cs") and character not in "\t\n"
        else character
        for character in text
    )
