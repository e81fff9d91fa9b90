"""Decoding: the picture upright, in the right size and colours, whatever the file's geometry."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from coded_videos import SMALL, coded_frame, numbers, read_number, write_video
from dgam.video.framing import FrameSettings, Orientation, resized
from dgam.video.reader import FrameReader


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
