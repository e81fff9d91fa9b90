"""Charts of scores and losses: what is drawn, and the numbers to write beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from dgam.evaluation import ErrorAnalysis, Evaluation
from dgam.evaluation.errors import KINDS
from dgam.explain.segments import Explanation
from dgam.page.reduce import thin_out
from dgam.page.svg import HEIGHT, WIDTH, drawing, path, rect

_POINTS = 200
_APART = ("epoch", "step", "time", "seconds", "lr", "cvae_lr", "learning_rate", "stream")


@dataclass(frozen=True)
class Panel:
    """A small chart: its title, a line below it, its drawing, and what the ends of its axes say."""

    title: str
    note: str
    drawing: Markup
    top: str = "1"
    bottom: str = "0"
    left: str = "0"
    right: str = "1"


def precision_recall_panels(systems: Mapping[str, Evaluation], tiou: float) -> list[Panel]:
    """Precision over recall of each class, a line for each system; AP is the area under a line."""
    classes = dict.fromkeys(label for evaluation in systems.values() for label in evaluation.classes)
    panels = []
    for label in classes:
        shapes, said = [], []
        for index, (name, evaluation) in enumerate(systems.items()):
            curve = evaluation.curve(label, tiou)
            recall, precision = _steps(curve.recall, curve.envelope)
            line = thin_out(recall, precision, _POINTS)
            shapes.append(
                path(line.seconds * WIDTH, (1 - line.values) * HEIGHT, f"line s{index % 8} d{index % 4}")
            )
            ap = evaluation.per_class[label][_at(evaluation, tiou)]
            said.append(f"{100 * ap:.1f}" if len(systems) == 1 else f"{name} {100 * ap:.1f}")
        told = f"precision over recall of {label}: AP {', '.join(said)} percent"
        panels.append(Panel(label, f"AP {' · '.join(said)}", drawing(shapes, told, class_="plot")))
    return panels


def _steps(recall: Any, envelope: Any) -> tuple[Any, Any]:
    """The corners of the envelope, a falling staircase, from recall 0 to the greatest recall."""
    if not len(recall):
        return np.zeros(1), np.zeros(1)
    recall = np.concatenate([[0.0], recall])
    envelope = np.concatenate([envelope[:1], envelope])
    moved = np.append(True, (np.diff(recall) != 0) | (np.diff(envelope) != 0))
    recall, envelope = recall[moved], envelope[moved]
    keep = np.ones(len(recall), dtype=bool)
    flat = (envelope[1:-1] == envelope[:-2]) & (envelope[1:-1] == envelope[2:])
    steep = (recall[1:-1] == recall[:-2]) & (recall[1:-1] == recall[2:])
    keep[1:-1] = ~(flat | steep)
    return recall[keep], envelope[keep]


def loss_panels(records: Sequence[Mapping[str, Any]]) -> tuple[list[Panel], list[str]]:
    """A panel for each logged quantity over epochs, a line for each stream; and the streams in order."""
    streams = list(dict.fromkeys(str(r["stream"]) for r in records))
    usable = [r for r in records if _is_number(r.get("epoch"))]
    keys = dict.fromkeys(k for r in usable for k, v in r.items() if k not in _APART and _is_number(v))
    panels = []
    for key in keys:
        points = {
            s: [(r["epoch"], r[key]) for r in usable if str(r["stream"]) == s and _is_number(r.get(key))]
            for s in streams
        }
        values = [value for some in points.values() for _, value in some]
        epochs = [epoch for some in points.values() for epoch, _ in some]
        low, high = min(values), max(values)
        first, last = min(epochs), max(epochs)
        shapes, said = [], []
        for index, (stream, some) in enumerate(points.items()):
            if not some:
                continue
            over, height = np.array(some, dtype=float).T
            line = thin_out(over, height, _POINTS)
            x = (line.seconds - first) / max(last - first, 1) * WIDTH
            y = (1 - (line.values - low) / ((high - low) or 1.0)) * (HEIGHT - 6) + 3
            shapes.append(path(x, y, f"line s{(2 + index) % 8} d{index % 4}"))
            said.append(f"{stream} {some[-1][1]:.4g}")
        note = f"at the end: {' · '.join(said)}"
        panels.append(
            Panel(
                key,
                note,
                drawing(shapes, f"{key} over epochs, {note}", class_="plot"),
                f"{high:.3g}",
                f"{low:.3g}",
                f"{first:g}",
                f"{last:g}",
            )
        )
    return panels, streams


def error_profile(analysis: ErrorAnalysis) -> Markup:
    """Shares of the kinds of predictions by rank: G predictions of the highest scores, the next G, …"""
    shapes = []
    rows = analysis.counts.sum(axis=1)
    width = WIDTH / len(rows)
    for index, (counts, total) in enumerate(zip(analysis.counts, rows, strict=True)):
        level = float(HEIGHT)
        for kind, count in enumerate(counts.tolist()):
            if count:
                height = HEIGHT * count / total
                level -= height
                title = f"{KINDS[kind]}: {count} of {total}, ranks {index}G to {index + 1}G"
                shapes.append(
                    rect(index * width + 6, (index + 1) * width - 6, level, height, f"k{kind}", title)
                )
    return drawing(
        shapes, "kinds of predictions by rank; the numbers are in the table", class_="plot profile"
    )


def contributions(explanation: Explanation) -> Panel:
    """What each snippet of a detection and its surroundings gives to the score, bars along time."""
    shares = explanation.snippets
    start, end = min(s.start for s in shares), max(s.end for s in shares)
    low = min(0.0, *(s.contribution for s in shares))
    high = max(0.0, *(s.contribution for s in shares))
    scale = HEIGHT / ((high - low) or 1.0)
    zero = high * scale
    bars = []
    for s in shares:
        x0, x1 = ((t - start) / ((end - start) or 1.0) * WIDTH for t in (s.start, s.end))
        title = (
            f"snippet {s.snippet}, {s.start:.2f}–{s.end:.2f} s: {s.contribution:+.4f} "
            f"(attention {s.attention:.2f}, class score {s.class_score:.2f})"
        )
        top = zero - max(s.contribution, 0.0) * scale
        height = max(abs(s.contribution) * scale, 0.4)
        bars.append(rect(x0, max(x0 + 1, x1 - 1), top, height, "in" if s.role == "inner" else "out", title))
    bars.append(path([0, WIDTH], [zero, zero], "zero"))
    told = f"contributions of {len(shares)} snippets to the score"
    return Panel(
        "",
        "",
        drawing(bars, told, class_="plot"),
        f"{high:+.3f}",
        f"{low:+.3f}" if low < 0 else "0",
        f"{start:.1f} s",
        f"{end:.1f} s",
    )


@dataclass(frozen=True)
class Step:
    """A row of a score's sum: its name, value, and where its bar lies, in percent of the width."""

    name: str
    value: str
    left: float
    width: float
    kind: str


