"""Bad annotations, and the words that each is answered with. docs/data.md shows some of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bad_inputs import Bad, text_at
from data_helpers import write_objects, write_text, write_wtalc
from dgam.data.annotations import read_labels, read_segments


def csv(text: str | bytes) -> Callable[[Path], object]:
    return lambda at: read_labels(write_text(at / "l.csv", text))


def gt(text: str | bytes | dict[str, Any]) -> Callable[[Path], object]:
    return lambda at: read_segments(write_text(at / "gt.json", text))


def gt_video(**content: Any) -> Callable[[Path], object]:
    return gt({"database": {"v": content}})


def gt_segment(segment: Any, label: Any = "Run") -> Callable[[Path], object]:
    return gt_video(annotations=[{"label": label, "segment": segment}])


def wtalc(
    name: str, values: list[Any], read: Callable[..., object] = read_segments
) -> Callable[[Path], object]:
    """Read a W-TALC folder in which one list is another."""

    def action(at: Path) -> None:
        write_objects(write_wtalc(at) / f"{name}.npy", values)
        read(at, trusted_pickle=True)

    return action


LABELS = [
    Bad(
        "no such file",
        lambda at: read_labels(at / "x.csv"),
        "{at}/x.csv: does not exist. Expected annotations",
    ),
    Bad("empty file", csv(""), "l.csv: is empty. Expected a first line 'video,labels'"),
    Bad("head alone", csv("video,labels\n"), "l.csv: holds no usable video."),
    Bad("no head", csv("a,run\nb,jump\n"), "has no column 'video' and no column 'labels'; it is 'a,run'."),
    Bad("column named label", csv("video,label\na,run\n"), "Rename the column 'label' to 'labels'."),
    Bad(
        "semicolons between columns",
        csv("video;labels\na;run\n"),
        "Separate columns with commas, and labels with",
    ),
    Bad("column twice", csv("video,labels,labels\n"), "names the column 'labels' more than once."),
    Bad(
        "comma between labels",
        csv("video,labels\na,run,jump\n"),
        "video 'a': line 2: 3 fields, the first line has 2.",
    ),
    Bad("no label field", csv("video,labels\na\n"), "video 'a': line 2: 1 fields, the first line has 2."),
    Bad("no video id", csv("video,labels\n,run\n"), "line 2: the video id is empty."),
    Bad(
        "video twice",
        csv("video,labels\na,x\nb,x\na,y\n"),
        "video 'a': line 4: the video is listed a second time.",
    ),
    Bad("open quote", csv('video,labels\n"a,run\n'), "line 2: is not valid CSV: unexpected end of data."),
    Bad(
        "Latin-1",
        csv("video,labels\ncafé,run\n".encode("latin1")),
        "is not UTF-8 text: byte 16 is 0xe9. Save it as",
    ),
    Bad("UTF-16", csv("video,labels\n".encode("utf-16")), "is not UTF-8 text: byte 0 is 0xff."),
    Bad(
        "NUL in an id",
        csv("video,labels\na\0b,run\n"),
        "the video id 'a\\x00b' holds characters that no text has.",
    ),
    Bad(
        "unknown label",
        lambda at: read_labels(write_text(at / "l.csv", "video,labels\na,runn\n"), classes=["run", "jump"]),
        "video 'a': has the label 'runn', which is not among the 2 classes. Did you mean 'run'?",
    ),
    Bad(
        "a class twice",
        lambda at: read_labels(at, classes=["run", "run"]),
        "The list of classes names one twice",
    ),
    Bad(
        "empty folder",
        lambda at: read_labels(at),
        "{at}: no annotations found. It holds nothing. Expected THUMOS14's",
    ),
    Bad(
        "unknown ending",
        text_at("l.xml", "<x/>", lambda at: read_labels(at / "l.xml")),
        "its ending '.xml' is that of",
    ),
    Bad(
        "one file of THUMOS14",
        text_at("Run_test.txt", "v 1 2", lambda at: read_labels(at / "Run_test.txt")),
        "is one file of THUMOS14's text release. Give the folder, {at}.",
    ),
    Bad(
        "one file of W-TALC",
        lambda at: read_labels(write_wtalc(at) / "labels.npy"),
        "labels.npy: is one file of a W-TALC folder. Give the folder, {at}.",
    ),
    Bad(
        "label table without classes",
        lambda at: (np.save(at / "train_labels.npy", np.eye(3)), read_labels(at)),
        "train_labels.npy: does not name its 3 classes. Put their names, in the order of its columns",
    ),
    Bad(
        "label table with other numbers",
        lambda at: (
            np.save(at / "train_labels.npy", np.full((2, 2), 2.0)),
            read_labels(at, classes=["a", "b"]),
        ),
        "expected a table (videos × classes) of 0 and 1, got shape (2, 2).",
    ),
    Bad(
        "label table with other classes",
        lambda at: (np.save(at / "train_labels.npy", np.eye(3)), read_labels(at, classes=["a", "b"])),
        "train_labels.npy: has 3 columns, but there are 2 classes.",
    ),
]

SEGMENTS = [
    Bad(
        "labels without times",
        lambda at: read_segments(write_text(at / "l.csv", "video,labels\na,x\n")),
        "l.csv: holds video labels without times, expected segments",
    ),
    Bad("no JSON", gt('{"database": {'), "gt.json: is not valid JSON: Expecting property name"),
    Bad(
        "NaN",
        gt('{"database": {"v": {"duration": NaN}}}'),
        "is not valid JSON: it holds NaN, which is no number.",
    ),
    Bad("too deep", gt("[" * 100_000), "gt.json: is not valid JSON: too deeply nested."),
    Bad("endless number", gt("1" * 10_000), "gt.json: is not valid JSON: Exceeds the limit"),
    Bad("a list", gt("[1, 2]"), "gt.json: has no object 'database', only [1, 2]."),
    Bad("detections", gt({"results": {}}), "only 'results'. It looks like detections; give the annotations."),
    Bad("no video", gt({"database": {}}), "gt.json: holds no usable video."),
    Bad(
        "video twice",
        gt('{"database": {"v": {}, "v": {}}}'),
        "video 'v': the video is listed more than once. Keep",
    ),
    Bad(
        "video that is a list",
        gt({"database": {"v": []}}),
        "video 'v': must be an object with 'annotations', got [].",
    ),
    Bad("annotations that are text", gt_video(annotations="x"), "its annotations must be a list, got 'x'."),
    Bad(
        "annotation that is text",
        gt_video(annotations=["x"]),
        "annotation 0: must be an object with a 'label', got",
    ),
    Bad("subset that is a number", gt_video(subset=3), "its subset must be text, got 3."),
    Bad("no duration", gt_video(duration="long"), "its duration must be a number of seconds, got 'long'."),
    Bad("duration below 0", gt_video(duration=-2), "its duration must be above 0 seconds, got -2."),
    Bad("one time", gt_segment([1]), "annotation 0: its segment must be [start, end] in seconds, got [1]."),
    Bad("no time", gt_segment(["a", 2]), "annotation 0: its start must be a number of seconds, got 'a'."),
    Bad(
        "true as a time",
        gt_segment([0, True]),
        "annotation 0: its end must be a number of seconds, got True.",
    ),
    Bad(
        "infinite time",
        gt_segment([0, "inf"]),
        "annotation 0: its end must be a number of seconds, got 'inf'.",
    ),
    Bad(
        "digits in groups",
        gt_segment([0, "1_0"]),
        "annotation 0: its end must be a number of seconds, got '1_0'.",
    ),
    Bad("end before start", gt_segment([5, 4.5]), "annotation 0: it ends (4.5 s) before it starts (5 s)."),
    Bad("no label", gt_segment([1, 2], None), "annotation 0: its label must be text, got None."),
    Bad("empty label", gt_segment([1, 2], " "), "annotation 0: its label is empty."),
    Bad(
        "half a character",
        gt_segment([1, 2], "\ud800"),
        r"its label '\ud800' holds characters that no text has.",
    ),
    Bad(
        "THUMOS14 line",
        text_at("Run_test.txt", "v 1 2\nv 3\n", read_segments),
        "Run_test.txt: video 'v': line 2: expected 'video start end', got 'v 3'.",
    ),
    Bad(
        "THUMOS14 time",
        text_at("Run_val.txt", "v 1 x\n", read_segments),
        "Run_val.txt: video 'v': line 1: its end must be a number of seconds, got 'x'.",
    ),
    Bad(
        "W-TALC without trust",
        lambda at: read_segments(write_wtalc(at)),
        "labels.npy: holds Python objects, that is a pickle, which can run code",
    ),
    Bad(
        "W-TALC of another length",
        wtalc("segments", [[], []]),
        "segments.npy: lists 2 videos, videoname.npy 3.",
    ),
    Bad(
        "W-TALC times and labels",
        wtalc("segments", [[[1, 2]], [], []]),
        "video 'val_1': it has 1 segments and 2 labels for them.",
    ),
    Bad(
        "W-TALC label unknown",
        wtalc("labels_all", [["Run"], ["Rum"], []], read_labels),
        "video 'test_1': has the label 'Rum', which is not among the 2 classes. Did you mean 'Run'?",
    ),
]


@pytest.mark.parametrize("bad", [*LABELS, *SEGMENTS], ids=lambda bad: bad.name)
def test_bad_input(tmp_path: Path, bad: Bad) -> None:
    bad.is_answered(tmp_path)
