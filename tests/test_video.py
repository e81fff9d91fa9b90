"""Decoding: the right picture at the right time, whatever the file, and a message where there is none."""

from __future__ import annotations

import itertools
import random
import tracemalloc
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coded_videos import coded_frame, read_number, write_sound, write_video
from dgam.core.errors import InputError
from dgam.video.container import probe
from dgam.video.framing import FrameSettings, Orientation, resized
from dgam.video.reader import Clock, FrameReader

SMALL = FrameSettings(short_side=0)
REAL = Path(__file__).resolve().parents[1].parent / "shared" / "real"


def numbers(path: Path, frames: FrameSettings = SMALL, threads: int = 1) -> list[int]:
    with FrameReader(path, frames, threads) as reader:
        return [read_number(picture) for picture in reader]


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


# --- geometry


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_rotation_shows_the_picture_upright(tmp_path: Path, degrees: int, mirrored: bool) -> None:
    path = write_video(tmp_path / "turned.mp4", range(12), rotation=degrees, mirrored=mirrored)
    with FrameReader(path, SMALL) as reader:
        shown = [*reader][11]
    stored = coded_frame(11, 128, 64)
    # The matrix that was written, applied point by point: a plain transcription of ISO/IEC 14496-12.
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        data = b"" if not (degrees or mirrored) else bytes(frame.side_data["DISPLAYMATRIX"])
        angle = frame.rotation
    a, b, c, d = (
        (1, 0, 0, 1) if not data else [int(np.sign(v)) for v in np.frombuffer(data, "=i4")[[0, 1, 3, 4]]]
    )
    points = np.stack(np.meshgrid(np.arange(128), np.arange(64)), -1).reshape(-1, 2)
    moved = points @ np.array([[a, b], [c, d]])
    moved -= moved.min(axis=0)
    width, height = moved.max(axis=0) + 1
    wanted = np.empty((height, width, 3), np.uint8)
    wanted[moved[:, 1], moved[:, 0]] = stored[points[:, 1], points[:, 0]]
    assert shown.shape == wanted.shape == ((128, 64, 3) if degrees in (90, 270) else (64, 128, 3))
    assert np.abs(shown.astype(int) - wanted).mean() < 6
    if not mirrored and degrees:  # FFmpeg's own reading of the matrix: anticlockwise degrees
        assert np.abs(shown.astype(int) - np.rot90(stored, angle // 90)).mean() < 6


def test_a_skewed_matrix_is_no_orientation() -> None:
    assert Orientation.from_display_matrix(np.array([1, 1, 0, -1, 1, 0, 0, 0, 1], "=i4").tobytes()) is None


@pytest.mark.parametrize(
    ("width", "height", "short", "wanted"),
    [(320, 240, 256, (341, 256)), (240, 320, 256, (256, 341)), (1920, 1080, 256, (455, 256)),
     (3840, 2160, 256, (455, 256)), (97, 53, 256, (469, 256)), (256, 256, 256, (256, 256)),
     (97, 53, 0, (97, 53))],
)  # fmt: skip
def test_short_side(width: int, height: int, short: int, wanted: tuple[int, int]) -> None:
    # FFmpeg's scale=-1:256 gives the same numbers.
    assert resized(width, height, FrameSettings(short_side=short)) == wanted


def test_non_square_pixels(tmp_path: Path) -> None:
    path = write_video(tmp_path / "wide.mp4", range(3), pixel_aspect=Fraction(3, 2), codec="libx264")
    with FrameReader(path, SMALL) as ignored:
        assert next(iter(ignored)).shape == (64, 128, 3)
    assert ignored.warnings == ("its pixels are not square (3/2); they were taken as square (pixel_aspect)",)
    with FrameReader(path, FrameSettings(short_side=0, pixel_aspect="apply")) as applied:
        assert next(iter(applied)).shape == (64, 192, 3)
    assert applied.warnings == ()


@pytest.mark.parametrize("size", [(97, 53), (131, 75)])
def test_odd_sizes(tmp_path: Path, size: tuple[int, int]) -> None:
    path = write_video(
        tmp_path / "odd.mkv", range(4), width=size[0], height=size[1], codec="ffv1", pixels="yuv444p"
    )
    with FrameReader(path, FrameSettings(short_side=64)) as reader:
        pictures = [*reader]
    assert pictures[0].shape == (64, round(size[0] * 64 / size[1]), 3)
    assert [read_number(picture) for picture in pictures] == [0, 1, 2, 3]


def test_4k_in_bounded_memory(tmp_path: Path) -> None:
    path = write_video(tmp_path / "4k.mp4", range(3), width=3840, height=2160)
    assert [p.shape for p in FrameReader(path)] == [(256, 455, 3)] * 3
    assert numbers(path, FrameSettings()) == [0, 1, 2]


def test_exact_size_and_interpolations(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", range(2))
    shown = {}
    for kernel in ("bilinear", "bicubic", "area", "nearest"):
        with FrameReader(path, FrameSettings(size=(50, 40), interpolation=kernel)) as reader:
            shown[kernel] = [*reader][1]
        assert shown[kernel].shape == (40, 50, 3)
    assert len({picture.tobytes() for picture in shown.values()}) > 2


def test_bilinear_scaling_agrees_with_a_plain_one(tmp_path: Path) -> None:
    # Pillow's antialiased bilinear filter, an independent one; grey, so chroma does not count.
    from PIL import Image

    path = write_video(tmp_path / "a.mkv", range(8), codec="ffv1", pixels="gray", width=128, height=96)
    with FrameReader(path, FrameSettings(short_side=40)) as reader:
        ours = [*reader][6]
    theirs = Image.fromarray(coded_frame(6, 128, 96)).resize((53, 40), Image.Resampling.BILINEAR)
    difference = np.abs(ours.astype(int) - np.asarray(theirs))
    assert difference.mean() < 1
    assert difference.max() <= 4


def test_ten_bit_alpha_and_grey_become_rgb(tmp_path: Path) -> None:
    for pixels in ("yuv420p10le", "gray", "yuva420p"):
        path = write_video(tmp_path / f"{pixels}.mkv", range(3), codec="ffv1", pixels=pixels)
        assert numbers(path) == [0, 1, 2], pixels


# --- odd files


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


def message(path: Path) -> str:
    with pytest.raises(InputError) as caught, FrameReader(path, SMALL) as reader:
        for _ in reader:
            pass
    text = str(caught.value)
    assert str(path) in text
    return text


def test_missing_empty_folder_sound_and_text(tmp_path: Path) -> None:
    assert "No such file" in message(tmp_path / "no.mp4")
    assert "is a folder" in message(tmp_path)
    (tmp_path / "empty.mp4").touch()
    assert "empty (0 bytes)" in message(tmp_path / "empty.mp4")
    assert "no moving picture (only audio)" in message(write_sound(tmp_path / "sound.m4a"))
    assert "(only a cover picture, audio)" in message(write_sound(tmp_path / "album.mp3", cover=True))
    (tmp_path / "text.mp4").write_text("this is no video\n" * 100)
    assert "no video that FFmpeg can read" in message(tmp_path / "text.mp4")


@pytest.mark.parametrize(
    ("suffix", "codec", "words"),
    [("mp4", "libx264", "no video that FFmpeg can read"),  # its index is at the end
     ("faststart.mp4", "libx264", "cut off"), ("mkv", "libx264", "its header promises 6.00 s"),
     ("avi", "mpeg4", "cut off"), ("flv", "libx264", "cut off")],
)  # fmt: skip
def test_cut_off(tmp_path: Path, suffix: str, codec: str, words: str) -> None:
    start = {"movflags": "faststart"} if suffix.startswith("fast") else None
    path = write_video(tmp_path / f"whole.{suffix}", range(150), codec=codec, container_options=start)
    assert numbers(path) == list(range(150))
    data = path.read_bytes()
    cut = tmp_path / f"cut.{suffix}"
    cut.write_bytes(data[: len(data) * 6 // 10])
    assert words in message(cut)
    if suffix != "mp4":
        with FrameReader(cut, FrameSettings(short_side=0, damage="conceal")) as reader:
            got = [read_number(picture) for picture in reader]
        assert got[:20] == list(range(20))
        assert len(got) < 150
        assert reader.warnings


def test_damaged_bytes(tmp_path: Path) -> None:
    path = write_video(tmp_path / "whole.mp4", range(150), codec="mpeg4")
    data, rng = bytearray(path.read_bytes()), random.Random(0)
    for _ in range(40):
        data[rng.randrange(len(data) * 2 // 10, len(data) * 5 // 10)] = rng.randrange(256)
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(data)
    assert "damaged" in message(bad)
    with FrameReader(bad, FrameSettings(short_side=0, damage="conceal")) as reader:
        assert sum(1 for _ in reader) > 100
    assert any("damaged" in text or "cannot be decoded" in text for text in reader.warnings)


def test_frames_that_the_decoder_patched_up_are_noticed(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.flv", range(100), codec="libx264").read_bytes()
    for seed in range(60):  # until one does not end in an error of the decoder
        data, rng = bytearray(whole), random.Random(seed)
        for _ in range(4):
            data[rng.randrange(len(data) // 3, len(data))] = rng.randrange(256)
        bad = tmp_path / f"bad{seed}.flv"
        bad.write_bytes(data)
        with FrameReader(bad, FrameSettings(short_side=0, damage="conceal")) as reader:
            for _ in reader:
                pass
        if reader.warnings and all(text.startswith("a frame is damaged") for text in reader.warnings):
            assert "a frame is damaged, at" in message(bad)
            return
    pytest.fail("no such damage found")


def test_timestamps_of_packed_b_frames() -> None:
    # What FFmpeg 8 gives for v_Archery_g07_c06.avi of UCF101: presentation stamps out of order, and no
    # decoding stamp for the last frame.
    stamps = [(1, 1), (2, 2), (4, 3), (3, 4), (5, 5), (7, 6), (6, 7), (8, 8), (8, None)]
    frames = [SimpleNamespace(pts=pts, dts=dts) for pts, dts in stamps]
    avi = Clock(prefer_dts=True)
    assert [avi.stamp(frame) for frame in frames] == [1, 2, 3, 4, 5, 6, 7, 8, None]  # type: ignore[arg-type]
    other = Clock(prefer_dts=False)  # found out on the way
    assert [other.stamp(frame) for frame in frames] == [1, 2, 4, 4, 5, 6, 7, 8, None]  # type: ignore[arg-type]
    late = Clock(prefer_dts=False)
    missing = SimpleNamespace(pts=None, dts=None)
    assert late.stamp(missing) is None  # type: ignore[arg-type]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_damage_ends_in_a_traceback(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    kind = data.draw(st.sampled_from(["mp4", "mkv", "avi"]))
    whole = bytearray(write_video(folder / f"whole.{kind}", range(12)).read_bytes())
    for position, value in data.draw(
        st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)), max_size=30)
    ):
        whole[position] = value
    bad = folder / f"bad.{kind}"
    bad.write_bytes(whole[: data.draw(st.integers(1, len(whole)))])
    mode = data.draw(st.sampled_from(["refuse", "conceal"]))
    told = str(bad)
    try:
        with FrameReader(bad, FrameSettings(short_side=16, damage=mode)) as reader:
            for picture in itertools.islice(reader, 2000):
                assert picture.shape[2] == 3
    except InputError as error:
        told = str(error)
    assert str(bad) in told


def test_a_jump_in_time_is_refused(tmp_path: Path) -> None:
    path = write_video(tmp_path / "jump.mkv", [0, 40, 900_000], Fraction(1, 1000))
    assert "timestamps jump from 0.040 to 900.000 s" in message(path)


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


@pytest.mark.parametrize(
    "bad", [{"fps": 0}, {"fps": 5000}, {"short_side": 3}, {"size": (4, 9)}, {"interpolation": "x"}]
)
def test_settings_out_of_range(bad: dict[str, object]) -> None:
    with pytest.raises(InputError, match=next(iter(bad))):
        FrameSettings(**bad)  # type: ignore[arg-type]


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
