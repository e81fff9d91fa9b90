"""The analysis of false positives: one case of each kind, a plain version, and published detections."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dgam.core.errors import InputError
from dgam.core.results import read_detections
from dgam.core.types import Detections, SegmentAnnotations
from dgam.data.annotations import read_segments
from dgam.evaluation import ErrorAnalysis, analyse_errors, mean_average_precision
from dgam.evaluation.errors import KINDS
from plain_map import found_of, plain_ap, plain_tiou, truth_of

TRUTH = truth_of({"a": [(0, 10, "run"), (50, 60, "jump")], "b": [(0, 10, "run"), (0, 10, "jump")]})

GRID = st.integers(0, 20).map(float)
SPANS = st.tuples(GRID, GRID).map(sorted)
LABELS = st.sampled_from(["run", "jump"])
TRUTHS = (
    st.dictionaries(
        st.sampled_from("ab"), st.lists(st.tuples(SPANS, LABELS).map(lambda r: (*r[0], r[1])), max_size=6)
    )
    .filter(lambda videos: any(videos.values()))
    .map(truth_of)
)
FOUNDS = st.dictionaries(
    st.sampled_from("abc"),
    st.lists(st.tuples(SPANS, LABELS, st.floats(0, 1)).map(lambda r: (*r[0], r[1], r[2])), max_size=12),
).map(found_of)


def counts_of(analysis: ErrorAnalysis) -> dict[str, int]:
    return {kind: int(n) for kind, n in zip(KINDS, analysis.counts.sum(axis=0), strict=True) if n}


@pytest.mark.parametrize(
    ("guess", "kind"),
    [
        (("a", 0, 10, "run"), "true positive"),
        (("a", 0, 12, "run"), "true positive"),
        (("a", 5, 15, "run"), "localisation"),
        (("a", 9.5, 20, "run"), "background"),  # tIoU 0.025
        (("a", 50, 60, "run"), "wrong label"),
        (("a", 55, 65, "run"), "confusion"),
        (("a", 20, 30, "run"), "background"),
        (("elsewhere", 0, 10, "run"), "background"),
        # in b run and jump lie together, and the guess's own class decides
        (("b", 5, 15, "run"), "localisation"),
        (("b", 5, 15, "jump"), "localisation"),
    ],
)
def test_each_kind(guess: tuple[str, float, float, str], kind: str) -> None:
    video, start, end, label = guess
    assert counts_of(analyse_errors(found_of({video: [(start, end, label, 1.0)]}), TRUTH)) == {kind: 1}


def test_the_second_guess_at_an_instance_is_a_double_detection() -> None:
    found = found_of({"a": [(0, 10, "run", 2.0), (0, 11, "run", 1.0)], "b": [(0, 10, "run", 3.0)]})
    analysis = analyse_errors(found, TRUTH)
    assert counts_of(analysis) == {"true positive": 2, "double detection": 1}
    assert analysis.share["double detection"] == pytest.approx(1 / 3)


def test_only_the_top_predictions_of_each_class_are_looked_at_in_steps_of_its_instances() -> None:
    rows = [(20.0 + i, 21.0 + i, "run", float(-i)) for i in range(20)]  # background only
    analysis = analyse_errors(found_of({"a": [*rows, (0, 10, "run", -2.5)]}), TRUTH, factor=3)
    background, hit = KINDS.index("background"), KINDS.index("true positive")
    assert analysis.counts.shape == (3, 6)
    assert analysis.counts[:, background].tolist() == [2, 1, 2]  # G = 2, so two in each step
    assert analysis.counts[:, hit].tolist() == [0, 1, 0]
    assert analysis.counts.sum() == 6


def test_gain_is_the_map_without_those_predictions() -> None:
    found = found_of(
        {"a": [(20, 30, "run", 9.0), (0, 10, "run", 8.0), (5, 15, "run", 7.0), (0, 10, "run", 6.0)]}
    )
    analysis = analyse_errors(found, TRUTH)
    assert analysis.map == pytest.approx((1 / 2 / 2 + 0) / 2)  # run: one of two, at precision 1/2; jump: none
    assert analysis.gain["background"] == pytest.approx((1 / 2 + 0) / 2 - analysis.map)
    assert (
        analysis.gain["localisation"]
        == analysis.gain["double detection"]
        == analysis.gain["confusion"]
        == 0.0
    )
    assert set(analysis.gain) == set(KINDS) - {"true positive"}


def plain_kinds(
    found: Detections, truth: SegmentAnnotations, label: str, tiou: float, factor: int
) -> list[str]:
    """Kinds of the top predictions of a class, by falling score, one after the other."""
    ranked = [(video, d) for video, some in found.videos.items() for d in some if d.label == label]
    ranked.sort(key=lambda item: -item[1].score)
    count = sum(s.label == label for video in truth.videos.values() for s in video.segments)
    taken: set[tuple[str, int]] = set()
    kinds = []
    for video, d in ranked[: factor * count]:
        segments = truth.videos[video].segments if video in truth.videos else ()
        best = max([(plain_tiou(d, s), s.label == label) for s in segments], default=(0.0, False))
        wishes = [
            (-plain_tiou(d, s), min(abs(d.start - s.start), abs(d.end - s.end)), i)
            for i, s in enumerate(segments)
            if s.label == label and plain_tiou(d, s) >= tiou
        ]
        free = [i for _, _, i in sorted(wishes) if (video, i) not in taken]
        if free:
            taken.add((video, free[0]))
            kinds.append("true positive")
        elif best[0] >= tiou:
            kinds.append("double detection" if best[1] else "wrong label")
        elif best[0] >= 0.1:
            kinds.append("localisation" if best[1] else "confusion")
        else:
            kinds.append("background")
    return kinds


@given(TRUTHS, FOUNDS, st.sampled_from([0.3, 0.5]), st.sampled_from([1, 2, 10]))
def test_equals_a_plain_version(
    truth: SegmentAnnotations, found: Detections, tiou: float, factor: int
) -> None:
    analysis = analyse_errors(found, truth, tiou, factor)
    count = dict.fromkeys(("run", "jump"), 0)
    for video in truth.videos.values():
        for segment in video.segments:
            count[segment.label] += 1
    labels = [label for label, n in count.items() if n]
    kinds = {label: plain_kinds(found, truth, label, tiou, factor) for label in labels}
    everything = [kind for some in kinds.values() for kind in some]
    assert counts_of(analysis) == {kind: everything.count(kind) for kind in KINDS if kind in everything}

    def mean_ap(without: str) -> float:
        rest = {
            label: [kind == "true positive" for kind in some if kind != without]
            for label, some in kinds.items()
        }
        return sum(plain_ap(hits, count[label]) for label, hits in rest.items()) / len(labels)

    assert analysis.map == pytest.approx(mean_ap(""), abs=1e-12)
    for kind, gain in analysis.gain.items():
        assert gain == pytest.approx(mean_ap(kind) - mean_ap(""), abs=1e-12)
        assert gain >= -1e-12


def test_published_detections(reference: Path) -> None:
    # Our own numbers, kept to notice a change. Checked: TP is the number of matches, each gain is positive.
    truth = read_segments(reference / "thumos14_gt" / "gt.json")
    found = read_detections(reference / "stpn_thumos14" / "results.json")
    analysis = analyse_errors(found, truth)
    whole = mean_average_precision(found, truth, [0.5])
    assert counts_of(analysis) == {
        "true positive": 1230,
        "double detection": 64,
        "wrong label": 616,
        "localisation": 2050,
        "confusion": 1134,
        "background": 4057,
    }
    assert (
        sum(int(hits.sum()) for hits in whole.hits) == 1230
    )  # all of its predictions are among the top 10·G
    assert analysis.map == pytest.approx(whole.map[0], abs=1e-12)
    assert min(analysis.gain.values()) > 0


def test_json_and_the_case_without_predictions() -> None:
    value = json.loads(json.dumps(analyse_errors(found_of({}), TRUTH).to_dict(), allow_nan=False))
    assert value["map"] == 0.0
    assert value["kinds"][0] == {"kind": "true positive", "count": 0, "share": 0.0, "gain": None}
    assert [row["kind"] for row in value["kinds"]] == list(KINDS)
    assert np.array(value["profile"]).shape == (10, 6)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tiou": 0.0}, "thresholds must lie in"),
        ({"tiou": 0.3, "min_tiou": 0.4}, "min_tiou must not exceed tiou"),
        ({"factor": 0}, "factor be 1 or more"),
    ],
)
def test_options_out_of_range(options: dict[str, float], said: str) -> None:
    with pytest.raises(InputError, match=said):
        analyse_errors(found_of({}), TRUTH, **options)  # type: ignore[arg-type]  # options of several types
