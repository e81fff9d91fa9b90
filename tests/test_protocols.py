"""Protocols: what each leaves out, and that the output says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dgam.core.errors import InputError
from dgam.core.results import read_detections
from dgam.core.types import AnnotatedVideo, Detections, Segment, SegmentAnnotations
from dgam.data.annotations import read_segments
from dgam.evaluation import (
    TIOU_ACTIVITYNET,
    TIOU_THUMOS14,
    Protocol,
    evaluate,
    named_protocol,
    parse_tiou,
    protocol_names,
    read_video_list,
    select,
)
from plain_map import found_of, truth_of


def annotated(subset: str, *segments: Segment, ambiguous: tuple[Segment, ...] = ()) -> AnnotatedVideo:
    return AnnotatedVideo(segments, subset, None, ambiguous)


TRUTH = SegmentAnnotations(
    {
        "a": annotated("test", Segment(0, 10, "run"), ambiguous=(Segment(20, 30, "Ambiguous"),)),
        "b": annotated("test", Segment(0, 10, "run")),
        "c": annotated("train", Segment(0, 10, "jump")),
    },
    source="gt.json",
)
FOUND = found_of(
    {
        "a": [(0, 10, "run", 5.0), (29, 40, "run", 4.0), (30, 40, "run", 3.0), (0, 10, "rum", 2.0)],
        "c": [(0, 10, "jump", 9.0), (0, 10, "run", 9.0)],
        "elsewhere": [(0, 10, "run", 8.0), (0, 10, "run", 7.0)],
    }
)


def test_the_output_names_the_protocol_and_counts_what_it_left_out() -> None:
    notes: list[str] = []
    rules = named_protocol("activitynet").changed(subsets=("test",), ambiguous="drop", outside="ignore")
    result = evaluate(FOUND, TRUTH, [0.5], rules, notes.append)
    assert result.map == (0.5,)
    assert (result.videos, result.instances) == (2, 2)
    report = result.to_dict()["protocol"]
    assert report["name"] == "activitynet, subsets=test, ambiguous=drop, outside=ignore"
    assert report["left_out"] == {
        "blocked": 0,
        "other_subset": 2,
        "outside": 2,
        "ambiguous": 1,
        "unknown_label": 1,
    }
    assert report["predictions"] == 2
    assert report["outside_videos"] == {"elsewhere": 2}
    assert report["unknown_labels"] == {"rum": 1}
    assert report["videos_without_predictions"] == 1
    assert report["ground_truth"] == "gt.json"
    assert (
        report["notes"]
        == notes
        == [
            "predictions left out because they touch an Ambiguous stretch: 1.",
            "predictions left out because their videos are of other subsets: 2.",
            "predictions for videos without ground truth, left out: 2, for elsewhere.",
            "predictions left out because their label has no instance here: 'rum' (1) (did you mean 'run'?).",
            "videos without a prediction: 1 of 2.",
        ]
    )
    json.dumps(report, allow_nan=False)


def test_predictions_for_unknown_videos_are_false_positives_by_default() -> None:
    rules = Protocol("mine", subsets=("test",))
    result = evaluate(FOUND, TRUTH, [0.5], rules)
    # two false positives come before the one hit of two instances: AP = 1/3 · 1/2
    assert result.map == pytest.approx([1 / 6])
    assert any("counted as false positives: 2, for elsewhere" in note for note in result.protocol["notes"])
    assert result.protocol["left_out"]["outside"] == 0


def test_touching_an_ambiguous_stretch_needs_shared_time() -> None:
    rules = Protocol("mine", ambiguous="drop")
    kept = select(FOUND, TRUTH, rules).detections.videos["a"]
    assert [(d.start, d.end) for d in kept] == [(0, 10), (30, 40), (0, 10)]
    assert len(select(FOUND, TRUTH, Protocol("mine")).detections.videos["a"]) == 4


def test_blocked_videos_go_with_their_predictions() -> None:
    result = evaluate(FOUND, TRUTH, [0.5], Protocol("mine", blocked=("a", "elsewhere")))
    assert (result.videos, result.instances) == (2, 2)
    assert result.per_class == {"jump": [1.0], "run": [0.0]}
    assert result.protocol["left_out"]["blocked"] == 6
    assert "predictions left out because their videos are blocked: 6." in result.protocol["notes"]
    assert (
        "all subsets were evaluated together: 'test' (1 videos), 'train' (1 videos)."
        in result.protocol["notes"]
    )


def test_a_class_outside_the_subset_does_not_count() -> None:
    found = found_of({"a": [(0, 10, "run", 1.0), (0, 10, "jump", 2.0)], "b": [(0, 10, "run", 1.0)]})
    result = evaluate(found, TRUTH, [0.5], Protocol("mine", subsets=("test",)))
    assert result.per_class == {"run": [1.0]}
    assert result.protocol["unknown_labels"] == {"jump": 1}
    assert not any("did you mean" in note for note in result.protocol["notes"])


def test_how_weights_were_chosen_goes_with_the_number() -> None:
    found = Detections(FOUND.videos, {"selection": "the best of 30 by test mAP@0.5", "seed": 3})
    report = evaluate(found, TRUTH, [0.5]).protocol
    assert "weights chosen: the best of 30 by test mAP@0.5" in report["notes"]
    assert report["detections"]["seed"] == 3


@pytest.mark.parametrize(
    ("name", "videos", "instances"),
    [
        ("thumos14-210", 210, 3311),
        ("thumos14-211-270", 211, 3340),
        ("thumos14-211-1496", 211, 3329),
        ("thumos14-wtalc-212", 212, 3358),
    ],
)
def test_thumos_protocols_pick_their_videos_from_the_whole_test_set(
    reference: Path, name: str, videos: int, instances: int
) -> None:
    folder = reference / "thumos14_gt"
    everything = {
        **read_segments(folder / "gt+270.json").videos,
        **read_segments(folder / "gt+1496.json").videos,
        "video_test_0001292": annotated("test"),
        "video_validation_0000001": annotated("validation", Segment(0, 1, "Diving")),
    }
    truth = SegmentAnnotations(everything)
    assert len(truth.in_subset("test").videos) == 213
    result = evaluate(found_of({}), truth, [0.5], name)
    assert (result.videos, result.instances) == (videos, instances)
    assert result.protocol["name"] == name
    assert not any("not comparable" in note for note in result.protocol["notes"])
    assert any("Ambiguous" in note for note in result.protocol["notes"]) == ("wtalc" in name)


def test_a_ground_truth_of_another_size_is_remarked_on(reference: Path) -> None:
    truth = read_segments(reference / "autoloc_thumos14" / "gt_seconds.json")
    notes = evaluate(found_of({}), truth, [0.5], "thumos14-210").protocol["notes"]
    assert notes[0] == (
        "thumos14-210 means 210 videos with 3,311 instances; this ground truth has 210 with 3,234: "
        "not comparable with published numbers."
    )


def test_published_detections_under_thumos14_210(reference: Path) -> None:
    truth = read_segments(reference / "thumos14_gt" / "gt.json")
    stpn = read_detections(reference / "stpn_thumos14" / "results.json")
    result = evaluate(stpn, truth, TIOU_THUMOS14, "thumos14-210")
    # printed by STPN's authors
    assert (
        " ".join(f"{100 * v:.2f}" for v in result.map) == "52.12 44.20 34.70 26.06 17.70 10.09 4.99 1.34 0.10"
    )
    assert result.protocol["notes"] == ["videos without a prediction: 1 of 210."]
    # AutoLoc also detects in the three videos that the protocol blocks. This ground truth lacks them; to the
    # field's script they are false positives, and mAP@0.1 is 47.04: the protocol is worth 0.3 points.
    autoloc = read_detections(reference / "autoloc_thumos14" / "detections_seconds.json")
    blocked = evaluate(autoloc, truth, [0.1], "thumos14-210")
    assert 100 * evaluate(autoloc, truth, [0.1]).map[0] == pytest.approx(47.04, abs=0.005)
    assert 100 * blocked.map[0] == pytest.approx(47.34, abs=0.005)
    assert blocked.protocol["left_out"]["blocked"] == 275


@pytest.mark.parametrize(
    ("found", "truth", "rules", "said"),
    [
        (
            FOUND,
            TRUTH,
            Protocol("mine", subsets=("testing", "val")),
            r"gt\.json: has no video of subset testing\+val; it has 'test' \(2 videos\), 'train' \(1 ",
        ),
        (
            found_of({"x": [(0, 1, "run", 1.0)]}),
            TRUTH,
            Protocol("mine"),
            r"gt\.json: none of the 1 videos with detections is in it; the detections have 'x', it has 'a'\.",
        ),
        (
            found_of({"a": [(0, 1, "Run", 1.0)]}),
            TRUTH,
            Protocol("mine"),
            r"none of the labels of the detections is in it; .* have 'Run', it has 'jump', 'run'\.",
        ),
        (FOUND, truth_of({}), Protocol("mine"), r"gt\.json: has no video .* it has no video at all"),
        (FOUND, TRUTH, Protocol("mine", blocked=("a", "b", "c")), "holds no instance in 0 videos"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(
    found: Detections, truth: SegmentAnnotations, rules: Protocol, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        evaluate(found, truth, [0.5], rules)


def test_no_detections_at_all_are_worth_nothing_and_no_error() -> None:
    result = evaluate(found_of({}), TRUTH, [0.5])
    assert result.map == (0.0,)
    assert "videos without a prediction: 3 of 3." in result.protocol["notes"]


def test_names() -> None:
    assert protocol_names()[0] == "activitynet"
    assert [named_protocol(name).name for name in protocol_names()] == list(protocol_names())
    with pytest.raises(InputError, match=r"unknown protocol 'thumos-210' \(did you mean 'thumos14-210'\?\)"):
        named_protocol("thumos-210")
    assert named_protocol("thumos14-210").changed(ambiguous="keep").name == "thumos14-210"
    assert named_protocol("thumos14-210").changed(blocked=()).name == "thumos14-210, blocked=none"


@pytest.mark.parametrize("options", [{"ambiguous": "maybe"}, {"outside": "count"}])
def test_options_out_of_range_are_refused(options: dict[str, str]) -> None:
    with pytest.raises(InputError, match=f"protocol: {next(iter(options))} must be"):
        Protocol("mine", **options)  # type: ignore[arg-type]  # options of several types


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.5", (0.5,)),
        ("0.3,0.5, 0.7", (0.3, 0.5, 0.7)),
        ("0.1:0.9:0.1", TIOU_THUMOS14),
        ("0.5:0.95:0.05", TIOU_ACTIVITYNET),
        ("0.5:0.5:0.1", (0.5,)),
        ("0.1:0.35:0.1", (0.1, 0.2, 0.3)),
        ("0.5,0.5", (0.5,)),
    ],
)
def test_thresholds_from_text(text: str, expected: tuple[float, ...]) -> None:
    assert parse_tiou(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "half", "0:1:0.1", "0.5:0.1:0.1", "0.1:0.9", "0.1:0.9:0", "0.1:0.9:-1", "1.5", "nan", "0.1:0.9:nan"],
)
def test_text_that_gives_no_thresholds(text: str) -> None:
    with pytest.raises(InputError, match=r"--tiou: .* expected numbers in \(0, 1\], as 0\.5 or"):
        parse_tiou(text)


@given(st.text(max_size=12) | st.text("0123456789.:,e-+ ", max_size=12))
def test_any_text_gives_thresholds_or_a_message(text: str) -> None:
    try:
        values = parse_tiou(text)
    except InputError:
        return
    assert values
    assert all(0 < value <= 1 for value in values)


def test_lists_of_videos(tmp_path: Path) -> None:
    path = tmp_path / "blocked.txt"
    path.write_text("b\r\n\n a \nb\n", encoding="utf-8")
    assert read_video_list(path) == ("b", "a")
    path.write_text('["b", "a"]', encoding="utf-8")
    assert read_video_list(path) == ("b", "a")
    for content, said in (
        (b"[1]", "all of them strings"),
        (b"[", "one video id a line"),
        (b"\xff", "a JSON list"),
    ):
        path.write_bytes(content)
        with pytest.raises(InputError, match=said):
            read_video_list(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_video_list(tmp_path / "none.txt")
