"""What the readers of annotations share: text files, names and times, each refused with a reason."""

from __future__ import annotations

import difflib
import math
import reprlib
from collections.abc import Collection
from pathlib import Path

from dgam.core.errors import InputError

AMBIGUOUS = "Ambiguous"
"""THUMOS14's name for stretches that annotators could not decide on. They are instances of no class."""


def read_text(path: Path) -> str:
    """A file's content, UTF-8 with or without a byte order mark. InputError where it cannot be read as
    that."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: is not UTF-8 text: byte {error.start} is {error.object[error.start]:#04x}. Save it as "
            "UTF-8."
        ) from error


def name_of(value: object, kind: str) -> str:
    """A video id or label: text, not empty, without outer space. ValueError says what is wrong."""
    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError:
            raise ValueError(f"{kind} {brief(value)} is not UTF-8 text.") from None
    if not isinstance(value, str):
        raise ValueError(f"{kind} must be text, got {brief(value)}.")
    if not value.strip():
        raise ValueError(f"{kind} is empty.")
    if "\0" in value or not _is_unicode(value):
        raise ValueError(f"{kind} {brief(value)} holds characters that no text has.")
    return value.strip()


def seconds_of(value: object, kind: str) -> float:
    """A time: a finite number, or text that holds one. ValueError says what is wrong."""
    number = math.nan
    underscore = isinstance(value, str) and "_" in value  # float("1_0") is 10
    if isinstance(value, int | float | str) and not isinstance(value, bool) and not underscore:
        try:
            number = float(value)
        except (ValueError, OverflowError):
            number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{kind} must be a number of seconds, got {brief(value)}.")
    return number


def times_of(start: object, end: object) -> tuple[float, float]:
    """Start and end of a segment in seconds. ValueError says what is wrong."""
    first, last = seconds_of(start, "its start"), seconds_of(end, "its end")
    if last < first:
        raise ValueError(f"it ends ({last:g} s) before it starts ({first:g} s).")
    return first, last


def nearest(name: str, known: Collection[str]) -> str:
    """ "Did you mean 'walk'?" for a name close to a known one, else which are known."""
    if near := difflib.get_close_matches(name, known, 1):
        return f"Did you mean {near[0]!r}?"
    shown = ", ".join(sorted(known)[:8]) + (", …" if len(known) > 8 else "")
    return f"Known: {shown or 'none'}."


def brief(value: object) -> str:
    """A value as it would be typed, cut to 60 characters."""
    if isinstance(value, str | bytes | float):
        text = repr(value)
    else:
        try:
            text = reprlib.repr(value)  # bounded, also for lists in lists
        except ValueError:  # a whole number of more digits than Python prints
            text = f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}…"


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
