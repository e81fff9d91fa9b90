"""Progress of long work, shown on standard error where somebody is watching."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Advance(Protocol):
    """Report progress: ``advance(1, loss=0.7)`` moves on by one step and shows ``loss 0.7`` by the bar."""

    def __call__(self, steps: float = 1, /, **shown: object) -> None: ...


@contextmanager
def track(description: str, total: float | None = None) -> Iterator[Advance]:
    """Show a bar from here to the end of the block; without ``total`` only that work goes on.

    Silent unless standard error is a terminal, so that logs and pipes stay clean. The bar stays when the
    block ends, and also when it ends with an exception: it then shows how far the work came.

    >>> with track("training rgb", total=200) as advance:
    ...     for epoch in range(200):
    ...         advance(1, epoch=epoch)
    """
    if not sys.stderr.isatty():
        yield _advance_unseen
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[shown]}"),
        console=Console(stderr=True),
    )
    with bar:
        task = bar.add_task(description, total=total, shown="")

        def advance(steps: float = 1, /, **shown: object) -> None:
            if shown:
                text = "  ".join(f"{name} {_short(value)}" for name, value in shown.items())
                bar.update(task, advance=steps, shown=text)
            else:
                bar.update(task, advance=steps)

        yield advance


def _advance_unseen(steps: float = 1, /, **shown: object) -> None:
    """What ``track`` hands out where nobody watches."""


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
