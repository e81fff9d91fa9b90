"""What kind of false positives there are, in the manner of DETAD (Alwassel et al., ECCV 2018).

Of each class with G instances the k·G predictions of highest score are looked at. One that is matched at tIoU
α is a true positive. Any other is judged by the ground truth of *any* class that overlaps it most:

| greatest tIoU | of its own class | of another class |
|---|---|---|
| at least α | double detection | wrong label |
| from 0.1 to α | localisation | confusion |
| below 0.1 | background | background |

Two deviations from DETAD: where instances of several classes overlap a prediction equally (THUMOS14's
CliffDiving is Diving too), the one of its own class decides; and gains are in plain mAP, not in mAP
normalised over classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dgam.core.errors import InputError
from dgam.core.types import Detections, SegmentAnnotations
from dgam.evaluation.metrics import (
    Floats,
    Ids,
    Instances,
    average_precision,
    check_thresholds,
    match,
    near_pairs,
    ranking,
    tabulate_detections,
    tabulate_truth,
)

TRUE_POSITIVE = "true positive"
KINDS = (TRUE_POSITIVE, "double detection", "wrong label", "localisation", "confusion", "background")
_HIT, _DOUBLE, _WRONG_LABEL, _LOCALISATION, _CONFUSION, _BACKGROUND = range(6)


@dataclass(frozen=True)
class ErrorAnalysis:
    """Kinds of predictions among the top ``factor``·G of each class, at tIoU ``tiou``.

    ``counts`` is ``(factor, 6)``: row i holds the predictions ranked from i·G to (i + 1)·G in their class,
    columns are ``KINDS``. ``gain`` maps each kind of error to the mAP (fraction) gained if its predictions
    were not there; ``map`` is the mAP of the predictions looked at.
    """

    tiou: float
    min_tiou: float
    factor: int
    counts: NDArray[np.int64]
    map: float
    gain: dict[str, float]

    @property
    def share(self) -> dict[str, float]:
        """Each kind's share of the predictions looked at; 0 for all where there is none."""
        total = self.counts.sum()
        return {
            kind: float(n / total) if total else 0.0
            for kind, n in zip(KINDS, self.counts.sum(0), strict=True)
        }

    def to_dict(self) -> dict[str, Any]:
        """JSON values: a row for each kind with its count, share and gain (None for true positives)."""
        count = dict(zip(KINDS, self.counts.sum(axis=0).tolist(), strict=True))
        return {
            "tiou": self.tiou,
            "min_tiou": self.min_tiou,
            "factor": self.factor,
            "map": self.map,
            "kinds": [
                {"kind": kind, "count": count[kind], "share": self.share[kind], "gain": self.gain.get(kind)}
                for kind in KINDS
            ],
            "profile": self.counts.tolist(),
        }


def analyse_errors(
    detections: Detections,
    ground_truth: SegmentAnnotations,
    tiou: float = 0.5,
    factor: int = 10,
    min_tiou: float = 0.1,
) -> ErrorAnalysis:
    """Sort the top ``factor``·G predictions of each class into ``KINDS`` and say what each kind costs.

    Apply a protocol first with :func:`dgam.evaluation.select`. InputError unless 0 < min_tiou <= tiou <= 1
    and factor >= 1, or where the ground truth has no instance.
    """
    check_thresholds((tiou, min_tiou))
    if min_tiou > tiou or factor < 1:
        raise InputError(
            f"min_tiou must not exceed tiou, and factor be 1 or more: {min_tiou}, {tiou}, {factor}."
        )
    truth, classes = tabulate_truth(ground_truth)
    found = tabulate_detections(detections, ground_truth, classes)
    found = found.take(ranking(found))
    instances = np.bincount(truth.label, minlength=len(classes))  # (C,), G of each class
    rank = np.arange(len(found)) - np.searchsorted(found.label, found.label, side="left")
    group = rank // instances[found.label]
    found, group = found.take(group < factor), group[group < factor]
    (taken,) = match(found, truth, (tiou,))
    kinds = _sort_into_kinds(found, truth, taken, tiou, min_tiou)
    counts = np.zeros((factor, len(KINDS)), dtype=np.int64)
    np.add.at(counts, (group, kinds), 1)
    whole = _mean_ap(found.label, kinds, instances)
    gain = {
        name: _mean_ap(found.label[kinds != kind], kinds[kinds != kind], instances) - whole
        for kind, name in enumerate(KINDS)
        if kind != _HIT
    }
    return ErrorAnalysis(tiou, min_tiou, factor, counts, whole, gain)


def _sort_into_kinds(found: Instances, truth: Instances, taken: Ids, tiou: float, min_tiou: float) -> Ids:
    row, other, overlap = near_pairs(found, found.video, truth, truth.video, min_tiou)
    own = found.label[row] == truth.label[other]
    order = np.lexsort((~own, -overlap, row))
    row, overlap, own = row[order], overlap[order], own[order]
    first = np.flatnonzero(np.diff(row, prepend=-1))  # each prediction's greatest tIoU
    row, overlap, own = row[first], overlap[first], own[first]
    kinds = np.full(len(found), _BACKGROUND, dtype=np.intp)
    close, far = np.where(own, _DOUBLE, _WRONG_LABEL), np.where(own, _LOCALISATION, _CONFUSION)
    kinds[row] = np.where(overlap >= tiou, close, far)
    kinds[taken >= 0] = _HIT
    return kinds


def _mean_ap(label: Ids, kinds: Ids, instances: Ids) -> float:
    """mAP of ranked predictions, from the true positives among them. Taking errors away moves no match."""
    hits = kinds == _HIT
    edges = np.searchsorted(label, np.arange(len(instances) + 1))
    values: Floats = np.array(
        [
            average_precision(hits[low:high], count)
            for low, high, count in zip(edges[:-1], edges[1:], instances, strict=True)
        ]
    )
    return float(values.mean())
