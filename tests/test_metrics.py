"""mAP: published numbers, an independent slow version, properties, and the edges."""

from __future__ import annotations

import importlib.util
import json
import math
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dgam.core.errors import InputError
from dgam.core.results import read_detections
from dgam.core.types import Detection, Detections, SegmentAnnotations
from dgam.data.annotations import read_segments
from dgam.evaluation import TIOU_THUMOS14, mean_average_precision, temporal_iou
from plain_map import found_of, plain_hits, plain_map, truth_of

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"

LABELS = ("jump", "run", "throw")
TENTHS = st.integers(0, 40).map(lambda value: value / 10)  # a coarse grid, so that ties are common
SPANS = st.tuples(TENTHS, TENTHS).map(sorted)


def videos_of(row: st.SearchStrategy, most: int) -> st.SearchStrategy:
    return st.dictionaries(st.sampled_from(["a", "b", "c"]), st.lists(row, max_size=most), max_size=3)


INSTANCES = st.tuples(SPANS, st.sampled_from(LABELS)).map(lambda row: (*row[0], row[1]))
GUESSES = st.tuples(SPANS, st.sampled_from(LABELS), st.integers(0, 6)).map(
    lambda row: (*row[0], row[1], float(row[2]))
)
TRUTHS = videos_of(INSTANCES, 8).filter(lambda videos: any(videos.values())).map(truth_of)
FOUNDS = videos_of(GUESSES, 14).map(found_of)


@pytest.mark.parametrize(
    ("detections", "ground_truth", "videos", "instances", "printed"),
    [
        # STPN's authors print the first row for their own detections; ActivityNet's script gives both rows.
        (
            "stpn_thumos14/results.json",
            "thumos14_gt/gt.json",
            210,
            3311,
            "52.12 44.20 34.70 26.06 17.70 10.09 4.99 1.34 0.10",
        ),
        (
            "stpn_thumos14/results.json",
            "thumos14_gt/gt+270.json",
            211,
            3340,
            "51.61 43.69 34.21 25.62 17.34 9.84 4.84",
        ),
        # AutoLoc's repository prints the first row with its own ground truth, which lists 3,234 instances.
        (
            "autoloc_thumos14/detections_seconds.json",
            "autoloc_thumos14/gt_seconds.json",
            210,
            3234,
            "46.7 41.7 35.8 29.0 21.2 13.4 5.8",
        ),
        (
            "autoloc_thumos14/detections_seconds.json",
            "thumos14_gt/gt.json",
            210,
            3311,
            "47.04 42.13 36.09 29.27 21.47 13.17 5.77",
        ),
    ],
)
def test_published_detections_give_the_published_map(
    reference: Path, detections: str, ground_truth: str, videos: int, instances: int, printed: str
) -> None:
    expected = printed.split()
    result = mean_average_precision(
        read_detections(reference / detections), read_segments(reference / ground_truth), TIOU_THUMOS14
    )
    digits = [len(text.partition(".")[2]) for text in expected]
    ours = [f"{100 * value:.{n}f}" for value, n in zip(result.map, digits, strict=False)]
    assert ours == expected
    assert (result.videos, result.instances) == (videos, instances)


def test_activitynet_ground_truth_scores_itself_but_for_instances_without_length(reference: Path) -> None:
    truth = read_segments(reference / "activitynet12_gt" / "gt.json")
    perfect = Detections(
        {
            name: [Detection(s.start, s.end, s.label, float(index)) for index, s in enumerate(video.segments)]
            for name, video in truth.videos.items()
        }
    )
    result = mean_average_precision(perfect, truth, [0.5, 0.95])
    assert (result.videos, result.instances, len(result.classes)) == (2383, 3582, 100)
    short = {s.label for video in truth.videos.values() for s in video.segments if s.start == s.end}
    assert len(short) == 3
    for label, ap in result.per_class.items():
        assert (ap == [1.0, 1.0]) == (label not in short), label


