"""Every layout of snippet features, read in place, gives the arrays that were written."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_helpers import (
    SHARED,
    Arrays,
    same,
    some_arrays,
    write_joint,
    write_npz,
    write_objects,
    write_streams,
    write_text,
)
from dgam.core.errors import InputError
from dgam.core.timeline import SnippetGrid
from dgam.features.layouts import open_features
from dgam.features.source import FeatureSource, read_stream
from dgam.features.writer import StoreWriter

EQUAL = {"rgb": 4, "flow": 4}


def assert_holds(source: FeatureSource, arrays: Arrays, dtype: str = "float32") -> None:
    """The source has exactly these videos and streams, and reads them."""
    assert list(source.videos) == sorted(arrays)
    for video, streams in arrays.items():
        assert source.timeline(video).snippets == len(next(iter(streams.values())))
        assert {stream for stream in source.streams if source.has(video, stream)} == set(streams)
        for stream, array in streams.items():
            read = source.read(video, stream)
            assert same(read, array.astype(dtype))
            assert source.streams[stream] == array.shape[1]
            assert not read.flags.writeable


def write_release(folder: Path, arrays: Arrays, part: str) -> Path:
    """The DGAM release's numbered layout."""
    for number, streams in enumerate(arrays.values(), start=1):
        for stream, array in streams.items():
            path = folder / f"{part}_data" / f"{stream}_features" / f"{number}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, array)
    return folder


def write_wtalc_joint(folder: Path, arrays: Arrays, *, python2: bool = False) -> Path:
    """W-TALC's one file of features, with its annotations' names beside."""
    joined = [np.concatenate(list(streams.values()), axis=1) for streams in arrays.values()]
    path = write_objects(folder / "Simreduced-I3D-JOINTFeatures.npy", joined, python2=python2)
    (folder / "Simreduced-Annotations").mkdir()
    np.save(folder / "Simreduced-Annotations" / "videoname.npy", np.array([v.encode() for v in arrays]))
    return path


def test_stream_folders(tmp_path: Path) -> None:
    arrays = some_arrays(("v 1", "видео", "--x"), {"flow": 6, "rgb": 4, "audio": 2})
    del arrays["v 1"]["audio"]
    source = open_features(write_streams(tmp_path, arrays))
    assert list(source.streams) == ["rgb", "audio", "flow"]
    assert_holds(source, arrays)


def test_files_of_other_kinds_and_hidden_ones_do_not_matter(tmp_path: Path) -> None:
    arrays = some_arrays()
    write_streams(tmp_path, arrays)
    for name in (
        "rgb/._a.npy",
        "rgb/.a.npy.x.part",
        "rgb/README.md",
        "videos/a.mp4",
        "gt.json",
        ".git/x.npy",
    ):
        write_text(tmp_path / name, "x")
    assert_holds(open_features(tmp_path), arrays)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_dtypes_stay(tmp_path: Path, dtype: str) -> None:
    arrays = {v: {s: x.astype(dtype) for s, x in at.items()} for v, at in some_arrays().items()}
    assert_holds(open_features(write_streams(tmp_path, arrays)), arrays, dtype)


def test_other_orders_of_bytes_and_axes(tmp_path: Path) -> None:
    arrays = some_arrays()
    write_streams(
        tmp_path,
        {v: {s: np.asfortranarray(x).astype(">f4") for s, x in at.items()} for v, at in arrays.items()},
    )
    assert_holds(open_features(tmp_path), arrays)


def test_joint_arrays_in_halves_rgb_first(tmp_path: Path) -> None:
    arrays = some_arrays(dims=EQUAL)
    assert_holds(open_features(write_joint(tmp_path, arrays), layout="joint"), arrays)


def test_joint_arrays_of_given_dimensions(tmp_path: Path) -> None:
    arrays = some_arrays(dims={"rgb": 1, "flow": 5, "audio": 3})
    source = open_features(write_joint(tmp_path, arrays), joint={"rgb": 1, "flow": 5, "audio": 3})
    assert_holds(source, arrays)
    assert np.array_equal(
        read_stream(source, "a", "rgb+audio"), np.hstack([arrays["a"]["rgb"], arrays["a"]["audio"]])
    )


