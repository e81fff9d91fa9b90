"""ActivityNet's result JSON: the form in which detections are written, exchanged and evaluated.

    {"version": …,
     "results": {video: [{"label": …, "score": …, "segment": [start, end]}, …], …},
     "external_data": {…}}

Seconds from the video's first frame. ``external_data`` carries ``Detections.about``.
"""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from pathlib import Path
from typing import Any

from dgam.core.errors import InputError, Problem
from dgam.core.files import write_json
from dgam.core.problems import Report, reporting
from dgam.core.types import Detection, Detections

FORMAT_VERSION = "VERSION 1.3"
_SHAPE = 'an object {"label": …, "score": …, "segment": [start, end]}'


def write_detections(path: str | os.PathLike[str], detections: Detections) -> None:
    """Write ``detections`` as ActivityNet result JSON, atomically; times and scores keep every digit.

    Videos and their detections stay in order, videos without a detection included. ``detections.about`` must
    consist of JSON values (TypeError or ValueError otherwise).
    """
    write_json(path, results_json(detections), indent=None)


def results_json(detections: Detections) -> dict[str, Any]:
    """The object that :func:`write_detections` writes."""
    results = {
        video: [
            {"label": d.label, "score": float(d.score), "segment": [float(d.start), float(d.end)]}
            for d in found
        ]
        for video, found in detections.videos.items()
    }
    return {"version": FORMAT_VERSION, "results": results, "external_data": dict(detections.about)}


def read_detections(path: str | os.PathLike[str], on_problem: Report | None = None) -> Detections:
    """Read ActivityNet result JSON; times and scores may be numbers or strings that hold numbers.

    Each defective prediction (a missing key, a time that is no number, an end before its start, …) is a
    Problem with its video and index. With ``on_problem`` None all of them are raised at once as
    InputProblems; otherwise the callback gets each, the prediction (or the video, where it is listed twice)
    is left out, and reading goes on. A file that cannot be read, or is not of this format at all, is an
    InputError in both cases.
    """
    content, repeated = _load(Path(path))
    results = content.get("results")
    if not isinstance(results, dict):
        has = ", ".join(map(repr, list(content)[:5])) or "none"
        raise InputError(
            f"{path}: has no object 'results', so it is not an ActivityNet result file; its keys are {has}. "
            "Expected {'results': {video: [{'label', 'score', 'segment'}, …]}}. Is it the ground truth?"
        )
    with reporting("The detections are not usable:", on_problem) as report:
        twice: set[str] = set()
        for holder, keys in repeated:
            if holder is results:
                twice.update(keys)
                what = "is listed more than once; keep one list."
                for video in keys:
                    report(Problem(str(path), what, video))
            else:
                for key in keys:
                    report(Problem(str(path), f"an object has the key {key!r} twice; only the last counts."))
        videos = {
            video: _read_video(str(path), video, found, report)
            for video, found in results.items()
            if video not in twice
        }
    about = content.get("external_data")
    return Detections(
        videos, about if isinstance(about, dict) else {} if about is None else {"details": about}
    )


def _load(path: Path) -> tuple[dict[str, Any], list[tuple[dict[str, Any], list[str]]]]:
    """The file's top-level object, and every object in it that repeats a key, with those keys."""
    repeated: list[tuple[dict[str, Any], list[str]]] = []

    def build(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) < len(pairs):
            counts = Counter(key for key, _ in pairs)
            repeated.append((value, [key for key, count in counts.items() if count > 1]))
        return value

    try:
        content = json.loads(path.read_bytes(), object_pairs_hook=build)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not valid JSON: {error}.") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: must hold a JSON object with 'results', got a {type(content).__name__}.")
    return content, repeated


def _read_video(where: str, video: str, found: Any, report: Report) -> list[Detection]:
    if not isinstance(found, list):
        report(Problem(where, f"must have a list of predictions, got {_brief(found)}.", video))
        return []
    detections = []
    for index, item in enumerate(found):
        try:
            detections.append(_read_one(item))
        except ValueError as error:
            report(Problem(where, f"prediction {index}: {error}", video))
    return detections


def _read_one(item: Any) -> Detection:
    """One prediction; ValueError says what is wrong with it."""
    if not isinstance(item, dict):
        raise ValueError(f"must be {_SHAPE}, got {_brief(item)}.")
    missing = [key for key in ("label", "score", "segment") if key not in item]
    if missing:
        raise ValueError(f"has no {' and no '.join(map(repr, missing))}; expected {_SHAPE}.")
    label, segment = item["label"], item["segment"]
    if not isinstance(label, str) or not label:
        raise ValueError(f"its label must be a name, got {_brief(label)}.")
    if not isinstance(segment, list) or len(segment) != 2:
        raise ValueError(f"its segment must be [start, end] in seconds, got {_brief(segment)}.")
    score = _number(item["score"], "score")
    start, end = _number(segment[0], "start"), _number(segment[1], "end")
    if end < start:
        raise ValueError(f"its segment [{start:g}, {end:g}] ends before it starts.")
    return Detection(start, end, label, score)


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"its {name} must be a number, got {_brief(value)}.")
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise ValueError(f"its {name} must be a number, got {_brief(value)}.") from None
    if not math.isfinite(number):
        raise ValueError(f"its {name} must be finite, got {_brief(value)}.")
    return number


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