def test_is_twenty_times_as_fast_as_a_pandas_version_that_agrees(reference: Path) -> None:
    spec = importlib.util.spec_from_file_location("benchmark", BENCHMARKS / "evaluate.py")
    assert spec is not None
    assert spec.loader is not None
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    truth = read_segments(reference / "thumos14_gt" / "gt.json")
    found = read_detections(reference / "stpn_thumos14" / "results.json")
    tables = benchmark.frames(truth, found)
    start = time.perf_counter()
    theirs = benchmark.pandas_map(*tables, TIOU_THUMOS14)
    pandas_taken = time.perf_counter() - start
    # Its sort breaks ties by processor, which moves mAP on these files by up to 0.0005.
    assert mean_average_precision(found, truth, TIOU_THUMOS14).map == pytest.approx(theirs, abs=1e-3)
    taken = benchmark.fastest(lambda: mean_average_precision(found, truth, TIOU_THUMOS14), 3)
    assert pandas_taken >= 20 * taken  # about 100 on a quiet machine


@settings(max_examples=150)
@given(TRUTHS, FOUNDS, st.lists(st.sampled_from([0.1, 0.25, 0.5, 0.75, 1.0]), min_size=1, max_size=3))
def test_equals_a_plain_version_on_data_full_of_ties(
    truth: SegmentAnnotations, found: Detections, tiou: list[float]
) -> None:
    result = mean_average_precision(found, truth, tiou)
    for threshold, value in zip(tiou, result.map, strict=True):
        assert value == pytest.approx(plain_map(found, truth, threshold), abs=1e-12)
    for index, label in enumerate(result.classes):
        hits, scores, instances = plain_hits(found, truth, label, tiou[0])
        assert result.hits[index][0].tolist() == hits
        assert result.scores[index].tolist() == scores
        assert result.counts[index] == instances


def test_equals_a_plain_version_on_larger_data() -> None:
    rng = np.random.default_rng(0)
    truth, found = {}, {}
    for video in range(6):
        starts = rng.uniform(0, 100, 30)
        truth[f"v{video}"] = [(s, s + rng.uniform(1, 20), LABELS[int(rng.integers(3))]) for s in starts]
        found[f"v{video}"] = [
            (s, s + rng.uniform(1, 20), LABELS[int(rng.integers(3))], float(rng.random()))
            for s in rng.uniform(0, 100, 120)
        ]
    annotated, guessed = truth_of(truth), found_of(found)
    result = mean_average_precision(guessed, annotated, [0.1, 0.4, 0.7])
    assert result.map == pytest.approx([plain_map(guessed, annotated, t) for t in (0.1, 0.4, 0.7)], abs=1e-12)
    assert 0.2 < result.map[0] < 0.8


def test_pairs_are_looked_at_in_parts_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    truth = truth_of({f"v{i}": [(s, s + 3.0, "run") for s in rng.uniform(0, 30, 9)] for i in range(5)})
    found = found_of(
        {
            f"v{i}": [(s, s + 3.0, "run", float(rng.random())) for s in rng.uniform(0, 30, 20)]
            for i in range(5)
        }
    )
    whole = mean_average_precision(found, truth, [0.1, 0.5])
    monkeypatch.setattr("dgam.evaluation.metrics._PAIRS_AT_ONCE", 7)
    assert mean_average_precision(found, truth, [0.1, 0.5]).map == whole.map


@given(SPANS, SPANS)
def test_tiou_is_symmetric_and_a_fraction(a: list[float], b: list[float]) -> None:
    value = float(temporal_iou(a, b))
    assert 0.0 <= value <= 1.0
    assert value == float(temporal_iou(b, a))
    assert (value == 1.0) == (a == b and a[0] < a[1])


@given(*[st.tuples(*[st.floats(-1e6, 1e6)] * 2).map(sorted) for _ in range(2)])
def test_tiou_stays_a_fraction_for_any_floats(a: list[float], b: list[float]) -> None:
    assert 0.0 <= float(temporal_iou(a, b)) <= 1.0


