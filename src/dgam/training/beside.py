"""Work that may go on beside other work on a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Beside:
    """A second queue of work on a GPU; on a CPU what is given to it is simply done in its place.

    ``with beside():`` starts after all that was asked for before, and is waited for by :meth:`join`. Until
    then nothing that it reads may be freed or written over, and nothing that it writes read.
    """

    def __init__(self, device: torch.device) -> None:
        self._stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch has no types here

    @contextmanager
    def __call__(self) -> Iterator[None]:
        if self._stream is None:
            yield
            return
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            yield

    def join(self) -> None:
        """Have what comes next wait for it."""
        if self._stream is not None:
            torch.cuda.current_stream().wait_stream(self._stream)
