"""Mean average precision as ActivityNet's detection evaluation defines it, vectorised.

Per class: predictions by falling score; each tries the ground truth of its class and video from the highest
tIoU down and takes the first not yet taken with tIoU >= threshold, else it is a false positive. AP is the
area under precision's upper envelope over recall. The mean goes over the classes that have ground truth.

Ties, which the definition leaves open: predictions with equal scores keep their order in the input. Of ground
truths with equal tIoU, the one whose start or end is nearest to the prediction's own comes first, then the
annotation's order. The field's script sorts both with NumPy's default, unstable sort and reverses; its order
of ties depends on the length of the array and on the processor. ``docs/evaluation.md`` says what that is
worth.

tIoU is 0 where neither stretch has length, so an instance of no length counts but is never found. (The
field's script divides 0 by 0 there, and takes any pair of such stretches in a video as a match.)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dgam.core.errors import InputError
from dgam.core.types import Detections, SegmentAnnotations

Floats = NDArray[np.float64]
Ids = NDArray[np.intp]
Flags = NDArray[np.bool_]

_PAIRS_AT_ONCE = 2_000_000


def temporal_iou(a: ArrayLike, b: ArrayLike) -> Floats:
    """Temporal intersection over union of stretches ``(start, end)``, in [0, 1].

    ``a`` and ``b`` have shapes ``(…, 2)`` that broadcast; the result has their common leading shape. It is 0
    where both have no length.
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    shared = np.minimum(a[..., 1], b[..., 1]) - np.maximum(a[..., 0], b[..., 0])
    shared = np.maximum(shared, 0.0)
    union = (a[..., 1] - a[..., 0]) + (b[..., 1] - b[..., 0]) - shared
    ratio: Floats = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return ratio


@dataclass(frozen=True)
class Instances:
    """Instances of many videos as columns, n rows, in the order of the input.

    ``video`` and ``label`` index the ground truth's videos and the counted classes; -1 is neither.
    ``span`` is ``(n, 2)`` in seconds; ``score`` is ``(n,)``, zeros for ground truth.
    """

    video: Ids
    label: Ids
    span: Floats
    score: Floats

    def __len__(self) -> int:
        return len(self.video)

    def take(self, rows: Ids | Flags) -> Instances:
        """Only these rows, in that order."""
        return Instances(self.video[rows], self.label[rows], self.span[rows], self.score[rows])


@dataclass(frozen=True)
class Curve:
    """Precision over recall of one class at one tIoU, one point per prediction, by falling score.

    ``precision`` is as counted, ``envelope`` the greatest precision at this recall or a higher one; AP is the
    area under the envelope.
    """

    recall: Floats
    precision: Floats
    envelope: Floats
    score: Floats


@dataclass(frozen=True)
class Evaluation:
    """mAP of a set of detections. Fractions in [0, 1] throughout.

    ``ap`` is ``(thresholds, classes)``; ``counts`` ``(classes,)`` ground-truth instances per class. ``hits``
    holds per class the ``(thresholds, n)`` true positives among its n predictions by falling score,
    ``scores`` their scores. ``protocol`` says what was evaluated and how; ``videos`` and ``instances`` count
    the ground truth.
    """

    tiou: tuple[float, ...]
    classes: tuple[str, ...]
    ap: Floats
    counts: Ids
    videos: int
    hits: tuple[Flags, ...] = field(repr=False)
    scores: tuple[Floats, ...] = field(repr=False)
    protocol: Mapping[str, Any] = field(default_factory=dict)

    @property
    def map(self) -> tuple[float, ...]:
        """mAP at each threshold."""
        return tuple(float(value) for value in self.ap.mean(axis=1))

    @property
    def average(self) -> float:
        """Mean of ``map`` over the thresholds."""
        return float(np.mean(self.map))

    @property
    def per_class(self) -> dict[str, list[float]]:
        """Class name to its AP at each threshold."""
        return {name: self.ap[:, index].tolist() for index, name in enumerate(self.classes)}

    @property
    def instances(self) -> int:
        """Ground-truth instances of all classes."""
        return int(self.counts.sum())

    def curve(self, label: str, tiou: float) -> Curve:
        """Precision over recall of one class. InputError for a class or threshold that was not evaluated."""
        if label not in self.classes:
            raise InputError(
                f"class {label!r} was not evaluated; the classes are: {', '.join(self.classes)}."
            )
        rows = [row for row, value in enumerate(self.tiou) if abs(value - tiou) < 1e-9]
        if not rows:
            raise InputError(
                f"tIoU {tiou:g} was not evaluated; thresholds are: {', '.join(map(str, self.tiou))}."
            )
        index = self.classes.index(label)
        hits = self.hits[index][rows[0]]
        precision, envelope = _precision(hits)
        return Curve(np.cumsum(hits) / self.counts[index], precision, envelope, self.scores[index])

    def to_dict(self) -> dict[str, Any]:
        """The JSON object that ``dgam evaluate --json`` prints."""
        return {
            "tiou": list(self.tiou),
            "map": list(self.map),
            "average": self.average,
            "per_class": self.per_class,
            "protocol": dict(self.protocol),
            "videos": self.videos,
            "instances": self.instances,
        }


