"""Reduce a video to what a page can show: bounded numbers of points, detections and explanations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from dgam.core.config import LocalizeSettings
from dgam.core.timeline import Timeline
from dgam.core.types import Detection, Segment
from dgam.detection.fusion import as_scored
from dgam.detection.proposals import StreamCurves, interpolate, sigmoid
from dgam.evaluation import temporal_iou
from dgam.explain.context import context_candidates
from dgam.explain.segments import explain_detections
from dgam.page.content import Floats, Line, VideoContent

MOST_CLASSES = 4
"""Class activations drawn: those of the ground truth, then of the best detections."""


@dataclass(frozen=True)
class Detail:
    """How much is shown of each video."""

    points: int
    detections: int
    explanations: int
    context: int
    thumbnails: int

    @staticmethod
    def for_videos(count: int) -> Detail:
        """Less for each where there are many, so that the page stays readable and opens fast."""
        if count <= 40:
            return Detail(points=400, detections=30, explanations=3, context=12, thumbnails=8)
        if count <= 120:
            return Detail(points=240, detections=24, explanations=2, context=8, thumbnails=6)
        return Detail(points=160, detections=20, explanations=1, context=6, thumbnails=5)


def reduce_video(
    content: VideoContent,
    curves: Mapping[str, StreamCurves],
    detections: Mapping[str, Sequence[Detection]],
    settings: Mapping[str, LocalizeSettings],
    timeline: Timeline,
    classes: Sequence[str],
    detail: Detail,
) -> VideoContent:
    """``content`` with curves, the best detections of each system, explanations and context candidates.

    ``detections`` are by system, the run's own first and best first.
    """
    own = next(iter(detections.values()))
    best = {name: tuple(sorted(some, key=lambda d: -d.score)) for name, some in detections.items()}
    shown = {name: some[: detail.detections] for name, some in best.items()}
    wanted = dict.fromkeys([*content.labels, *(d.label for d in own[: detail.detections])])
    labels = [label for label in wanted if label in classes][:MOST_CLASSES]
    return replace(
        content,
        detections=shown,
        attention={
            stream: _line(one.positions, one.attention, timeline, detail.points)
            for stream, one in {**curves, **as_scored(curves, settings)[0]}.items()
        },
        activation={
            label: _activation(curves, classes.index(label), timeline, detail.points) for label in labels
        },
        context=tuple(context_candidates(curves, timeline, classes, most=detail.context)),
        explanations=tuple(
            explain_detections(curves, own[: detail.explanations], settings, timeline, classes)
        ),
    )


def instances_found(detections: Sequence[Detection], truth: Sequence[Segment], tiou: float) -> int:
    """How many of the n instances the first n detections find, each one at most, at tIoU ``tiou``."""
    free = list(truth)
    for d in detections[: len(truth)]:
        same = [s for s in free if s.label == d.label]
        if not same:
            continue
        overlaps = temporal_iou([(d.start, d.end)], [(s.start, s.end) for s in same])  # (m,)
        if overlaps.max() >= tiou:
            free.remove(same[int(overlaps.argmax())])
    return len(truth) - len(free)


def thin_out(seconds: Floats, values: Floats, most: int) -> Line:
    """At most ``most`` points of a curve (T,): of each stretch its least and its greatest value, in order.

    So that no peak and no gap is lost, as it would be by taking every so-manieth point.
    """
    if len(values) <= most:
        return Line(seconds, values)
    edges = np.linspace(0, len(values), most // 2 + 1).astype(int)  # (most/2 + 1,)
    kept: list[int] = []
    for start, end in pairwise(edges.tolist()):
        part = values[start:end]
        kept += sorted({start + int(part.argmin()), start + int(part.argmax())})
    return Line(seconds[kept], values[kept])


def _line(positions: Floats, values: Floats, timeline: Timeline, points: int) -> Line:
    at, first = np.unique(positions, return_index=True)
    return thin_out(timeline.seconds(at), values[first], points)


def _activation(curves: Mapping[str, StreamCurves], label: int, timeline: Timeline, points: int) -> Line:
    """The mean over streams of sigmoid(TCAM), at the first stream's samples."""
    at = np.unique(next(iter(curves.values())).positions)
    each = [interpolate(own.positions, sigmoid(own.tcam[:, label]), at) for own in curves.values()]
    return _line(at, np.mean(each, axis=0), timeline, points)