def waterfall(e: Explanation) -> list[Step]:
    """The sum that makes a detection's score, row by row."""
    rows = [
        ("inside the segment", e.inner, "in"),
        (f"before it, {e.left:.3f} × −{e.eta:g}", -e.eta * e.left, "out"),
        (f"after it, {e.right:.3f} × −{e.eta:g}", -e.eta * e.right, "out"),
    ]
    if e.video:
        rows.append(("the whole video", e.video, "in"))
    spans, level = [], 0.0
    for name, value, kind in rows:
        spans.append(
            (name, f"{value:+.3f}" if level or value < 0 else f"{value:.3f}", level, level + value, kind)
        )
        level += value
    spans.append(("score (equation 17)", f"{e.score:.3f}", 0.0, e.score, "total"))
    if e.suppression.decays:
        spans.append((f"after NMS ({e.suppression.method})", f"{e.final:.3f}", 0.0, e.final, "total"))
    ends = [edge for _, _, a, b, _ in spans for edge in (a, b)]
    low, high = min(0.0, *ends), max(0.0, *ends)
    scale = 100 / ((high - low) or 1.0)
    return [
        Step(name, text, (min(a, b) - low) * scale, max(abs(b - a) * scale, 0.4), kind)
        for name, text, a, b, kind in spans
    ]


def _at(evaluation: Evaluation, tiou: float) -> int:
    return int(np.argmin(np.abs(np.array(evaluation.tiou) - tiou)))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
