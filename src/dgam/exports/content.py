"""What is exported, in the form that the formats start from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from dgam.core.types import Detections
from dgam.exports.times import milliseconds


class Placed(NamedTuple):
    """One segment in whole milliseconds, ``0 <= start <= end``, inside the video where its length is
    known."""

    start: int
    end: int
    label: str
    score: float

    def at_least(self, ms: int) -> Placed:
        """The segment, made ``ms`` long where it is shorter: some formats have no empty ones."""
        return self._replace(end=max(self.end, self.start + ms))


@dataclass(frozen=True)
class Content:
    """Detections, and what is known of their videos.

    ``durations`` (seconds), ``media`` (where the video lies: a path or an address) and ``rates`` (frames a
    second) may lack any video. ``classes`` are all names that a label may have; those of the detections are
    added.
    """

    detections: Detections
    durations: Mapping[str, float | None] = field(default_factory=dict)
    media: Mapping[str, str] = field(default_factory=dict)
    rates: Mapping[str, float] = field(default_factory=dict)
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        found = {d.label for own in self.detections.videos.values() for d in own}
        classes = (*dict.fromkeys(self.classes), *sorted(found - set(self.classes)))
        object.__setattr__(self, "classes", classes)

    def placed(self, video: str) -> list[Placed]:
        """A video's segments by start, then end, then falling score."""
        duration = self.durations.get(video)
        last = None if duration is None else milliseconds(duration)
        segments = []
        for found in self.detections.videos[video]:
            start, end = max(0, milliseconds(found.start)), max(0, milliseconds(found.end))
            if last is not None:
                start, end = min(start, last), min(end, last)
            segments.append(Placed(start, end, found.label, float(found.score)))
        return sorted(segments, key=lambda one: (one.start, one.end, -one.score, one.label))
