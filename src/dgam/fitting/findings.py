"""What the checks before a fit found: errors that stop it, warnings that do not, and notes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from dgam.core.errors import InputProblems, Problem

Severity = Literal["error", "warning", "note"]
Tell = Callable[[Severity, Problem], None]
"""Told of each finding as soon as all checks of its kind are through."""


@dataclass
class Findings:
    """Problems by severity, in the order in which they were found."""

    errors: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    notes: list[Problem] = field(default_factory=list)

    def error(self, where: str, what: str, video: str | None = None, remedy: str = "") -> None:
        """Something that cannot be trained on."""
        self.errors.append(Problem(where, what, video, remedy))

    def warn(self, where: str, what: str, video: str | None = None, remedy: str = "") -> None:
        """Something that may well be a mistake, or will make a poor model."""
        self.warnings.append(Problem(where, what, video, remedy))

    def note(self, where: str, what: str) -> None:
        """Something that was taken for granted."""
        self.notes.append(Problem(where, what))

    def settle(self, tell: Tell, *, skip_bad: bool, strict: bool) -> set[str]:
        """Tell all of it and forget it; returns the videos to leave out.

        InputProblems where there are errors, but with ``skip_bad`` only for those that are not about one
        video; with ``strict`` warnings count as errors that cannot be skipped.
        """
        for problem in self.notes:
            tell("note", problem)
        stopping = [p for p in self.errors if not (skip_bad and p.video is not None)]
        stopping += self.warnings if strict else []
        if stopping:
            heading = "The videos and labels cannot be fitted as they are"
            hints = []
            if any(p.video is not None for p in self.errors):
                hints.append("--skip-bad leaves bad videos out")
            if strict and self.warnings:
                hints.append("without --strict warnings do not stop it")
            told = stopping if strict else [*stopping, *self.warnings]
            aside = f" ({'; '.join(hints)})" if hints else ""
            raise InputProblems(f"{heading}{aside}:", told)
        for problem in self.warnings:
            tell("warning", problem)
        for problem in self.errors:
            tell("error", problem)
        left_out = {p.video for p in self.errors if p.video is not None}
        self.errors, self.warnings, self.notes = [], [], []
        return left_out


def listed(names: Iterable[str], most: int = 5) -> str:
    """Names for a message: "a, b, c and 4 more"."""
    shown: Sequence[str] = [*names]
    rest = len(shown) - most
    return ", ".join(shown[:most]) + (f" and {rest} more" if rest > 0 else "")


def counted(number: int, one: str, many: str = "") -> str:
    """A number with its noun: "1 video", "3 videos"."""
    return f"{number} {one if number == 1 else many or one + 's'}"