def test_one_stream(tmp_path: Path) -> None:
    arrays = some_arrays(dims={"slowfast": 5})
    write_joint(tmp_path, arrays)
    assert_holds(open_features(tmp_path, streams=["slowfast"]), arrays)
    assert open_features(tmp_path, layout="single").streams == {"features": 5}


@pytest.mark.parametrize("compressed", [False, True])
def test_npz(tmp_path: Path, compressed: bool) -> None:
    arrays = some_arrays()
    source = open_features(write_npz(tmp_path, arrays, compressed=compressed))
    assert list(source.streams) == ["rgb", "flow"]  # not the frame rate beside them
    assert_holds(source, arrays)


def test_a_damaged_npz_is_not_left_out(tmp_path: Path) -> None:
    write_npz(tmp_path, some_arrays())
    (tmp_path / "b.npz").write_bytes(b"PK\x03\x04")
    source = open_features(tmp_path)
    assert list(source.videos) == ["a", "b", "c"]
    with pytest.raises(InputError, match=r"b\.npz: is not a readable \.npz archive"):
        source.read("b", "rgb")


def test_release_numbers_get_names_where_they_are_listed(tmp_path: Path) -> None:
    train, test = some_arrays(("train_1", "train_2")), some_arrays(("video_test_4", "video_test_9", "x"))
    write_release(tmp_path, train, "train")
    write_release(tmp_path, test, "test")
    write_text(tmp_path / "test_data" / "Sim_test_vid_list.txt", "video_test_4\nvideo_test_9\nx\n")
    assert_holds(open_features(tmp_path), train | test)
    assert_holds(open_features(tmp_path / "train_data"), train)
    assert_holds(open_features(tmp_path / "test_data"), test)
    names = write_text(tmp_path / "names.txt", "\ufeffp\r\nq\r\n")
    named = {"p": train["train_1"], "q": train["train_2"]}
    assert_holds(open_features(tmp_path / "train_data", names=names), named)


def test_release_counts_numbers_not_files(tmp_path: Path) -> None:
    """With 2.npy missing, 10.npy is still video 10: sorting names or closing gaps would shift everybody's
    labels."""
    arrays = some_arrays(tuple(f"train_{number}" for number in range(1, 12)))
    write_release(tmp_path, arrays, "train")
    for stream in ("rgb", "flow"):
        (tmp_path / "train_data" / f"{stream}_features" / "2.npy").unlink()
    del arrays["train_2"]
    assert_holds(open_features(tmp_path), arrays)


@pytest.mark.parametrize("python2", [False, True])
def test_wtalc_joint_file(tmp_path: Path, python2: bool) -> None:
    arrays = some_arrays(dims=EQUAL)
    path = write_wtalc_joint(tmp_path, arrays, python2=python2)
    assert_holds(open_features(path, trusted_pickle=True), arrays)
    names = write_text(tmp_path / "names.txt", "x\ny\nz\n")
    source = open_features(path, names=names, joint={"all": 8}, trusted_pickle=True)
    assert (list(source.videos), source.streams) == (["x", "y", "z"], {"all": 8})


class _Evil:
    def __reduce__(self) -> tuple[Callable[[str], Any], tuple[str]]:
        return os.mkdir, ("evil",)


def test_a_pickle_never_runs_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = write_wtalc_joint(tmp_path, some_arrays(dims=EQUAL))
    write_objects(path, [_Evil(), 1, 2])
    with pytest.raises(InputError, match=r"run code when it is opened\..*--trusted-pickle"):
        open_features(path)
    with pytest.raises(InputError, match=r"asks for posix\.mkdir|asks for nt\.mkdir"):
        open_features(path, trusted_pickle=True)
    assert not (tmp_path / "evil").exists()


def test_choosing_streams(tmp_path: Path) -> None:
    arrays = some_arrays()
    write_streams(tmp_path, arrays)
    source = open_features(tmp_path, streams=["flow"])
    assert source.streams == {"flow": 6}
    assert not source.has("a", "rgb")
    assert list(open_features(tmp_path, streams=["flow", "rgb"]).streams) == ["flow", "rgb"]


