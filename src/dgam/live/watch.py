"""From snippet features that come one by one to actions that begin and end, each decided after a fixed delay.

After every snippet the model localises in a window of the newest ones, as in a short video. What it says of
the snippet that lies ``delay`` snippets back is final: by then the outer score (equation 17) has seen some of
what follows. A class is on there if one of its segments, of score ``min_score`` or more, covers the snippet's
centre.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from dgam.core.timeline import SnippetGrid, Timeline

if TYPE_CHECKING:
    from dgam.detection.localize import StreamModel


@dataclass(frozen=True)
class Event:
    """An action begins or has ended. Seconds from the source's first picture; ``end`` is None at its
    beginning. ``score`` is the best until now."""

    kind: Literal["begins", "ends"]
    label: str
    start: float
    end: float | None
    score: float


@dataclass
class _Open:
    """An action that is going on since cell ``first``."""

    first: int
    score: float


@dataclass
class Watcher:
    """Takes snippet features, gives events. Memory is that of ``window`` snippets.

    ``models`` are those of a run by stream, ``classes`` its class names, ``grid`` how its snippets lie in
    time. ``window`` > ``delay`` >= 0 count snippets; ValueError otherwise.
    """

    models: Mapping[str, StreamModel]
    classes: Sequence[str]
    grid: SnippetGrid
    window: int = 64
    delay: int = 4
    min_score: float = 0.0
    seen: int = field(default=0, init=False)
    decided: int = field(default=0, init=False)
    _rows: deque[Mapping[str, NDArray[np.float32]]] = field(init=False)
    _open: dict[str, _Open] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        if not self.window > self.delay >= 0:
            raise ValueError(
                f"window must exceed delay, which is at least 0; got {self.window}, {self.delay}"
            )
        self._rows = deque(maxlen=self.window)

    @property
    def stated_delay(self) -> float:
        """Seconds of the source that pass at most between an instant and the decision on it: its snippet
        must end, and ``delay`` more, and one picture follow (for optical flow, and to know that the last was
        over)."""
        length, stride = self.grid.length, self.grid.stride
        into = Fraction(length - stride, 2)  # frames from a snippet's first to where its cell begins
        return float((self.delay * stride + length + 1 - into) / self.grid.fps)

    def add(self, features: Mapping[str, NDArray[np.float32]]) -> list[Event]:
        """Take the next snippet's vectors by stream, shape (d,) each; what is decided by it."""
        self._rows.append(features)
        self.seen += 1
        return self._decide(self.seen - self.delay) if self.seen > self.delay else []

    def finish(self) -> list[Event]:
        """The source has ended: decide the rest, and end what is going on."""
        events = self._decide(self.seen)
        events += [self._end(label) for label in sorted(self._open)]
        return events

    def seconds(self, cell: int) -> float:
        """Where a snippet's cell begins, in seconds from the source's first picture."""
        return max(0.0, float(Timeline(self.grid, self.seen).seconds(cell)))

    def _decide(self, until: int) -> list[Event]:
        """Decide all cells before ``until``, from what is in the window now."""
        if self.decided >= until:
            return []
        first = self.seen - len(self._rows)
        timeline = Timeline(self.grid, len(self._rows))
        segments = self._detect(timeline)
        events: list[Event] = []
        for cell in range(self.decided, until):
            centre = float(timeline.seconds(cell - first + 0.5))
            on: dict[str, float] = {}
            for label, start, end, score in segments:
                if start <= centre < end:
                    on[label] = max(score, on.get(label, score))
            self.decided = cell  # where what is going on ends, if it does
            events += [self._end(label) for label in sorted(self._open) if label not in on]
            for label, score in on.items():
                if label in self._open:
                    self._open[label].score = max(self._open[label].score, score)
                else:
                    self._open[label] = _Open(cell, score)
                    events.append(Event("begins", label, self.seconds(cell), None, score))
            self.decided = cell + 1
        return events

    def _end(self, label: str) -> Event:
        gone = self._open.pop(label)
        return Event("ends", label, self.seconds(gone.first), self.seconds(self.decided), gone.score)

    def _detect(self, timeline: Timeline) -> list[tuple[str, float, float, float]]:
        """Segments in the window: label, start and end in seconds from its beginning, score."""
        from dgam.detection.scoring import detect_video

        curves = {}
        for stream, own in self.models.items():
            parts = [np.stack([row[part] for row in self._rows]) for part in stream.split("+")]
            x = np.concatenate(parts, axis=1)  # (T, d)
            curves[stream] = own.curves(x)
        settings = {stream: own.settings for stream, own in self.models.items()}
        found = detect_video(curves, settings, timeline, self.classes)
        return [(d.label, d.start, d.end, d.score) for d in found if d.score >= self.min_score]
