"""Decoding: the right picture at the right time, whatever the file."""

from __future__ import annotations

import random
import tracemalloc
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coded_videos import SMALL, coded_frame, numbers, read_number, write_video
from dgam.video.container import probe
from dgam.video.framing import FrameSettings
from dgam.video.reader import Clock, FrameReader

REAL = Path(__file__).resolve().parents[1].parent / "shared" / "real"


def expected(times: list[Fraction], end: Fraction, fps: Fraction) -> list[int]:
    """Which frame is on the screen just before each slot's middle: a plain search."""
    found = []
    slot = 0
    while (middle := (slot + Fraction(1, 2)) / fps) <= end:
        found.append(max(i for i, time in enumerate(times) if time - times[0] < middle))
        slot += 1
    return found or [len(times) - 1]


def test_the_code_in_a_frame_reads_back() -> None:
    assert [read_number(coded_frame(n, 96, 50)) for n in (0, 1, 4711, 65535)] == [0, 1, 4711, 65535]


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [("mp4", "libx264"), ("mkv", "libx264"), ("avi", "mpeg4"), ("webm", "libvpx-vp9"), ("ts", "mpeg2video"),
     ("mov", "mjpeg"), ("flv", "libx264"), ("h264", "libx264"), ("mkv", "ffv1")],
)  # fmt: skip
def test_every_frame_at_its_own_rate(tmp_path: Path, suffix: str, codec: str) -> None:
    pixels = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    path = write_video(tmp_path / f"clip.{suffix}", range(40), codec=codec, pixels=pixels)
    assert numbers(path) == list(range(40))
    assert numbers(path, threads=2) == list(range(40))


def test_b_frames_in_avi(tmp_path: Path) -> None:
    path = write_video(tmp_path / "b.avi", range(30), codec="mpeg4", options={"bf": "2"})
    assert numbers(path) == list(range(30))


@pytest.mark.parametrize(
    "fps", [Fraction(25), Fraction(30), Fraction(10), Fraction(30000, 1001), Fraction(7, 3)]
)
@pytest.mark.parametrize("source", [Fraction(24000, 1001), Fraction(30000, 1001), Fraction(60), Fraction(12)])
def test_resampling_follows_the_clock(tmp_path: Path, source: Fraction, fps: Fraction) -> None:
    path = write_video(tmp_path / "clip.mp4", range(90), 1 / source)
    times = [n / source for n in range(90)]
    with FrameReader(path, FrameSettings(short_side=0, fps=fps)) as reader:
        got = [read_number(picture) for picture in reader]
    assert got == expected(times, 90 / source, fps)
    assert reader.seconds == 90 / source
    assert reader.frames == len(got)
    assert reader.decoded == 90
    assert reader.warnings == ()


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_variable_rate_and_late_start(tmp_path: Path, suffix: str) -> None:
    base = Fraction(1, 1000)
    gaps = random.Random(3).choices([7, 21, 40, 41, 133, 700], k=60)
    stamps = [3400 + sum(gaps[:n]) for n in range(60)]
    path = write_video(tmp_path / f"vfr.{suffix}", stamps, base, codec="libx264")
    with FrameReader(path, SMALL) as reader:
        got = [read_number(picture) for picture in reader]
    assert got == expected([stamp * base for stamp in stamps], reader.seconds, Fraction(25))
    last = (stamps[-1] - stamps[0]) * base
    assert last < reader.seconds < last + 1


def test_millisecond_stamps_move_no_picture(tmp_path: Path) -> None:
    stamps = [round(n * 1000 / 30) for n in range(120)]  # Matroska's habit: 0, 33, 67, 100, …
    path = write_video(tmp_path / "ms.mkv", stamps, Fraction(1, 1000))
    assert numbers(path, FrameSettings(short_side=0, fps=Fraction(30))) == list(range(120))


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.integers(1, 300), min_size=1, max_size=25),
    st.integers(0, 5000),
    st.sampled_from([10, 24, 25, 50]),
)
def test_any_spacing_of_frames(
    tmp_path_factory: pytest.TempPathFactory, gaps: list[int], start: int, fps: int
) -> None:
    stamps = [start + sum(gaps[:n]) for n in range(len(gaps))]
    path = write_video(tmp_path_factory.mktemp("v") / "any.mkv", stamps, Fraction(1, 1000))
    with FrameReader(path, FrameSettings(short_side=0, fps=Fraction(fps))) as reader:
        got = [read_number(picture) for picture in reader]
    times = [Fraction(stamp, 1000) for stamp in stamps]
    wanted = expected(times, reader.seconds, Fraction(fps))
    assert got == wanted


