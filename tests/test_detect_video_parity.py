"""The detections of a whole video against every definition written as loops."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import pytest

from detection_curves import NAMES, PAPER, RELEASE, SEVERAL, assert_same, grid_of, random_curves
from dgam.core.config import LocalizeSettings
from dgam.detection.proposals import StreamCurves
from dgam.detection.scoring import (
    detect_video,
)


def slow_at(positions: Sequence[float], values: Sequence[float], x: float) -> float:
    known = sorted(dict(zip(positions, values, strict=True)).items())
    if x <= known[0][0]:
        return known[0][1]
    for (a, u), (b, v) in pairwise(known):
        if a <= x < b:
            return u + (x - a) / (b - a) * (v - u)
    return known[-1][1]


def slow_stream(curves: Mapping[str, StreamCurves], stream: str, s: LocalizeSettings, snippets: int) -> list:
    """One stream's segments (start, end, class, score), in snippets: every definition as loops."""
    own, others = curves[stream], [other for name, other in curves.items() if name != stream]
    x = [float(position) for position in own.positions]
    attention = [float(value) for value in own.attention]

    def gate(c: StreamCurves, label: int) -> list[float]:
        pairs = zip(c.attention.tolist(), c.tcam[:, label].tolist(), strict=True)
        return [value / (1 + math.exp(-logit)) for value, logit in pairs]

    def activity(c: StreamCurves, label: int) -> list[float]:
        return [1 / (1 + math.exp(-logit)) for logit in c.tcam[:, label].tolist()]

    def at_points(values: Sequence[float]) -> list[float]:
        return [slow_at(x, values, (p + 0.5) / s.upsample) for p in range(snippets * s.upsample)]

    probabilities = own.probabilities.tolist()
    labels = [c for c, p in enumerate(probabilities) if p > s.class_threshold]
    found = []
    for label in labels or [probabilities.index(max(probabilities))]:
        lam, wt = at_points(attention), at_points(gate(own, label))
        mask = [
            s.mask_tcam * w + s.mask_attention * value**s.mask_power for w, value in zip(wt, lam, strict=True)
        ]
        runs = set()
        for threshold in s.thresholds:
            if s.threshold_scale == "relative":
                threshold = min(mask) + threshold * (max(mask) - min(mask))
            start = None
            for p, value in enumerate([*mask, -1.0]):
                if value > threshold and start is None:
                    start = p
                elif value <= threshold and start is not None:
                    runs.add((start, p))
                    start = None
        logits = own.logits[:, label].tolist()
        if s.score == "pooled":
            values = [value * logit for value, logit in zip(attention, logits, strict=True)]
            weights = attention
        else:
            values, weights = [], [1.0] * len(x)
            for t, value in enumerate(attention):
                mean = [value * slow_at(o.positions.tolist(), activity(o, label), x[t]) for o in others]
                mixed = gate(own, label)[t]
                if others:
                    mixed = s.stream_mix * mixed + (1 - s.stream_mix) * sum(mean) / len(mean)
                values.append(value * mixed)
        values_at, weights_at = at_points(values), at_points(weights)

        def mean_over(a: float, b: float, v: list[float] = values_at, w: list[float] = weights_at) -> float:
            share = [max(0.0, min(b, p + 1) - max(a, p)) for p in range(len(v))]
            total = sum(part * value for part, value in zip(share, w, strict=True))
            return sum(part * value for part, value in zip(share, v, strict=True)) / total if total else 0.0

        for a, b in runs:
            score = mean_over(a, b)
            score -= s.eta * mean_over(a - s.margin * (b - a), a)
            score -= s.eta * mean_over(b, b + s.margin * (b - a))
            pooled = sum(w * v for w, v in zip(attention, logits, strict=True)) / sum(attention)
            found.append((a / s.upsample, b / s.upsample, label, score + s.video_weight * pooled))
    return found


