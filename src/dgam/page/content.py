"""What a report tells, before any of it is drawn. Plain values; no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dgam.core.types import Detection, Segment
from dgam.evaluation import AttentionStatistics, ErrorAnalysis, Evaluation
from dgam.explain.context import ContextCandidate
from dgam.explain.segments import Explanation

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Line:
    """A curve over time: ``seconds`` (T,) ascending and ``values`` (T,) in [0, 1]."""

    seconds: Floats
    values: Floats


@dataclass(frozen=True)
class System:
    """One of the systems compared: the run itself, or the detections of another.

    ``seed`` and ``selection`` are in words, "" where the detections do not say. ``evaluation`` and ``errors``
    are None without ground truth.
    """

    name: str
    source: str
    seed: str = ""
    selection: str = ""
    evaluation: Evaluation | None = None
    errors: ErrorAnalysis | None = None

    @property
    def chosen_on_test(self) -> bool:
        """Whether its weights were chosen by the test annotations."""
        return "TEST SET" in self.selection.upper()


@dataclass(frozen=True)
class Thumbnail:
    """A frame of the video: its time in seconds and a JPEG as a data: address."""

    seconds: float
    address: str


@dataclass(frozen=True)
class VideoContent:
    """One video.

    ``detections`` are the best of each system, best first, ``totals`` how many each has. ``attention`` is by
    stream, ``activation`` (sigmoid of the TCAM, mean over streams) by class. ``found`` counts the instances
    that the first as many detections of the run find at tIoU 0.5; None without ground truth. A video that is
    only ``listed`` has no curves, explanations and thumbnails.
    """

    video: str
    duration: float
    listed: bool = False
    truth: tuple[Segment, ...] = ()
    ambiguous: tuple[Segment, ...] = ()
    detections: Mapping[str, tuple[Detection, ...]] = field(default_factory=dict)
    totals: Mapping[str, int] = field(default_factory=dict)
    attention: Mapping[str, Line] = field(default_factory=dict)
    activation: Mapping[str, Line] = field(default_factory=dict)
    context: tuple[ContextCandidate, ...] = ()
    explanations: tuple[Explanation, ...] = ()
    thumbnails: tuple[Thumbnail, ...] = ()
    found: int | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """Classes of the ground truth, in the order of time."""
        return tuple(dict.fromkeys(segment.label for segment in self.truth))


@dataclass(frozen=True)
class Content:
    """A whole report.

    ``facts`` are names and values about run and data, ``settings`` the run's as YAML. ``simulated`` is what
    the data say of themselves where they are simulated. ``losses`` holds the lines of metrics.jsonl, each
    with its stream; ``statistics`` table 2 by stream. ``remarks`` say what is missing and why. ``tiou`` is
    the threshold that curves and classes are shown at. ``hidden`` counts videos that are only listed.
    """

    title: str
    version: str
    facts: tuple[tuple[str, str], ...]
    settings: str
    systems: tuple[System, ...]
    videos: tuple[VideoContent, ...]
    simulated: str | None = None
    protocol: str = ""
    tiou: float = 0.5
    losses: tuple[Mapping[str, Any], ...] = ()
    statistics: Mapping[str, AttentionStatistics] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    hidden: int = 0
    drawn: int = 30

    @property
    def evaluated(self) -> tuple[System, ...]:
        """The systems that have scores."""
        return tuple(system for system in self.systems if system.evaluation is not None)
