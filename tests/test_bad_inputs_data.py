"""Bad inputs of data in, and the words that each is answered with. docs/data.md shows some of them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_helpers import (
    some_arrays,
    write_joint,
    write_npz,
    write_objects,
    write_streams,
    write_text,
    write_wtalc,
)
from dgam.core.errors import InputError
from dgam.core.timeline import SnippetGrid
from dgam.data.annotations import read_labels, read_segments
from dgam.features.layouts import open_features
from dgam.features.writer import StoreWriter

GRID = SnippetGrid()


@dataclass(frozen=True)
class Bad:
    """One bad input: what is done in an empty folder, and part of the message; {at} is the folder."""

    name: str
    action: Callable[[Path], object]
    message: str


def csv(text: str | bytes) -> Callable[[Path], object]:
    return lambda at: read_labels(write_text(at / "l.csv", text))


def gt(text: str | bytes | dict[str, Any]) -> Callable[[Path], object]:
    return lambda at: read_segments(write_text(at / "gt.json", text))


def gt_video(**content: Any) -> Callable[[Path], object]:
    return gt({"database": {"v": content}})


def gt_segment(segment: Any, label: Any = "Run") -> Callable[[Path], object]:
    return gt_video(annotations=[{"label": label, "segment": segment}])


def text_at(name: str, text: str | bytes, action: Callable[[Path], object]) -> Callable[[Path], object]:
    """Write a text, then act on the folder."""
    return lambda at: (write_text(at / name, text), action(at))


def npy(array: Any) -> Callable[[Path], object]:
    """Read an array as features."""

    def action(at: Path) -> None:
        (at / "rgb").mkdir()
        np.save(at / "rgb" / "v.npy", array)
        source = open_features(at)
        source.read("v", "rgb")

    return action


def wtalc(
    name: str, values: list[Any], read: Callable[..., object] = read_segments
) -> Callable[[Path], object]:
    """Read a W-TALC folder in which one list is another."""

    def action(at: Path) -> None:
        write_objects(write_wtalc(at) / f"{name}.npy", values)
        read(at, trusted_pickle=True)

    return action


def add(**arguments: Any) -> Callable[[Path], object]:
    """Add a video to a store."""
    given: dict[str, Any] = {
        "video": "v",
        "arrays": {"rgb": np.ones((3, 4), np.float32)},
        "grid": GRID,
    } | arguments
    return lambda at: StoreWriter(at / "s", {"rgb": 4, "flow": 6}, dtype="float16").add(**given)


def cut_npy(at: Path) -> None:
    file = write_streams(at, some_arrays()) / "rgb" / "a.npy"
    file.write_bytes(file.read_bytes()[:-7])
    open_features(at).read("a", "rgb")


def store(name: str, change: Callable[[str], str]) -> Callable[[Path], object]:
    """Read a store in which one file's text is changed."""

    def action(at: Path) -> None:
        StoreWriter(at, {"rgb": 4}).add("v", {"rgb": np.ones((3, 4), np.float32)}, grid=GRID)
        file = at / name
        file.write_text(change(file.read_text()))
        source = open_features(at)
        source.timeline(source.videos[0])

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