def test_tiou_broadcasts() -> None:
    a = np.array([[0.0, 10.0], [5.0, 15.0]])
    b = np.array([[0.0, 10.0], [10.0, 20.0], [5.0, 15.0]])
    assert temporal_iou(a[:, None], b[None]).tolist() == [[1.0, 0.0, 5 / 15], [5 / 15, 5 / 15, 1.0]]


@given(TRUTHS, FOUNDS)
def test_strictly_increasing_rescaling_of_scores_changes_nothing(
    truth: SegmentAnnotations, found: Detections
) -> None:
    bent = Detections(
        {
            name: [Detection(d.start, d.end, d.label, math.atan(d.score) * 3 - 100) for d in some]
            for name, some in found.videos.items()
        }
    )
    before = mean_average_precision(found, truth, [0.3, 0.7])
    assert np.array_equal(before.ap, mean_average_precision(bent, truth, [0.3, 0.7]).ap)


@given(TRUTHS, FOUNDS, st.randoms(use_true_random=False))
def test_order_of_the_input_matters_only_for_equal_scores(
    truth: SegmentAnnotations, found: Detections, random: object
) -> None:
    score = iter(range(10_000))
    distinct = {
        n: [(d.start, d.end, d.label, float(next(score))) for d in ds] for n, ds in found.videos.items()
    }
    names = list(distinct)
    random.shuffle(names)  # type: ignore[attr-defined]  # hypothesis gives it a type of its own
    # For mypy: hypothesis gives it a type of its own.
    mixed = {name: random.sample(distinct[name], len(distinct[name])) for name in names}  # type: ignore[attr-defined]
    before = mean_average_precision(found_of(distinct), truth, [0.2, 0.6])
    assert np.array_equal(before.ap, mean_average_precision(found_of(mixed), truth, [0.2, 0.6]).ap)


@given(TRUTHS)
def test_perfect_detections_give_one(truth: SegmentAnnotations) -> None:
    perfect = Detections(
        {
            name: [Detection(s.start, s.end, s.label, s.end - s.start) for s in video.segments]
            for name, video in truth.videos.items()
        }
    )
    result = mean_average_precision(perfect, truth, [0.1, 0.5, 1.0])
    for label, ap in result.per_class.items():
        lengths = [s.end - s.start for v in truth.videos.values() for s in v.segments if s.label == label]
        assert ap == [pytest.approx(sum(length > 0 for length in lengths) / len(lengths))] * 3


@given(TRUTHS, FOUNDS, st.sampled_from(LABELS), st.floats(-5, 6))
def test_a_false_positive_never_raises_ap_and_costs_nothing_at_the_end(
    truth: SegmentAnnotations, found: Detections, label: str, score: float
) -> None:
    before = mean_average_precision(found, truth, [0.1, 0.5]).ap
    for value, exactly_equal in ((score, False), (-1.0, True)):
        videos = {**found.videos, "a": (*found.videos.get("a", ()), Detection(500.0, 501.0, label, value))}
        after = mean_average_precision(Detections(videos), truth, [0.1, 0.5]).ap
        assert (after <= before + 1e-12).all()
        if exactly_equal:
            assert np.array_equal(after, before)


@given(TRUTHS, FOUNDS)
def test_ap_is_a_fraction_and_falls_with_the_threshold_when_each_class_has_one_guess(
    truth: SegmentAnnotations, found: Detections
) -> None:
    result = mean_average_precision(found, truth, [0.1, 0.5, 0.9])
    assert ((result.ap >= 0) & (result.ap <= 1)).all()
    one = {
        n: [d for i, d in enumerate(ds) if d.label not in {e.label for e in ds[:i]}]
        for n, ds in found.videos.items()
    }
    name = next(iter(one), None)
    if name is not None:
        single = mean_average_precision(Detections({name: one[name]}), truth, [0.1, 0.5, 0.9])
        assert (np.diff(single.ap, axis=0) <= 0).all()


RUN = truth_of({"a": [(0, 10, "run"), (20, 30, "run")]})

