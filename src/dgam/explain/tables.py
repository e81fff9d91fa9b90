"""Explanations as tables, for the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from dgam.explain.context import ContextCandidate
from dgam.explain.segments import Explanation
from dgam.report.tables import Cell, Number, Table

KINDS = {"classifier": "class seen, not attended", "attention": "attended, class not seen"}
"""A context candidate's kind in words."""
PLACES = {"inner": "inside", "left": "before", "right": "after"}
"""A stretch's role in words."""


def parts_table(video: str, explanations: Sequence[Explanation], count: int) -> Table:
    """The parts of several detections' scores, numbered; ``count`` is how many the video has in all."""
    with_video = any(e.video for e in explanations)
    rows: list[tuple[Cell, ...]] = []
    for number, e in enumerate(explanations, start=1):
        parts = [-e.eta * e.left, -e.eta * e.right, *([e.video] if with_video else [])]
        rows.append(
            (
                str(number),
                e.label,
                f"{e.start:.2f}–{e.end:.2f}",
                e.stream,
                Number(e.inner, decimals=3),
                *(Number(part, decimals=3, sign=True) for part in parts),
                Number(e.score, decimals=3),
                Number(e.final, decimals=3),
            )
        )
    term = ("video",) if with_video else ()
    columns = ("N", "class", "seconds", "stream", "inside", "−η·before", "−η·after", *term, "score", "NMS")
    more = f"the best {len(explanations)} of {count} detections; " if count > len(explanations) else ""
    notes = (
        f"{more}inside − η·surroundings{' + video' if term else ''} = score (equation 17)",
        "NMS: the score after better detections that overlap it have lowered it",
    )
    return Table(f"{video}: {'detections' if rows else 'no detections'}", columns, tuple(rows), notes)


def context_table(context: Sequence[ContextCandidate], most: int) -> Table:
    """The first ``most`` context candidates."""
    rows: list[tuple[Cell, ...]] = [
        (
            KINDS[c.kind],
            c.label,
            f"{c.start:.2f}–{c.end:.2f}",
            c.stream,
            Number(c.attention, decimals=2),
            Number(c.class_score, decimals=2),
        )
        for c in context[:most]
    ]
    more = f"the first {most} of {len(context)}; " if len(context) > most else ""
    notes = (
        f"{more}seen and attended are meant within the video: each curve in its own range",
        "class seen, not attended: what attention takes for context",
    )
    columns = ("", "class", "seconds", "stream", "attention", "class score")
    title = "Where attention and classifier disagree (context candidates)"
    return Table(title if rows else f"{title}: nowhere", columns, tuple(rows), notes)


def stream_table(e: Explanation) -> Table:
    """What each stream says of a detection's segment."""
    rows: list[tuple[Cell, ...]] = []
    for view in e.streams:
        scores = (view.inner, view.left, view.right, view.score, view.share)
        rows.append(
            (
                view.stream,
                ", ".join(f"{t:g}" for t in view.thresholds) or "–",
                *(Number(value, decimals=3) for value in scores),
                Number(view.attention, decimals=2),
                Number(view.probability, decimals=2),
            )
        )
    columns = (
        "stream",
        "proposed at",
        "inside",
        "before",
        "after",
        "score",
        "share",
        "attention",
        "P(class)",
    )
    notes = (
        "score: what this stream's own curves and settings give; share: its part of the detection's score",
    )
    return Table("What each stream says of the segment", columns, tuple(rows), notes)


def snippet_table(e: Explanation) -> Table:
    """What each snippet gives to a detection's score."""
    rows: list[tuple[Cell, ...]] = [
        (
            str(s.snippet),
            PLACES[s.role],
            f"{s.start:.2f}–{s.end:.2f}",
            Number(s.attention, decimals=3),
            Number(100 * s.weight),
            Number(s.class_score, decimals=3),
            Number(s.contribution, decimals=4, sign=True),
        )
        for s in e.snippets
    ]
    total = math.fsum(s.contribution for s in e.snippets)
    video = f", with {e.video:+.4f} for the whole video {e.score:.4f}" if e.video else ""
    columns = ("snippet", "where", "seconds", "attention", "weight %", "class score", "gives")
    return Table("What each snippet gives to the score", columns, tuple(rows), (f"sum: {total:.4f}{video}",))