FEATURES = [
    Bad(
        "no such folder",
        lambda at: open_features(at / "x"),
        "{at}/x: does not exist. Expected snippet features",
    ),
    Bad("empty folder", open_features, "{at}: no snippet features found. It holds nothing. Expected a store"),
    Bad(
        "one folder too high",
        lambda at: (write_streams(at / "train", some_arrays()), open_features(at)),
        "It holds folders train. Did you mean {at}/train? Expected",
    ),
    Bad(
        "bare arrays",
        lambda at: open_features(write_joint(at, some_arrays())),
        "holds 3 .npy files and no folder per stream. They may be one stream, or several side by side. Say "
        "--layout single, or --layout joint",
    ),
    Bad(
        "unknown layout",
        lambda at: open_features(at, layout="h5"),
        "unknown layout 'h5'. Known: auto, store, streams",
    ),  # type: ignore[arg-type]
    Bad(
        "another layout",
        lambda at: open_features(write_streams(at, some_arrays()), layout="npz"),
        "holds no video in layout npz. It holds folders flow, rgb.",
    ),
    Bad(
        "a file as folder",
        text_at("f.npz", "x", lambda at: open_features(at / "f.npz")),
        "is a file, expected a folder of features, or W-TALC's one .npy file. Give the folder that holds it.",
    ),
    Bad(
        "unknown stream",
        lambda at: open_features(write_streams(at, some_arrays()), streams=["rbg"]),
        "has no stream 'rbg'; it has rgb, flow. Did you mean 'rgb'?",
    ),
    Bad(
        "stream with a plus",
        lambda at: open_features(write_streams(at, some_arrays(dims={"rgb+flow": 3}))),
        "'rgb+flow' cannot be the name of a stream.",
    ),
    Bad(
        "odd joint width",
        lambda at: open_features(write_joint(at, some_arrays(dims={"x": 5})), layout="joint"),
        "has 5 columns, which cannot be halved into RGB and flow.",
    ),
    Bad(
        "other joint width",
        lambda at: open_features(write_joint(at, some_arrays()), joint={"rgb": 4, "flow": 4}),
        "has 10 columns, but the streams' dimensions are rgb 4 + flow 4.",
    ),
    Bad(
        "three axes",
        npy(np.ones((1, 3, 4), np.float32)),
        "v.npy: has shape (1, 3, 4), expected (T, d): one row for each snippet",
    ),
    Bad(
        "whole numbers",
        npy(np.ones((3, 4), np.int64)),
        "v.npy: holds int64 numbers, expected float16, float32 or float64.",
    ),
    Bad("objects", npy(np.array([[None]])), "v.npy: holds object numbers, expected float16"),
    Bad(
        "a text file named .npy",
        text_at("rgb/v.npy", "hello", open_features),
        "v.npy: is not a NumPy .npy file: it begins with b'hello'.",
    ),
    Bad(
        "an empty file",
        text_at("rgb/v.npy", "", open_features),
        "v.npy: is not a NumPy .npy file: it is empty.",
    ),
    Bad(
        "cut short", cut_npy, "a.npy: is cut short: 169 bytes, its head promises 176 (shape (3, 4), float32)."
    ),
    Bad(
        "an npz that is none",
        lambda at: (
            write_npz(at, some_arrays()),
            write_text(at / "a.npz", "x"),
            open_features(at).read("a", "rgb"),
        ),
        "a.npz: is not a readable .npz archive (BadZipFile: File is not a zip file).",
    ),
    Bad(
        "pickle without trust",
        lambda at: open_features(write_objects(at / "f.npy", [1]), names=write_text(at / "n.txt", "a")),
        "f.npy: holds Python objects, that is a pickle, which can run code when it is opened. If you trust "
        "whoever made it, pass --trusted-pickle",
    ),
    Bad(
        "pickle without names",
        lambda at: open_features(write_objects(at / "f.npy", [1]), trusted_pickle=True),
        "numbers its videos and does not name them. Give their names with --names",
    ),
    Bad(
        "names of other videos",
        lambda at: open_features(
            write_objects(at / "f.npy", [1, 2]), names=write_text(at / "n.txt", "a"), trusted_pickle=True
        ),
        "f.npy: holds 2 videos, but {at}/n.txt lists 1.",
    ),
    Bad(
        "a name twice",
        lambda at: open_features(
            write_objects(at / "f.npy", [1, 2]), names=write_text(at / "n.txt", "a\na\n"), trusted_pickle=True
        ),
        "n.txt: name 2 is repeated: 'a'.",
    ),
    Bad(
        "release without numbers",
        lambda at: open_features(
            write_streams(at / "train_data", {"x": {"rgb_features": np.ones((2, 2))}}).parent
        ),
        "x.npy: the release's layout numbers its files",
    ),
    Bad(
        "release with too few names",
        lambda at: (
            write_text(at / "train_data/x_vid_list.txt", "a\n"),
            write_streams(at / "train_data", {"2": {"rgb_features": np.ones((2, 2))}}),
            open_features(at),
        ),
        "train_data: there is a video 2, but the list of names has 1, from 1.",
    ),
]