EDGES = {
    "no prediction": ({}, [0.0]),
    "a video without a prediction": ({"a": []}, [0.0]),
    "one of two found": ({"a": [(0, 10, "run", 1.0)]}, [0.5]),
    "both found, false positive last": (
        {"a": [(0, 10, "run", 3.0), (20, 30, "run", 2.0), (50, 60, "run", 1.0)]},
        [1.0],
    ),
    # precision at the hits is 1/2 and 2/3; the envelope lifts the first to 2/3
    "false positive first": (
        {"a": [(50, 60, "run", 3.0), (0, 10, "run", 2.0), (20, 30, "run", 1.0)]},
        [2 / 3],
    ),
    "a duplicate is a false positive": (
        {"a": [(0, 10, "run", 3.0), (0, 10, "run", 2.0), (20, 30, "run", 1.0)]},
        [(1 + 2 / 3) / 2],
    ),
    "a guess of no length": ({"a": [(5, 5, "run", 1.0)]}, [0.0]),
    "exactly at the threshold": ({"a": [(0, 5, "run", 1.0)]}, [0.5]),
    "just below the threshold": ({"a": [(0, 4.999, "run", 1.0)]}, [0.0]),
    "wrong video": ({"b": [(0, 10, "run", 1.0)], "a": [(0, 10, "run", 0.5)]}, [0.25]),
    "a class without ground truth": ({"a": [(0, 10, "fly", 9.0), (0, 10, "run", 1.0)]}, [0.5]),
    # equal scores: the one that comes first in the input goes first
    "tie, hit first": ({"a": [(0, 10, "run", 1.0), (50, 60, "run", 1.0)]}, [0.5]),
    "tie, miss first": ({"a": [(50, 60, "run", 1.0), (0, 10, "run", 1.0)]}, [0.25]),
}


@pytest.mark.parametrize("name", EDGES)
def test_edges(name: str) -> None:
    videos, expected = EDGES[name]
    result = mean_average_precision(found_of(videos), RUN, [0.5])
    assert result.map == pytest.approx(expected)
    assert result.classes == ("run",)


def test_a_prediction_for_an_unknown_video_matches_nothing_of_any_class() -> None:
    truth = truth_of({"a": [(0, 10, "run"), (0, 10, "jump")], "b": [(0, 10, "jump"), (0, 10, "run")]})
    found = found_of({"elsewhere": [(0, 10, "jump", 1.0), (0, 10, "run", 1.0)]})
    assert mean_average_precision(found, truth, [0.5]).map == (0.0,)


def test_a_taken_instance_leaves_the_next_best_to_a_later_prediction() -> None:
    truth = truth_of({"a": [(0, 10, "run"), (4, 14, "run")]})
    found = found_of({"a": [(1, 11, "run", 2.0), (0, 10, "run", 1.0)]})
    # the first takes [0, 10] (9/11), so the second must make do with [4, 14] (6/14)
    assert mean_average_precision(found, truth, [0.4, 0.5]).map == (1.0, 0.5)


def test_a_chain_of_displacements_ends_where_taking_turns_does() -> None:
    # The best prediction takes the last instance from the next, which takes the one before it, and so on.
    count = 40
    truth = truth_of({"a": [(10.0 * i, 10.0 * i + 10, "run") for i in range(count)]})
    rows = [(10.0 * i - 4.0, 10.0 * i + 6.0, "run", float(i)) for i in range(1, count)]
    found = found_of({"a": [*rows, (10.0 * count - 10, 10.0 * count, "run", 100.0)]})
    assert plain_hits(found, truth, "run", 0.2)[0] == [True] * count
    assert mean_average_precision(found, truth, [0.2]).hits[0][0].tolist() == [True] * count


