"""Readers of annotations: every format, with the oddities that its published files have."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from data_helpers import ACTIVITYNET, SHARED, write_objects, write_text, write_thumos, write_wtalc
from dgam.core.errors import InputError, InputProblems, Problem
from dgam.core.types import Segment, VideoLabels
from dgam.data.annotations import read_labels, read_segments

needs_shared = pytest.mark.skipif(
    not (SHARED / "reference").is_dir(), reason="the shared reference cases are not on this machine"
)


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        pytest.param("video,labels\na,run\n", {"a": ("run",)}, id="plain"),
        pytest.param(
            "video,labels\na,run;jump\n", {"a": ("run", "jump")}, id="two labels, in the file's order"
        ),
        pytest.param("video,labels\na,run\nb,\n", {"a": ("run",), "b": ()}, id="a video with no action"),
        pytest.param("\ufeffvideo,labels\r\na,run\r\n", {"a": ("run",)}, id="byte order mark and CRLF"),
        pytest.param("video,labels\ra,run\r", {"a": ("run",)}, id="CR alone"),
        pytest.param("video,labels\n\na,run\n , \n\n", {"a": ("run",)}, id="blank lines"),
        pytest.param("video,labels\na,run", {"a": ("run",)}, id="no line break at the end"),
        pytest.param("video,labels\na,;run;; jump ;\n", {"a": ("run", "jump")}, id="empty pieces, space"),
        pytest.param("video,labels\na,run;run\n", {"a": ("run",)}, id="a label twice"),
        pytest.param("video,labels\n a , run \n", {"a": ("run",)}, id="space around names"),
        pytest.param(
            'video,labels\n"a, b","walk, fast;run"\n', {"a, b": ("walk, fast", "run")}, id="commas in quotes"
        ),
        pytest.param("fps,Labels,VIDEO\n25,run,a\n", {"a": ("run",)}, id="other columns, order and case"),
        pytest.param(
            "video,labels\nвидео,прыжок\n视频,跑\n", {"видео": ("прыжок",), "视频": ("跑",)}, id="unicode"
        ),
        pytest.param('video,labels\n"a\nb",run\n', {"a\nb": ("run",)}, id="a line break in a quoted id"),
        pytest.param("video,labels\na,Ambiguous\n", {"a": ("Ambiguous",)}, id="one's own label Ambiguous"),
    ],
)
def test_csv(tmp_path: Path, text: str, labels: dict[str, tuple[str, ...]]) -> None:
    found = read_labels(write_text(tmp_path / "labels.csv", text))
    assert found.labels == labels
    assert found.classes == tuple(sorted({name for names in labels.values() for name in names}))
    assert found.subset_of == {}


def test_csv_subsets(tmp_path: Path) -> None:
    found = read_labels(write_text(tmp_path / "l.csv", "video,subset,labels\na,train,x\nb, test ,y\nc,,x\n"))
    assert found.subset_of == {"a": "train", "b": "test"}
    assert found.in_subset("train").videos == ("a",)
    assert found.in_subset("train").classes == ("x", "y")


def test_csv_many_videos(tmp_path: Path) -> None:
    rows = "".join(f"v{number},c{number % 7};c{number % 5}\n" for number in range(10_000))
    found = read_labels(write_text(tmp_path / "l.csv", "video,labels\n" + rows))
    assert len(found) == 10_000
    assert found.labels["v36"] == ("c1",)


def test_given_classes_fix_the_order(tmp_path: Path) -> None:
    path = write_text(tmp_path / "l.csv", "video,labels\na,x\nb,z;y\n")
    assert read_labels(path, classes=["z", "x", "y", "w"]).classes == ("z", "x", "y", "w")
    with pytest.raises(
        InputProblems, match=r"video 'b': has the label 'z', which is not among the 2 classes"
    ):
        read_labels(path, classes=["x", "y"])
    problems: list[Problem] = []
    assert read_labels(path, classes=["x", "y"], on_problem=problems.append).videos == ("a",)
    assert [problem.video for problem in problems] == ["b"]


def test_activitynet(tmp_path: Path) -> None:
    path = write_text(tmp_path / "gt.json", ACTIVITYNET)
    found = read_segments(path)
    assert list(found.videos) == ["v1", "v2", "v3"]
    first, second, third = found.videos.values()
    assert first.segments == (Segment(1.0, 2.5, "Run"), Segment(4.0, 5.0, "Jump"))
    assert first.ambiguous == (Segment(6.0, 7.0, "Ambiguous"),)
    assert (first.subset, first.duration) == ("training", 30.5)
    assert (second.segments, second.duration) == ((Segment(3.0, 3.0, "Run"),), 12.25)
    assert (third.segments, third.subset, third.duration) == ((), "testing", None)
    assert found.classes == ("Jump", "Run")
    assert found.source == str(path)


def test_labels_of_activitynet_are_labels_only(tmp_path: Path) -> None:
    found = read_labels(write_text(tmp_path / "gt.json", ACTIVITYNET))
    assert type(found) is VideoLabels
    assert found.labels == {"v1": ("Run", "Jump"), "v2": ("Run",), "v3": ()}
    assert found.subset_of == {"v1": "training", "v2": "validation", "v3": "testing"}


def test_labels_do_not_need_times(tmp_path: Path) -> None:
    """Weak labels in ActivityNet's form: no segment, or one that nobody could use."""
    annotations = [{"label": "Run"}, {"label": "Jump", "segment": "soon"}]
    database = {"v": {"annotations": annotations, "duration": "long"}}
    path = write_text(tmp_path / "weak.json", {"database": database})
    assert read_labels(path).labels == {"v": ("Run", "Jump")}
    with pytest.raises(InputProblems):
        read_segments(path)


