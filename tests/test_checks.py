"""Checks that speak: each defect is found, and named with file, video and number."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from data_helpers import SHARED, Arrays, some_arrays, write_streams
from dgam.core.errors import Problem
from dgam.core.timeline import SnippetGrid
from dgam.core.types import AnnotatedVideo, Segment, SegmentAnnotations, VideoLabels
from dgam.data.annotations import read_labels, read_segments
from dgam.data.checks import check
from dgam.features.arrays import non_finite
from dgam.features.convert import import_features
from dgam.features.layouts import open_features
from dgam.features.source import Array, ArrayFeatures


def told(problems: list[Problem]) -> list[tuple[str | None, str]]:
    return [(problem.video, problem.what) for problem in problems]


def annotated(**segments: tuple[Segment, ...]) -> SegmentAnnotations:
    return SegmentAnnotations(
        {video: AnnotatedVideo(found) for video, found in segments.items()}, source="gt.json"
    )


def test_nothing_wrong(tmp_path: Path) -> None:
    source = open_features(write_streams(tmp_path / "in", some_arrays()))
    labels = VideoLabels({"a": ("x",), "b": (), "c": ("x", "y")})
    segments = annotated(a=(Segment(0.0, 1.92, "x"),), c=(Segment(1.0, 3.2 + 0.63, "y"),))
    assert check(source, labels, segments) == []
    import_features(source, tmp_path / "store")
    assert check(open_features(tmp_path / "store"), labels, segments) == []
    assert check(ArrayFeatures(some_arrays()), labels, segments) == []


def test_features(tmp_path: Path) -> None:
    arrays = some_arrays(("both", "cut", "empty", "inf", "less", "nan", "short", "sound", "turned", "wide"))
    arrays["inf"]["rgb"][:, 1] = -np.inf
    arrays["nan"]["flow"][2, 4] = np.nan
    arrays["both"]["rgb"][1, 2], arrays["both"]["flow"][0, 5] = np.nan, np.inf
    arrays["wide"]["flow"] = np.ones((len(arrays["wide"]["rgb"]), 7), np.float32)
    arrays["turned"]["rgb"] = np.ascontiguousarray(arrays["turned"]["rgb"].T)
    arrays["short"]["flow"] = arrays["short"]["flow"][:-2]
    arrays["empty"] = {stream: array[:0] for stream, array in arrays["empty"].items()}
    del arrays["less"]["rgb"]
    write_streams(tmp_path, arrays)
    (tmp_path / "rgb" / "cut.npy").write_bytes((tmp_path / "rgb" / "cut.npy").read_bytes()[:150])
    source = open_features(tmp_path)
    expected = [
        ("both", "rgb/both.npy", "holds 1 NaN or infinite value, the first (nan) at snippet 1, dimension 2."),
        (
            "both",
            "flow/both.npy",
            "holds 1 NaN or infinite value, the first (inf) at snippet 0, dimension 5.",
        ),
        ("cut", "rgb/cut.npy", "is cut short: 150 bytes, its head promises 192 (shape (4, 4), float32)."),
        ("empty", "rgb/empty.npy", "has no snippets (T = 0)."),
        ("empty", "flow/empty.npy", "has no snippets (T = 0)."),
        ("inf", "rgb/inf.npy", "holds 6 NaN or infinite values, the first (-inf) at snippet 0, dimension 1."),
        ("less", ".", "has no features in stream 'rgb', only in 'flow'."),
        ("nan", "flow/nan.npy", "holds 1 NaN or infinite value, the first (nan) at snippet 2, dimension 4."),
        ("short", "flow/short.npy", "stream 'flow' has 7 snippets, the video's first stream has 9."),
        (
            "turned",
            "rgb/turned.npy",
            "has 11 features a snippet, expected 4 as in other videos' stream 'rgb'. Is it",
        ),
        ("turned", "flow/turned.npy", "stream 'flow' has 11 snippets, the video's first stream has 4."),
        ("wide", "flow/wide.npy", "has 7 features a snippet, expected 6 as in other videos' stream 'flow'."),
    ]
    problems = check(source)
    assert [problem.video for problem in problems] == [video for video, *_ in expected]
    for problem, (_, where, what) in zip(problems, expected, strict=True):
        assert Path(problem.where) == tmp_path / where
        assert problem.what.startswith(what)
    assert {problem.video for problem in check(source, streams=["flow"])} == {
        *("both", "empty", "nan", "short", "wide", "turned")
    }


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_first_of_many_snippets(dtype: str) -> None:
    """Long videos are looked at piece by piece; positions are those in the whole."""
    array = np.zeros((5000, 1024), dtype)
    assert non_finite(array) is None
    array[4900, 3] = np.inf
    assert non_finite(array) == (4900, 3, 1)
    array[4700:, 1000] = np.nan
    assert non_finite(array) == (4700, 1000, 301)
    array[2, 1023] = -np.inf
    assert non_finite(array) == (2, 1023, 302)


def test_every_half_precision_number() -> None:
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    for number in every.reshape(-1, 1, 1):
        assert (non_finite(number) is None) == bool(np.isfinite(number[0, 0]))


def test_a_damaged_store(tmp_path: Path) -> None:
    import_features(open_features(write_streams(tmp_path / "in", some_arrays())), tmp_path / "out")
    (tmp_path / "out" / "flow" / "a.npy").unlink()
    entry = tmp_path / "out" / "videos" / "b.json"
    entry.write_text(entry.read_text().replace('"25/1"', '"fast"'))
    assert [(p.video, p.where, p.what) for p in check(open_features(tmp_path / "out"))] == [
        ("a", str(tmp_path / "out" / "flow" / "a.npy"), "cannot be read: No such file or directory."),
        (
            "b",
            str(entry),
            "'fps' is 'fast', expected a fraction such as '30000/1001'. Import the video again.",
        ),
    ]


class Twice(ArrayFeatures):
    """A source whose list names a video twice, as a merged data set could."""

    @property
    def videos(self) -> tuple[str, ...]:
        return ("a", "a", "b")


def test_repeated_ids_and_an_empty_source() -> None:
    assert told(check(Twice(some_arrays(("a", "b"))))) == [("a", "the id occurs 2 times.")]
    assert told(check(ArrayFeatures({}))) == [(None, "holds no video.")]


def test_labels(tmp_path: Path) -> None:
    source = open_features(write_streams(tmp_path, some_arrays()))
    labels = VideoLabels({"a": ("x",), "d": ("x",), "e": ()})
    gone = [("d", "has labels but no features."), ("e", "has labels but no features.")]
    bare = [("b", "has features but no labels."), ("c", "has features but no labels.")]
    assert told(check(source, labels)) == gone + bare
    assert told(check(source, labels, unlabelled=False)) == gone
    assert told(check(source, VideoLabels({"a": (), "b": (), "c": ()}))) == [
        (None, "no video of 3 has a label.")
    ]


def test_segments(tmp_path: Path) -> None:
    source = open_features(write_streams(tmp_path, some_arrays()))  # 3, 4 and 5 snippets of 0.64 s
    labels = VideoLabels({"a": ("run",), "b": ("run",), "c": ("jump",)})
    segments = annotated(
        a=(Segment(1.0, 1.0, "run"), Segment(-0.5, 1.0, "run"), Segment(0.0, 2.6, "run")),
        b=(Segment(0.0, 1.0, "rnu"), Segment(1.0, 2.0, "rnu")),
        d=(Segment(0.0, 1.0, "jump"),),
    )
    assert told(check(source, labels, segments)) == [
        ("a", "segment 0 (run, 1 to 1 s): has zero length."),
        ("a", "segment 1 (run, -0.5 to 1 s): begins before the video."),
        ("a", "segment 2 (run, 0 to 2.6 s): ends 0.68 s after the last snippet (1.92 s)."),
        ("b", "2 segments have the unknown label 'rnu'. Did you mean 'run'?"),
        ("d", "has segments but no features."),
    ]
    assert check(source, labels, segments)[0].where == "gt.json"


def test_the_annotated_duration_decides_what_is_outside(tmp_path: Path) -> None:
    source = open_features(write_streams(tmp_path, some_arrays(("a",))))
    video = AnnotatedVideo((Segment(0.0, 2.9, "run"),), duration=2.5)
    assert check(source, None, SegmentAnnotations({"a": video})) == []
    problems = check(source, None, SegmentAnnotations({"a": replace(video, duration=2.2)}))
    assert told(problems) == [("a", "segment 0 (run, 0 to 2.9 s): ends 0.70 s after the video (2.2 s).")]


def test_a_wrong_frame_rate_is_suspected(tmp_path: Path) -> None:
    arrays: Arrays = {"a": {"rgb": np.ones((100, 4), np.float32)}}
    write_streams(tmp_path, arrays)
    segments = SegmentAnnotations({"a": AnnotatedVideo((), duration=64.3)})
    assert check(open_features(tmp_path), None, segments) == []
    problems = check(open_features(tmp_path, grid=SnippetGrid(Fraction(30))), None, segments)
    assert told(problems) == [
        (
            "a",
            "lasts 64.3 s, but its 100 snippets of 0.533333 s cover 53.3333 s. "
            "Are --fps and --snippet right?",
        )
    ]


def test_one_video_at_a_time() -> None:
    """At no moment is more than one video's features alive."""

    class Counting(ArrayFeatures):
        alive = most = 0

        def read(self, video: str, stream: str) -> Array:
            array = super().read(video, stream).copy()
            # An ndarray, though of no stated dtype.
            return Counted(array, self)  # type: ignore[return-value]  # stands in for an array

    # Shape and dtype do not matter to counting.
    class Counted(np.ndarray):  # type: ignore[type-arg]  # of any type
        def __new__(cls, array: Array, owner: Counting) -> Counted:
            view = array.view(cls)
            view.owner = owner
            owner.alive += 1
            owner.most = max(owner.most, owner.alive)
            return view

        def __array_finalize__(self, origin: object) -> None:
            self.owner: Counting | None = None

        def __del__(self) -> None:
            if self.owner is not None:
                self.owner.alive -= 1

    source = Counting(some_arrays(tuple("abcdefgh")))
    steps: list[float] = []
    assert check(source, progress=lambda steps_=1, /, **_: steps.append(steps_)) == []
    assert len(steps) == 8
    assert source.most <= 2


@pytest.mark.skipif(not (SHARED / "real").is_dir(), reason="the shared real features are not on this machine")
def test_real_features() -> None:
    """FIR's annotations fit its features; GMDCSA's reach past the end of 12 videos, which have another frame
    rate."""
    for name, videos in (("fir", 0), ("gmdcsa24", 12)):
        folder = SHARED / "real" / name
        labels, segments = read_labels(folder / "gt.json"), read_segments(folder / "gt.json")
        problems = check(open_features(folder / "features"), labels, segments)
        assert all("after the last snippet" in problem.what for problem in problems)
        assert len({problem.video for problem in problems}) == videos
