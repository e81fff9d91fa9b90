"""What travels between the layers: video labels, segment annotations, detections.

Video labels and segment annotations are two types on purpose. Training takes :class:`VideoLabels`, which has
no place to put a segment; only evaluation, and reports after it, take :class:`SegmentAnnotations`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True)
class VideoLabels:
    """Which actions each video contains: the whole supervision.

    ``labels`` maps a video id to its label names (no repeats; possibly empty: a video known to hold none of
    the actions). ``classes`` fixes the order of classes; by default all names that occur, sorted.
    ``subset_of`` maps a video to its subset name ("train", "test", …) where the source gives one.
    Raises ValueError for a label outside ``classes``.
    """

    labels: Mapping[str, tuple[str, ...]]
    classes: tuple[str, ...] = ()
    subset_of: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        labels = {video: tuple(dict.fromkeys(names)) for video, names in self.labels.items()}
        classes = tuple(self.classes) or tuple(sorted({name for names in labels.values() for name in names}))
        if len(set(classes)) != len(classes):
            raise ValueError(f"classes repeat a name: {classes}")
        known = set(classes)
        for video, names in labels.items():
            for name in names:
                if name not in known:
                    raise ValueError(
                        f"video {video!r} has the label {name!r}, which is not among the classes"
                    )
        object.__setattr__(self, "labels", MappingProxyType(labels))
        object.__setattr__(self, "classes", classes)
        object.__setattr__(self, "subset_of", MappingProxyType(dict(self.subset_of)))

    @property
    def videos(self) -> tuple[str, ...]:
        """Video ids, in the order of the source."""
        return tuple(self.labels)

    def __len__(self) -> int:
        return len(self.labels)

    def in_subset(self, *subsets: str) -> VideoLabels:
        """Only the videos of these subsets, with the same classes."""
        return self.only(video for video in self.labels if self.subset_of.get(video) in subsets)

    def only(self, videos: Iterable[str]) -> VideoLabels:
        """Only these videos, in the order given, with the same classes. KeyError for an unknown one."""
        chosen = list(videos)
        return VideoLabels(
            {video: self.labels[video] for video in chosen},
            self.classes,
            {video: self.subset_of[video] for video in chosen if video in self.subset_of},
        )


@dataclass(frozen=True, order=True)
class Segment:
    """One action instance: ``start`` and ``end`` in seconds from the video's first frame, start <= end."""

    start: float
    end: float
    label: str

    def __post_init__(self) -> None:
        if not (math.isfinite(self.start) and math.isfinite(self.end)):
            raise ValueError(f"a segment's times must be finite, got [{self.start}, {self.end}]")
        if self.end < self.start:
            raise ValueError(f"a segment must not end before it starts, got [{self.start}, {self.end}]")


@dataclass(frozen=True)
class AnnotatedVideo:
    """The annotation of one video.

    ``ambiguous`` holds stretches that a protocol may choose to ignore (THUMOS14's "Ambiguous" class);
    they are no instances of any class. ``duration`` in seconds, None where the source has none.
    """

    segments: tuple[Segment, ...]
    subset: str = ""
    duration: float | None = None
    ambiguous: tuple[Segment, ...] = ()


@dataclass(frozen=True)
class SegmentAnnotations:
    """Ground truth with times: for evaluation and pictures, never for training.

    ``videos`` maps a video id to its annotation, ``classes`` lists the label names in order (by default
    sorted). ``source`` names the file it came from, for messages and protocols.
    """

    videos: Mapping[str, AnnotatedVideo]
    classes: tuple[str, ...] = ()
    source: str = ""

    def __post_init__(self) -> None:
        seen = sorted({s.label for video in self.videos.values() for s in video.segments})
        object.__setattr__(self, "classes", tuple(self.classes) or tuple(seen))
        object.__setattr__(self, "videos", MappingProxyType(dict(self.videos)))

    def in_subset(self, *subsets: str) -> SegmentAnnotations:
        """Only the videos of these subsets; the classes stay those of the whole."""
        chosen = {name: video for name, video in self.videos.items() if video.subset in subsets}
        return SegmentAnnotations(chosen, self.classes, self.source)


@dataclass(frozen=True)
class Detection:
    """One predicted instance: seconds, and a score of any scale (higher is surer)."""

    start: float
    end: float
    label: str
    score: float

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (self.start, self.end, self.score))):
            raise ValueError(f"a detection must be finite, got [{self.start}, {self.end}] score {self.score}")
        if self.end < self.start:
            raise ValueError(f"a detection must not end before it starts, got [{self.start}, {self.end}]")


@dataclass(frozen=True)
class Detections:
    """Predicted instances of many videos. A video without a prediction may be present with none.

    ``about`` says how they came about (model, settings, how the model was chosen) and is written to and read
    from the result file's ``external_data``.
    """

    videos: Mapping[str, Sequence[Detection]]
    about: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "videos", MappingProxyType({k: tuple(v) for k, v in self.videos.items()}))
        object.__setattr__(self, "about", MappingProxyType(dict(self.about)))
