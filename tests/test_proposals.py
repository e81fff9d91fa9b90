"""Curves at points, and the segments above a threshold."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import gaussian_filter1d
from scipy.special import expit

from dgam.core.config import LocalizeSettings
from dgam.detection.proposals import (
    Floats,
    StreamCurves,
    curve_points,
    interpolate,
    mask_curves,
    propose,
    sigmoid,
    smooth,
    weighted_tcam,
)

unit = st.floats(0, 1, width=32)
curve_arrays = st.tuples(st.integers(1, 25), st.integers(1, 3)).flatmap(
    # Few distinct values, so that points lie exactly on thresholds and runs touch both ends.
    lambda shape: arrays(np.float64, shape, elements=st.sampled_from([0.0, 0.25, 0.3, 0.5, 0.75, 1.0]))
)


def segments(curves: Floats, thresholds: Sequence[float], scale: str = "absolute") -> list[tuple[int, ...]]:
    found = propose(curves, thresholds, scale)  # type: ignore[arg-type]  # options of several types
    return [(int(r), int(s), int(e)) for r, s, e in zip(*found, strict=True)]


def slow_segments(curves: Floats, thresholds: Sequence[float], scale: str) -> list[tuple[int, ...]]:
    """The definition, point by point."""
    found = set()
    for row in range(curves.shape[1]):
        curve = [float(value) for value in curves[:, row]]
        for threshold in thresholds:
            level = threshold
            if scale == "relative":
                level = min(curve) + threshold * (max(curve) - min(curve))
            start = None
            for p, value in enumerate([*curve, float("-inf")]):
                if value > level and start is None:
                    start = p
                if not value > level and start is not None:
                    found.add((row, start, p))
                    start = None
    return sorted(found)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attention": [0.5]}, "curves must have shapes"),
        ({"tcam": np.zeros((2, 3))}, "curves must have shapes"),
        ({"probabilities": np.zeros((1, 2))}, "curves must have shapes"),
        (
            {"positions": [], "attention": [], "tcam": np.zeros((0, 2)), "logits": np.zeros((0, 2))},
            "with T >= 1",
        ),
        ({"attention": [0.5, np.nan]}, "attention must be finite"),
        ({"logits": [[np.inf, 0], [0, 0]]}, "logits must be finite"),
        ({"attention": [0.5, 1.5]}, r"attention must be in \[0, 1\], got 0.5 to 1.5"),
        ({"attention": [-0.5, 0.5]}, r"attention must be in \[0, 1\], got -0.5 to 0.5"),
    ],
)
def test_curves_refuse_what_they_cannot_be(change: dict[str, object], message: str) -> None:
    good = {
        "positions": [0.5, 1.5],
        "attention": [0.5, 1.0],
        "tcam": np.zeros((2, 2)),
        "logits": np.zeros((2, 2)),
        "probabilities": [0.5, 0.5],
    }
    StreamCurves(**good)  # type: ignore[arg-type]  # options of several types
    with pytest.raises(ValueError, match=message):
        StreamCurves(**{**good, **change})  # type: ignore[arg-type]  # options of several types


def test_sigmoid_of_any_size() -> None:
    x = np.array([-1e4, -700.0, -30.0, -1.0, 0.0, 1.0, 30.0, 1e4])
    np.testing.assert_allclose(sigmoid(x), expit(x), rtol=1e-12, atol=0)


@given(
    arrays(np.float64, 6, elements=unit, unique=True),
    arrays(np.float64, (6, 2), elements=unit),
    arrays(np.float64, 9, elements=st.floats(-1, 2, width=32)),
)
def test_interpolation_is_linear_between_samples(positions: Floats, values: Floats, at: Floats) -> None:
    order = np.argsort(positions)
    for column in range(2):
        expected = np.interp(at, positions[order], values[order, column])
        np.testing.assert_allclose(interpolate(positions, values, at)[:, column], expected, atol=1e-12)
        np.testing.assert_allclose(interpolate(positions, values[:, column], at), expected, atol=1e-12)
    np.testing.assert_array_equal(interpolate(positions, values, positions), values)


def test_points_of_two_snippets() -> None:
    values = np.array([0.0, 1.0])
    np.testing.assert_array_equal(curve_points(np.array([0.5, 1.5]), values, 2, 1), values)
    # Centres .25 .75 1.25 1.75; the outer two lie beyond the samples and hold their values.
    np.testing.assert_allclose(curve_points(np.array([0.5, 1.5]), values, 2, 2), [0, 0.25, 0.75, 1])


def test_constant_curves_stay_exact_whatever_the_sampling() -> None:
    positions = np.floor(np.arange(400) * 997 / 400) + 0.5
    assert np.all(curve_points(positions, np.full(400, 0.1), 997, 20) == 0.1)


def test_samples_that_repeat_count_once() -> None:
    rows = np.arange(50) * 15 // 50  # 50 samples of 15 snippets
    values = np.random.default_rng(0).random((15, 2))
    np.testing.assert_array_equal(curve_points(rows + 0.5, values[rows], 15, 1), values)


def test_one_sample_is_a_constant() -> None:
    assert curve_points(np.array([0.5]), np.array([0.7]), 1, 20).tolist() == [0.7] * 20


@pytest.mark.parametrize(("points", "sigma"), [(40, 0.1), (40, 1.0), (40, 2.5), (7, 25.0), (1, 3.0)])
def test_smoothing_is_scipys_with_mirrored_ends(points: int, sigma: float) -> None:
    curves = np.random.default_rng(0).random((points, 3))
    expected = gaussian_filter1d(curves, sigma, axis=0, mode="reflect", truncate=4.0)
    np.testing.assert_allclose(smooth(curves, sigma), expected, rtol=1e-12)


def test_no_smoothing() -> None:
    curves = np.random.default_rng(0).random((5, 2))
    np.testing.assert_array_equal(smooth(curves, 0.0), curves)


def test_mask_of_the_release() -> None:
    settings = LocalizeSettings(mask_tcam=0.8, mask_attention=0.2, mask_power=2)
    mask = mask_curves(np.array([0.5, 1.0]), np.array([[0.1, 0.4], [0.2, 0.3]]), settings)
    # 0.8·λσ + 0.2·λ²: 0.08 + 0.05, 0.32 + 0.05; 0.16 + 0.2, 0.24 + 0.2
    np.testing.assert_allclose(mask, [[0.13, 0.37], [0.36, 0.44]])


def test_mask_without_tcam_is_one_curve_for_all_classes() -> None:
    mask = mask_curves(np.array([0.5, 1.0]), None, LocalizeSettings())
    np.testing.assert_array_equal(mask, [[0.5], [1.0]])


def test_mask_is_smoothed() -> None:
    attention = np.array([0.0, 0.0, 1.0, 0.0, 0.0])
    mask = mask_curves(attention, None, LocalizeSettings(mask_sigma=1.0))
    np.testing.assert_allclose(mask[:, 0], gaussian_filter1d(attention, 1.0), rtol=1e-12)


def test_weighted_tcam_takes_the_chosen_classes() -> None:
    curves = StreamCurves(
        np.array([0.5, 1.5]),
        np.array([0.5, 0.25]),
        np.array([[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]),
        np.zeros((2, 3)),
        np.zeros(3),
    )
    expected = [[0.5 * expit(2), 0.5 * expit(0)], [0.25 * expit(5), 0.25 * expit(3)]]
    np.testing.assert_allclose(weighted_tcam(curves, np.array([2, 0])), expected)


@pytest.mark.parametrize(
    ("curve", "thresholds", "expected"),
    [
        ([0.6, 0.7, 0.2, 0.9], [0.5], [(0, 0, 2), (0, 3, 4)]),
        ([0.5, 0.5], [0.5], []),  # strictly above
        ([0.0, 0.0], [0.0], []),
        ([1.0, 1.0, 1.0], [0.5], [(0, 0, 3)]),
        ([1.0], [0.5], [(0, 0, 1)]),
        ([0.2, 0.8, 0.2], [0.1, 0.5], [(0, 0, 3), (0, 1, 2)]),
        ([0.0, 0.8, 0.0], [0.1, 0.5, 0.7], [(0, 1, 2)]),  # one and the same segment, listed once
        ([0.2, 0.8], [], []),
    ],
)
def test_segments(curve: list[float], thresholds: list[float], expected: list[tuple[int, ...]]) -> None:
    assert segments(np.array(curve)[:, None], thresholds) == expected


def test_relative_thresholds_are_each_curves_own() -> None:
    curves = np.array([[0.1, 0.5], [0.2, 0.9], [0.3, 0.5]])
    # Halfway: 0.2 for the first (strictly: only 0.3 is above), 0.7 for the second.
    assert segments(curves, [0.5], "relative") == [(0, 2, 3), (1, 1, 2)]


def test_nothing_stands_out_of_a_flat_curve() -> None:
    assert segments(np.full((4, 1), 0.9), [0.0, 0.5], "relative") == []


@pytest.mark.parametrize("shape", [(0, 2), (4, 0), (0, 0)])
@pytest.mark.parametrize("scale", ["absolute", "relative"])
def test_no_points_or_no_curves(shape: tuple[int, int], scale: str) -> None:
    assert segments(np.ones(shape), [0.5], scale) == []


@given(curve_arrays, st.lists(st.sampled_from([0.0, 0.25, 0.4, 0.5, 1.0]), max_size=3), st.sampled_from("ar"))
def test_segments_are_those_of_the_definition(curves: Floats, thresholds: list[float], scale: str) -> None:
    name = {"a": "absolute", "r": "relative"}[scale]
    assert segments(curves, thresholds, name) == slow_segments(curves, thresholds, name)
