"""Thresholds and scores from held-out videos, of which only the video labels are known.

What video labels can decide: above which probability a class should be looked for in a video, and from which
score on a detection speaks for its class. What they cannot: where a segment begins and ends. The attention
thresholds are therefore left as they are; ``docs/fit.md`` has the measurement that speaks for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

LEAST = 8
"""A threshold is chosen only where at least so many video-class pairs are true, and so many false."""
CLASS_BETA = 2.0
"""Recall weighs more: a class that is left out is lost, one too many can still be dropped by its score."""
_SHUFFLE, _DRAWS = 13, 1000


@dataclass(frozen=True)
class Judged:
    """A held-out video: its labels as 0/1 (C,), the part it was held out with, each stream's class
    probabilities (C,), the best detection score of each class (C,), −inf where there is none, and the share
    of snippets whose attention is above a half, by stream."""

    video: str
    truth: Bools
    part: int
    probabilities: dict[str, Floats]
    best: Floats
    attended: dict[str, float]


@dataclass(frozen=True)
class Cut:
    """A threshold, the F-measure it reaches where it was chosen, and how many pairs it was chosen on."""

    value: float
    score: float
    true: int
    false: int


def best_cut(scores: Floats, truth: Bools, beta: float, floor: float | None = None) -> Cut | None:
    """The threshold t for which "score > t" agrees best with ``truth``, by F-beta over all pairs.

    ``scores`` (M,), −inf for pairs that no threshold can reach; ``truth`` (M,). Among equally good
    thresholds the middle of the widest stretch of them is taken; ``floor`` ends the lowest one (by default
    as far below the lowest score as the highest is above it). None where no pair is true, or none has a
    score.
    """
    finite = np.isfinite(scores)
    levels = np.unique(scores[finite])[::-1]  # (K,), falling
    positives = int(truth.sum())
    if not positives or not levels.size:
        return None
    place = np.searchsorted(-levels, -scores[finite])  # (m,): which level each pair is on
    hits = np.cumsum(np.bincount(place, truth[finite], len(levels)))  # (K,): true pairs at or above a level
    taken = np.cumsum(np.bincount(place, minlength=len(levels)))
    values = f_measure(hits, taken - hits, positives - hits, beta)  # (K,)
    lowest = levels[-1] - max(levels[0] - levels[-1], 1e-3) if floor is None else min(floor, levels[-1])
    below = np.append(levels[1:], lowest)  # (K,): taking level k means a threshold in [below[k], levels[k])
    best = values >= values.max() - 1e-12
    edges = np.flatnonzero(np.diff(np.concatenate([[False], best, [False]]).astype(np.int8)))
    runs = [(levels[first], below[end - 1]) for first, end in zip(edges[::2], edges[1::2], strict=True)]
    top, bottom = max(runs, key=lambda run: (run[0] - run[1], -run[0]))
    middle = float((top + bottom) / 2)
    short = float(f"{middle:.4g}")
    value = short if bottom <= short < top else middle
    return Cut(value, float(values.max()), positives, int(truth.size - positives))


def f_measure(hits: Any, false: Any, missed: Any, beta: float) -> Any:
    """F-beta of counts, elementwise; 0 where there are no hits."""
    weight = beta * beta
    total = (1 + weight) * hits + false + weight * missed
    return np.where(hits > 0, (1 + weight) * hits / np.maximum(total, 1e-300), 0.0)


def choose_class_threshold(judged: Sequence[Judged], stream: str, preset: float) -> tuple[float, str]:
    """A stream's class threshold and, in words, how it came about.

    It is the preset's unless there are enough pairs, and the choice holds up: made on all parts but one and
    tried on that one, in turn, it must reach at least the preset's F2.
    """
    scores = np.stack([one.probabilities[stream] for one in judged])  # (N, C)
    truth = np.stack([one.truth for one in judged])  # (N, C)
    kept = f"stays at the preset's {preset:g}"
    true, false = int(truth.sum()), int((~truth).sum())
    if min(true, false) < LEAST:
        return preset, (
            f"{stream}: class threshold {kept}: {true} video-class pairs are true and {false} false, "
            f"{LEAST} of each are needed to choose another."
        )
    parts = np.array([one.part for one in judged])
    if len(set(parts.tolist())) < 2:
        parts = np.arange(len(judged)) % 5
    cut = best_cut(scores.ravel(), truth.ravel(), CLASS_BETA, floor=0.0)
    assert cut is not None, "there are true pairs"
    nested = np.zeros(3)
    for part in sorted(set(parts.tolist())):
        inside = parts == part
        own = best_cut(scores[~inside].ravel(), truth[~inside].ravel(), CLASS_BETA, floor=0.0)
        nested += _counts(scores[inside] > (own.value if own is not None else preset), truth[inside])
    tried = float(f_measure(nested[0], nested[1], nested[2], CLASS_BETA))
    plain = _counts(scores > preset, truth)
    usual = float(f_measure(plain[0], plain[1], plain[2], CLASS_BETA))
    everything = float(f_measure(true, false, 0, CLASS_BETA))
    figures = (
        f"F2 {tried:.2f} on videos it was not chosen on, {usual:.2f} with the preset's {preset:g}, "
        f"{everything:.2f} for every class in every video"
    )
    if tried < usual:
        return preset, f"{stream}: class threshold {kept}: {cut.value:g} did not hold up ({figures})."
    return cut.value, f"{stream}: class threshold {cut.value:g} ({figures})."


def choose_score_threshold(
    judged: Sequence[Judged], thresholds: dict[str, float]
) -> tuple[float | None, str]:
    """The detection score that best tells a video's labels by its detections (F1), and how in words.

    Only classes that some stream would localise by its class threshold count.
    """
    truth = np.stack([one.truth for one in judged])  # (N, C)
    chosen = np.any([_chosen(judged, stream, value) for stream, value in thresholds.items()], axis=0)
    best = np.where(chosen, np.stack([one.best for one in judged]), -np.inf)  # (N, C)
    true, false = int((np.isfinite(best) & truth).sum()), int((np.isfinite(best) & ~truth).sum())
    if min(true, false) < LEAST:
        return None, (
            f"score threshold: none chosen: {true} classes with detections are in the video's labels and "
            f"{false} are not, {LEAST} of each are needed."
        )
    cut = best_cut(best.ravel(), truth.ravel(), 1.0)
    assert cut is not None, "there are true pairs"
    return cut.value, f"score threshold {cut.value:g}: F1 {cut.score:.2f} for telling a video's labels by it."


def held_out_scores(judged: Sequence[Judged], classes: Sequence[str], seed: int) -> dict[str, Any]:
    """How well the held-out videos' labels were told, by class probabilities averaged over streams.

    ``map``: mean over classes of the average precision over videos; ``chance`` and ``chance_95``: its mean
    and 95th percentile when the same scores are dealt out to the videos at random; ``top1``: share of
    labelled videos whose likeliest class is one of theirs; ``commonest``: the same for naming the commonest
    class always. Classes that fewer than two videos have are left out, since their only video was held out.
    """
    truth = np.stack([one.truth for one in judged])  # (N, C)
    scores = np.stack([np.mean([*one.probabilities.values()], axis=0) for one in judged])  # (N, C)
    counts = truth.sum(axis=0)
    usable = (counts >= 2) & (counts < len(judged))
    parts = np.array([one.part for one in judged])
    generator = np.random.default_rng([seed, _SHUFFLE])
    shuffled = [mean_ap(scores[generator.permutation(len(judged))], truth, usable) for _ in range(_DRAWS)]
    known = [value for value in shuffled if value is not None]
    labelled = truth[truth.any(axis=1)]
    return {
        "videos": len(judged),
        "map": mean_ap(scores, truth, usable),
        "chance": float(np.mean(known)) if known else None,
        "chance_95": float(np.quantile(known, 0.95)) if known else None,
        "top1": top1(scores, truth),
        "commonest": float(labelled.mean(axis=0).max()) if labelled.size else None,
        "parts": [
            {
                "videos": int((parts == part).sum()),
                "map": mean_ap(scores[parts == part], truth[parts == part], usable),
                "top1": top1(scores[parts == part], truth[parts == part]),
            }
            for part in sorted(set(parts.tolist()))
        ],
        "classes": {
            name: {
                "videos": int(counts[column]),
                "ap": average_precision(scores[:, column], truth[:, column]) if usable[column] else None,
            }
            for column, name in enumerate(classes)
        },
    }


def average_precision(scores: Floats, truth: Bools) -> float | None:
    """Mean over true videos of the precision at their score; equal scores count as one rank. None without a
    true one."""
    if not truth.any():
        return None
    levels, place = np.unique(-scores, return_inverse=True)
    hits = np.bincount(place, truth, len(levels))
    precision = np.cumsum(hits) / np.cumsum(np.bincount(place, minlength=len(levels)))
    return float((precision * hits).sum() / truth.sum())


def mean_ap(scores: Floats, truth: Bools, usable: Bools) -> float | None:
    """Mean of the usable classes' average precision, of those that occur among these videos."""
    found = [average_precision(scores[:, c], truth[:, c]) for c in np.flatnonzero(usable)]
    known = [value for value in found if value is not None]
    return float(np.mean(known)) if known else None


def top1(scores: Floats, truth: Bools) -> float | None:
    """Share of videos with labels whose likeliest class is among them."""
    labelled = truth.any(axis=1)
    if not labelled.any():
        return None
    rows = np.flatnonzero(labelled)
    return float(truth[rows, scores[rows].argmax(axis=1)].mean())


def _chosen(judged: Sequence[Judged], stream: str, threshold: float) -> Bools:
    """Which classes a stream would localise, (N, C): those above the threshold, else the best one."""
    scores = np.stack([one.probabilities[stream] for one in judged])
    above: Bools = scores > threshold
    fallback = scores == scores.max(axis=1, keepdims=True)
    return np.where(above.any(axis=1, keepdims=True), above, fallback)


def _counts(chosen: Bools, truth: Bools) -> Floats:
    """Hits, false ones and missed ones."""
    return np.array([(chosen & truth).sum(), (chosen & ~truth).sum(), (~chosen & truth).sum()], np.float64)