def test_agrees_with_ffmpegs_fps_filter(tmp_path: Path) -> None:
    stamps = [n * 1001 for n in range(100) if n % 7 not in (2, 3)]
    path = write_video(tmp_path / "gaps.mp4", stamps, Fraction(1, 30000), codec="libx264")
    graph = av.filter.Graph()
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        source = graph.add_buffer(template=stream, time_base=stream.time_base)
        fps, sink = graph.add("fps", "25"), graph.add("buffersink")
        source.link_to(fps)
        fps.link_to(sink)
        graph.configure()
        theirs = []
        for frame in [*container.decode(stream), None]:
            graph.push(frame)
            while True:
                try:
                    theirs.append(read_number(graph.pull().to_ndarray(format="rgb24")))
                except (av.error.BlockingIOError, av.error.EOFError):
                    break
    assert len(theirs) > 70
    assert numbers(path)[: len(theirs)] == theirs
    assert len(numbers(path)) - len(theirs) in (
        0,
        1,
    )  # the filter drops a last frame's duration in some versions


def test_timestamps_of_packed_b_frames() -> None:
    # What FFmpeg 8 gives for v_Archery_g07_c06.avi of UCF101: presentation stamps out of order, and no
    # decoding stamp for the last frame.
    stamps = [(1, 1), (2, 2), (4, 3), (3, 4), (5, 5), (7, 6), (6, 7), (8, 8), (8, None)]
    frames = [SimpleNamespace(pts=pts, dts=dts) for pts, dts in stamps]
    avi = Clock(prefer_dts=True)
    # For mypy: stands in for a frame.
    assert [avi.stamp(frame) for frame in frames] == [1, 2, 3, 4, 5, 6, 7, 8, None]  # type: ignore[arg-type]
    other = Clock(prefer_dts=False)  # found out on the way
    # For mypy: stands in for a frame.
    assert [other.stamp(frame) for frame in frames] == [1, 2, 4, 4, 5, 6, 7, 8, None]  # type: ignore[arg-type]
    late = Clock(prefer_dts=False)
    missing = SimpleNamespace(pts=None, dts=None)
    assert late.stamp(missing) is None  # type: ignore[arg-type]  # stands in for a frame


def test_one_frame(tmp_path: Path) -> None:
    assert numbers(write_video(tmp_path / "one.mp4", [0])) == [0]
    assert numbers(write_video(tmp_path / "one.mkv", [7], Fraction(1, 1000))) == [0]
    # Shorter than half a slot, and still a picture.
    assert numbers(
        write_video(tmp_path / "s.mp4", [0], Fraction(1, 100)), FrameSettings(short_side=0, fps=Fraction(5))
    ) == [0]


@pytest.mark.parametrize(
    "name", ["naïve 影片 \N{CLAPPER BOARD}.mp4", "two  spaces.mkv", "a:b.mp4", "-n.mp4", "50%d.mp4", "h.MP4"]
)
def test_names(tmp_path: Path, name: str) -> None:
    assert numbers(write_video(tmp_path / "d e" / name, range(3))) == [0, 1, 2]


def test_sound_beside_the_picture(tmp_path: Path) -> None:
    assert numbers(write_video(tmp_path / "a.mp4", range(30), sound=True)) == list(range(30))


def test_memory_does_not_grow_with_length(tmp_path: Path) -> None:
    path = write_video(tmp_path / "long.mp4", range(3000), options={"g": "50"})
    tracemalloc.start()
    try:
        with FrameReader(path, SMALL) as reader:
            count = sum(1 for _ in reader)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 3000
    assert peak < 3_000_000  # 3,000 pictures would be 74 MB


@pytest.mark.skipif(not REAL.exists(), reason="the real videos are not here")
def test_real_videos_agree_with_their_headers() -> None:
    paths = sorted(REAL.glob("gmdcsa24/videos/*"))[::7] + sorted(REAL.glob("ucf_clips/videos/*"))[::4]
    assert paths
    for path in paths:
        info = probe(path)
        with FrameReader(path, FrameSettings(short_side=32)) as reader:
            count = sum(1 for _ in reader)
        assert reader.decoded == info.frames, path
        assert info.seconds is not None
        assert float(reader.seconds) == pytest.approx(info.seconds, abs=1.5 / 15), path
        assert count == int(reader.seconds * 25 + Fraction(1, 2)), path