def mean_average_precision(
    detections: Detections,
    ground_truth: SegmentAnnotations,
    tiou: Sequence[float],
    protocol: Mapping[str, Any] | None = None,
) -> Evaluation:
    """mAP of ``detections`` at the thresholds ``tiou``, each in (0, 1].

    Nothing is filtered here: see :func:`dgam.evaluation.evaluate`. As in ActivityNet's script, a prediction
    for a video that the ground truth lacks is a false positive. Predictions of a class without ground truth
    take no part. InputError where the ground truth has no instance, or a threshold is out of range.
    """
    thresholds = check_thresholds(tiou)
    truth, classes = tabulate_truth(ground_truth)
    found = tabulate_detections(detections, ground_truth, classes)
    found = found.take(ranking(found))
    hits = np.stack([taken >= 0 for taken in match(found, truth, thresholds)])  # (K, n)
    counts = np.bincount(truth.label, minlength=len(classes))
    edges = np.searchsorted(found.label, np.arange(len(classes) + 1))
    parts = [slice(low, high) for low, high in pairwise(edges)]
    ap = [average_precision(hits[:, part], count) for part, count in zip(parts, counts, strict=True)]
    return Evaluation(
        tiou=thresholds,
        classes=classes,
        ap=np.stack(ap, axis=1),  # (K, C)
        counts=counts,
        videos=len(ground_truth.videos),
        hits=tuple(hits[:, part] for part in parts),
        scores=tuple(found.score[part] for part in parts),
        protocol=dict(protocol or {}),
    )


def check_thresholds(tiou: Sequence[float]) -> tuple[float, ...]:
    """The thresholds as floats; InputError unless there is at least one and each is in (0, 1]."""
    thresholds = tuple(float(value) for value in tiou)
    wrong = [f"{value:g}" for value in thresholds if not 0 < value <= 1]
    if wrong or not thresholds:
        raise InputError(f"tIoU thresholds must lie in (0, 1], got {', '.join(wrong) or 'none'}.")
    return thresholds


def tabulate_truth(ground_truth: SegmentAnnotations) -> tuple[Instances, tuple[str, ...]]:
    """The ground truth as columns, and the classes that occur in it, in the annotation's order of classes."""
    rows = [(index, s) for index, video in enumerate(ground_truth.videos.values()) for s in video.segments]
    if not rows:
        source = ground_truth.source or "the ground truth"
        raise InputError(
            f"{source}: holds no instance in {len(ground_truth.videos)} videos, so mAP is not defined."
        )
    present = dict.fromkeys(segment.label for _, segment in rows)
    classes = tuple(name for name in ground_truth.classes if name in present)
    classes += tuple(name for name in present if name not in set(classes))
    index_of = {name: index for index, name in enumerate(classes)}
    video = np.array([index for index, _ in rows], dtype=np.intp)
    label = np.array([index_of[segment.label] for _, segment in rows], dtype=np.intp)
    span = np.array([(segment.start, segment.end) for _, segment in rows], dtype=np.float64)
    return Instances(video, label, span, np.zeros(len(rows))), classes


def tabulate_detections(
    detections: Detections, ground_truth: SegmentAnnotations, classes: Sequence[str]
) -> Instances:
    """Detections as columns, in their order."""
    video_of = {name: index for index, name in enumerate(ground_truth.videos)}
    label_of = {name: index for index, name in enumerate(classes)}
    flat = [d for found in detections.videos.values() for d in found]
    lengths = [len(found) for found in detections.videos.values()]
    videos = np.array([video_of.get(name, -1) for name in detections.videos], dtype=np.intp)
    label = np.fromiter((label_of.get(d.label, -1) for d in flat), np.intp, len(flat))
    span = np.empty((len(flat), 2))
    span[:, 0] = np.fromiter((d.start for d in flat), np.float64, len(flat))
    span[:, 1] = np.fromiter((d.end for d in flat), np.float64, len(flat))
    score = np.fromiter((d.score for d in flat), np.float64, len(flat))
    return Instances(np.repeat(videos, lengths), label, span, score)


def ranking(found: Instances) -> Ids:
    """Rows of counted classes, by class, then falling score, then input order."""
    order = np.lexsort((-found.score, found.label))  # stable
    return order[found.label[order] >= 0]


