"""Equation 17 taken apart: a segment's score as a sum over its stretches, their snippets, and the streams.

The score of a stretch is ∫values / ∫weights of a stream's curves at points (see ``detection.scoring``), so a
snippet's share of it is the part of ∫values that lies in the snippet's cell over all of ∫weights. These
shares, with −η for the surroundings, add up to the score.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from dgam.core.config import LocalizeSettings
from dgam.core.timeline import Timeline
from dgam.detection.proposals import (
    Floats,
    StreamCurves,
    curve_points,
    interpolate,
    mask_curves,
    propose,
    sigmoid,
    weighted_tcam,
)
from dgam.detection.scoring import choose_classes, pooled_curves, tcam_curves, video_logits

Role = Literal["left", "inner", "right"]
ROLES: tuple[Role, ...] = ("left", "inner", "right")


@dataclass(frozen=True)
class SnippetShare:
    """What one snippet gives to a detection's score.

    ``start`` and ``end`` in seconds: the part of its cell inside the stretch that ``role`` names, not cut to
    the video. ``attention`` is λ at its centre. ``weight`` is its share of the stretch's weight, in [0, 1];
    ``class_score`` the class score there. ``contribution`` = factor · weight · class_score, where the factor
    is 1 inside the segment and −η in its surroundings.
    """

    snippet: int
    role: Role
    start: float
    end: float
    attention: float
    weight: float
    class_score: float
    contribution: float


@dataclass(frozen=True)
class Stretch:
    """The segment itself or its surroundings on one side: seconds, and its score, 0 where it is empty."""

    role: Role
    start: float
    end: float
    score: float


@dataclass(frozen=True)
class Taken:
    """A segment's score by one stream's curves and settings, equation 17: ``score`` = inner − η·left −
    η·right + video, where video is ``video_weight`` times the video-level class score."""

    stretches: dict[Role, Stretch]
    eta: float
    video: float
    score: float
    snippets: tuple[SnippetShare, ...]


def take_apart(
    curves: Mapping[str, StreamCurves],
    stream: str,
    settings: LocalizeSettings,
    timeline: Timeline,
    label: int,
    edges: tuple[float, float],
) -> Taken:
    """Equation 17 for class ``label`` over ``edges`` (edge coordinates), by one stream and its settings."""
    own = curves[stream]
    values, weights = _curves_at_points(curves, stream, settings, timeline, label)  # (P,) twice
    borders = stretch_borders(edges, settings, timeline.snippets)
    attention = curve_points(own.positions, own.attention, timeline.snippets, 1)  # (T,)
    stretches: dict[Role, Stretch] = {}
    snippets: list[SnippetShare] = []
    for role in ROLES:
        start, end = borders[role]
        factor = 1.0 if role == "inner" else -settings.eta
        shares = _snippet_shares(values, weights, settings.upsample, (start, end))
        score = math.fsum(weight * score for _, weight, score in shares)
        first, last = timeline.seconds(np.array([start, end])).tolist()
        stretches[role] = Stretch(role, first, last, score)
        for snippet, weight, class_score in shares:
            borders_of = np.array([max(start, snippet), min(end, snippet + 1)])
            first, last = timeline.seconds(borders_of).tolist()
            snippets.append(
                SnippetShare(
                    snippet,
                    role,
                    first,
                    last,
                    float(attention[snippet]),
                    weight,
                    class_score,
                    factor * weight * class_score,
                )
            )
    video = settings.video_weight * float(video_logits(own)[label])
    outer = settings.eta * stretches["left"].score + settings.eta * stretches["right"].score
    return Taken(stretches, settings.eta, video, stretches["inner"].score - outer + video, tuple(snippets))


def stretch_borders(
    edges: tuple[float, float], settings: LocalizeSettings, snippets: int
) -> dict[Role, tuple[float, float]]:
    """The segment and its surroundings in edge coordinates; surroundings end with the video's snippets."""
    start, end = edges
    width = settings.margin * (end - start)
    return {
        "left": (max(start - width, 0.0), start),
        "inner": (start, end),
        "right": (end, min(end + width, float(snippets))),
    }


def stream_parts(
    curves: Mapping[str, StreamCurves],
    stream: str,
    settings: LocalizeSettings,
    timeline: Timeline,
    label: int,
    edges: tuple[float, float],
) -> dict[str, float]:
    """How much of a segment's score, scored by ``stream``, comes from the curves of each stream.

    With score "pooled" all of it is the stream's own; with "tcam" other streams' class activations are mixed
    in. The video-level term is the stream's own. The parts add up to the score.
    """
    taken = take_apart(curves, stream, settings, timeline, label, edges)
    others = [name for name in curves if name != stream]
    if settings.score == "pooled" or not others:
        return {name: taken.score if name == stream else 0.0 for name in curves}
    own = curves[stream]
    parts: dict[str, float] = {}
    for name in curves:
        share = settings.stream_mix if name == stream else (1 - settings.stream_mix) / len(others)
        mixed = share * interpolate(
            curves[name].positions, sigmoid(curves[name].tcam[:, label]), own.positions
        )
        values = _at_points(own, own.attention**2 * mixed, settings, timeline)  # (P,)
        total = 0.0
        for role, (start, end) in stretch_borders(edges, settings, timeline.snippets).items():
            shares = _snippet_shares(values, np.ones_like(values), settings.upsample, (start, end))
            factor = 1.0 if role == "inner" else -settings.eta
            total += factor * math.fsum(weight * score for _, weight, score in shares)
        parts[name] = total + (taken.video if name == stream else 0.0)
    return parts


