"""One video along time: ground truth, detections of several systems, attention and TCAM."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from dgam.core.errors import InputError
from dgam.core.types import Detection, Segment
from dgam.report.plots import INK, colour, dash, entitle, literal, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Curves = Mapping[str, tuple[ArrayLike, ArrayLike]]
"""Name of a curve to (seconds (T,), values (T,))."""

TRUTH = "#444444"
MOST_FALSE_CLASSES = 3
MOST_ROWS = 4


@dataclass(frozen=True)
class VideoPicture:
    """What is drawn of one video.

    ``truth``: its instances. ``detections``: system name to its detections in this video, drawn the more
    opaque the higher their score within the system. ``attention``: curves in [0, 1], by stream. ``tcam``:
    class activation, by class. ``threshold``: a line through the attention. ``duration`` in seconds; by
    default the last thing drawn ends the axis. Of classes that are only detected three are drawn, those of
    the highest scores, and the picture says how many more there are.
    """

    video: str
    truth: Sequence[Segment] = ()
    detections: Mapping[str, Sequence[Detection]] = field(default_factory=dict)
    attention: Curves = field(default_factory=dict)
    tcam: Curves = field(default_factory=dict)
    duration: float | None = None
    threshold: float | None = None
    simulated: bool = False


def timeline_figure(picture: VideoPicture) -> Figure:
    """Lanes of ground truth and detections for each class, then attention, then TCAM, over seconds.

    Detections that overlap go below each other, the best on top. Ground truth shades the curves. InputError
    where there is nothing to draw.
    """
    labels, hidden = _drawn_labels(picture)
    end = _end_of(picture)
    lanes = len(labels) * (1 + len(picture.detections))
    heights = [h for h in (0.34 * lanes, 1.2 * bool(picture.attention), 1.2 * bool(picture.tcam)) if h]
    if not heights or end <= 0:
        raise InputError(f"video {picture.video!r}: there is nothing to draw, neither segments nor curves.")
    figure = new_figure(10, sum(heights) + 1.3)
    panels = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)
    rows = iter(panels[:, 0])
    if lanes:
        axes = next(rows)
        _draw_lanes(axes, picture, labels)
        if hidden:
            axes.set_title(f"not drawn: detections of {hidden} more classes", fontsize=8, loc="right")
    if picture.attention:
        axes = next(rows)
        _draw_curves(axes, picture.attention, "attention λ", first_colour=2)
        axes.set_ylim(-0.03, 1.03)
        if picture.threshold is not None:
            axes.axhline(picture.threshold, color=INK, linewidth=0.8, linestyle=(0, (1, 2)))
    if picture.tcam:
        _draw_curves(next(rows), picture.tcam, "TCAM", first_colour=4)
    for axes in figure.axes:
        for start, stop in _merged(picture.truth):
            axes.axvspan(start, stop, color=TRUTH, alpha=0.12, linewidth=0, zorder=0)
    figure.axes[-1].set_xlim(0, end)
    figure.axes[-1].set_xlabel("time (s)")
    entitle(figure, picture.video, picture.simulated)
    return figure


def _draw_lanes(axes: Axes, picture: VideoPicture, labels: Sequence[str]) -> None:
    """Per class one lane of ground truth and one per system, top to bottom."""
    lane, names = 0, []
    for label in labels:
        spans = [(s.start, s.end - s.start) for s in picture.truth if s.label == label]
        axes.broken_barh(spans, (lane - 0.4, 0.8), facecolor=TRUTH, linewidth=0)
        names.append(f"{label}: ground truth")
        lane += 1
        for index, (system, found) in enumerate(picture.detections.items()):
            scores = [d.score for d in found]
            for d, row, rows in _packed([d for d in found if d.label == label]):
                axes.broken_barh(
                    [(d.start, d.end - d.start)],
                    (lane - 0.4 + 0.8 * row / rows, 0.72 / rows),
                    facecolor=colour(index),
                    linewidth=0,
                    alpha=_opacity(d.score, scores),
                )
            names.append(system)
            lane += 1
        if label != labels[-1]:
            axes.axhline(lane - 0.5, color="#bbbbbb", linewidth=0.6)
    axes.set_yticks(range(lane), list(map(literal, names)))
    axes.set_ylim(lane - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)


def _draw_curves(axes: Axes, curves: Curves, name: str, *, first_colour: int) -> None:
    for index, (label, (seconds, values)) in enumerate(curves.items()):
        over, height = np.asarray(seconds, dtype=float), np.asarray(values, dtype=float)
        paint = colour(first_colour + index)
        axes.plot(over, height, color=paint, linestyle=dash(index), linewidth=1.3, label=literal(label))
    axes.set_ylabel(name, fontsize=9)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8, frameon=False)


def _end_of(picture: VideoPicture) -> float:
    if picture.duration is not None:
        return picture.duration
    ends = [s.end for s in picture.truth] + [d.end for found in picture.detections.values() for d in found]
    curves = [*picture.attention.values(), *picture.tcam.values()]
    ends += [float(np.max(seconds)) for seconds, _ in curves if np.size(seconds)]
    return max(ends, default=0.0)


def _opacity(score: float, scores: Sequence[float]) -> float:
    """From 0.2 for the system's lowest score in the video to 1 for its highest."""
    low, high = min(scores), max(scores)
    return 1.0 if high <= low else min(1.0, 0.2 + 0.8 * (score - low) / (high - low))


def _drawn_labels(picture: VideoPicture) -> tuple[list[str], int]:
    """Classes of the ground truth, then the best-scored detected ones, and how many more there are."""
    labels = list(dict.fromkeys(s.label for s in picture.truth))
    found = sorted((d for some in picture.detections.values() for d in some), key=lambda d: -d.score)
    others = [label for label in dict.fromkeys(d.label for d in found) if label not in labels]
    return labels + others[:MOST_FALSE_CLASSES], len(others[MOST_FALSE_CLASSES:])


def _packed(found: Sequence[Detection]) -> list[tuple[Detection, int, int]]:
    """Each detection with its row in the lane and the number of rows, the best on top, none over another.

    What does not fit into ``MOST_ROWS`` rows shares the last one.
    """
    rows: list[list[Detection]] = []
    for d in sorted(found, key=lambda d: -d.score):
        free = [row for row in rows if all(d.end <= other.start or other.end <= d.start for other in row)]
        if free:
            free[0].append(d)
        elif len(rows) < MOST_ROWS:
            rows.append([d])
        else:
            rows[-1].append(d)
    return [(d, index, len(rows)) for index, row in enumerate(rows) for d in row]


def _merged(segments: Sequence[Segment]) -> list[tuple[float, float]]:
    """The union of the segments as disjoint stretches."""
    stretches: list[tuple[float, float]] = []
    for start, end in sorted((s.start, s.end) for s in segments):
        if stretches and start <= stretches[-1][1]:
            stretches[-1] = (stretches[-1][0], max(end, stretches[-1][1]))
        else:
            stretches.append((start, end))
    return stretches
