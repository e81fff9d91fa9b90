"""Times as other tools write them: whole milliseconds, halves up, and clocks made of them.

Every format but ActivityNet JSON, which keeps all digits, rounds by :func:`milliseconds`; two segments that
touch therefore touch in every format.
"""

from __future__ import annotations

import math


def milliseconds(seconds: float) -> int:
    """Seconds to the nearest whole millisecond, halves up."""
    return math.floor(seconds * 1000 + 0.5)


def clock(ms: int, point: str = ".") -> str:
    """``hh:mm:ss.mmm``; hours grow beyond two digits where they must. ``ms`` is at least 0."""
    rest, thousandths = divmod(ms, 1000)
    minutes, seconds = divmod(rest, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{point}{thousandths:03}"


def short_clock(seconds: float) -> str:
    """``h:mm:ss.s``, for people: tenths of a second, halves up."""
    sign = "-" if seconds < 0 else ""
    rest, tenths = divmod(math.floor(abs(seconds) * 10 + 0.5), 10)
    minutes, whole = divmod(rest, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{sign}{hours}:{minutes:02}:{whole:02}.{tenths}"
