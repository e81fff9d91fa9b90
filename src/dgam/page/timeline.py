"""A video along time: ground truth, detections, attention, class activation, context candidates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from dgam.core.types import Detection, Segment
from dgam.explain.tables import KINDS
from dgam.page.content import Line, VideoContent
from dgam.page.svg import HEIGHT, WIDTH, drawing, path, rect

MOST_FALSE_CLASSES = 3
MOST_ROWS = 4
LANE = 100
_STEPS = (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)
_MOST_TICKS = 8


@dataclass(frozen=True)
class Lane:
    """One row of a timeline: its name, its drawing, its height in pixels, and keys of its lines' colours."""

    name: str
    drawing: Markup
    pixels: int
    kind: str
    colour: int = -1
    legend: tuple[tuple[str, int], ...] = ()
    heading: str = ""


@dataclass(frozen=True)
class Tick:
    """A mark on the time axis: where, in percent of the width, and what is written there."""

    percent: float
    text: str


def lanes_of(video: VideoContent, system_colours: Mapping[str, int]) -> tuple[list[Lane], int]:
    """The rows of a video's timeline, top to bottom, and how many detected classes have no row.

    Classes of the ground truth first, then those of the best detections; per class one row of ground truth
    and one for each system.
    """
    labels, hidden = _drawn_labels(video)
    lanes: list[Lane] = []
    for label in labels:
        heading = label
        if video.found is not None:
            own = [s for s in video.truth if s.label == label]
            lanes.append(_truth_lane(own, video, heading))
            heading = ""
        for name, found in video.detections.items():
            chosen = [d for d in found if d.label == label]
            lanes.append(_detections_lane(name, label, chosen, found, video, system_colours[name], heading))
            heading = ""
    if video.attention:
        lanes.append(_curves_lane("attention λ", video.attention, video, 2))
    if video.activation:
        lanes.append(_curves_lane("class activation", video.activation, video, 4))
    if video.context:
        lanes.append(_context_lane(video))
    return lanes, hidden


def ticks_of(duration: float) -> list[Tick]:
    """Round times over the width, at most eight steps."""
    step = next((s for s in _STEPS if duration / s <= _MOST_TICKS), _STEPS[-1])
    while duration / step > _MOST_TICKS:
        step *= 2
    times = np.arange(0, duration, step)
    # One that would stand over the right end is left out.
    return [Tick(100 * t / duration, clock(t)) for t in times.tolist() if t <= 0.93 * duration]


def clock(seconds: float) -> str:
    """Seconds for people: 7.5 s, 1:05, 1:02:05."""
    if seconds < 60:
        return f"{seconds:g} s"
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _truth_lane(segments: Sequence[Segment], video: VideoContent, heading: str) -> Lane:
    bars = [
        rect(*_place(s.start, s.end, video), 22, 56, "truth", f"{s.label}, {s.start:.2f}–{s.end:.2f} s")
        for s in segments
    ]
    bars += [
        rect(*_place(s.start, s.end, video), 22, 56, "ambiguous", f"ambiguous, {s.start:.2f}–{s.end:.2f} s")
        for s in video.ambiguous
    ]
    label = f"ground truth of {heading}: {len(segments)} instances"
    return Lane("ground truth", drawing(bars, label, LANE), 20, "truth", heading=heading)


def _detections_lane(
    system: str,
    label: str,
    chosen: Sequence[Detection],
    found: Sequence[Detection],
    video: VideoContent,
    colour: int,
    heading: str,
) -> Lane:
    bars = []
    rows = _packed(chosen)
    deepest = max((row for _, row in rows), default=0) + 1
    for d, row in rows:
        height = 84 / deepest
        title = f"{system}: {d.label}, {d.start:.2f}–{d.end:.2f} s, score {d.score:.3f}"
        bars.append(
            rect(
                *_place(d.start, d.end, video),
                8 + row * height,
                height * 0.86,
                f"f{colour}",
                title,
                opacity=f"{_opacity(d.score, found):.2f}",
            )
        )
    told = f"{system}: {len(chosen)} detections of {label}"
    return Lane(system, drawing(bars, told, LANE), 12 + 8 * deepest, "system", colour, heading=heading)


def _curves_lane(name: str, curves: Mapping[str, Line], video: VideoContent, first_colour: int) -> Lane:
    shapes = [
        rect(*_place(start, end, video), 0, HEIGHT, "shade")
        for start, end in _merged([(s.start, s.end) for s in video.truth])
    ]
    legend = []
    for index, (label, line) in enumerate(curves.items()):
        x = np.clip(line.seconds / video.duration, 0, 1) * WIDTH
        colour = (first_colour + index) % 8
        shapes.append(path(x, (1 - line.values) * (HEIGHT - 4) + 2, f"line s{colour} d{index % 4}"))
        legend.append((label, colour))
    told = f"{name} over time: {', '.join(curves)}"
    return Lane(name, drawing(shapes, told), 64, "curves", legend=tuple(legend))


def _context_lane(video: VideoContent) -> Lane:
    bars = []
    for candidate in video.context:
        top = 8 if candidate.kind == "classifier" else 54
        title = (
            f"{KINDS[candidate.kind]}: {candidate.label}, {candidate.start:.2f}–{candidate.end:.2f} s, "
            f"{candidate.stream}, attention {candidate.attention:.2f}, class {candidate.class_score:.2f}"
        )
        bars.append(
            rect(*_place(candidate.start, candidate.end, video), top, 38, f"context-{candidate.kind}", title)
        )
    told = f"{len(video.context)} stretches where attention and classifier disagree"
    return Lane("context candidates", drawing(bars, told, LANE), 24, "context")


def _place(start: float, end: float, video: VideoContent) -> tuple[float, float]:
    """Seconds as units of the drawing, cut to the video."""
    scale = WIDTH / video.duration
    return min(max(start, 0.0), video.duration) * scale, min(max(end, 0.0), video.duration) * scale


def _drawn_labels(video: VideoContent) -> tuple[list[str], int]:
    labels = list(video.labels)
    best = sorted((d for some in video.detections.values() for d in some), key=lambda d: -d.score)
    others = [label for label in dict.fromkeys(d.label for d in best) if label not in labels]
    return labels + others[:MOST_FALSE_CLASSES], len(others[MOST_FALSE_CLASSES:])


def _packed(found: Sequence[Detection]) -> list[tuple[Detection, int]]:
    """Each detection with its row, the best on top, none over another while there are rows."""
    rows: list[list[Detection]] = []
    placed = []
    for d in sorted(found, key=lambda d: -d.score):
        free = [
            index
            for index, row in enumerate(rows)
            if all(d.end <= other.start or other.end <= d.start for other in row)
        ]
        if not free and len(rows) < MOST_ROWS:
            rows.append([])
        at = free[0] if free else len(rows) - 1
        rows[at].append(d)
        placed.append((d, at))
    return placed


def _opacity(score: float, found: Sequence[Detection]) -> float:
    """From 0.25 for the lowest score shown of the system to 1 for its highest."""
    scores = [d.score for d in found]
    low, high = min(scores), max(scores)
    return 1.0 if high <= low else 0.25 + 0.75 * (score - low) / (high - low)


def _merged(spans: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    merged: list[tuple[float, float]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
