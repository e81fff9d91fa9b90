"""Class scores of segments (equation 17), fusion of streams, and a video's detections.

A curve at points is taken as piecewise constant, so a mean over any real interval is exact: a margin of a
quarter of a segment takes part of a point where its border falls inside one. (The release counts whole
points, a quarter of the segment's rounded down plus one.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from dgam.core.config import LocalizeSettings
from dgam.core.errors import InputError
from dgam.core.timeline import Timeline
from dgam.core.types import Detection
from dgam.detection.fusion import as_scored
from dgam.detection.nms import suppress_per_class
from dgam.detection.proposals import (
    Floats,
    Integers,
    StreamCurves,
    curve_points,
    interpolate,
    mask_curves,
    propose,
    sigmoid,
    weighted_tcam,
)

Numbers = Floats | Integers

_SHARED = ("fusion", "nms", "nms_tiou", "nms_sigma", "max_detections")
_OWN_IN_FUSION = {"attention_share", "class_share", "class_threshold"}
# Far below any attention that matters, far above float64's least: where λ is 0 all over a stretch, pooling
# with it becomes the plain mean, the limit of any constant λ, in place of 0/0.
_LEAST_ATTENTION = 1e-30


class Candidates(NamedTuple):
    """n scored segments: ``segments`` (n, 2) in edge coordinates, ``labels`` and ``scores`` (n,)."""

    segments: Floats
    labels: Integers
    scores: Floats


def choose_classes(probabilities: Floats, threshold: float) -> Integers:
    """Indices of the classes to localise: those of probability above ``threshold``, else the single best.

    ``probabilities`` (C,). Ascending; empty only if C is 0. Class 0 is a class like any other: the release
    asked whether any chosen *index* was non-zero, and so localised nothing where only class 0 was chosen.
    """
    chosen = np.flatnonzero(probabilities > threshold)
    if chosen.size or not probabilities.size:
        return chosen
    return np.flatnonzero(probabilities == probabilities.max())[:1]


def mean_probabilities(curves: Mapping[str, StreamCurves]) -> Floats:
    """A video's class probabilities (C,), averaged over its streams.

    By default each stream chooses its classes by its own probabilities, as in the release. To choose them
    together, put this mean into every stream's curves (``dataclasses.replace``).
    """
    return np.asarray(np.mean([stream.probabilities for stream in curves.values()], axis=0))


def video_logits(curves: StreamCurves) -> Floats:
    """The video-level class scores (C,) before softmax: the classifier's output for the foreground feature.

    The feature is pooled with attention (equation 4); the classifier is linear, so pooling its outputs is the
    same.
    """
    weight = np.maximum(curves.attention, _LEAST_ATTENTION)  # (T,)
    return np.asarray(weight @ curves.logits / weight.sum())  # (C,)


def integrate(curves: Floats, row: Integers, start: Numbers, end: Numbers) -> Floats:
    """Integrals (n,) of piecewise constant curves (P, K) over intervals of points, 0 <= start <= end <= P.

    ``row`` (n,) says which curve; ``start`` and ``end`` (n,) may lie inside a point. Sums run over each
    interval alone: a difference of two cumulative sums would drown a stretch of tiny attention in the
    rounding error of the whole video. Fast where intervals come sorted.
    """
    points, rows = curves.shape
    flat = np.zeros((rows, points + 2))  # zeros behind each curve, for what ends at P
    flat[:, :points] = curves.T
    values, offset = flat.ravel(), row * (points + 2)
    first, last = np.floor(start).astype(np.int64), np.floor(end).astype(np.int64)
    head = values[offset + first] * (np.minimum(first + 1, end) - start)
    tail = np.where(last > first, values[offset + last] * (end - last), 0.0)
    borders = np.stack([offset + first + 1, offset + last], axis=1).ravel()  # (2n,): whole points from, to
    whole = np.add.reduceat(values, borders)[::2] if borders.size else np.zeros(0)
    return np.asarray(head + np.where(last > first + 1, whole, 0.0) + tail)


def contrast_scores(
    values: Floats, weights: Floats, row: Integers, start: Numbers, end: Numbers, eta: float, margin: float
) -> Floats:
    """Equation 17: the score inside each segment minus η times the score on its left and on its right.

    The score of a stretch is ∫values / ∫weights over it, of ``values`` (P, K) and ``weights`` (P,) > 0.
    Segments are ``[start, end)`` in points, of curve ``row``, each (n,). Surroundings are ``margin`` times
    the segment's length wide, and end with the video. An empty one counts 0: there is no context in it that
    could speak against the segment (the release agrees).
    """

    width = margin * (end - start)
    left, right = np.maximum(start - width, 0), np.minimum(end + width, len(values))
    # The stretches inside, left and right, and the weights beside the values, all in one go.
    a, b = np.tile(np.concatenate([start, left, end]), 2), np.tile(np.concatenate([end, start, right]), 2)
    curve = np.concatenate([row, row, row, np.full(3 * len(row), values.shape[1])])
    integrals = integrate(np.column_stack([values, weights]), curve, a, b)  # (2 · 3 · n,)
    total, weight = integrals.reshape(2, 3, len(row))  # (3, n) each
    score = np.divide(total, weight, out=np.zeros_like(total), where=weight > 0)
    return np.asarray(score[0] - eta * score[1] - eta * score[2])


def pooled_curves(curves: StreamCurves, classes: Integers) -> tuple[Floats, Floats]:
    """λ·logit (T, K) and λ (T,): the ratio of their sums is the classifier's output for a pooled segment."""
    weight = np.maximum(curves.attention, _LEAST_ATTENTION)
    return weight[:, None] * curves.logits[:, classes], weight


