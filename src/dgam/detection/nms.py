"""Thinning of overlapping detections of a class: hard and soft non-maximum suppression in one dimension."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Method = Literal["hard", "soft-linear", "soft-gaussian", "none"]

_BLOCK = 256
_AT_ONCE = 768
# Segments of one and two snippets have tIoU 1/2, whatever rounding makes of it in seconds.
_ROUNDING = 1e-9


def pairwise_tiou(a: Floats, b: Floats) -> Floats:
    """Temporal intersection over union of segments (n, 2) and (m, 2), as (n, m) in [0, 1].

    Where the union has no length it is 0.
    """
    shared = np.minimum(a[:, None, 1], b[:, 1])  # (n, m)
    shared -= np.maximum(a[:, None, 0], b[:, 0])
    np.maximum(shared, 0.0, out=shared)
    # Of segments that overlap, the union is the hull; of others it does not matter, as nothing is shared.
    hull = np.maximum(a[:, None, 1], b[:, 1])  # (n, m)
    hull -= np.minimum(a[:, None, 0], b[:, 0])
    np.copyto(hull, 1.0, where=hull <= 0)
    return np.asarray(np.divide(shared, hull, out=shared))


def suppress(
    segments: Floats, scores: Floats, method: Method = "hard", tiou: float = 0.5, sigma: float = 0.5
) -> tuple[Integers, Floats]:
    """Thin detections of one class. Returns the kept ones' indices, best first, and their scores, both (k,).

    ``segments`` (n, 2), ``scores`` (n,) of any sign. Equal scores stay in their order. An overlap that equals
    ``tiou`` up to rounding is not above it.

    - hard: one that overlaps a better, kept one by more than ``tiou`` is dropped.
    - soft-linear, soft-gaussian: all are kept; the best of those left, in turn, multiplies the others' scores
      by 1 − o where their overlap o with it exceeds ``tiou``, or by exp(−o²/σ) (Bodla et al., 2017). That is
      meant for scores >= 0; multiplying a negative one would raise it. So scores are measured from a floor:
      0, or the lowest score where that is negative, and decay towards it.
    - none: sorted only.
    """
    if method == "hard":
        kept = _hard(segments, scores, tiou)
        return kept, scores[kept]
    if method == "none":
        kept = np.argsort(-scores, kind="stable")
        return kept, scores[kept]
    return _soft(segments, scores, method, tiou, sigma)


def suppress_per_class(
    segments: Floats,
    scores: Floats,
    labels: Integers,
    method: Method = "hard",
    tiou: float = 0.5,
    sigma: float = 0.5,
) -> tuple[Integers, Floats]:
    """:func:`suppress` within each value of ``labels`` (n,), all results in one list, best first."""
    kept, final = [np.zeros(0, dtype=np.int64)], [np.zeros(0)]
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        chosen, decayed = suppress(segments[members], scores[members], method, tiou, sigma)
        kept.append(members[chosen])
        final.append(decayed)
    indices, values = np.concatenate(kept), np.concatenate(final)
    order = np.lexsort((indices, -values))
    return indices[order], values[order]


def _hard(segments: Floats, scores: Floats, tiou: float) -> Integers:
    order = np.argsort(-scores, kind="stable")
    kept = order[:0]
    # Blocks bound the overlap matrices to (n, block) where thousands of candidates meet.
    for first in range(0, len(order), _BLOCK):
        block = order[first : first + _BLOCK]
        beaten = (pairwise_tiou(segments[block], segments[kept]) > tiou + _ROUNDING).any(axis=1)
        block = block[~beaten]
        clash = pairwise_tiou(segments[block], segments[block]) > tiou + _ROUNDING  # (b, b)
        alive = np.ones(len(block), dtype=bool)
        for i in range(len(block)):
            if alive[i]:
                alive[i + 1 :] &= ~clash[i, i + 1 :]
        kept = np.concatenate([kept, block[alive]])
    return kept


def _soft(
    segments: Floats, scores: Floats, method: Method, tiou: float, sigma: float
) -> tuple[Integers, Floats]:
    floor = min(0.0, float(scores.min(initial=0.0)))
    height = scores - floor
    waiting = np.zeros(len(scores))  # 0 for those left, −inf for those ranked
    kept = np.zeros(len(scores), dtype=np.int64)
    final = np.zeros(len(scores))
    # All overlaps at once where they fit into a few MB, else those of the best, time and again.
    every = _decay(segments, segments, method, tiou, sigma) if len(scores) <= _AT_ONCE else None  # (n, n)
    for rank in range(len(scores)):
        best = int((height + waiting).argmax())
        kept[rank], final[rank], waiting[best] = best, height[best], -np.inf
        if every is not None:
            height *= every[best]
        else:
            height *= _decay(segments[best : best + 1], segments, method, tiou, sigma)[0]
    return kept, final + floor


def _decay(a: Floats, b: Floats, method: Method, tiou: float, sigma: float) -> Floats:
    """What a segment of ``a`` (n, 2) leaves of the height of one of ``b`` (m, 2), as a factor (n, m)."""
    overlap = pairwise_tiou(a, b)  # (n, m)
    if method == "soft-linear":
        return np.where(overlap > tiou + _ROUNDING, 1.0 - overlap, 1.0)
    return np.asarray(np.exp(-(overlap**2) / sigma))
