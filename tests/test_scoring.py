"""Scores of segments, and the choice of classes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detection_curves import NAMES, PAPER, RELEASE, constant, grid_of, random_curves
from dgam.core.config import LocalizeSettings
from dgam.detection.proposals import Floats, StreamCurves
from dgam.detection.scoring import (
    choose_classes,
    contrast_scores,
    detect_video,
    integrate,
    mean_probabilities,
    video_logits,
)


def test_equation_17_by_hand() -> None:
    # Segment [4, 8) of 10 points, margins of 1 point on each side: 3 − 0.3·2 − 0.3·(−1).
    values = np.array([[9.0, 9, 9, 2, 3, 3, 3, 3, -1, 9]]).T
    row, start, end = np.array([0]), np.array([4]), np.array([8])
    score = contrast_scores(values, np.ones(10), row, start, end, eta=0.3, margin=0.25)
    np.testing.assert_allclose(score, [3 - 0.6 + 0.3])
    # Margins of 1.5 points: (9/2 + 2)/1.5 on the left, (−1 + 9/2)/1.5 on the right.
    score = contrast_scores(values, np.ones(10), row, start, end, eta=1.0, margin=0.375)
    np.testing.assert_allclose(score, [3 - 6.5 / 1.5 - 3.5 / 1.5])


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (0, 10, 2.0),  # no surroundings at all
        (0, 8, 2.0 - 0.3 * 2.0),  # none on the left
        (2, 10, 2.0 - 0.3 * 2.0),  # none on the right
        (1, 9, 2.0 - 0.6 * 2.0),  # margins of two points, cut to one: the mean of what there is
    ],
)
def test_surroundings_end_with_the_video(start: int, end: int, expected: float) -> None:
    values, rows = np.full((10, 1), 2.0), np.array([0])
    score = contrast_scores(values, np.ones(10), rows, np.array([start]), np.array([end]), 0.3, 0.25)
    np.testing.assert_allclose(score, [expected])


def test_no_margin_subtracts_nothing() -> None:
    values, rows = np.arange(10.0)[:, None], np.array([0])
    score = contrast_scores(values, np.ones(10), rows, np.array([4]), np.array([8]), 0.3, 0.0)
    np.testing.assert_allclose(score, [5.5])


@given(st.integers(0, 2**32 - 1))
def test_integrals_are_sums_of_overlaps(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points, rows = int(rng.integers(1, 9)), int(rng.integers(1, 4))
    curves = rng.normal(size=(points, rows))
    # Ends on quarters of points, so that borders on points, inside them, and empty intervals all occur.
    start, end = np.sort(rng.integers(0, 4 * points + 1, size=(2, 12)) / 4, axis=0)
    row = rng.integers(0, rows, size=12)
    cells = np.arange(points)
    overlap = np.clip(np.minimum(end[:, None], cells + 1) - np.maximum(start[:, None], cells), 0, None)
    expected = (overlap * curves[:, row].T).sum(axis=1)
    np.testing.assert_allclose(integrate(curves, row, start, end), expected, atol=1e-12)


def test_surroundings_of_tiny_attention_are_scored_exactly() -> None:
    attention = np.array([1.0] * 500 + [1e-15, 3e-15] + [1.0] * 8 + [1e-15] * 2 + [1.0] * 500)
    logits = np.linspace(5, 9, attention.size)
    curves = StreamCurves(
        np.arange(attention.size) + 0.5, attention, logits[:, None] * 0, logits[:, None], np.ones(1)
    )
    found = detect_video(
        {"rgb": curves}, {"rgb": LocalizeSettings(eta=1.0)}, grid_of(attention.size), ("dive",)
    )
    middle = next(d for d in found if math.isclose(d.start, 502 * 0.64))
    left = (logits[500] + 3 * logits[501]) / 4
    right = (logits[510] + logits[511]) / 2
    assert middle.score == pytest.approx(logits[502:510].mean() - left - right, abs=1e-9)


def test_pooled_score_is_the_classifiers_output_for_pooled_features() -> None:
    rng = np.random.default_rng(0)
    x, w, b = rng.random((12, 5)), rng.normal(size=(5, 4)), rng.normal(size=4)
    attention = np.array([0.1, 0.2, 0.1, 0.3, 0.9, 0.6, 0.7, 0.8, 0.2, 0.1, 0.1, 0.1])
    curves = StreamCurves(np.arange(12) + 0.5, attention, x @ w, x @ w + b, np.array([0, 1, 0, 0]))

    def classifier(rows: slice) -> Floats:
        pooled = attention[rows] @ x[rows] / attention[rows].sum()
        return np.asarray(pooled @ w + b)

    (found,) = detect_video({"rgb": curves}, {"rgb": LocalizeSettings()}, grid_of(12), NAMES)
    assert (found.start, found.end, found.label) == (4 * 0.64, 8 * 0.64, "jump")
    expected = classifier(slice(4, 8)) - 0.3 * classifier(slice(3, 4)) - 0.3 * classifier(slice(8, 9))
    assert found.score == pytest.approx(expected[1])
    np.testing.assert_allclose(video_logits(curves), classifier(slice(0, 12)))
    weighted = {"rgb": LocalizeSettings(video_weight=0.5)}
    (found,) = detect_video({"rgb": curves}, weighted, grid_of(12), NAMES)
    assert found.score == pytest.approx(expected[1] + 0.5 * classifier(slice(0, 12))[1])


def test_stretches_without_attention_count_by_their_plain_mean() -> None:
    curves = constant(8, 0.0)
    attention = np.array([0, 0, 1.0, 1, 1, 1, 0, 0])
    logits = np.array([5.0, 1, 2, 2, 2, 2, -1, 5])[:, None].repeat(4, axis=1)
    curves = replace(curves, attention=attention, logits=logits)
    (found,) = detect_video({"rgb": curves}, PAPER, grid_of(8), NAMES)
    assert found.score == pytest.approx(2 - 0.3 * 1 - 0.3 * -1)


@pytest.mark.parametrize(
    ("probabilities", "threshold", "expected"),
    [
        ([0.5, 0.2, 0.3], 0.25, [0, 2]),
        ([0.9, 0.0, 0.0], 0.1, [0]),
        ([0.0, 0.05, 0.04], 0.1, [1]),  # none above: the best
        ([0.05, 0.01, 0.01], 0.1, [0]),
        ([0.1, 0.1, 0.0], 0.1, [0]),  # strictly above; of equals the first
        ([0.0, 0.0, 0.0], 0.0, [0]),
        ([], 0.1, []),
    ],
)
def test_choice_of_classes(probabilities: list[float], threshold: float, expected: list[int]) -> None:
    assert choose_classes(np.array(probabilities), threshold).tolist() == expected


@pytest.mark.parametrize("probability", [0.9, 0.01])
@pytest.mark.parametrize("how", [PAPER, RELEASE], ids=["paper", "release"])
def test_class_0_alone_is_localised(how: Mapping[str, LocalizeSettings], probability: float) -> None:
    curves = {
        name: replace(
            random_curves(np.random.default_rng(1), 40), probabilities=np.array([probability, 0, 0, 0])
        )
        for name in how
    }
    chosen = choose_classes(curves["rgb"].probabilities, 0.1)
    assert not chosen.any(), "the release's test for having anything to localise fails on class 0"
    found = detect_video(curves, how, grid_of(40), NAMES)
    assert found
    assert {d.label for d in found} == {"dive"}


def test_classes_chosen_by_all_streams_together() -> None:
    rng = np.random.default_rng(0)
    curves = {name: random_curves(rng, 30) for name in ("rgb", "flow")}
    curves["rgb"] = replace(curves["rgb"], probabilities=np.array([0.9, 0.0, 0.0, 0.1]))
    curves["flow"] = replace(curves["flow"], probabilities=np.array([0.0, 0.0, 0.6, 0.3]))
    np.testing.assert_allclose(mean_probabilities(curves), [0.45, 0.0, 0.3, 0.2])
    mean = mean_probabilities(curves)
    together = {name: replace(c, probabilities=mean) for name, c in curves.items()}
    how = {name: LocalizeSettings(class_threshold=0.25) for name in curves}
    for stream in curves:
        found = detect_video({stream: together[stream]}, how, grid_of(30), NAMES)
        assert {d.label for d in found} == {"dive", "throw"}
