"""Table 2's statistics: worked by hand, against sets in plain Python, and at the edges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dgam.core.errors import InputError
from dgam.core.timeline import SnippetGrid, Timeline
from dgam.evaluation import SnippetScores, attention_statistics

VALUES = st.sampled_from([0.0, 0.2, 0.5, 0.500001, 0.8, 1.0])
SNIPPETS = st.tuples(VALUES, VALUES, st.booleans())
VIDEOS = st.dictionaries(st.sampled_from("abc"), st.lists(SNIPPETS, max_size=12)).filter(
    lambda videos: any(truth for rows in videos.values() for _, _, truth in rows)
)


def scores_of(rows: list[tuple[float, float, bool]]) -> SnippetScores:
    columns = list(zip(*rows, strict=True)) or [(), (), ()]
    return SnippetScores(np.array(columns[0]), np.array(columns[1]), np.array(columns[2], dtype=bool))


def test_a_worked_example() -> None:
    # docs/evaluation.md works the same one
    timeline = Timeline(SnippetGrid(), 8)  # cells of 0.64 s, centres 0.32, 0.96, …
    video = SnippetScores(
        attention=np.array([0.9, 0.8, 0.7, 0.2, 0.1, 0.6, 0.1, 0.0]),
        classes=np.array([0.9, 0.3, 0.8, 0.7, 0.9, 0.2, 0.1, 0.6]),
        truth=timeline.mask([(0.64, 2.56)]),
    )
    assert video.truth.tolist() == [False, True, True, True, False, False, False, False]
    result = attention_statistics({"a": video})
    assert result.false_activation == pytest.approx(2 / 3)  # snippets 0 and 5
    assert result.omission == pytest.approx(1 / 3)  # snippet 3
    assert result.filtered == pytest.approx(2 / 3)  # snippets 4 and 7
    assert result.recovered == pytest.approx(1 / 3)  # snippet 1
    assert result.to_dict() == {
        "false_activation": result.false_activation,
        "omission": result.omission,
        "filtered": result.filtered,
        "recovered": result.recovered,
        "threshold": 0.5,
        "videos": 1,
        "snippets": 8,
        "truth_snippets": 3,
    }


@given(VIDEOS, st.sampled_from([0.0, 0.2, 0.5, 0.8]))
def test_equals_sets(videos: dict[str, list[tuple[float, float, bool]]], threshold: float) -> None:
    snippets = {(name, t): row for name, rows in videos.items() for t, row in enumerate(rows)}
    att = {key for key, (attention, _, _) in snippets.items() if attention > threshold}
    cls = {key for key, (_, score, _) in snippets.items() if score > threshold}
    gt = {key for key, (_, _, truth) in snippets.items() if truth}
    result = attention_statistics({name: scores_of(rows) for name, rows in videos.items()}, threshold)
    assert result.false_activation == pytest.approx(len(att - gt) / len(gt))
    assert result.omission == pytest.approx(len(gt - att) / len(gt))
    assert result.filtered == pytest.approx(len((cls - gt) - att) / len(gt))
    assert result.recovered == pytest.approx(len((att & gt) - cls) / len(gt))
    assert (result.videos, result.snippets) == (len(videos), len(snippets))
    assert result.truth_snippets == len(gt)


def test_counts_are_summed_over_videos_before_they_are_divided() -> None:
    long = SnippetScores(np.zeros(10), np.zeros(10), np.ones(10, dtype=bool))
    short = SnippetScores(np.ones(2), np.zeros(2), np.array([True, False]))
    result = attention_statistics({"long": long, "short": short})
    assert result.omission == pytest.approx(10 / 11)
    assert result.false_activation == pytest.approx(1 / 11)


def test_perfect_attention_errs_nowhere() -> None:
    truth = np.array([False, True, True, False])
    result = attention_statistics({"a": SnippetScores(truth.astype(float), np.ones(4), truth)})
    assert (result.false_activation, result.omission) == (0.0, 0.0)
    assert result.filtered == 1.0


def test_of_several_classes_the_greatest_counts() -> None:
    several = np.array([[0.1, 0.9], [0.2, 0.3], [0.8, 0.0]], dtype=np.float32)
    video = SnippetScores(np.zeros(3), several, np.array([True, False, False]))
    assert video.classes.tolist() == pytest.approx([0.9, 0.3, 0.8])
    assert attention_statistics({"a": video}).filtered == 1.0
    none = SnippetScores(np.zeros(3), np.zeros((3, 0)), np.array([True, False, False]))
    assert none.classes.tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("attention", "classes", "truth", "said"),
    [
        (
            np.zeros(3),
            np.zeros(3),
            np.zeros(4, dtype=bool),
            r"attention must be \(T,\).* got \(3,\), \(3,\), \(4,\)",
        ),
        (np.zeros(3), np.zeros(2), np.zeros(3, dtype=bool), r"got \(3,\), \(2,\), \(3,\) bool"),
        (np.zeros((3, 1)), np.zeros(3), np.zeros(3, dtype=bool), r"got \(3, 1\)"),
        (np.zeros(3), np.zeros((3, 1, 1)), np.zeros(3, dtype=bool), r"got \(3,\), \(3, 1, 1\)"),
        (np.zeros(3), np.zeros(3), np.zeros(3), r"truth \(T,\) bool, got .* float64"),
        (np.zeros(3), np.zeros(3), np.array(True), r"got \(3,\), \(3,\), \(\) bool"),
        (
            np.array([0, 2.0]),
            np.zeros(2),
            np.zeros(2, dtype=bool),
            r"attention must lie in \[0, 1\], got 0\.0 to 2\.0",
        ),
        (
            np.zeros(2),
            np.array([0, -3.0]),
            np.zeros(2, dtype=bool),
            r"classes must lie in \[0, 1\], got -3\.0",
        ),
        (np.array([0, np.nan]), np.zeros(2), np.zeros(2, dtype=bool), "attention must lie in"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    attention: np.ndarray, classes: np.ndarray, truth: np.ndarray, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        SnippetScores(attention, classes, truth)


def test_without_ground_truth_there_is_nothing_to_divide_by() -> None:
    video = SnippetScores(np.ones(4), np.ones(4), np.zeros(4, dtype=bool))
    with pytest.raises(
        InputError, match=r"none of the 8 snippets of 2 videos lies in a ground-truth segment"
    ):
        attention_statistics({"a": video, "b": video})
    with pytest.raises(InputError, match="none of the 0 snippets of 0 videos"):
        attention_statistics({})