def test_equally_close_instances_go_by_the_nearer_end_then_by_the_annotations_order() -> None:
    guess = [(0, 10, "run", 2.0), (6.5, 8.5, "run", 1.0)]
    # Both instances lie inside the first guess with tIoU 0.2; [0.5, 2.5] is 0.5 from its start, [7, 9] 1 from
    # its end, so it takes the former and leaves the latter, which the second guess then finds.
    for order in ([(0.5, 2.5, "run"), (7, 9, "run")], [(7, 9, "run"), (0.5, 2.5, "run")]):
        assert mean_average_precision(found_of({"a": guess}), truth_of({"a": order}), [0.2]).map == (1.0,)
    # Mirrored ends: 1 from the start and 1 from the end, so the order of the annotation decides.
    even = [(1, 3, "run"), (7, 9, "run")]
    assert mean_average_precision(found_of({"a": guess}), truth_of({"a": even}), [0.2]).map == (1.0,)
    assert mean_average_precision(found_of({"a": guess}), truth_of({"a": even[::-1]}), [0.2]).map == (0.5,)


def test_instances_without_length_count_but_are_never_found() -> None:
    truth = truth_of({"a": [(5, 5, "run"), (10, 20, "run")]})
    found = found_of({"a": [(5, 5, "run", 2.0), (10, 20, "run", 1.0)]})
    assert mean_average_precision(found, truth, [0.5]).map == (0.25,)


def test_the_json_object() -> None:
    truth = truth_of({"a": [(0, 10, "run"), (0, 10, "jump")], "b": []})
    result = mean_average_precision(
        found_of({"a": [(0, 9, "run", 1.0)]}), truth, [0.5, 0.95], {"name": "none"}
    )
    value = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert value == {
        "tiou": [0.5, 0.95],
        "map": [0.5, 0.0],
        "average": 0.25,
        "per_class": {"jump": [0.0, 0.0], "run": [1.0, 0.0]},
        "protocol": {"name": "none"},
        "videos": 2,
        "instances": 2,
    }


def test_classes_keep_the_annotations_order() -> None:
    truth = SegmentAnnotations(RUN.videos, ("walk", "run"))
    assert mean_average_precision(found_of({}), truth, [0.5]).classes == ("run",)
    both = truth_of({"a": [(0, 1, "b"), (0, 1, "a")]})
    turned = SegmentAnnotations(both.videos, ("b", "c", "a"))
    assert mean_average_precision(found_of({}), turned, [0.5]).classes == ("b", "a")


def test_the_curve_encloses_ap() -> None:
    found = found_of({"a": [(50, 60, "run", 3.0), (0, 10, "run", 2.0), (20, 30, "run", 1.0)]})
    result = mean_average_precision(found, RUN, [0.5])
    curve = result.curve("run", 0.5)
    assert curve.recall.tolist() == [0.0, 0.5, 1.0]
    assert curve.precision == pytest.approx([0.0, 1 / 2, 2 / 3])
    assert curve.envelope == pytest.approx([2 / 3] * 3)
    assert curve.score.tolist() == [3.0, 2.0, 1.0]
    area = float(np.sum(np.diff(curve.recall, prepend=0.0) * curve.envelope))
    assert area == pytest.approx(result.per_class["run"][0])
    with pytest.raises(InputError, match=r"class 'fly' was not evaluated; the classes are: run\."):
        result.curve("fly", 0.5)
    with pytest.raises(InputError, match=r"tIoU 0\.7 was not evaluated; thresholds are: 0\.5\."):
        result.curve("run", 0.7)


@pytest.mark.parametrize(
    ("tiou", "said"),
    [([], "none"), ([0.0], "0"), ([0.5, 1.5], r"1\.5"), ([float("nan")], "nan"), ([-0.1], r"-0\.1")],
)
def test_thresholds_out_of_range_are_refused(tiou: list[float], said: str) -> None:
    with pytest.raises(InputError, match=rf"tIoU thresholds must lie in \(0, 1\], got {said}\."):
        mean_average_precision(found_of({}), RUN, tiou)


def test_ground_truth_without_instances_is_refused() -> None:
    with pytest.raises(InputError, match=r"gt\.json: holds no instance in 2 videos, so mAP is not defined\."):
        mean_average_precision(found_of({}), truth_of({"a": [], "b": []}), [0.5])