def tcam_curves(
    curves: StreamCurves, others: Sequence[StreamCurves], classes: Integers, mix: float
) -> tuple[Floats, Floats]:
    """λ²·[mix·σ(TCAM) + (1 − mix)·mean of the other streams' σ(TCAM)] (T, K), and 1 (T,) to average it by.

    λ is this stream's own, also beside the others' TCAM, as in the release. Other streams are read at this
    one's samples. Without another stream this one's share is 1, so that scores of videos that lack a stream
    compare with the rest.
    """
    mixed = sigmoid(curves.tcam[:, classes])  # (T, K)
    if others:
        apart = [interpolate(o.positions, sigmoid(o.tcam[:, classes]), curves.positions) for o in others]
        mixed = mix * mixed + (1 - mix) * np.mean(apart, axis=0)
    mixed = curves.attention[:, None] * mixed
    return curves.attention[:, None] * mixed, np.ones_like(curves.attention)


def stream_candidates(
    curves: StreamCurves, others: Sequence[StreamCurves], settings: LocalizeSettings, snippets: int
) -> Candidates:
    """One stream's scored segments in a video of ``snippets`` snippets, by class, start and end.

    ``others`` are the video's other streams, for score "tcam". With ``mask_tcam`` 0 segments are the same for
    all chosen classes and found once.
    """
    classes = choose_classes(curves.probabilities, settings.class_threshold)  # (K,)
    if settings.score == "pooled":
        values, weights = pooled_curves(curves, classes)  # (T, K), (T,)
    else:
        values, weights = tcam_curves(curves, others, classes, settings.stream_mix)
    at_samples = [values, weights, curves.attention]
    if settings.mask_tcam > 0:
        at_samples.append(weighted_tcam(curves, classes))  # (T, K)
    # All curves at once: where a point lies between the samples is the same for all of them.
    at_points = curve_points(
        curves.positions, np.column_stack(at_samples), snippets, settings.upsample
    )  # (P, K + 2 [+ K])
    values, weights, attention, tcam = np.split(at_points, np.cumsum([len(classes), 1, 1]), axis=1)
    mask = mask_curves(
        attention[:, 0], tcam if settings.mask_tcam > 0 else None, settings
    )  # (P, K) or (P, 1)
    row, start, end = propose(mask, settings.thresholds, settings.threshold_scale)
    if settings.mask_tcam == 0:
        row = np.repeat(np.arange(len(classes)), len(start))
        start, end = np.tile(start, len(classes)), np.tile(end, len(classes))
    scores = contrast_scores(values, weights[:, 0], row, start, end, settings.eta, settings.margin)
    scores += settings.video_weight * video_logits(curves)[classes[row]]
    return Candidates(np.column_stack([start, end]) / settings.upsample, classes[row], scores)


