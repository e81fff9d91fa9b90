"""Small pictures out of a video file, as JPEG in data: addresses."""

from __future__ import annotations

import base64
from fractions import Fraction
from pathlib import Path

import av

from dgam.core.errors import InputError
from dgam.page.content import Thumbnail
from dgam.video.container import open_video
from dgam.video.listing import VIDEO_ENDINGS

WIDTH = 112


def files_of(folder: Path) -> dict[str, Path]:
    """Video id, the file name without its ending, to the file, for a folder and those below it.

    InputError where it is no folder or holds no video.
    """
    if not folder.is_dir():
        raise InputError(f"--videos {folder}: is no folder; expected the folder of the video files.")
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in VIDEO_ENDINGS)
    if not files:
        raise InputError(f"--videos {folder}: holds no video file.")
    return {file.stem: file for file in reversed(files)}


def thumbnails(path: Path, count: int, width: int = WIDTH) -> tuple[Thumbnail, ...]:
    """``count`` frames in equal distances, each from the middle of its stretch of the video.

    InputError where the file cannot be read. Frames that cannot be decoded are left out.
    """
    container, stream = open_video(str(path))
    found: list[Thumbnail] = []
    with container:
        base = stream.time_base or Fraction(1, 90000)
        length = (
            stream.duration * base if stream.duration else Fraction(container.duration or 0, av.time_base)
        )
        origin = (stream.start_time or 0) * base
        for index in range(count):
            at = length * Fraction(2 * index + 1, 2 * count)
            try:
                container.seek(int((origin + at) / base), stream=stream)
                for frame in container.decode(stream):
                    time = Fraction(frame.pts or 0) * base - origin
                    if time >= at - Fraction(1, 50):
                        found.append(Thumbnail(float(time), _jpeg(frame, width)))
                        break
            except (av.error.FFmpegError, OSError):
                continue
    return tuple(found)


def _jpeg(frame: av.VideoFrame, width: int) -> str:
    height = max(2, round(frame.height * width / frame.width / 2) * 2)
    codec = av.CodecContext.create("mjpeg", "w")
    assert isinstance(codec, av.VideoCodecContext)
    codec.width, codec.height, codec.pix_fmt = width, height, "yuvj420p"
    codec.time_base = Fraction(1, 25)
    codec.qmin, codec.qmax = 8, 8
    small = frame.reformat(width, height, "yuvj420p")
    small.pts = 0
    data = b"".join(bytes(packet) for packet in [*codec.encode(small), *codec.encode(None)])
    return "data:image/jpeg;base64," + base64.b64encode(data).decode()
