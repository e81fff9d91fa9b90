"""Importing features of any layout into a store."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from data_helpers import (
    SHARED,
    Arrays,
    same,
    some_arrays,
    tree_bytes,
    write_joint,
    write_npz,
    write_streams,
)
from dgam.core.errors import InputError, InputProblems, Problem
from dgam.core.timeline import SnippetGrid
from dgam.features.convert import Imported, import_features
from dgam.features.layouts import open_features
from dgam.features.source import ArrayFeatures, FeatureSource
from dgam.features.store import FeatureStore


def _streams(folder: Path, arrays: Arrays) -> FeatureSource:
    return open_features(write_streams(folder, arrays))


def _joint(folder: Path, arrays: Arrays) -> FeatureSource:
    return open_features(write_joint(folder, arrays), joint={"rgb": 4, "flow": 6})


def _npz(folder: Path, arrays: Arrays) -> FeatureSource:
    return open_features(write_npz(folder, arrays))


def _memory(folder: Path, arrays: Arrays) -> FeatureSource:
    return ArrayFeatures(arrays)


@pytest.mark.parametrize("make", [_streams, _joint, _npz, _memory])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_import(tmp_path: Path, make: Callable[[Path, Arrays], FeatureSource], dtype: str) -> None:
    arrays = some_arrays(("a", "видео", "c d"))
    source = make(tmp_path / "source", arrays)
    assert import_features(source, tmp_path / "out", dtype=dtype) == Imported(3, 0, 0)
    store = open_features(tmp_path / "out")
    assert isinstance(store, FeatureStore)
    assert list(store.videos) == sorted(arrays)
    for video, streams in arrays.items():
        assert store.timeline(video) == source.timeline(video)
        for stream, array in streams.items():
            assert same(store.read(video, stream), array.astype(dtype))
    assert not list(store.verify())


def test_grid_and_durations_come_along(tmp_path: Path) -> None:
    grid = SnippetGrid(Fraction(30000, 1001), 16, 8)
    source = open_features(write_streams(tmp_path / "in", some_arrays()), grid=grid, durations={"a": 2.0})
    import_features(source, tmp_path / "out", durations={"a": 9.0, "b": 3.5})
    store = FeatureStore(tmp_path / "out")
    assert [store.timeline(video).duration for video in "abc"] == [2.0, 3.5, None]
    assert store.timeline("c").grid == grid
    assert store.entry("a").source == str(tmp_path / "in" / "rgb" / "a.npy")


def test_going_on_after_an_interruption(tmp_path: Path) -> None:
    source = _streams(tmp_path / "in", some_arrays())
    seen = []

    def stop_after_two(steps: float = 1, /, **shown: object) -> None:
        seen.append(steps)
        if len(seen) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_features(source, tmp_path / "out", progress=stop_after_two)
    first = tree_bytes(tmp_path / "out")
    assert import_features(source, tmp_path / "out") == Imported(1, 2, 0)
    import_features(source, tmp_path / "whole")
    assert first.items() <= tree_bytes(tmp_path / "out").items()
    assert tree_bytes(tmp_path / "out") == tree_bytes(tmp_path / "whole")


def test_another_grid_or_length_is_not_kept(tmp_path: Path) -> None:
    arrays = some_arrays()
    write_streams(tmp_path / "in", arrays)
    import_features(open_features(tmp_path / "in"), tmp_path / "out")
    thirty = open_features(tmp_path / "in", grid=SnippetGrid(Fraction(30)))
    assert import_features(thirty, tmp_path / "out") == Imported(3, 0, 0)
    assert FeatureStore(tmp_path / "out").timeline("a").grid.fps == 30
    arrays["b"] = some_arrays(("x", "y", "z", "b"))["b"]
    write_streams(tmp_path / "in", arrays)
    thirty = open_features(tmp_path / "in", grid=SnippetGrid(Fraction(30)))
    assert import_features(thirty, tmp_path / "out") == Imported(1, 2, 0)
    assert same(FeatureStore(tmp_path / "out").read("b", "rgb"), arrays["b"]["rgb"])


def defective(folder: Path) -> FeatureSource:
    """Seven videos with one defect each, and a sound one."""
    arrays = some_arrays(("cut", "empty", "large", "nan", "odd", "other", "short", "sound"))
    arrays["nan"]["flow"][2, 1] = np.nan
    arrays["large"]["rgb"][1, 3] = 70000
    arrays["other"]["rgb"] = arrays["other"]["rgb"][:, :3]
    arrays["short"]["flow"] = arrays["short"]["flow"][:-1]
    arrays["empty"] = {stream: array[:0] for stream, array in arrays["empty"].items()}
    del arrays["odd"]["flow"]
    write_streams(folder, arrays)
    cut = folder / "flow" / "cut.npy"
    cut.write_bytes(cut.read_bytes()[:-4])
    return open_features(folder)


def test_every_defect_is_named_and_the_sound_video_written(tmp_path: Path) -> None:
    source = defective(tmp_path / "in")
    with pytest.raises(InputProblems) as caught:
        import_features(source, tmp_path / "out", dtype="float16")
    where = str(tmp_path / "in")
    expected = [
        ("cut", f"{where}/flow/cut.npy", "is cut short: 196 bytes, its head promises 200"),
        ("empty", f"{where}/rgb/empty.npy", "has no snippets (T = 0)."),
        ("empty", f"{where}/flow/empty.npy", "has no snippets (T = 0)."),
        (
            "large",
            f"{where}/rgb/large.npy",
            "value 70000 at snippet 1, dimension 3 does not fit into float16",
        ),
        (
            "nan",
            f"{where}/flow/nan.npy",
            "holds 1 NaN or infinite value, the first (nan) at snippet 2, dimension 1.",
        ),
        ("odd", where, "has no features in stream 'flow', only in 'rgb'."),
        ("other", f"{where}/rgb/other.npy", "has 3 features a snippet, expected 4"),
        ("short", f"{where}/flow/short.npy", "stream 'flow' has 8 snippets, the video's first stream has 9."),
    ]
    assert len(caught.value.problems) == len(expected)
    for problem, (video, file, what) in zip(caught.value.problems, expected, strict=True):
        assert (problem.video, problem.where) == (video, file)
        assert what in problem.what
    assert FeatureStore(tmp_path / "out").videos == ("sound",)


def test_skipping_bad_videos_tells_of_them(tmp_path: Path) -> None:
    problems: list[Problem] = []
    source = defective(tmp_path / "in")
    assert import_features(source, tmp_path / "out", dtype="float16", on_problem=problems.append) == Imported(
        1, 0, 7
    )
    assert sorted({str(problem.video) for problem in problems}) == [*sorted(set(source.videos) - {"sound"})]
    # float32 has room for 70000
    assert import_features(source, tmp_path / "wide", on_problem=lambda problem: None) == Imported(2, 0, 6)


def test_the_store_must_be_elsewhere(tmp_path: Path) -> None:
    source = _streams(tmp_path, some_arrays())
    with pytest.raises(InputError, match="is the source itself"):
        import_features(source, tmp_path)


@pytest.mark.skipif(not (SHARED / "real").is_dir(), reason="the shared real features are not on this machine")
def test_real_features(tmp_path: Path) -> None:
    source = open_features(SHARED / "real" / "gmdcsa24" / "features")
    assert import_features(source, tmp_path / "out", dtype="float16") == Imported(23, 0, 0)
    store = FeatureStore(tmp_path / "out")
    assert not list(store.verify())
    assert all(same(store.read(v, s), source.read(v, s)) for v in source.videos for s in source.streams)