STORES = [
    Bad(
        "store of other streams",
        lambda at: (StoreWriter(at, {"rgb": 4}), StoreWriter(at, {"rgb": 5})),
        "{at}: holds a store with other properties: streams {'rgb': 4}, asked for {'rgb': 5}. Give a new",
    ),
    Bad(
        "store of another dtype",
        lambda at: (StoreWriter(at, {"rgb": 4}), StoreWriter(at, {"rgb": 4}, dtype="float16")),
        "dtype float32, asked for float16.",
    ),
    Bad(
        "store in a full folder",
        lambda at: StoreWriter(write_streams(at, some_arrays()), {"rgb": 4}),
        "{at}: is not a store and not empty (it holds flow, rgb). Give a new folder.",
    ),
    Bad(
        "store as a file",
        lambda at: StoreWriter(write_text(at / "f", "x"), {"rgb": 4}),
        "{at}/f: is a file, expected a folder for the store.",
    ),
    Bad(
        "store of whole numbers",
        lambda at: StoreWriter(at, {"rgb": 4}, dtype="int8"),
        "dtype 'int8': a store keeps one of float32, float16.",
    ),
    Bad("store without streams", lambda at: StoreWriter(at, {}), "a store needs at least one stream."),
    Bad(
        "unknown stream for a store",
        add(arrays={"rbg": np.ones((3, 4))}),
        "video 'v': got streams ['rbg'], the store has rgb, flow.",
    ),
    Bad(
        "streams of two lengths",
        add(arrays={"rgb": np.ones((3, 4)), "flow": np.ones((2, 6))}),
        "video 'v': streams differ in snippets: {'rgb': 3, 'flow': 2}.",
    ),
    Bad(
        "NaN for a store",
        add(arrays={"rgb": np.full((3, 4), np.nan)}),
        "stream 'rgb': holds 12 NaN or infinite values, the first (nan) at snippet 0, dimension 0.",
    ),
    Bad(
        "too large for float16",
        add(arrays={"rgb": np.full((3, 4), -1e6)}),
        "value -1e+06 at snippet 0, dimension 0 does not fit into float16 (at most 65504).",
    ),
    Bad(
        "no snippets for a store",
        add(arrays={"rgb": np.ones((0, 4))}),
        "stream 'rgb': has no snippets (T = 0).",
    ),
    Bad("no id", add(video=""), "A video id must not be empty."),
    Bad(
        "a very long id",
        add(video="x" * 300),
        "is too long: 300 bytes as a file name, at most 200 are possible.",
    ),
    Bad(
        "infinite duration",
        add(duration=float("inf")),
        "video 'v': 'duration' is 'inf', expected seconds above 0, or null.",
    ),
    Bad(
        "another format",
        store("store.json", lambda text: text.replace('"format": 1', '"format": 2')),
        "store.json: format 2, this version of dgam reads 1.",
    ),
    Bad("damaged head", store("store.json", lambda text: text[:-5]), "store.json: is not valid JSON"),
    Bad(
        "entry of another video",
        store("videos/v.json", lambda text: text.replace('"v"', '"w"')),
        "v.json: 'video' is 'w', expected 'v', which its file name says. Import the video again.",
    ),
    Bad(
        "no frame rate",
        store("videos/v.json", lambda text: text.replace("25/1", "25/0")),
        "v.json: 'fps' is '25/0', expected a fraction such as '30000/1001'.",
    ),
    Bad(
        "another time grid",
        lambda at: (add()(at), open_features(at / "s", grid=SnippetGrid(30))),
        "the store's snippets are 16 frames every 16 at 25 fps, not 16 every 16 at 30 fps as asked for.",
    ),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(
    "bad", [pytest.param(bad, id=bad.name) for bad in (*LABELS, *SEGMENTS, *FEATURES, *STORES)]
)
def test_bad_input(tmp_path: Path, bad: Bad) -> None:
    with pytest.raises(InputError, match=re.escape(bad.message.replace("{at}", str(tmp_path)))):
        bad.action(tmp_path)
