"""Small simulated features and annotations in every layout, for the tests of data in."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dgam.core.errors import InputError
from dgam.features.source import Array

SHARED = Path(__file__).resolve().parents[1].parent / "shared"

Arrays = dict[str, dict[str, Array]]


def some_arrays(videos: tuple[str, ...] = ("a", "b", "c"), dims: Mapping[str, int] | None = None) -> Arrays:
    """Simulated features: ``{video: {stream: (T, d)}}``, T = 3, 4, 5, …, values that float16 holds
    exactly."""
    rng = np.random.default_rng(7)
    return {
        video: {
            stream: rng.integers(0, 64, (3 + index, dim)).astype(np.float32) / 8
            for stream, dim in (dims or {"rgb": 4, "flow": 6}).items()
        }
        for index, video in enumerate(videos)
    }


def write_streams(folder: Path, arrays: Arrays) -> Path:
    """A folder per stream with a .npy for each video."""
    for video, streams in arrays.items():
        for stream, array in streams.items():
            (folder / stream).mkdir(parents=True, exist_ok=True)
            np.save(folder / stream / f"{video}.npy", array)
    return folder


def write_joint(folder: Path, arrays: Arrays) -> Path:
    """A .npy for each video, the streams side by side."""
    folder.mkdir(parents=True, exist_ok=True)
    for video, streams in arrays.items():
        np.save(folder / f"{video}.npy", np.concatenate(list(streams.values()), axis=1))
    return folder


def write_npz(folder: Path, arrays: Arrays, *, compressed: bool = False) -> Path:
    """An .npz for each video, with a frame rate beside the streams."""
    folder.mkdir(parents=True, exist_ok=True)
    save = np.savez_compressed if compressed else np.savez
    for video, streams in arrays.items():
        save(folder / f"{video}.npz", fps=np.float64(25), **streams)
    return folder


def write_objects(path: Path, values: list[Any], *, python2: bool = False) -> Path:
    """An object array, as NumPy of today writes it or in the form that NumPy under Python 2 left behind."""
    array = np.empty(len(values), dtype=object)
    array[:] = values
    path.parent.mkdir(parents=True, exist_ok=True)
    if not python2:
        np.save(path, array, allow_pickle=True)
        return path
    head = f"{{'descr': '|O', 'fortran_order': False, 'shape': ({len(values)}L,), }}"
    head = head.ljust(128 - 11) + "\n"
    body = pickle.dumps(array, protocol=2).replace(b"numpy._core.", b"numpy.core.")
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head.encode() + body)
    return path


def write_wtalc(folder: Path, *, python2: bool = False) -> Path:
    """W-TALC's annotation folder: three videos, two classes, one ambiguous stretch."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "videoname.npy", np.array([b"val_1", b"test_1", b"test_2"]))
    np.save(folder / "subset.npy", np.array([b"validation", b"test", b"test"]))
    np.save(folder / "duration.npy", np.array([[10.5], [20.0], [30.0]]))
    np.save(folder / "classlist.npy", np.array([b"Run", b"Jump"]))
    write_objects(folder / "labels_all.npy", [["Run"], ["Jump", "Run"], []], python2=python2)
    write_objects(folder / "labels.npy", [["Run", "Run"], ["Jump"], ["Jump"]], python2=python2)
    write_objects(
        folder / "segments.npy", [[[1.0, 2.5], [4.0, 5.0]], [[0.0, 3.0]], [[6.5, 7.0]]], python2=python2
    )
    (folder / "Ambiguous_test.txt").write_text("test_1  5.0 6.5\n")
    return folder


def write_thumos(folder: Path) -> Path:
    """THUMOS14's text release in small, as its two archives unpack."""
    val, test = folder / "val" / "annotation", folder / "test" / "annotation"
    val.mkdir(parents=True)
    test.mkdir(parents=True)
    (val / "Run_val.txt").write_text("video_validation_1  1.0 2.5\nvideo_validation_1  4.0 5.0\n")
    (val / "Jump_val.txt").write_text("video_validation_2 0.5 0.9 \n")
    (test / "Run_test.txt").write_text("video_test_1  7.8 10.3\r\n\r\nvideo_test_2  0.0 3.0\r\n")
    (test / "Jump_test.txt").write_text("video_test_1\t11.0\t12.0\n")
    (test / "Ambiguous_test.txt").write_text("video_test_1  1.0 2.0\nvideo_test_3  1.0 2.0\n")
    (test / "detclasslist.txt").write_text("7 Run\n9 Jump\n")
    return folder


ACTIVITYNET: dict[str, Any] = {
    "version": "1.3",
    "taxonomy": [{"nodeName": "Run", "nodeId": 1, "parentName": "Root", "parentId": 0}],
    "database": {
        "v1": {
            "subset": "training",
            "duration": 30.5,
            "annotations": [
                {"label": "Run", "segment": [1, 2.5]},
                {"label": "Jump", "segment": ["4.0", " 5e0"]},
                {"label": "Ambiguous", "segment": [6, 7]},
            ],
        },
        "v2": {
            "subset": "validation",
            "duration": "12.25",
            "annotations": [{"label": "Run", "segment": [3, 3]}],
        },
        "v3": {"subset": "testing"},
    },
}


def write_text(path: Path, text: str | bytes | dict[str, Any]) -> Path:
    """A text file; a dict as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(text, dict):
        text = json.dumps(text)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def tree_bytes(folder: Path) -> dict[str, bytes]:
    """Every file under a folder: relative path to content."""
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def only_input_errors(action: Callable[[], object]) -> None:
    """Run ``action``; an InputError with a message is as good as a result, any other exception is not."""
    message = "fine"
    try:
        action()
    except InputError as error:
        message = str(error)
    assert message.strip()


def same(first: NDArray[Any], second: NDArray[Any]) -> bool:
    """Equal shape, dtype and values."""
    return first.shape == second.shape and first.dtype == second.dtype and bool(np.array_equal(first, second))
