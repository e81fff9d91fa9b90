"""Videos made for tests whose frames carry their own number, as 16 black or white blocks."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.stream import Disposition

from dgam.video.framing import FrameSettings
from dgam.video.reader import FrameReader

ROWS, COLUMNS = 2, 8
SMALL = FrameSettings(short_side=0)  # pictures as small as they were written


def coded_frame(number: int, width: int, height: int) -> np.ndarray:
    """A grey picture, uint8 (height, width, 3), whose blocks are the bits of ``number``, lowest first."""
    picture = np.full((height, width, 3), 128, np.uint8)
    for bit in range(ROWS * COLUMNS):
        row, column = divmod(bit, COLUMNS)
        top, left = row * height // ROWS, column * width // COLUMNS
        bottom, right = (row + 1) * height // ROWS, (column + 1) * width // COLUMNS
        picture[top:bottom, left:right] = 225 if number >> bit & 1 else 30
    return picture


def read_number(picture: np.ndarray) -> int:
    """The number in a picture that went through a codec and a resize."""
    height, width = picture.shape[:2]
    number = 0
    for bit in range(ROWS * COLUMNS):
        row, column = divmod(bit, COLUMNS)
        y, x = int((row + 0.5) * height / ROWS), int((column + 0.5) * width / COLUMNS)
        number |= int(picture[y - 1 : y + 2, x - 1 : x + 2].mean() > 128) << bit
    return number


def numbers(path: Path, frames: FrameSettings = SMALL, threads: int = 1) -> list[int]:
    """The numbers in the pictures that are read from a video."""
    with FrameReader(path, frames, threads) as reader:
        return [read_number(picture) for picture in reader]


def write_video(
    path: Path,
    stamps: Sequence[int],
    time_base: Fraction = Fraction(1, 25),
    *,
    width: int = 128,
    height: int = 64,
    codec: str = "mpeg4",
    pixels: str = "yuv420p",
    rotation: int = 0,
    mirrored: bool = False,
    pixel_aspect: Fraction | None = None,
    sound: bool = False,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
) -> Path:
    """Write one frame for each stamp (in ``time_base``, ascending), the n-th carrying the number n."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(f"file:{path}", "w", options=container_options or {}) as container:
        rate = 1 / time_base if time_base.numerator * 200 > time_base.denominator else Fraction(25)
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        stream.time_base = stream.codec_context.time_base = time_base
        if pixel_aspect is not None:
            stream.codec_context.sample_aspect_ratio = pixel_aspect
        if codec == "mpeg4":
            stream.codec_context.bit_rate = 2_000_000
        if rotation or mirrored:
            stream.set_display_rotation(rotation, hflip=mirrored)
        audio = container.add_stream("aac", rate=16000) if sound else None
        for number, stamp in enumerate(stamps):
            frame = av.VideoFrame.from_ndarray(coded_frame(number, width, height), format="rgb24")
            frame.pts, frame.time_base = stamp, time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if audio is not None:
            _hum(container, audio, seconds=float((stamps[-1] + 1) * time_base))
    return path


def write_sound(path: Path, seconds: float = 1.0, cover: bool = False) -> Path:
    """A file with a tone and no moving picture; with ``cover`` (MP3) there is a still one."""
    with av.open(f"file:{path}", "w") as container:
        sound = container.add_stream("libmp3lame" if cover else "aac", rate=16000)
        if cover:
            still = container.add_stream("png")
            still.width, still.height, still.pix_fmt = 64, 64, "rgb24"
            still.disposition = Disposition.attached_pic
            frame = av.VideoFrame.from_ndarray(coded_frame(0, 64, 64), format="rgb24")
            container.mux([*still.encode(frame), *still.encode(None)])
        _hum(container, sound, seconds)
    return path


def _hum(container: av.container.OutputContainer, stream: av.AudioStream, seconds: float) -> None:
    samples = np.sin(np.arange(int(16000 * seconds)) * 0.2).astype(np.float32)
    for start in range(0, len(samples), 1024):
        frame = av.AudioFrame.from_ndarray(samples[None, start : start + 1024], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 16000, start
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
