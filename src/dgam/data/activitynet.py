"""ActivityNet's annotation JSON, also the usual form of THUMOS14's.

    {"version": …, "taxonomy": […], "database": {
        VIDEO: {"subset": "training", "duration": 211.5, "annotations": [{"label": "Surfing", "segment": [3.2,
        9.0]}]}}}

Times are numbers or text that holds numbers. Only ``database`` is read; a video's ``subset`` and ``duration``
may be missing, and other keys are not looked at. Segments labelled "Ambiguous" are no instances of an action.
Reading labels does not look at ``segment``, which may be missing then.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from dgam.core.errors import InputError, Problem
from dgam.core.problems import Report
from dgam.core.types import AnnotatedVideo, Segment
from dgam.data.fields import AMBIGUOUS, brief, name_of, read_text, seconds_of, times_of
from dgam.data.labelled import LabelTable


def read_activitynet_labels(path: Path, report: Report) -> LabelTable:
    """Video labels of an annotation JSON; defective videos go to ``report``."""
    table = LabelTable(str(path), report)
    for key, content in _database(path, report):
        try:
            video, subset, annotations = _video(key, content)
            labels = [name_of(item.get("label"), "its label") for item in annotations]
        except ValueError as error:
            table.refuse(key, str(error))
            continue
        table.add(video, [label for label in labels if label != AMBIGUOUS], subset)
    return table


def read_activitynet_segments(path: Path, report: Report) -> dict[str, AnnotatedVideo]:
    """Segments of an annotation JSON; every defect goes to ``report``, and the video is left out."""
    videos: dict[str, AnnotatedVideo] = {}
    for key, content in _database(path, report):
        problems: list[str] = []
        try:
            video, subset, annotations = _video(key, content)
            duration = _duration(content)
        except ValueError as error:
            report(Problem(str(path), str(error), key))
            continue
        segments: list[Segment] = []
        for number, item in enumerate(annotations):
            try:
                segments.append(_segment(item))
            except ValueError as error:
                problems.append(f"annotation {number}: {error}")
        for what in problems:
            report(Problem(str(path), what, video))
        if not problems:
            sure = tuple(segment for segment in segments if segment.label != AMBIGUOUS)
            ambiguous = tuple(segment for segment in segments if segment.label == AMBIGUOUS)
            videos[video] = AnnotatedVideo(sure, subset, duration, ambiguous)
    return videos


def _video(key: str, content: Any) -> tuple[str, str, list[dict[str, Any]]]:
    """Id, subset and annotations of one video. ValueError says what is wrong."""
    video = name_of(key, "the video id")
    if video != key:
        raise ValueError("the video id has space around it.")
    if not isinstance(content, dict):
        raise ValueError(f"must be an object with 'annotations', got {brief(content)}.")
    annotations, subset = content.get("annotations", []), content.get("subset") or ""
    if not isinstance(subset, str):
        raise ValueError(f"its subset must be text, got {brief(subset)}.")
    if not isinstance(annotations, list):
        raise ValueError(f"its annotations must be a list, got {brief(annotations)}.")
    for number, item in enumerate(annotations):
        if not isinstance(item, dict):
            raise ValueError(f"annotation {number}: must be an object with a 'label', got {brief(item)}.")
    return video, subset, annotations


def _duration(content: dict[str, Any]) -> float | None:
    if content.get("duration") is None:
        return None
    duration = seconds_of(content["duration"], "its duration")
    if duration <= 0:
        raise ValueError(f"its duration must be above 0 seconds, got {duration:g}.")
    return duration


def _segment(item: dict[str, Any]) -> Segment:
    label, times = name_of(item.get("label"), "its label"), item.get("segment")
    if not isinstance(times, list) or len(times) != 2:
        raise ValueError(f"its segment must be [start, end] in seconds, got {brief(times)}.")
    return Segment(*times_of(*times), label)


def _database(path: Path, report: Report) -> Iterator[tuple[str, Any]]:
    """Key and content of each video. One that is listed twice goes to ``report`` and is left out."""
    repeated: list[
        tuple[dict[str, Any], set[str]]
    ] = []  # objects with a key that occurs twice, and those keys

    def build(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content = dict(pairs)
        if len(content) < len(pairs):
            counts = Counter(key for key, _ in pairs)
            repeated.append((content, {key for key, count in counts.items() if count > 1}))
        return content

    text = read_text(path)
    try:
        content = json.loads(text, object_pairs_hook=build, parse_constant=_refuse_constant)
    except RecursionError:
        raise InputError(f"{path}: is not valid JSON: too deeply nested.") from None
    except ValueError as error:
        raise InputError(f"{path}: is not valid JSON: {str(error)[:200]}.") from error
    database = content.get("database") if isinstance(content, dict) else None
    if not isinstance(database, dict):
        keys = ", ".join(map(repr, content)) if isinstance(content, dict) else brief(content)
        hint = " It looks like detections; give the annotations." if "'results'" in keys else ""
        raise InputError(f"{path}: has no object 'database', only {keys[:200] or 'nothing'}.{hint}")
    twice = next((keys for holder, keys in repeated if holder is database), set())
    for key, value in database.items():
        if key in twice:
            report(Problem(str(path), "the video is listed more than once.", key, "Keep one."))
        else:
            yield key, value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"it holds {name}, which is no number")
