"""Labels that look like one label written in two ways: "Fall (FW)" and "Falling (FW)", "push-ups" and
"Push up"."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import combinations

_ENDINGS = ("ing", "ed", "es", "s")
_LONG = 5  # letters from which a word with one letter off counts as a slip of the pen
_PLACEHOLDERS = frozenset(
    {"none", "no", "nothing", "background", "na", "nan", "null", "other", "unknown", "noaction"}
)


def look_alikes(labels: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs that may be meant as one: they differ in case, spaces, signs, an ending of a word, or one letter
    of a longer word. Numbers and short words must be the same: "Fall (FW)" is not "Fall (BW)"."""
    return [pair for pair in combinations(labels, 2) if _alike(*pair)]


def is_placeholder(label: str) -> bool:
    """Whether a label looks like a way to say that there is none."""
    plain = "".join(_words(label))
    return plain in _PLACEHOLDERS or not plain


def is_number(label: str) -> bool:
    """Whether a label is a number, or times such as "12.5-14" or "0:10"."""
    return re.fullmatch(r"[-+]?\d[\d.,:\s–-]*", label.strip()) is not None


def _words(label: str) -> list[str]:
    return re.findall(r"[^\W_]+", label.casefold())


def _alike(first: str, second: str) -> bool:
    one, two = _words(first), _words(second)
    if "".join(one) == "".join(two):
        return True
    if len(one) != len(two):
        return False
    return all(_same_word(a, b) for a, b in zip(one, two, strict=True))


def _same_word(one: str, two: str) -> bool:
    if one == two:
        return True
    if one.isdigit() or two.isdigit():
        return False
    if _stem(one) == _stem(two) and len(_stem(one)) >= 2:
        return True
    short = min(len(one), len(two))
    return short >= _LONG and one[0] == two[0] and _one_letter_apart(one, two)


def _stem(word: str) -> str:
    """A word without its ending, "falling" and "falls" to "fall", "sitting" to "sit", "diving" to "div"."""
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= (2 if ending == "s" else 3):
            word = word[: -len(ending)]
            if ending in ("ing", "ed") and word[-1] == word[-2] and word[-1] not in "ls":
                word = word[:-1]
            break
    return word[:-1] if word.endswith("e") and len(word) > 3 else word


def _one_letter_apart(one: str, two: str) -> bool:
    """Whether one letter was changed, left out, added, or swapped with its neighbour."""
    if len(one) > len(two):
        one, two = two, one
    start = next((i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), len(one))
    if len(one) < len(two):
        return one[start:] == two[start + 1 :]
    swapped = one[:start] + one[start : start + 2][::-1] + one[start + 2 :]
    return one[start + 1 :] == two[start + 1 :] or swapped == two
