"""A localised video as the page gets it (result.json), and as explanations need it (curves.npz)."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dgam.core.config import LocalizeSettings
from dgam.core.files import atomic_write, write_json
from dgam.core.timeline import SnippetGrid, Timeline
from dgam.core.types import Detection
from dgam.detection.proposals import StreamCurves, sigmoid

if TYPE_CHECKING:
    from dgam.fitting.localizer import LocalizedVideo

_ARRAYS = ("positions", "attention", "tcam", "logits", "probabilities")


def save_result(
    folder: Path, found: LocalizedVideo, classes: Sequence[str], settings: Mapping[str, LocalizeSettings]
) -> float:
    """Write ``result.json`` and ``curves.npz`` into a job's folder; returns the duration in seconds.

    ``settings`` are each stream's, kept so that detections can be explained whatever becomes of the model.
    """
    timeline = found.timeline
    scores = [detection.score for detection in found.detections]
    value = {
        "duration": timeline.end,
        "classes": list(classes),
        "probabilities": {name: float(p) for name, p in found.probabilities.items()},
        "detections": [
            {"start": float(d.start), "end": float(d.end), "label": d.label, "score": float(d.score)}
            for d in found.detections
        ],
        "score_range": {"min": float(min(scores, default=0.0)), "max": float(max(scores, default=1.0))},
        "curves": {stream: _shown(own, timeline, classes) for stream, own in found.curves.items()},
        "context": _context(found, classes),
        "timeline": {
            "fps": str(timeline.grid.fps),
            "length": timeline.grid.length,
            "stride": timeline.grid.stride,
            "snippets": timeline.snippets,
        },
        "settings": {stream: own.model_dump(mode="json") for stream, own in settings.items()},
    }
    arrays = {
        f"{stream}.{name}": getattr(own, name) for stream, own in found.curves.items() for name in _ARRAYS
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    with atomic_write(folder / "curves.npz") as file:
        file.write(buffer.getvalue())
    write_json(folder / "result.json", value, indent=None)
    return timeline.end


def load_result(folder: Path) -> dict[str, Any]:
    """What :func:`save_result` wrote as ``result.json``."""
    value: dict[str, Any] = json.loads((folder / "result.json").read_bytes())
    return value


def load_curves(folder: Path) -> dict[str, StreamCurves]:
    """What :func:`save_result` wrote as ``curves.npz``, by stream."""
    with np.load(folder / "curves.npz", allow_pickle=False) as arrays:
        streams = dict.fromkeys(name.rpartition(".")[0] for name in arrays.files)
        return {
            stream: StreamCurves(**{name: arrays[f"{stream}.{name}"] for name in _ARRAYS})
            for stream in streams
        }


def timeline_of(result: Mapping[str, Any]) -> Timeline:
    """The time line of a result."""
    grid = result["timeline"]
    return Timeline(
        SnippetGrid(Fraction(grid["fps"]), grid["length"], grid["stride"]),
        grid["snippets"],
        result["duration"],
    )


def detections_of(result: Mapping[str, Any]) -> list[Detection]:
    """The detections of a result, best first."""
    return [Detection(**one) for one in result["detections"]]


def explain(folder: Path, number: int) -> dict[str, Any]:
    """Detection ``number`` of a result taken apart (``dgam.explain``), with sentences under "words".

    IndexError where there is no such detection.
    """
    from dgam.explain.segments import explain_detection

    result = load_result(folder)
    settings = {name: LocalizeSettings.model_validate(own) for name, own in result["settings"].items()}
    found = explain_detection(
        load_curves(folder),
        detections_of(result)[number],
        settings,
        timeline_of(result),
        tuple(result["classes"]),
    )
    return {**found.to_dict(), "words": list(found.words())}


def _shown(curves: StreamCurves, timeline: Timeline, classes: Sequence[str]) -> dict[str, Any]:
    """A stream's curves over seconds, each sampled snippet once, class activations as sigmoid(TCAM)."""
    positions, first = np.unique(curves.positions, return_index=True)  # (T,)
    activations = sigmoid(curves.tcam[first])  # (T, C)
    return {
        "times": _rounded(timeline.clipped_seconds(positions)),
        "attention": _rounded(curves.attention[first]),
        "classes": {name: _rounded(activations[:, index]) for index, name in enumerate(classes)},
    }


def _rounded(values: Any) -> list[float]:
    return [round(float(value), 4) for value in values]


def _context(found: LocalizedVideo, classes: Sequence[str]) -> list[dict[str, Any]]:
    """Where attention and classifier disagree."""
    from dgam.explain.context import context_candidates

    return [one.to_dict() for one in context_candidates(found.curves, found.timeline, tuple(classes))]