def test_thumos(tmp_path: Path) -> None:
    found = read_segments(write_thumos(tmp_path))
    assert list(found.videos) == [
        "video_test_1",
        "video_test_2",
        "video_test_3",
        "video_validation_1",
        "video_validation_2",
    ]
    one = found.videos["video_test_1"]
    assert sorted(one.segments) == [Segment(7.8, 10.3, "Run"), Segment(11.0, 12.0, "Jump")]
    assert one.ambiguous == (Segment(1.0, 2.0, "Ambiguous"),)
    assert (one.subset, one.duration) == ("test", None)
    assert found.videos["video_test_3"].segments == ()
    assert found.videos["video_validation_1"].subset == "validation"
    assert found.classes == ("Jump", "Run")


def test_labels_of_thumos(tmp_path: Path) -> None:
    found = read_labels(write_thumos(tmp_path))
    assert found.labels == {
        "video_test_1": ("Jump", "Run"),
        "video_test_2": ("Run",),
        "video_validation_1": ("Run",),
        "video_validation_2": ("Jump",),
    }
    assert found.in_subset("validation").videos == ("video_validation_1", "video_validation_2")


@pytest.mark.parametrize("python2", [False, True])
def test_wtalc(tmp_path: Path, python2: bool) -> None:
    found = read_segments(write_wtalc(tmp_path, python2=python2), trusted_pickle=True)
    assert found.classes == ("Run", "Jump")
    first, second, third = found.videos.values()
    assert first.segments == (Segment(1.0, 2.5, "Run"), Segment(4.0, 5.0, "Run"))
    assert (first.subset, first.duration) == ("validation", 10.5)
    assert second.ambiguous == (Segment(5.0, 6.5, "Ambiguous"),)
    assert (third.segments, third.subset) == ((Segment(6.5, 7.0, "Jump"),), "test")


def test_labels_of_wtalc_are_its_own_list(tmp_path: Path) -> None:
    """labels_all, not the instances' labels: the two differ in the published set, and W-TALC trains on the
    first."""
    write_wtalc(tmp_path)
    for name in ("segments", "labels", "duration"):
        (tmp_path / f"{name}.npy").unlink()  # not looked at
    found = read_labels(tmp_path, trusted_pickle=True)
    assert found.labels == {"val_1": ("Run",), "test_1": ("Jump", "Run"), "test_2": ()}
    assert found.classes == ("Run", "Jump")
    assert found.subset_of == {"val_1": "validation", "test_1": "test", "test_2": "test"}


def test_wtalc_needs_trust_and_runs_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, ("evil",)

    monkeypatch.chdir(tmp_path)
    write_wtalc(tmp_path / "w")
    for read in (read_labels, read_segments):
        with pytest.raises(
            InputError, match=r"labels(_all)?\.npy: holds Python objects, .* pass --trusted-pickle"
        ):
            read(tmp_path / "w")
    write_objects(tmp_path / "w" / "labels_all.npy", [Evil(), ["Run"], ["Run"]])
    with pytest.raises(InputError, match=r"asks for \w+\.mkdir, expected nothing but arrays"):
        read_labels(tmp_path / "w", trusted_pickle=True)
    assert not (tmp_path / "evil").exists()