def detect_video(
    curves: Mapping[str, StreamCurves],
    settings: Mapping[str, LocalizeSettings],
    timeline: Timeline,
    classes: Sequence[str],
) -> list[Detection]:
    """All detections of one video, best first: its streams' segments, scored, joined, thinned by class.

    ``curves`` maps the streams that this video has to what their models say, ``settings`` every stream to its
    settings, ``classes`` names the C classes. Segments are cut to the video, and left out if shorter than
    their stream's ``min_seconds`` or of no length. NMS runs over all streams at once, so its settings must be
    the same for all; where ``fusion`` fuses curves first, all but shares and class threshold must;
    InputError otherwise. ValueError where curves fit neither each other, nor classes, nor
    timeline.
    """
    shared = _fusion_settings(settings)
    for stream, own in curves.items():
        _check(stream, own, settings, timeline, classes)
    curves, settings = as_scored(curves, settings)
    segments, labels, scores = [np.zeros((0, 2))], [np.zeros(0, dtype=np.int64)], [np.zeros(0)]
    for stream in [name for name in settings if name in curves]:
        others = [other for name, other in curves.items() if name != stream]
        found = stream_candidates(curves[stream], others, settings[stream], timeline.snippets)
        seconds = timeline.clipped_seconds(found.segments)  # (n, 2)
        length = seconds[:, 1] - seconds[:, 0]
        keep = (length > 0) & (length >= settings[stream].min_seconds)
        segments.append(seconds[keep])
        labels.append(found.labels[keep])
        scores.append(found.scores[keep])
    times, label = np.concatenate(segments), np.concatenate(labels)
    kept, final = suppress_per_class(
        times, np.concatenate(scores), label, shared.nms, shared.nms_tiou, shared.nms_sigma
    )
    kept, final = kept[: shared.max_detections], final[: shared.max_detections]
    rows = zip(times[kept].tolist(), label[kept].tolist(), final.tolist(), strict=True)
    return [Detection(start, end, classes[index], score) for (start, end), index, score in rows]


def _fusion_settings(settings: Mapping[str, LocalizeSettings]) -> LocalizeSettings:
    """The settings to fuse streams with: any stream's, once it is clear that all agree in them."""
    if not settings:
        raise ValueError("detect_video needs the settings of at least one stream")
    first = next(iter(settings.values()))
    fused = first.fusion != "segments"
    for name in sorted(set(type(first).model_fields) - _OWN_IN_FUSION) if fused else _SHARED:
        values = {stream: getattr(own, name) for stream, own in settings.items()}
        if len(set(values.values())) > 1:
            shown = ", ".join(f"{stream}: {value!r}" for stream, value in values.items())
            raise InputError(
                f"localize.{name} differs between streams ({shown}), but their detections are fused. "
                f"Set it once, as localize.{name}, and not per stream."
            )
    return first


def _check(
    stream: str,
    curves: StreamCurves,
    settings: Mapping[str, LocalizeSettings],
    timeline: Timeline,
    classes: Sequence[str],
) -> None:
    if stream not in settings:
        raise ValueError(f"stream {stream!r} has no settings; there are settings for {', '.join(settings)}")
    if curves.probabilities.size != len(classes):
        raise ValueError(
            f"stream {stream!r} has curves of {curves.probabilities.size} classes, expected {len(classes)}"
        )
    if curves.positions.min() < 0 or curves.positions.max() > timeline.snippets:
        span = f"{curves.positions.min()} to {curves.positions.max()}"
        raise ValueError(f"stream {stream!r} was sampled at {span}, outside the {timeline.snippets} snippets")
