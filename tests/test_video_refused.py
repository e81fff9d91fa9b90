"""What decoding refuses, or conceals with a warning: files that are no videos, cut off or damaged."""

from __future__ import annotations

import itertools
import random
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coded_videos import SMALL, numbers, read_number, write_sound, write_video
from dgam.core.errors import InputError
from dgam.video.framing import FrameSettings
from dgam.video.reader import FrameReader


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


@pytest.mark.parametrize(
    "bad", [{"fps": 0}, {"fps": 5000}, {"short_side": 3}, {"size": (4, 9)}, {"interpolation": "x"}]
)
def test_settings_out_of_range(bad: dict[str, object]) -> None:
    with pytest.raises(InputError, match=next(iter(bad))):
        FrameSettings(**bad)  # type: ignore[arg-type]  # wrong on purpose
