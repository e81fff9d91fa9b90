"""Where a video's attention and classifier disagree: what the method is about (sections 1 and 3).

The classifier fires on context too: water and boards without a dive. Attention is there to leave it out. So a
stretch with high class activation and low attention is a context candidate; the reverse, attention without
class activation, is either an action the classifier misses or attention gone astray. Neither is an error by
itself: what is true needs somebody who looks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from dgam.core.timeline import Timeline
from dgam.detection.proposals import Floats, StreamCurves, curve_points, sigmoid
from dgam.detection.scoring import choose_classes

Kind = Literal["classifier", "attention"]


@dataclass(frozen=True)
class ContextCandidate:
    """A stretch of one stream where attention and class activation of ``label`` disagree.

    ``start``, ``end`` in seconds. ``kind`` says which of the two is high: "classifier" (attention takes the
    stretch for context) or "attention" (attended, without the class being seen). ``attention`` and
    ``class_score`` are the means of λ and of sigmoid(TCAM), both in [0, 1]; ``gap`` is the mean distance in
    [0, 1] of the two after each was scaled to the video's own range, by which candidates are sorted, times
    their length.
    """

    start: float
    end: float
    label: str
    kind: Kind
    stream: str
    attention: float
    class_score: float
    gap: float

    def to_dict(self) -> dict[str, Any]:
        """JSON values, with the same names."""
        return asdict(self)


def context_candidates(
    curves: Mapping[str, StreamCurves],
    timeline: Timeline,
    classes: Sequence[str],
    *,
    high: float = 0.6,
    low: float = 0.4,
    least_range: float = 0.05,
    min_snippets: int = 1,
    class_threshold: float = 0.1,
    most: int = 50,
) -> list[ContextCandidate]:
    """Stretches where one of attention and class activation is high and the other low, worst first.

    Looked at per stream, for the classes that the stream localises (video-level probability above
    ``class_threshold``, else the best), snippet by snippet. ``high`` and ``low`` are fractions of the way
    from a curve's least to its greatest value in this video, since only its course within a video says
    where something happens; a curve that moves by less than ``least_range`` says nothing and is passed over.
    Attention without activation means that no such class is active; the candidate then names the most active.
    ``most`` bounds the list, ``min_snippets`` the shortest stretch. ValueError unless 0 <= low < high <= 1.
    """
    if not 0 <= low < high <= 1:
        raise ValueError(f"expected 0 <= low < high <= 1, got {low} and {high}")
    found: list[tuple[float, ContextCandidate]] = []
    for stream, own in curves.items():
        chosen = choose_classes(own.probabilities, class_threshold)  # (K,)
        attention = curve_points(own.positions, own.attention, timeline.snippets, 1)  # (T,)
        activation = curve_points(own.positions, sigmoid(own.tcam[:, chosen]), timeline.snippets, 1)  # (T, K)
        looked = _scaled(attention, least_range)
        scaled = [_scaled(activation[:, k], least_range) for k in range(len(chosen))]
        moving = [k for k, values in enumerate(scaled) if values is not None]
        if looked is None or not moving:
            continue
        seen = np.column_stack([values for values in scaled if values is not None])  # (T, k)
        disagreements: list[tuple[Kind, int | None, Floats]] = [
            ("classifier", at, np.where((seen[:, at] >= high) & (looked <= low), seen[:, at] - looked, 0.0))
            for at in range(len(moving))
        ]
        greatest = seen.max(axis=1)  # (T,)
        unseen = np.where((looked >= high) & (greatest <= low), looked - greatest, 0.0)
        for kind, at, gap in [*disagreements, ("attention", None, unseen)]:
            for start, end in _runs(gap > 0):
                if end - start < min_snippets:
                    continue
                column = moving[at if at is not None else int(seen[start:end].mean(axis=0).argmax())]
                first, last = timeline.clipped_seconds(np.array([start, end])).tolist()
                candidate = ContextCandidate(
                    first,
                    last,
                    classes[int(chosen[column])],
                    kind,
                    stream,
                    float(attention[start:end].mean()),
                    float(activation[start:end, column].mean()),
                    float(gap[start:end].mean()),
                )
                found.append((-float(gap[start:end].sum()), candidate))
    found.sort(key=lambda pair: pair[0])
    return [candidate for _, candidate in found[:most]]


def _scaled(values: Floats, least_range: float) -> Floats | None:
    """(T,) scaled to [0, 1]; None where it hardly moves."""
    least, greatest = float(values.min()), float(values.max())
    if greatest - least < max(least_range, 1e-12):
        return None
    return np.asarray((values - least) / (greatest - least))


def _runs(inside: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> list[tuple[int, int]]:
    """Maximal runs of true values in (T,), as [start, end)."""
    padded = np.zeros(len(inside) + 2, dtype=np.int8)
    padded[1:-1] = inside
    edges = np.flatnonzero(np.diff(padded))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