def slow_video(curves: Mapping[str, StreamCurves], s: Mapping[str, LocalizeSettings], snippets: int) -> list:
    """Detections (start, end, class, score) in seconds, of all streams, after hard NMS at 0.5."""
    found = [row for stream in curves for row in slow_stream(curves, stream, s[stream], snippets)]
    kept: list[tuple[float, float, int, float]] = []
    for a, b, label, score in sorted(found, key=lambda row: -row[3]):
        overlaps = [
            max(0.0, min(b, d) - max(a, c)) / (max(b, d) - min(a, c))
            for c, d, other, _ in kept
            if other == label
        ]
        if all(overlap <= 0.5 + 1e-9 for overlap in overlaps):
            kept.append((a, b, label, score))
    return [(a * 0.64, b * 0.64, label, score) for a, b, label, score in kept]


@pytest.mark.parametrize("how", [PAPER, RELEASE, SEVERAL], ids=["paper", "release", "several"])
@pytest.mark.parametrize(("snippets", "samples"), [(1, None), (17, None), (15, 50), (61, 40)])
def test_a_video_agrees_with_the_definitions(
    how: Mapping[str, LocalizeSettings], snippets: int, samples: int | None
) -> None:
    for seed in range(3):
        rng = np.random.default_rng(seed)
        curves = {
            "rgb": random_curves(rng, snippets, samples),
            "flow": random_curves(rng, snippets),  # sampled otherwise
        }
        found = detect_video(curves, how, grid_of(snippets), NAMES)
        assert_same(found, slow_video(curves, how, snippets))
        assert [d.score for d in found] == sorted((d.score for d in found), reverse=True)
        assert found or snippets == 1


def test_three_streams_share_the_rest_of_the_mix() -> None:
    rng = np.random.default_rng(0)
    curves = {name: random_curves(rng, 20) for name in ("rgb", "flow", "audio")}
    how = dict.fromkeys(curves, RELEASE["rgb"])
    assert_same(detect_video(curves, how, grid_of(20), NAMES), slow_video(curves, how, 20))


@pytest.mark.parametrize("how", [PAPER, RELEASE], ids=["paper", "release"])
def test_a_video_that_lacks_a_stream(how: Mapping[str, LocalizeSettings]) -> None:
    curves = {"flow": random_curves(np.random.default_rng(2), 30)}
    found = detect_video(curves, how, grid_of(30), NAMES)
    assert found
    alone = {"flow": how["flow"].model_copy(update={"stream_mix": 1.0})}
    assert found == detect_video(curves, alone, grid_of(30), NAMES)
    assert_same(found, slow_video(curves, how, 30))


@pytest.mark.parametrize("how", [PAPER, RELEASE, SEVERAL], ids=["paper", "release", "several"])
def test_the_order_of_classes_does_not_matter(how: Mapping[str, LocalizeSettings]) -> None:
    rng = np.random.default_rng(3)
    curves = {name: random_curves(rng, 40) for name in how}
    order = [2, 0, 3, 1]
    turned = {
        name: StreamCurves(
            c.positions, c.attention, c.tcam[:, order], c.logits[:, order], c.probabilities[order]
        )
        for name, c in curves.items()
    }
    found = detect_video(curves, how, grid_of(40), NAMES)
    again = detect_video(turned, how, grid_of(40), [NAMES[i] for i in order])
    assert_same(again, [(d.start, d.end, NAMES.index(d.label), d.score) for d in found])


@pytest.mark.parametrize("nms", ["soft-linear", "soft-gaussian", "none"])
def test_other_ways_to_thin_keep_every_candidate(nms: str) -> None:
    rng = np.random.default_rng(0)
    curves = {name: random_curves(rng, 60) for name in SEVERAL}
    how = {name: s.model_copy(update={"nms": nms}) for name, s in SEVERAL.items()}
    expected = [row for stream in curves for row in slow_stream(curves, stream, how[stream], 60)]
    found = detect_video(curves, how, grid_of(60), NAMES)
    assert sorted((round(d.start / 0.64, 6), round(d.end / 0.64, 6), d.label) for d in found) == sorted(
        (round(a, 6), round(b, 6), NAMES[label]) for a, b, label, _ in expected
    )
    total = sum(score for *_, score in expected)
    assert (sum(d.score for d in found) == pytest.approx(total)) == (nms == "none")
