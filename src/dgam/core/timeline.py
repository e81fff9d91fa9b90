"""The only place that turns seconds into frames into snippets and back.

A snippet ``i`` looks at frames ``[i·stride, i·stride + length)`` of a video read at ``fps`` frames a second.
Its *cell* is the stretch of time it speaks for: ``stride`` frames wide, centred on the frames it saw. Cells
tile the time line without gap or overlap; for the usual non-overlapping snippets (stride = length) the cell
of snippet ``i`` is exactly ``[i·length/fps, (i+1)·length/fps)``.

Positions on the snippet axis are in *edge coordinates*: the cell of snippet ``i`` is ``[i, i + 1]``, its
centre ``i + 0.5``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class SnippetGrid:
    """How snippets lie in time: a rational frame rate, snippet length and stride in frames.

    Raises ValueError unless fps, length and stride are positive.
    """

    fps: Fraction = Fraction(25)
    length: int = 16
    stride: int = 16

    def __post_init__(self) -> None:
        object.__setattr__(self, "fps", Fraction(self.fps))
        if self.fps <= 0 or self.length < 1 or self.stride < 1:
            raise ValueError(
                "fps, snippet length and stride must be positive, "
                f"got {self.fps}, {self.length}, {self.stride}"
            )

    def count(self, frames: int) -> int:
        """How many whole snippets fit into ``frames`` frames."""
        return 0 if frames < self.length else (frames - self.length) // self.stride + 1


@dataclass(frozen=True)
class Timeline:
    """The time line of one video: a grid, ``snippets`` cells, and the duration in seconds where it is
    known."""

    grid: SnippetGrid
    snippets: int
    duration: float | None = None

    @property
    def snippet_seconds(self) -> float:
        """Width of one cell in seconds."""
        return float(self.grid.stride / self.grid.fps)

    @property
    def end(self) -> float:
        """The last instant of the video in seconds: its duration, or the last cell's end where it is
        unknown."""
        return self.duration if self.duration is not None else float(self.seconds(self.snippets))

    def seconds(self, position: ArrayLike) -> NDArray[np.float64]:
        """Edge coordinates (any shape) to seconds, not clipped to the video."""
        grid = self.grid
        offset = float(Fraction(grid.length - grid.stride, 2) / grid.fps)
        return np.asarray(position, dtype=np.float64) * float(grid.stride / grid.fps) + offset

    def position(self, seconds: ArrayLike) -> NDArray[np.float64]:
        """Seconds (any shape) to edge coordinates; the inverse of :meth:`seconds`."""
        grid = self.grid
        offset = float(Fraction(grid.length - grid.stride, 2) / grid.fps)
        return (np.asarray(seconds, dtype=np.float64) - offset) / float(grid.stride / grid.fps)

    def clipped_seconds(self, position: ArrayLike) -> NDArray[np.float64]:
        """Like :meth:`seconds`, limited to ``[0, end]``."""
        return np.clip(self.seconds(position), 0.0, self.end)

    def frames(self, snippet: int) -> tuple[int, int]:
        """First frame (inclusive) and last frame (exclusive) that snippet ``snippet`` looked at."""
        start = snippet * self.grid.stride
        return start, start + self.grid.length

    def mask(self, segments: Iterable[tuple[float, float]]) -> NDArray[np.bool_]:
        """Which snippets lie in any of the ``(start, end)`` stretches in seconds, by their cell's centre.

        Shape ``(snippets,)``. Stretches are half-open, so one of zero length holds nothing.
        """
        centres = self.seconds(np.arange(self.snippets) + 0.5)
        inside = np.zeros(self.snippets, dtype=bool)
        for start, end in segments:
            inside |= (centres >= start) & (centres < end)
        return inside