def match(found: Instances, truth: Instances, thresholds: Sequence[float]) -> Iterator[Ids]:
    """Greedy matching of ranked predictions, for each threshold: the row of ``truth`` each takes, or -1.

    ``found`` must be in the order of :func:`ranking`. Yields shape ``(len(found),)`` per threshold.
    """
    videos = 1 + int(max(truth.video.max(initial=-1), found.video.max(initial=-1)))
    row, other, overlap = near_pairs(
        found, found.label * videos + found.video, truth, truth.label * videos + truth.video, min(thresholds)
    )
    for threshold in thresholds:
        near = overlap >= threshold
        yield _take_turns(row[near], other[near], len(found), len(truth))


def near_pairs(
    found: Instances, found_group: Ids, truth: Instances, truth_group: Ids, least: float
) -> tuple[Ids, Ids, Floats]:
    """Every prediction with every ground truth of its group, where tIoU >= least: rows of both, and the tIoU.

    Sorted by prediction, then falling tIoU, then the smaller distance between the two starts or the two ends,
    then the order of ``truth``. Predictions with video -1 have none.
    """
    order = np.argsort(truth_group, kind="stable")
    groups = truth_group[order]
    first = np.searchsorted(groups, found_group, side="left")
    last = np.searchsorted(groups, found_group, side="right")
    sizes = np.where(found.video >= 0, last - first, 0)
    parts = []
    for low, high in _chunks(sizes):
        size = sizes[low:high]
        row = np.repeat(np.arange(low, high), size)
        step = np.arange(len(row)) - np.repeat(np.cumsum(size) - size, size)
        other = order[np.repeat(first[low:high], size) + step]
        overlap = temporal_iou(found.span[row], truth.span[other])
        near = overlap >= least
        row, other, overlap = row[near], other[near], overlap[near]
        apart = np.abs(found.span[row] - truth.span[other]).min(axis=-1)  # (pairs,)
        sort = np.lexsort((apart, -overlap, row))  # stable, so the rest stays in the order of truth
        parts.append((row[sort], other[sort], overlap[sort]))
    rows, others, overlaps = zip(*parts, strict=True)
    return np.concatenate(rows), np.concatenate(others), np.concatenate(overlaps)


def average_precision(hits: Flags, count: int) -> Floats:
    """Interpolated AP of ranked predictions; ``hits`` is ``(…, n)``, ``count`` the ground-truth instances."""
    _, envelope = _precision(hits)
    return np.asarray((envelope * hits).sum(axis=-1) / count)


def _precision(hits: Flags) -> tuple[Floats, Floats]:
    """Precision after each ranked prediction and its upper envelope, both ``(…, n)``."""
    precision = np.cumsum(hits, axis=-1) / np.arange(1, hits.shape[-1] + 1)
    return precision, np.maximum.accumulate(precision[..., ::-1], axis=-1)[..., ::-1]


def _take_turns(row: Ids, other: Ids, predictions: int, instances: int) -> Ids:
    """Which instance each prediction takes when they choose one after the other, lowest row first; -1 for
    none.

    Pairs are sorted by row, each row's wishes in order. Instead of one prediction at a time, all that have no
    instance ask for their next wish at once, and each instance keeps the lowest row that ever asked (deferred
    acceptance). Since every instance prefers the same order, the one stable outcome is that of taking turns.
    """
    nobody = predictions
    holder = np.full(instances, nobody, dtype=np.intp)
    wishes = np.bincount(row, minlength=predictions)
    end = np.cumsum(wishes)
    wish = end - wishes
    asking = np.flatnonzero(wishes)
    while asking.size:
        wanted = other[wish[asking]]
        before = holder[wanted]
        np.minimum.at(holder, wanted, asking)
        won = holder[wanted] == asking
        ousted = before[won]
        asking = np.concatenate([asking[~won], ousted[ousted != nobody]])
        wish[asking] += 1
        asking = asking[wish[asking] < end[asking]]
    taken = np.full(predictions, -1, dtype=np.intp)
    held = np.flatnonzero(holder != nobody)
    taken[holder[held]] = held
    return taken


def _chunks(sizes: Ids) -> Iterator[tuple[int, int]]:
    """Row ranges that hold about ``_PAIRS_AT_ONCE`` pairs each; at least one range, possibly empty."""
    total = np.cumsum(sizes)
    low = 0
    while low < len(sizes):
        done = int(total[low - 1]) if low else 0
        high = max(low + 1, int(np.searchsorted(total, done + _PAIRS_AT_ONCE, side="right")))
        yield low, high
        low = high
    if not len(sizes):
        yield 0, 0