def test_label_table_of_the_release(tmp_path: Path) -> None:
    train, test = tmp_path / "train_data", tmp_path / "test_data"
    for folder, table in ((train, [[1, 0], [1, 1], [0, 0]]), (test, [[0, 1], [1, 0]])):
        folder.mkdir()
        np.save(folder / f"{folder.name[:-5]}_labels.npy", np.array(table, np.float64))
    write_text(test / "Sim_test_vid_list.txt", "video_test_4\nvideo_test_9\n")
    expected = {"train_1": ("Jump",), "train_2": ("Jump", "Run"), "train_3": ()}
    assert read_labels(train, classes=["Jump", "Run"]).labels == expected
    write_text(tmp_path / "classes.txt", "Jump\nRun\n")
    assert read_labels(train / "train_labels.npy").labels == expected
    both = read_labels(tmp_path)
    assert both.labels == expected | {"video_test_4": ("Run",), "video_test_9": ("Jump",)}
    assert (both.classes, both.subset_of["train_3"]) == (("Jump", "Run"), "train")


def test_all_defects_of_a_file_are_told_together(tmp_path: Path) -> None:
    text = "video,labels\na,x\nb,x\na,y\n,x\nc,x,y\nd\ne,x\n"
    path = write_text(tmp_path / "l.csv", text)
    with pytest.raises(InputProblems) as caught:
        read_labels(path)
    assert [(problem.video, problem.what) for problem in caught.value.problems] == [
        ("a", "line 4: the video is listed a second time."),
        (None, "line 5: the video id is empty."),
        ("c", "line 6: 3 fields, the first line has 2. Separate labels with ';'."),
        ("d", "line 7: 1 fields, the first line has 2."),
    ]
    assert {problem.where for problem in caught.value.problems} == {str(path)}
    left: list[Problem] = []
    assert read_labels(path, on_problem=left.append).videos == ("b", "e")
    assert left == list(caught.value.problems)


def test_a_bad_segment_leaves_its_video_out(tmp_path: Path) -> None:
    content = json.loads(json.dumps(ACTIVITYNET))
    content["database"]["v1"]["annotations"] += [
        {"label": "Run", "segment": [9, 8]},
        {"label": "", "segment": [1]},
    ]
    content["database"]["v2"]["duration"] = -1
    path = write_text(tmp_path / "gt.json", content)
    left: list[Problem] = []
    assert list(read_segments(path, on_problem=left.append).videos) == ["v3"]
    assert [(problem.video, problem.what) for problem in left] == [
        ("v1", "annotation 3: it ends (8 s) before it starts (9 s)."),
        ("v1", "annotation 4: its label is empty."),
        ("v2", "its duration must be above 0 seconds, got -1."),
    ]


def test_a_bad_line_of_thumos_leaves_its_video_out(tmp_path: Path) -> None:
    write_thumos(tmp_path)
    write_text(tmp_path / "Swim_test.txt", "video_test_1 5 4\nvideo_test_2 1\nvideo_validation_1 1 2\n")
    left: list[Problem] = []
    found = read_segments(tmp_path, on_problem=left.append)
    assert list(found.videos) == ["video_test_3", "video_validation_2"]
    assert [problem.what for problem in left] == [
        "line 1: it ends (4 s) before it starts (5 s).",
        "line 2: expected 'video start end', got 'video_test_2 1'.",
        "is in test here, in validation elsewhere.",
    ]


# Counts: bfshi's and AutoLoc's files counted with json alone; ABOUT.md beside them gives the same.
@needs_shared
@pytest.mark.parametrize(
    ("name", "videos", "instances", "classes"),
    [
        ("thumos14_gt/gt.json", 210, 3311, 20),
        ("thumos14_gt/gt+270.json", 211, 3340, 20),
        ("thumos14_gt/gt+1496.json", 211, 3329, 20),
        ("autoloc_thumos14/gt_seconds.json", 210, 3234, 20),
        ("activitynet12_gt/gt.json", 2383, 3582, 100),
    ],
)
def test_reference_annotations(name: str, videos: int, instances: int, classes: int) -> None:
    path = SHARED / "reference" / name
    found = read_segments(path)
    assert len(found.in_subset("test").videos) == videos
    assert sum(len(video.segments) for video in found.videos.values()) == instances
    assert len(found.classes) == classes
    labels = read_labels(path)
    assert labels.classes == found.classes
    assert {video: set(names) for video, names in labels.labels.items()} == {
        video: {segment.label for segment in annotated.segments} for video, annotated in found.videos.items()
    }
