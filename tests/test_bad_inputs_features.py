"""Bad features and stores, and the words that each is answered with. docs/data.md shows some of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bad_inputs import Bad, text_at
from data_helpers import some_arrays, write_joint, write_npz, write_objects, write_streams, write_text
from dgam.core.timeline import SnippetGrid
from dgam.features.layouts import open_features
from dgam.features.writer import StoreWriter

GRID = SnippetGrid()


def npy(array: Any) -> Callable[[Path], object]:
    """Read an array as features."""

    def action(at: Path) -> None:
        (at / "rgb").mkdir()
        np.save(at / "rgb" / "v.npy", array)
        source = open_features(at)
        source.read("v", "rgb")

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
    ),
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
    ),
]


@pytest.mark.parametrize("bad", [*FEATURES, *STORES], ids=lambda bad: bad.name)
def test_bad_input(tmp_path: Path, bad: Bad) -> None:
    bad.is_answered(tmp_path)