def test_time(tmp_path: Path) -> None:
    write_streams(tmp_path, some_arrays())
    assert open_features(tmp_path).timeline("a").grid == SnippetGrid(Fraction(25), 16, 16)
    grid = SnippetGrid(Fraction(30000, 1001), 8, 4)
    source = open_features(tmp_path, grid=grid, durations={"a": 2.5})
    assert source.timeline("a").grid == source.timeline("b").grid == grid
    assert (source.timeline("a").duration, source.timeline("b").duration) == (2.5, None)


def test_a_store_knows_its_own_time(tmp_path: Path) -> None:
    grid = SnippetGrid(Fraction(30), 8, 4)
    writer = StoreWriter(tmp_path, {"rgb": 4, "flow": 6})
    arrays = some_arrays()
    for video, streams in arrays.items():
        writer.add(video, streams, grid=grid, duration=9.0 if video == "a" else None)
    assert_holds(open_features(tmp_path), arrays)
    assert open_features(tmp_path, grid=grid).timeline("a").grid == grid
    known = open_features(tmp_path, durations={"a": 1.0, "b": 2.0})
    assert [known.timeline(video).duration for video in "abc"] == [9.0, 2.0, None]
    assert open_features(tmp_path, streams=["flow"]).streams == {"flow": 6}


def test_a_usual_dimension_outvotes_a_first_odd_one(tmp_path: Path) -> None:
    arrays = some_arrays(("a", "b", "c", "d"))
    arrays["a"]["rgb"] = np.ones((4, 3), np.float32)
    source = open_features(write_streams(tmp_path, arrays))
    assert source.streams == {"rgb": 4, "flow": 6}
    with pytest.raises(
        InputError, match=r"a\.npy: has 3 features a snippet, expected 4 .* Is it transposed\?"
    ):
        source.read("a", "rgb")


def test_streams_of_different_lengths(tmp_path: Path) -> None:
    arrays = some_arrays()
    arrays["b"]["flow"] = arrays["b"]["flow"][:-1]
    source = open_features(write_streams(tmp_path, arrays))
    with pytest.raises(InputError, match=r"flow.b\.npy: stream 'flow' has 3 snippets, .* first stream has 4"):
        source.read("b", "flow")
    source.read("b", "rgb")


def test_what_is_read_is_mapped_and_then_let_go(tmp_path: Path) -> None:
    """Reading a 64 MiB sparse file and a row of it must not bring it into memory."""
    path = tmp_path / "rgb" / "long.npy"
    path.parent.mkdir()
    with path.open("wb") as file:
        head = {"descr": "<f4", "fortran_order": False, "shape": (1 << 14, 1 << 10)}
        np.lib.format.write_array_header_1_0(file, head)
        file.truncate(file.tell() + (1 << 26))
    source = open_features(tmp_path)
    array = source.read("long", "rgb")
    assert isinstance(array.base, mmap.mmap)
    assert array[[5, 1000]].sum() == 0
    del array
    if Path("/proc/self/maps").exists():
        assert str(path) not in Path("/proc/self/maps").read_text()


@pytest.mark.skipif(not (SHARED / "real").is_dir(), reason="the shared real features are not on this machine")
@pytest.mark.parametrize(("name", "videos", "snippets"), [("fir", 21, 4479), ("gmdcsa24", 23, 184)])
def test_real_features(name: str, videos: int, snippets: int) -> None:
    """Counts taken with NumPy from the files (MoViNet features of 16-frame snippets)."""
    source = open_features(SHARED / "real" / name / "features")
    assert source.streams == {"rgb": 480, "flow": 480}
    assert len(source.videos) == videos
    assert sum(source.timeline(video).snippets for video in source.videos) == snippets
    for video in source.videos:
        direct = np.load(SHARED / "real" / name / "features" / "flow" / f"{video}.npy")
        assert same(source.read(video, "flow"), direct)
