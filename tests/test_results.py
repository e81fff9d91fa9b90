"""Result files: what is written is read again, defects are named with video and index."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dgam.core.errors import InputError, InputProblems, Problem
from dgam.core.results import read_detections, write_detections
from dgam.core.types import Detection, Detections

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
DETECTIONS = st.builds(
    lambda times, label, score: Detection(min(times), max(times), label, score),
    st.tuples(FINITE, FINITE),
    NAMES,
    FINITE,
)
ABOUT = st.dictionaries(NAMES, st.none() | st.booleans() | st.integers() | FINITE | NAMES, max_size=3)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["results", "label", "score", "segment", "external_data", "v"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


GOOD = {"label": "run", "score": 1.0, "segment": [0, 1]}


def written(folder: Path, results: object, **more: object) -> Path:
    path = folder / "detections.json"
    path.write_text(json.dumps({"results": results, **more}), encoding="utf-8")
    return path


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(NAMES, st.lists(DETECTIONS, max_size=3), max_size=3), ABOUT)
def test_what_is_written_is_read_again(
    tmp_path: Path, videos: dict[str, list[Detection]], about: dict[str, object]
) -> None:
    before = Detections(videos, about)
    write_detections(tmp_path / "deep" / "detections.json", before)
    after = read_detections(tmp_path / "deep" / "detections.json")
    assert dict(after.videos) == dict(before.videos)
    assert list(after.videos) == list(before.videos)
    assert dict(after.about) == about


def test_the_file_is_activitynets(tmp_path: Path) -> None:
    path = tmp_path / "detections.json"
    write_detections(path, Detections({"a": [Detection(1, 2.5, "run", 3)], "b": []}, {"seed": 0}))
    assert json.loads(path.read_text(encoding="utf-8")) == {
        "version": "VERSION 1.3",
        "results": {"a": [{"label": "run", "score": 3.0, "segment": [1.0, 2.5]}], "b": []},
        "external_data": {"seed": 0},
    }


def test_published_files_are_read(reference: Path) -> None:
    stpn = read_detections(reference / "stpn_thumos14" / "results.json")
    assert (len(stpn.videos), sum(map(len, stpn.videos.values()))) == (209, 9151)
    assert stpn.about == {"used": True, "details": "Features from I3D Net"}
    autoloc = read_detections(reference / "autoloc_thumos14" / "detections_seconds.json")
    assert (len(autoloc.videos), sum(map(len, autoloc.videos.values()))) == (213, 20763)


def test_a_detection_may_have_no_length(tmp_path: Path) -> None:
    path = written(tmp_path, {"a": [{**GOOD, "segment": [1, 1]}]})
    assert read_detections(path).videos["a"] == (Detection(1.0, 1.0, "run", 1.0),)


def test_numbers_may_be_text(tmp_path: Path) -> None:
    path = written(tmp_path, {"a": [{"label": "run", "score": "0.5", "segment": ["1", " 2.5 "]}]})
    assert read_detections(path).videos["a"] == (Detection(1.0, 2.5, "run", 0.5),)


@pytest.mark.parametrize(
    ("external", "about"),
    [({}, {}), (None, {}), ("none used", {"details": "none used"}), ({"k": 1}, {"k": 1})],
)
def test_external_data_may_be_anything(tmp_path: Path, external: object, about: dict[str, object]) -> None:
    assert dict(read_detections(written(tmp_path, {}, external_data=external)).about) == about


BAD_PREDICTIONS = [
    (7, 'must be an object {"label": …, "score": …, "segment": [start, end]}, got 7.'),
    ({"label": "run"}, "has no 'score' and no 'segment'; expected an object"),
    ({**GOOD, "label": 3}, "its label must be a name, got 3."),
    ({**GOOD, "label": ""}, "its label must be a name, got ''."),
    ({**GOOD, "score": None}, "its score must be a number, got None."),
    ({**GOOD, "score": True}, "its score must be a number, got True."),
    ({**GOOD, "score": float("nan")}, "its score must be finite, got nan."),
    ({**GOOD, "score": "high"}, "its score must be a number, got 'high'."),
    ({**GOOD, "segment": [1]}, "its segment must be [start, end] in seconds, got [1]."),
    ({**GOOD, "segment": "0-1"}, "its segment must be [start, end] in seconds, got '0-1'."),
    ({**GOOD, "segment": [0, "x"]}, "its end must be a number, got 'x'."),
    ({**GOOD, "segment": [0, float("inf")]}, "its end must be finite, got inf."),
    ({**GOOD, "segment": [[0], 1]}, "its start must be a number, got [0]."),
    ({**GOOD, "segment": [5, 4]}, "its segment [5, 4] ends before it starts."),
]


@pytest.mark.parametrize(("item", "said"), BAD_PREDICTIONS)
def test_a_bad_prediction_is_named_and_can_be_left_out(tmp_path: Path, item: object, said: str) -> None:
    path = written(tmp_path, {"a": [GOOD, item], "b": [GOOD]})
    with pytest.raises(InputProblems) as caught:
        read_detections(path)
    (problem,) = caught.value.problems
    assert (problem.where, problem.video) == (str(path), "a")
    assert problem.what.startswith(f"prediction 1: {said}")
    told: list[Problem] = []
    rest = read_detections(path, told.append)
    assert told == [problem]
    assert {video: len(found) for video, found in rest.videos.items()} == {"a": 1, "b": 1}


def test_all_bad_predictions_are_named_at_once(tmp_path: Path) -> None:
    path = written(tmp_path, {"a": [item for item, _ in BAD_PREDICTIONS], "b": {"label": "run"}})
    with pytest.raises(InputProblems) as caught:
        read_detections(path)
    assert len(caught.value.problems) == len(BAD_PREDICTIONS) + 1
    assert "video 'b': must have a list of predictions, got {'label': 'run'}." in str(caught.value)


def test_a_video_listed_twice_is_left_out_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "detections.json"
    path.write_text('{"results": {"a": [], "b": [], "a": []}}', encoding="utf-8")
    with pytest.raises(InputProblems, match="video 'a': is listed more than once; keep one list"):
        read_detections(path)
    told: list[Problem] = []
    assert list(read_detections(path, told.append).videos) == ["b"]
    assert [problem.video for problem in told] == ["a"]


def test_a_key_given_twice_in_a_prediction_is_told(tmp_path: Path) -> None:
    path = tmp_path / "detections.json"
    path.write_text('{"results": {"a": [{"label": "x", "score": 1, "score": 2, "segment": [0, 1]}]}}')
    with pytest.raises(InputProblems, match="an object has the key 'score' twice; only the last counts"):
        read_detections(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "is not valid JSON"),
        (b"\xff\xfe\x00", "is not valid JSON"),
        (b"[" * 100_000, "is not valid JSON"),
        (b"1" * 5000, "is not valid JSON|must hold a JSON object"),
        (b"[1]", "must hold a JSON object with 'results', got a list"),
        (b'{"database": {}}', "has no object 'results'.*its keys are 'database'.*Is it the ground truth"),
        (b'{"results": []}', "has no object 'results'"),
    ],
)
def test_a_file_of_another_kind_is_refused_even_when_skipping(
    tmp_path: Path, content: bytes, said: str
) -> None:
    path = tmp_path / "detections.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=said):
        read_detections(path, lambda _: None)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.json: cannot be read: No such file"):
        read_detections(tmp_path / "nowhere.json")
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        read_detections(tmp_path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(JSON | st.builds(lambda found: {"results": {"v": found}}, st.lists(JSON, max_size=3)))
def test_any_json_is_read_or_refused_in_words(tmp_path: Path, content: object) -> None:
    path = tmp_path / "detections.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    with contextlib.suppress(InputError):
        read_detections(path)
    told: list[Problem] = []
    try:
        rest = read_detections(path, told.append)
    except InputError:
        return
    items = [
        item for found in content["results"].values() for item in (found if isinstance(found, list) else [])
    ]  # type: ignore[index, call-overload]  # JSON
    # For mypy: JSON.
    lists = [found for found in content["results"].values() if not isinstance(found, list)]  # type: ignore[index, call-overload]
    assert sum(map(len, rest.videos.values())) + len(told) == len(items) + len(lists)


@given(st.binary(max_size=60))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_refused_in_words(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "detections.json"
    path.write_bytes(content)
    with pytest.raises(InputError):
        read_detections(path)
