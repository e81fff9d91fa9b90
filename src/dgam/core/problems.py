"""How a reader reports defects: all of them together as one error, or one by one to somebody who goes on
without."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dgam.core.errors import InputProblems, Problem

Report = Callable[[Problem], None]


@contextmanager
def reporting(heading: str, on_problem: Report | None) -> Iterator[Report]:
    """Hand out a function to report defects to, for the length of a block.

    ``on_problem`` None: defects are collected and raised together as InputProblems when the block ends.
    Otherwise (``--skip-bad``) each is passed to ``on_problem`` at once, and the block leaves the video it
    concerns out.

    >>> with reporting("labels.csv cannot be used:", None) as report:
    ...     report(Problem("labels.csv", "is empty."))
    Traceback (most recent call last):
        ...
    dgam.core.errors.InputProblems: labels.csv cannot be used:
      labels.csv: is empty.
    """
    if on_problem is not None:
        yield on_problem
        return
    problems: list[Problem] = []
    yield problems.append
    if problems:
        raise InputProblems(heading, problems)
