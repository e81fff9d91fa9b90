"""An explained detection as a picture: where it lies, what each snippet gives, and how the parts add up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from dgam.core.timeline import Timeline
from dgam.detection.proposals import StreamCurves
from dgam.explain.segments import Explanation
from dgam.report.plots import INK, colour, dash, entitle, literal, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INNER, OUTER, TOTAL = "#0072B2", "#D55E00", "#444444"
_AROUND = 1.0
"""How much of the video is shown on each side of the segment, in segments' lengths."""


def explanation_figure(
    explanation: Explanation,
    curves: Mapping[str, StreamCurves],
    timeline: Timeline,
    video: str,
    *,
    simulated: bool = False,
) -> Figure:
    """Attention around the segment, each snippet's contribution to the score, and the score as a sum.

    ``curves`` and ``timeline`` are those that the detection was explained with.
    """
    figure = new_figure(10, 6.2)
    attention, snippets, parts = figure.subplots(3, 1, height_ratios=(1.2, 1.2, 1.0))
    length = explanation.end - explanation.start
    around = max(_AROUND * length, 2 * timeline.snippet_seconds)
    shown = (max(0.0, explanation.start - around), min(timeline.end, explanation.end + around))
    _draw_attention(attention, explanation, curves, timeline)
    _draw_snippets(snippets, explanation)
    for axes in (attention, snippets):
        axes.set_xlim(*shown)
        for stretch in explanation.stretches:
            paint = INNER if stretch.role == "inner" else OUTER
            axes.axvspan(stretch.start, stretch.end, color=paint, alpha=0.10, linewidth=0, zorder=0)
    snippets.set_xlabel("time (s)")
    _draw_sum(parts, explanation)
    span = f"{explanation.start:.2f}–{explanation.end:.2f} s"
    entitle(figure, f"{video}: {explanation.label}, {span}, score {explanation.final:.3f}", simulated)
    return figure


def _draw_attention(
    axes: Axes, explanation: Explanation, curves: Mapping[str, StreamCurves], timeline: Timeline
) -> None:
    for index, (stream, own) in enumerate(curves.items()):
        order = np.argsort(own.positions, kind="stable")
        axes.plot(
            timeline.seconds(own.positions[order]),
            own.attention[order],
            color=colour(2 + index),
            linestyle=dash(index),
            linewidth=1.3,
            label=literal(stream),
        )
    # Levels are of the thresholded curve, which is the attention itself where nothing else is mixed in.
    axes.set_ylim(-0.03, 1.03)
    axes.set_ylabel("attention λ", fontsize=9)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8, frameon=False)


def _draw_snippets(axes: Axes, explanation: Explanation) -> None:
    for share in explanation.snippets:
        paint = INNER if share.role == "inner" else OUTER
        axes.bar(
            share.start,
            share.contribution,
            width=share.end - share.start,
            align="edge",
            color=paint,
            edgecolor="white",
            linewidth=0.4,
        )
    axes.axhline(0, color=INK, linewidth=0.6)
    axes.set_ylabel("given to the score", fontsize=9)


def _draw_sum(axes: Axes, explanation: Explanation) -> None:
    """A waterfall from the inside's score, over what is subtracted, to the final one."""
    steps = [
        ("inside", explanation.inner, INNER),
        (
            f"− η · before ({explanation.eta:g} × {explanation.left:.3f})",
            -explanation.eta * explanation.left,
            OUTER,
        ),
        (
            f"− η · after ({explanation.eta:g} × {explanation.right:.3f})",
            -explanation.eta * explanation.right,
            OUTER,
        ),
    ]
    if explanation.video:
        steps.append(("+ whole video", explanation.video, INNER))
    level = 0.0
    names = []
    for row, (name, value, paint) in enumerate(steps):
        axes.barh(row, value, left=level, height=0.7, color=paint)
        _write(axes, row, max(level, level + value), f"{value:+.3f}" if row else f"{value:.3f}")
        level += value
        names.append(name)
    thinning = explanation.suppression
    totals = [("score (equation 17)", explanation.score)]
    if thinning.decays:
        totals.append((f"after {thinning.method} NMS", explanation.final))
    for name, value in totals:
        axes.barh(len(names), value, height=0.7, color=TOTAL)
        _write(axes, len(names), max(value, 0.0), f"{value:.3f}")
        names.append(name)
    axes.axvline(0, color=INK, linewidth=0.6)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    left, right = axes.get_xlim()
    axes.set_xlim(left, right + 0.1 * (right - left))  # room for the numbers behind the bars


def _write(axes: Axes, row: int, at: float, text: str) -> None:
    axes.annotate(text, (at, row), (4, 0), textcoords="offset points", va="center", fontsize=8, color=INK)
