"""Folds, thresholds and scores from held-out videos, on cases whose answer is known."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dgam.core.config import load_config
from dgam.core.types import VideoLabels
from dgam.fitting.calibrate import (
    Judged,
    average_precision,
    best_cut,
    choose_class_threshold,
    choose_score_threshold,
    held_out_scores,
)
from dgam.fitting.conclude import conclude, warnings_of
from dgam.fitting.folds import make_folds, parts_to_hold_out
from dgam.fitting.request import with_enough_steps


def labels_of(count: int, classes: int = 3) -> VideoLabels:
    """``count`` videos, one class each in turn, the first also of the second class."""
    labels = {f"v{i:02}": (f"c{i % classes}",) for i in range(count)}
    labels["v00"] = ("c0", "c1")
    return VideoLabels(labels)


# --- folds


def test_folds_share_out_videos_and_labels() -> None:
    labels = labels_of(20, 4)
    folds = make_folds(labels, 5, seed=3)
    assert sorted(video for fold in folds for video in fold) == sorted(labels.videos)
    assert [len(fold) for fold in folds] == [4, 4, 4, 4, 4]
    for fold in folds:
        assert Counter(name for video in fold for name in labels.labels[video]).keys() == set(labels.classes)


@given(
    st.dictionaries(
        st.sampled_from([f"v{i}" for i in range(30)]),
        st.lists(st.sampled_from("abc"), max_size=3, unique=True),
        min_size=5,
    ),
    st.integers(1, 5),
    st.integers(0, 3),
)
def test_folds_of_any_labels(table: dict[str, list[str]], count: int, seed: int) -> None:
    labels = VideoLabels({video: tuple(names) for video, names in table.items()})
    folds = make_folds(labels, count, seed)
    assert sorted(video for fold in folds for video in fold) == sorted(table)
    backwards = VideoLabels({video: labels.labels[video] for video in reversed(labels.videos)})
    assert make_folds(backwards, count, seed) == folds
    for name in labels.classes:
        single = [v for v, names in table.items() if names == [name]]
        if len(single) == len(table):  # with one class alone parts differ by one video at most
            sizes = [len(fold) for fold in folds]
            assert max(sizes) - min(sizes) <= 1


def test_folds_depend_on_the_seed_and_refuse_nonsense() -> None:
    labels = labels_of(12)
    assert make_folds(labels, 3, 0) != make_folds(labels, 3, 1)
    for count in (0, 13):
        with pytest.raises(ValueError, match="cannot be shared out"):
            make_folds(labels, count, 0)


HELD_OUT = [
    (20, "auto", 5, "The 20 videos were held out in 5 parts, each judged by a model trained on the rest."),
    (4, "auto", 4, "The 4 videos were held out in 4 parts, each judged by a model trained on the rest."),
    (3, "auto", 0, "No video was held out: 3 are too few, at least 4 are needed."),
    (20, "none", 0, "No video was held out, as asked for."),
    (20, "one", 1, "5 of 20 videos were held out once and judged by a model trained on the rest."),
    (200, "auto", 1, "40 of 200 videos were held out once and judged by a model trained on the rest."),
    (200, "folds", 5, "The 200 videos were held out in 5 parts, each judged by a model trained on the rest."),
]


@pytest.mark.parametrize(("videos", "how", "parts", "words"), HELD_OUT)
def test_what_is_held_out(videos: int, how: str, parts: int, words: str) -> None:
    # For mypy: one of the names there are.
    found, told = parts_to_hold_out(labels_of(videos), how, 0)  # type: ignore[arg-type]
    assert len(found) == parts
    assert told == words


def test_nothing_is_held_out_where_one_video_alone_has_a_label() -> None:
    labels = VideoLabels({"a": ("x",), "b": (), "c": (), "d": ()})
    assert parts_to_hold_out(labels, "auto", 0) == (
        (),
        "No video was held out: too few videos have a label to learn without some of them.",
    )


# --- cuts


def plain_f(scores: np.ndarray, truth: np.ndarray, cut: float, beta: float) -> float:
    chosen = scores > cut
    hits = (chosen & truth).sum()
    if not hits:
        return 0.0
    precision, recall = hits / chosen.sum(), hits / truth.sum()
    return float((1 + beta**2) * precision * recall / (beta**2 * precision + recall))


def test_a_cut_lies_in_the_middle_of_the_gap() -> None:
    scores, truth = np.array([0.9, 0.6, 0.2, 0.1]), np.array([True, True, False, False])
    cut = best_cut(scores, truth, 1.0, floor=0.0)
    assert cut is not None
    assert (cut.value, cut.score, cut.true, cut.false) == (0.4, 1.0, 2, 2)


def test_pairs_out_of_reach_count_as_missed() -> None:
    scores, truth = np.array([5.0, 3.0, -np.inf]), np.array([True, False, True])
    cut = best_cut(scores, truth, 1.0)
    assert cut is not None
    assert cut.value == 4.0
    assert cut.score == pytest.approx(2 / 3)
    assert best_cut(scores, np.zeros(3, bool), 1.0) is None
    assert best_cut(np.full(3, -np.inf), truth, 1.0) is None


LEVELS = st.lists(
    st.tuples(st.sampled_from([0.05, 0.1, 0.2, 0.35, 0.5, 0.8]), st.booleans()), min_size=1, max_size=12
)


@given(LEVELS, st.sampled_from([0.5, 1.0, 2.0]))
def test_no_other_cut_is_better(pairs: list[tuple[float, bool]], beta: float) -> None:
    scores, truth = np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs])
    cut = best_cut(scores, truth, beta, floor=0.0)
    if not truth.any():
        assert cut is None
        return
    assert cut is not None
    assert plain_f(scores, truth, cut.value, beta) == pytest.approx(cut.score)
    assert cut.score >= max(plain_f(scores, truth, t, beta) for t in np.arange(0, 1, 0.01)) - 1e-9


# --- thresholds from judged videos


def judged_videos(
    count: int = 20, *, low: float = 0.05, high: float = 0.4, flip: int = 0, stream: str = "rgb"
) -> list[Judged]:
    """Videos of two classes in turn: the true class has probability ``high`` and detections from 2 on, the
    other ``low`` and detections below 1; in the first ``flip`` videos the other way round."""
    made = []
    for number in range(count):
        truth = np.array([number % 2 == 0, number % 2 == 1])
        right = truth if number >= flip else ~truth
        made.append(
            Judged(
                f"v{number:02}",
                truth,
                number % 5,
                {stream: np.where(right, high, low)},
                np.where(right, 2.0 + number / 100, 0.5 + number / 100),
                {stream: 0.5},
            )
        )
    return made


def test_the_class_threshold_parts_what_can_be_parted() -> None:
    value, note = choose_class_threshold(judged_videos(low=0.2, high=0.4), "rgb", 0.1)
    assert value == 0.3
    assert note == (
        "rgb: class threshold 0.3 (F2 1.00 on videos it was not chosen on, 0.83 with the preset's 0.1, 0.83 "
        "for every class in every video)."
    )


def test_the_preset_stays_where_pairs_are_few() -> None:
    value, note = choose_class_threshold(judged_videos(7), "rgb", 0.1)
    assert value == 0.1
    assert note == (
        "rgb: class threshold stays at the preset's 0.1: 7 video-class pairs are true and 7 false, 8 of each "
        "are needed to choose another."
    )


def test_the_preset_stays_where_a_choice_does_not_hold_up() -> None:
    # What is true in one part is at a level of its own, so a cut chosen without that part misses it.
    made = []
    for part in range(4):
        for number in range(5):
            probabilities = np.array([0.35 - 0.05 * part, 0.34 - 0.05 * part])
            truth = np.array([True, False])
            made.append(
                Judged(f"v{part}{number}", truth, part, {"rgb": probabilities}, truth * 1.0, {"rgb": 0.5})
            )
    value, note = choose_class_threshold(made, "rgb", 0.195)
    assert value == 0.195
    assert "did not hold up" in note


def test_the_score_threshold_parts_detections() -> None:
    value, note = choose_score_threshold(judged_videos(low=0.2, high=0.4), {"rgb": 0.1})
    assert value is not None
    assert 0.69 < value < 2.0
    assert note == f"score threshold {value:g}: F1 1.00 for telling a video's labels by it."
    value, note = choose_score_threshold(judged_videos(low=0.05), {"rgb": 0.1})
    assert value is None  # the other class is not localised, so no false detection is left to part from
    assert note.startswith(
        "score threshold: none chosen: 20 classes with detections are in the video's labels"
    )


def test_what_a_calibration_changes_in_the_settings() -> None:
    config = load_config(overrides=["localize.thresholds=[0.3,0.5]"])
    made = judged_videos(low=0.2, high=0.4)
    calibration, overrides = conclude(made, ("a", "b"), config, ["rgb"], "Held out.", 0)
    assert overrides == ["localize.class_threshold=0.3"]
    assert calibration.class_thresholds == {"rgb": 0.3}
    assert calibration.thresholds == {"rgb": (0.3, 0.5)}
    assert calibration.scores["attended"] == {"rgb": 0.5}
    assert calibration.notes[-1].startswith("attention thresholds are the preset's")
    both = [
        Judged(
            o.video, o.truth, o.part, {**o.probabilities, "flow": o.probabilities["rgb"]}, o.best, o.attended
        )
        for o in made
    ]
    _, overrides = conclude(both, ("a", "b"), config, ["rgb", "flow"], "Held out.", 0)
    assert overrides == [
        "streams.rgb.localize.class_threshold=0.3",
        "streams.flow.localize.class_threshold=0.3",
    ]


# --- scores


def test_average_precision_by_hand() -> None:
    truth = np.array([True, False, True, False])
    assert average_precision(np.array([4.0, 3.0, 2.0, 1.0]), truth) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision(np.ones(4), truth) == 0.5  # equal scores give the share of true ones
    assert average_precision(np.ones(4), np.zeros(4, bool)) is None


def test_perfect_scores() -> None:
    scores = held_out_scores(judged_videos(), ("a", "b"), 0)
    assert (scores["map"], scores["top1"], scores["commonest"], scores["videos"]) == (1.0, 1.0, 0.5, 20)
    assert scores["classes"]["a"] == {"videos": 10, "ap": 1.0}
    assert 0.5 < scores["chance"] < scores["chance_95"] < 1.0
    assert [part["videos"] for part in scores["parts"]] == [4, 4, 4, 4, 4]
    assert scores == held_out_scores(judged_videos(), ("a", "b"), 0)


def test_a_class_in_one_video_or_in_all_is_not_scored() -> None:
    made = judged_videos(8)
    padded = [
        Judged(
            o.video,
            np.append(o.truth, [True, n == 0]),
            o.part,
            {"rgb": np.append(o.probabilities["rgb"], [0.3, 0.1])},
            np.append(o.best, [1, 1]),
            o.attended,
        )
        for n, o in enumerate(made)
    ]
    scores = held_out_scores(padded, ("a", "b", "all", "one"), 0)
    assert scores["map"] == 1.0
    assert scores["classes"]["all"] == {"videos": 8, "ap": None}
    assert scores["classes"]["one"] == {"videos": 1, "ap": None}


def test_warnings_about_a_model() -> None:
    config = load_config()

    def warned(made: list[Judged]) -> list[str]:
        return warnings_of(made, conclude(made, ("a", "b"), config, ["rgb"], "", 0)[0])

    assert warned(judged_videos()) == []
    assert warned(judged_videos(flip=11))[0].startswith(
        "On held-out videos the model may tell the labels by chance"
    )
    everywhere = [
        Judged(o.video, o.truth, o.part, o.probabilities, o.best, {"rgb": 0.97}) for o in judged_videos()
    ]
    assert warned(everywhere) == [
        "rgb: attention is high in 97 % of held-out snippets: segments will hardly be tighter than whole "
        "videos."
    ]
    nowhere = [
        Judged(o.video, o.truth, o.part, o.probabilities, o.best, {"rgb": 0.01}) for o in judged_videos()
    ]
    assert warned(nowhere) == [
        "rgb: attention is high in 1.0 % of held-out snippets: most actions will be missed, or be found by "
        "relative thresholds only."
    ]
    assert warnings_of([], None) == [
        "Nothing was held out: how well the model tells even the video labels is not known."
    ]


# --- enough steps


@pytest.mark.parametrize(
    ("videos", "epochs", "warmup"), [(10, 420, 35), (64, 210, 18), (200, 60, 5), (4000, 60, 5)]
)
def test_few_videos_get_more_epochs(videos: int, epochs: int, warmup: int) -> None:
    config = with_enough_steps(load_config(), videos)
    assert (config.train.epochs, config.loss.warmup_epochs) == (epochs, warmup)
