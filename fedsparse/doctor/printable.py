"""Text of others, such as a broker's, on a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    """The text on one line, without what a terminal would obey."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