def fused_parts(
    curves: Mapping[str, StreamCurves],
    settings: Mapping[str, LocalizeSettings],
    fused: StreamCurves,
    timeline: Timeline,
    label: int,
    edges: tuple[float, float],
) -> dict[str, float] | None:
    """How much of a segment's score on fused curves comes from the class scores of each stream.

    The class scores are a mean weighted with ``class_share``, so the parts add up to the score. None with
    score "tcam", whose sigmoid of the mean has no such parts.
    """
    shared = settings[next(iter(curves))]
    if shared.score == "tcam":
        return None
    total = sum(settings[name].class_share for name in curves)
    parts = {}
    for name, own in curves.items():
        logits = interpolate(own.positions, own.logits, fused.positions)  # (T, C)
        share = settings[name].class_share / total
        alone = replace(fused, logits=share * logits)
        parts[name] = take_apart({name: alone}, name, shared, timeline, label, edges).score
    return parts


def proposing_thresholds(
    curves: StreamCurves,
    settings: LocalizeSettings,
    timeline: Timeline,
    label: int,
    edges: tuple[float, float],
) -> tuple[tuple[float, float], ...]:
    """The thresholds at which this stream proposes exactly this segment for this class.

    Pairs (threshold as set, its value on the curve); they differ where thresholds are relative. Empty where
    the stream does not localise the class or cuts elsewhere.
    """
    classes = choose_classes(curves.probabilities, settings.class_threshold)
    if label not in classes:
        return ()
    only = np.array([label])
    attention = _at_points(curves, curves.attention, settings, timeline)  # (P,)
    tcam = None
    if settings.mask_tcam > 0:
        tcam = curve_points(
            curves.positions, weighted_tcam(curves, only), timeline.snippets, settings.upsample
        )  # (P, 1)
    mask = mask_curves(attention, tcam, settings)  # (P, 1)
    found = []
    for threshold in dict.fromkeys(settings.thresholds):
        _, start, end = propose(mask, (threshold,), settings.threshold_scale)
        places = np.column_stack([start, end]) / settings.upsample
        if len(places) and np.abs(places - edges).max(axis=1).min() < 1e-9:
            least, greatest = float(mask.min()), float(mask.max())
            relative = settings.threshold_scale == "relative"
            found.append((threshold, least + threshold * (greatest - least) if relative else threshold))
    return tuple(found)


def _curves_at_points(
    curves: Mapping[str, StreamCurves],
    stream: str,
    settings: LocalizeSettings,
    timeline: Timeline,
    label: int,
) -> tuple[Floats, Floats]:
    own, only = curves[stream], np.array([label])
    if settings.score == "pooled":
        values, weights = pooled_curves(own, only)  # (T, 1), (T,)
    else:
        others = [other for name, other in curves.items() if name != stream]
        values, weights = tcam_curves(own, others, only, settings.stream_mix)
    return _at_points(own, values[:, 0], settings, timeline), _at_points(own, weights, settings, timeline)


def _at_points(
    curves: StreamCurves, values: Floats, settings: LocalizeSettings, timeline: Timeline
) -> Floats:
    return curve_points(curves.positions, values, timeline.snippets, settings.upsample)  # (P,)


def _snippet_shares(
    values: Floats, weights: Floats, upsample: int, edges: tuple[float, float]
) -> list[tuple[int, float, float]]:
    """Per snippet that a stretch touches: (snippet, its share of the weight, ∫values / ∫weights in it)."""
    start, end = edges[0] * upsample, edges[1] * upsample
    first, last = math.floor(start), min(math.ceil(end), len(values))
    if end <= start or last <= first:
        return []
    point = np.arange(first, last)
    overlap = np.minimum(point + 1, end) - np.maximum(point, start)  # (p,)
    owner = point // upsample - first // upsample  # (p,), snippets counted from the first
    weight = np.bincount(owner, overlap * weights[first:last])  # (s,)
    value = np.bincount(owner, overlap * values[first:last])  # (s,)
    at = first // upsample + np.arange(len(weight))  # (s,)
    total = weight.sum()
    if total <= 0:
        return []
    inside = np.divide(value, weight, out=np.zeros_like(value), where=weight > 0)
    return list(zip(at.tolist(), (weight / total).tolist(), inside.tolist(), strict=True))
