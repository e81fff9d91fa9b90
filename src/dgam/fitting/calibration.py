"""What was found out on held-out video labels, as the model folder's ``calibration.json`` holds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

CALIBRATION_FILE = "calibration.json"


@dataclass(frozen=True)
class Calibration:
    """Thresholds chosen on videos that the judging models had not seen, by their video labels.

    ``method`` says in words how videos were held out, ``videos`` how many were. Per stream:
    ``class_thresholds`` is the video-level probability above which a class is localised, ``thresholds`` are
    the attention thresholds. Both are also in ``run.json``, which localising goes by. ``score_threshold`` is
    the detection score that best tells classes that a video has from those that it has not: a start for a
    slider, not used by localising; None where it could not be found. ``scores`` holds the video-level scores
    of the held-out videos, ``notes`` says in words what was not chosen, and why.
    """

    method: str
    videos: int
    class_thresholds: Mapping[str, float]
    thresholds: Mapping[str, tuple[float, ...]]
    score_threshold: float | None = None
    scores: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The calibration as JSON values."""
        return {
            "method": self.method,
            "videos": self.videos,
            "class_thresholds": dict(self.class_thresholds),
            "thresholds": {stream: list(values) for stream, values in self.thresholds.items()},
            "score_threshold": self.score_threshold,
            "scores": dict(self.scores),
            "notes": list(self.notes),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Calibration:
        """The inverse of :meth:`to_json`. KeyError, TypeError or ValueError for anything else."""
        score = value["score_threshold"]
        return cls(
            method=str(value["method"]),
            videos=int(value["videos"]),
            class_thresholds={str(s): float(v) for s, v in value["class_thresholds"].items()},
            thresholds={str(s): tuple(map(float, values)) for s, values in value["thresholds"].items()},
            score_threshold=None if score is None else float(score),
            scores=dict(value["scores"]),
            notes=tuple(map(str, value["notes"])),
        )
