"""Hard and soft non-maximum suppression."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dgam.detection.nms import Floats, Integers, Method, pairwise_tiou, suppress, suppress_per_class

METHODS: tuple[Method, ...] = ("hard", "soft-linear", "soft-gaussian", "none")

# Whole seconds and few scores: ties, touching ends, equal and empty segments all occur.
candidates = st.lists(
    st.tuples(st.integers(0, 12), st.integers(0, 6), st.integers(-3, 3), st.integers(0, 2)), max_size=14
).map(
    lambda rows: (
        np.array([[start, start + length] for start, length, _, _ in rows], dtype=float).reshape(-1, 2),
        np.array([score / 2 for _, _, score, _ in rows], dtype=float),
        np.array([label for *_, label in rows], dtype=np.int64),
    )
)
tious = st.sampled_from([0.0, 0.25, 1 / 3, 0.5, 0.9, 1.0])


def slow_tiou(a: Floats, b: Floats) -> float:
    shared = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    union = (a[1] - a[0]) + (b[1] - b[0]) - shared
    return shared / union if union > 0 else 0.0


def slow_hard(segments: Floats, scores: Floats, tiou: float) -> list[int]:
    waiting = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    kept: list[int] = []
    while waiting:
        best = waiting.pop(0)
        kept.append(best)
        waiting = [i for i in waiting if not slow_tiou(segments[best], segments[i]) > tiou]
    return kept


def slow_soft(segments: Floats, scores: Floats, method: str, tiou: float, sigma: float) -> dict[int, float]:
    """Soft-NMS as its paper has it, for scores >= 0."""
    waiting = {i: float(score) for i, score in enumerate(scores)}
    final = {}
    while waiting:
        best = max(waiting, key=lambda i: (waiting[i], -i))
        final[best] = waiting.pop(best)
        for i in waiting:
            overlap = slow_tiou(segments[best], segments[i])
            if method == "soft-gaussian":
                waiting[i] *= math.exp(-(overlap**2) / sigma)
            elif overlap > tiou:
                waiting[i] *= 1 - overlap
    return final


def test_tiou_by_hand() -> None:
    a = np.array([[0.0, 4.0], [5.0, 5.0]])
    b = np.array([[0.0, 4.0], [2.0, 6.0], [1.0, 2.0], [4.0, 8.0], [5.0, 5.0]])
    np.testing.assert_allclose(pairwise_tiou(a, b), [[1, 1 / 3, 0.25, 0, 0], [0, 0, 0, 0, 0]])


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 10)), max_size=8))
def test_tiou_is_symmetric_and_in_the_unit_interval(rows: list[tuple[float, float]]) -> None:
    segments = np.array([[start, start + length] for start, length in rows]).reshape(-1, 2)
    overlap = pairwise_tiou(segments, segments)
    assert overlap.shape == (len(rows), len(rows))
    assert np.array_equal(overlap, overlap.T)
    assert np.all((overlap >= 0) & (overlap <= 1))
    long = segments[:, 1] > segments[:, 0]
    assert np.all(overlap.diagonal()[long] == 1)


@given(candidates, tious)
def test_hard_is_the_definition(found: tuple[Floats, Floats, Integers], tiou: float) -> None:
    segments, scores, _ = found
    kept, final = suppress(segments, scores, "hard", tiou)
    assert kept.tolist() == slow_hard(segments, scores, tiou)
    assert np.array_equal(final, scores[kept])


def test_hard_is_the_definition_with_many_candidates() -> None:
    rng = np.random.default_rng(0)
    start = rng.uniform(0, 200, 700)
    segments = np.column_stack([start, start + rng.lognormal(1.2, 0.7, 700)])
    scores = rng.normal(size=700).round(1)  # with ties
    kept, _ = suppress(segments, scores, "hard", 0.3)
    assert kept.tolist() == slow_hard(segments, scores, 0.3)
    assert 0 < len(kept) < 700


@given(candidates, tious)
def test_hard_is_idempotent(found: tuple[Floats, Floats, Integers], tiou: float) -> None:
    segments, scores, labels = found
    kept, final = suppress_per_class(segments, scores, labels, "hard", tiou)
    again, same = suppress_per_class(segments[kept], final, labels[kept], "hard", tiou)
    assert again.tolist() == list(range(len(kept)))
    assert np.array_equal(same, final)


@given(candidates, tious, st.sampled_from(["soft-linear", "soft-gaussian"]))
def test_soft_is_the_papers_for_scores_from_zero(
    found: tuple[Floats, Floats, Integers], tiou: float, method: Method
) -> None:
    segments, scores, _ = found
    scores = np.abs(scores) + np.arange(len(scores)) * 0.01  # no ties, which rounding could turn
    kept, final = suppress(segments, scores, method, tiou, 0.5)
    expected = slow_soft(segments, scores, method, tiou, 0.5)
    assert sorted(kept.tolist()) == sorted(expected)
    np.testing.assert_allclose(final, [expected[i] for i in kept], atol=1e-12)


@pytest.mark.parametrize(
    ("method", "second"), [("soft-linear", 0.3), ("soft-gaussian", 0.6 * math.exp(-0.5))]
)
def test_soft_by_hand(method: Method, second: float) -> None:
    # The overlap of the two is 1/2: 0.6·(1 − 1/2), and 0.6·exp(−(1/2)²/0.5).
    segments = np.array([[0.0, 2.0], [0.0, 1.0]])
    kept, final = suppress(segments, np.array([0.9, 0.6]), method, 0.4, 0.5)
    assert kept.tolist() == [0, 1]
    np.testing.assert_allclose(final, [0.9, second])


@given(candidates, tious, st.sampled_from(["soft-linear", "soft-gaussian"]))
def test_soft_never_raises_a_score_nor_sinks_below_the_floor(
    found: tuple[Floats, Floats, Integers], tiou: float, method: Method
) -> None:
    segments, scores, _ = found
    kept, final = suppress(segments, scores, method, tiou, 0.5)
    assert sorted(kept.tolist()) == list(range(len(scores)))
    assert np.all(np.diff(final) <= 1e-12)
    assert np.all(final <= scores[kept] + 1e-12)
    assert np.all(final >= min(0.0, scores.min(initial=0.0)) - 1e-12)


@pytest.mark.parametrize("method", ["soft-linear", "soft-gaussian"])
def test_soft_lowers_negative_scores_that_overlap(method: Method) -> None:
    segments = np.array([[0.0, 4.0], [0.5, 4.0], [10.0, 14.0], [20.0, 24.0]])
    scores = np.array([-1.0, -1.5, -2.0, -5.0])
    kept, final = suppress(segments, scores, method)
    assert kept.tolist() == [0, 2, 1, 3]  # the second falls behind the third, towards the worst
    np.testing.assert_allclose(final[[0, 1, 3]], [-1.0, -2.0, -5.0])
    assert -5.0 < final[2] < -2.0


@pytest.mark.parametrize("method", METHODS)
def test_equal_scores_stay_in_their_order(method: Method) -> None:
    segments = np.array([[start, start + 1] for start in range(0, 600, 2)], dtype=float)
    kept, _ = suppress(segments, np.zeros(len(segments)), method)
    assert kept.tolist() == list(range(len(segments)))


def test_of_two_equals_the_first_is_kept() -> None:
    kept, _ = suppress(np.array([[0.0, 2.0], [0.0, 2.0]]), np.array([1.0, 1.0]), "hard")
    assert kept.tolist() == [0]


def test_rounding_in_seconds_does_not_decide_over_an_overlap_of_just_the_threshold() -> None:
    one = np.array([[start, start + 1] for start in range(0, 900, 3)])  # each has half of its partner
    two = np.array([[start, start + 2] for start in range(0, 900, 3)])
    segments = np.concatenate([two, one]) * 0.64
    assert (np.diff(segments[:, 1] - segments[:, 0]) != 0).sum() > 100, "rounding must occur in this test"
    kept, _ = suppress(segments, np.zeros(len(segments)), "hard", 0.5)
    assert len(kept) == len(segments)


def test_none_only_sorts() -> None:
    kept, final = suppress(np.array([[0.0, 2.0]] * 3), np.array([-1.0, 3.0, 2.0]), "none")
    assert (kept.tolist(), final.tolist()) == ([1, 2, 0], [3.0, 2.0, -1.0])


@pytest.mark.parametrize("method", METHODS)
def test_nothing_in_nothing_out(method: Method) -> None:
    kept, final = suppress_per_class(np.zeros((0, 2)), np.zeros(0), np.zeros(0, dtype=np.int64), method)
    assert kept.shape == final.shape == (0,)
    kept, final = suppress(np.zeros((0, 2)), np.zeros(0), method)
    assert kept.shape == final.shape == (0,)


@given(candidates, tious, st.sampled_from(METHODS))
def test_classes_do_not_touch_each_other(
    found: tuple[Floats, Floats, Integers], tiou: float, method: Method
) -> None:
    segments, scores, labels = found
    kept, final = suppress_per_class(segments, scores, labels, method, tiou)
    assert np.all(np.diff(final) <= 0)
    for label in range(3):
        members = np.flatnonzero(labels == label)
        alone, expected = suppress(segments[members], scores[members], method, tiou)
        mine = labels[kept] == label
        assert sorted(kept[mine].tolist()) == sorted(members[alone].tolist())
        np.testing.assert_allclose(final[mine], expected, atol=1e-12)
