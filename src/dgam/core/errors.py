"""The one exception for bad input, and the record that checks collect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class InputError(Exception):
    """Something the user gave is wrong.

    The message says what was wrong, in which file or argument, what was expected and what to do.
    The command line prints it without a traceback and exits with 2; anything else is our fault and exits 1.
    """


@dataclass(frozen=True)
class Problem:
    """One defect found in the input.

    ``where`` is the file or argument, ``video`` the video id (None where the defect is not about one video),
    ``what`` says what is wrong, with the number, and ``remedy`` what to do about it.
    """

    where: str
    what: str
    video: str | None = None
    remedy: str = ""

    def __str__(self) -> str:
        video = f" video {self.video!r}:" if self.video is not None else ""
        remedy = f" {self.remedy}" if self.remedy else ""
        return f"{self.where}:{video} {self.what}{remedy}"


class InputProblems(InputError):
    """Several defects reported at once; ``problems`` holds each of them."""

    def __init__(self, heading: str, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        shown = [f"  {problem}" for problem in self.problems[:50]]
        if len(self.problems) > 50:
            shown.append(f"  … and {len(self.problems) - 50} more")
        super().__init__("\n".join([heading, *shown]))
