"""Clips: of the right length, holding the very frames, whatever the container; whole or not there at all."""

from __future__ import annotations

import os
import re
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from coded_videos import read_number, write_sound, write_video
from dgam.core.errors import InputError
from dgam.core.types import Detection
from dgam.exports.clips import cut_clips
from dgam.video.container import probe
from dgam.video.framing import FrameSettings
from dgam.video.reader import FrameReader

AS_STORED = FrameSettings(short_side=0)


def numbers(path: Path) -> list[int]:
    with FrameReader(path, AS_STORED) as reader:
        return [read_number(picture) for picture in reader]


def cut(video: Path, start: float, end: float, out: Path, label: str = "run") -> Path:
    (path,) = cut_clips(video, [Detection(start, end, label, 1.0)], out)
    return path


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds at 25 frames a second with a key frame every 30 frames, B-frames and sound."""
    path = tmp_path_factory.mktemp("clips") / "a.mp4"
    return write_video(path, range(100), codec="libx264", sound=True, options={"g": "30", "bf": "3"})


# start, end in seconds; the frames on the screen then
SPANS = [
    (0.0, 0.64, range(16)),
    (0.64, 1.28, range(16, 32)),
    (2.72, 3.36, range(68, 84)),
    (0.65, 0.69, range(16, 18)),  # frame 16 is still on the screen, 17 from 0.68 on
    (2.0, 2.0, range(50, 51)),  # no length: the frame of that instant
    (3.5, 99.0, range(87, 100)),  # cut to the video
    (-5.0, 0.08, range(2)),
]


@pytest.mark.parametrize(("start", "end", "frames"), SPANS)
def test_a_clip_holds_the_frames_on_the_screen(
    start: float, end: float, frames: range, video: Path, tmp_path: Path
) -> None:
    path = cut(video, start, end, tmp_path)
    assert numbers(path) == [*frames]
    seconds = probe(path).seconds
    assert seconds is not None
    assert abs(seconds - (min(end, 4.0) - max(start, 0.0))) <= 0.05


def test_a_clips_sound_is_that_of_its_time(video: Path, tmp_path: Path) -> None:
    with av.open(str(cut(video, 0.64, 1.92, tmp_path))) as clip:
        sound = clip.streams.audio[0]
        heard = np.concatenate([frame.to_ndarray()[0] for frame in clip.decode(sound)])
    assert len(heard) / 16000 == pytest.approx(1.28, abs=0.15)  # AAC comes in frames of 64 ms here
    middle = heard[4000:12000]
    assert np.abs(np.fft.rfft(middle)).argmax() / len(middle) == pytest.approx(0.2 / (2 * np.pi), abs=1e-3)


CONTAINERS = [
    ("mkv", "libx264", {"g": "30"}),
    ("avi", "mpeg4", {}),
    ("ts", "libx264", {"g": "30"}),
    ("mpg", "mpeg2video", {}),
    ("webm", "libvpx-vp9", {"cpu-used": "8"}),
    ("mkv", "ffv1", {}),
    ("y4m", "rawvideo", {}),
]


@pytest.mark.parametrize(("ending", "codec", "options"), CONTAINERS)
def test_from_any_container(ending: str, codec: str, options: dict[str, str], tmp_path: Path) -> None:
    source = write_video(tmp_path / f"a.{ending}", range(60), codec=codec, options=options)
    wanted = numbers(source)[40:56]  # as extraction sees them
    assert numbers(cut(source, 1.6, 2.24, tmp_path / "clips")) == wanted
    assert len(wanted) == 16


def test_times_count_from_the_first_frame(tmp_path: Path) -> None:
    late = write_video(tmp_path / "a.mkv", [5000 + 40 * i for i in range(50)], Fraction(1, 1000))
    assert numbers(cut(late, 0.4, 0.8, tmp_path / "clips")) == [*range(10, 20)]


def test_a_variable_rate_keeps_its_times(tmp_path: Path) -> None:
    stamps = [0, 40, 80, 500, 540, 1000, 1040, 1080, 1120]
    source = write_video(tmp_path / "a.mkv", stamps, Fraction(1, 1000))
    with av.open(str(cut(source, 0.08, 1.04, tmp_path / "clips"))) as clip:
        shown = [
            (float(f.pts * f.time_base), read_number(f.to_ndarray(format="rgb24")))
            for f in clip.decode(video=0)
        ]
    assert [number for _, number in shown] == [2, 3, 4, 5]
    assert [time for time, _ in shown] == pytest.approx([0.0, 0.42, 0.46, 0.92], abs=1e-3)


@pytest.mark.parametrize(("rotation", "mirrored"), [(90, False), (180, True), (270, False), (0, True)])
def test_a_turned_video_gives_upright_clips(rotation: int, mirrored: bool, tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mp4", range(30), rotation=rotation, mirrored=mirrored)
    with FrameReader(source, AS_STORED) as reader:
        wanted = list(reader)[10:15]
    with FrameReader(cut(source, 0.4, 0.6, tmp_path / "clips"), AS_STORED) as reader:
        got = list(reader)
    assert [p.shape for p in got] == [p.shape for p in wanted]
    for mine, theirs in zip(got, wanted, strict=True):
        assert np.abs(mine.astype(int) - theirs).mean() < 3


@pytest.mark.parametrize(
    ("codec", "pixels"), [("mjpeg", "yuvj420p"), ("libx264", "yuv444p"), ("ffv1", "gray")]
)
def test_odd_sizes_and_pixels_come_through(codec: str, pixels: str, tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mkv", range(20), codec=codec, pixels=pixels, width=131, height=67)
    with FrameReader(source, AS_STORED) as reader:
        before = next(iter(reader)).mean()
    clip = cut(source, 0.0, 0.4, tmp_path / "clips")
    assert numbers(clip) == [*range(10)]
    with FrameReader(clip, AS_STORED) as reader:
        picture = next(iter(reader))
    assert picture.shape == (66, 130, 3)
    assert picture.mean() == pytest.approx(before, abs=4), "black stays black, white white"


def test_names_tell_video_class_and_start_and_are_safe(video: Path, tmp_path: Path) -> None:
    found = [
        Detection(0.0, 0.2, "run", 1.0),
        Detection(0.0, 0.4, "run", 1.0),
        Detection(1.25, 1.5, "../a:b\n<c>", 1.0),
        Detection(1.0, 1.2, "", 1.0),
        Detection(1.0, 1.2, "ü中" * 100, 1.0),
    ]
    told: list[Path] = []
    paths = cut_clips(video, found, tmp_path, name="sub/v", on_clip=told.append)
    assert [path.name for path in paths][:4] == [
        "sub%2Fv_run_0h00m00.000s.mp4",
        "sub%2Fv_run_0h00m00.000s_2.mp4",
        "sub%2Fv_%2E.%2Fa%3Ab %3Cc%3E_0h00m01.250s.mp4",
        "sub%2Fv_unnamed_0h00m01.000s.mp4",
    ]
    assert re.fullmatch(r"sub%2Fv_(ü中)+ü?_0h00m01.000s.mp4", paths[4].name)
    assert len(paths[4].name.encode()) < 255
    assert told == paths
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in paths)
    long = cut_clips(video, [Detection(0, 0.1, "run", 1.0)], tmp_path, name="x" * 180)
    assert long[0].name == f"{'x' * 60}_run_0h00m00.000s.mp4"


# What goes wrong


def test_a_detection_beyond_the_end_is_told_and_leaves_no_clip(video: Path, tmp_path: Path) -> None:
    found = [Detection(0.0, 0.2, "run", 1.0), Detection(4.5, 5.0, "run", 1.0)]
    told = f"{video}: ends before 0:00:04.5, where a detection starts. Are the detections of this video?"
    with pytest.raises(InputError, match=re.escape(told)):
        cut_clips(video, found, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a_run_0h00m00.000s.mp4"], "the finished one stays"


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "a.mp4"
    text.write_text("no video")
    with pytest.raises(InputError, match="is no video that FFmpeg can read"):
        cut(text, 0, 1, tmp_path / "clips")
    with pytest.raises(InputError, match="holds no moving picture"):
        cut(write_sound(tmp_path / "b.m4a"), 0, 1, tmp_path / "clips")
    assert not (tmp_path / "clips").exists()


def test_a_clip_is_replaced_whole_or_not_at_all(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = cut(video, 0.0, 0.2, tmp_path)
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space left"):
        cut(video, 0.0, 0.4, tmp_path)
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == [path.name]
