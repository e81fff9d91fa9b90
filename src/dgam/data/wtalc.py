"""W-TALC's annotation folders (``Thumos14reduced-Annotations`` and its kin): one ``.npy`` file a field.

``videoname``, ``subset`` and ``classlist`` are arrays of byte strings, ``duration`` is (N, 1) seconds.
``labels_all`` (a list of labels for each video), ``labels`` and ``segments`` (a label and a [start, end] for
each instance) are object arrays, that is pickles, and need ``trusted``. ``Ambiguous_test.txt`` is in
THUMOS14's form. Video labels are those of ``labels_all``, which W-TALC trains on; on 28 of the 412 videos of
the reduced set they differ from the instances'.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dgam.core.errors import InputError, Problem
from dgam.core.problems import Report
from dgam.core.types import AnnotatedVideo, Segment
from dgam.data.fields import AMBIGUOUS, brief, name_of, seconds_of, times_of
from dgam.data.labelled import LabelTable
from dgam.data.thumos import read_class_file
from dgam.features.npy import read_objects


def is_wtalc(folder: Path) -> bool:
    """Whether a folder is one of W-TALC's."""
    return (folder / "videoname.npy").is_file()


def read_classes(folder: Path) -> tuple[str, ...]:
    """The class names in their order, from ``classlist.npy``; empty where there is no such file."""
    file = folder / "classlist.npy"
    if not file.is_file():
        return ()
    try:
        names = tuple(name_of(value, "a class name") for value in read_objects(file, trusted=False))
    except ValueError as error:
        raise InputError(f"{file}: {error}") from error
    if len(set(names)) != len(names):
        raise InputError(f"{file}: lists a class twice.")
    return names


def read_wtalc_labels(folder: Path, report: Report, *, trusted: bool) -> LabelTable:
    """Video labels of a W-TALC folder; ``segments.npy`` is not opened."""
    names = read_objects(folder / "videoname.npy", trusted=trusted)
    labels = _field(folder, "labels_all", len(names), trusted)
    subsets = _optional(folder, "subset", len(names), trusted)
    table = LabelTable(str(folder), report)
    for index, name in enumerate(names):
        video = None
        try:
            video = name_of(name, f"video name {index}")
            found = [name_of(label, "a label") for label in _sequence(labels[index], "its labels")]
            subset = _subset(subsets[index])
        except ValueError as error:
            table.refuse(video, str(error))
            continue
        table.add(video, [label for label in found if label != AMBIGUOUS], subset)
    return table


def read_wtalc_segments(folder: Path, report: Report, *, trusted: bool) -> dict[str, AnnotatedVideo]:
    """Segments of a W-TALC folder; defects go to ``report``, and the video is left out."""
    names = read_objects(folder / "videoname.npy", trusted=trusted)
    count = len(names)
    labels, times = _field(folder, "labels", count, trusted), _field(folder, "segments", count, trusted)
    subsets = _optional(folder, "subset", count, trusted)
    durations = _optional(folder, "duration", count, trusted)
    refused: set[str] = set()
    ambiguous = _ambiguous(folder, report, refused)
    videos: dict[str, AnnotatedVideo] = {}
    for index, name in enumerate(names):
        video = None
        try:
            video = name_of(name, f"video name {index}")
            if video in videos or video in refused:
                videos.pop(video, None)
                raise ValueError("the video is listed a second time.")
            segments = _segments(labels[index], times[index])
            subset, duration = _subset(subsets[index]), _duration(durations[index])
        except ValueError as error:
            report(Problem(str(folder), str(error), video))
            refused.update({video} if video else set())
            continue
        videos[video] = AnnotatedVideo(segments, subset, duration, tuple(ambiguous.get(video, ())))
    return videos


def _ambiguous(folder: Path, report: Report, refused: set[str]) -> dict[str, list[Segment]]:
    found: dict[str, list[Segment]] = {}
    for file in sorted(folder.glob("Ambiguous_*.txt")):
        for video, segment in read_class_file(file, AMBIGUOUS, report, refused):
            found.setdefault(video, []).append(segment)
    return found


def _segments(labels: Any, times: Any) -> tuple[Segment, ...]:
    names, pairs = _sequence(labels, "its labels"), _sequence(times, "its segments")
    if len(names) != len(pairs):
        raise ValueError(f"it has {len(pairs)} segments and {len(names)} labels for them.")
    segments = []
    for number, (name, pair) in enumerate(zip(names, pairs, strict=True)):
        try:
            bounds = _sequence(pair, "it")
            if len(bounds) != 2:
                raise ValueError(f"it must be [start, end] in seconds, got {brief(bounds)}.")
            segments.append(Segment(*times_of(*bounds), name_of(name, "its label")))
        except ValueError as error:
            raise ValueError(f"segment {number}: {error}") from error
    return tuple(segments)


def _sequence(value: Any, kind: str) -> Sequence[Any]:
    """A list, whether it was pickled as one or as an array."""
    plain = value.tolist() if hasattr(value, "tolist") else value
    if not isinstance(plain, list | tuple):
        raise ValueError(f"{kind} must be a list, got {brief(value)}.")
    return plain


def _subset(value: Any) -> str:
    return "" if value is None else name_of(value, "its subset")


def _duration(value: Any) -> float | None:
    if value is None:
        return None
    plain = value.tolist() if hasattr(value, "tolist") else value
    while isinstance(plain, list) and len(plain) == 1:
        plain = plain[0]
    duration = seconds_of(plain, "its duration")
    if duration <= 0:
        raise ValueError(f"its duration must be above 0 seconds, got {duration:g}.")
    return duration


def _field(folder: Path, name: str, count: int, trusted: bool) -> list[Any]:
    values = read_objects(folder / f"{name}.npy", trusted=trusted)
    if len(values) != count:
        raise InputError(f"{folder / name}.npy: lists {len(values)} videos, videoname.npy {count}.")
    return values


def _optional(folder: Path, name: str, count: int, trusted: bool) -> list[Any]:
    return _field(folder, name, count, trusted) if (folder / f"{name}.npy").is_file() else [None] * count
