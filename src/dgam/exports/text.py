"""Class names as text that no format can stumble over."""

from __future__ import annotations

import unicodedata


def one_line(text: str) -> str:
    """``text`` on one line: line breaks, tabs and control characters become single spaces.

    What is no character at all (half a surrogate pair, or what XML forbids) becomes U+FFFD.
    """
    return " ".join("".join(map(_plain, text)).split())


def _plain(char: str) -> str:
    category = unicodedata.category(char)
    if category == "Cs" or char in "\ufffe\uffff":
        return "\ufffd"
    return " " if category in ("Cc", "Zl", "Zp") else char
