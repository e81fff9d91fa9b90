"""A copy of a video that every browser plays, where the video itself is of another kind."""

from __future__ import annotations

import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from dgam.core.errors import InputError
from dgam.video.framing import FrameSettings, Picture
from dgam.video.reader import FrameReader

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.stream import VideoStream

FPS = Fraction(25)
SHORT_SIDE = 360
LONGEST_SIDE = 1280
KINDS = {
    "libx264": (".mp4", "video/mp4"),
    "libopenh264": (".mp4", "video/mp4"),
    "libvpx": (".webm", "video/webm"),
}
"""Encoders in the order of preference, and what they go into. H.264 plays in every browser, VP8 in most."""


def make_preview(video: Path, folder: Path, on_progress: Callable[[float], None]) -> tuple[Path, str]:
    """Write ``folder``/preview.mp4 (or .webm): upright, 25 frames a second, 360 pixels high, without sound.

    Times are those of detections: 0 is the first frame shown. Returns the file and its media type.
    ``on_progress`` is told the fraction done, and may raise to stop. InputError where the video cannot be
    decoded or encoded. The file appears when it is complete.
    """
    import av

    codec = next((name for name in KINDS if name in av.codecs_available), None)
    if codec is None:
        raise InputError("FFmpeg here has no encoder for H.264 or VP8.")
    ending, media = KINDS[codec]
    path, part = folder / f"preview{ending}", folder / f"preview.part{ending}"
    muxing = {"movflags": "+faststart"} if ending == ".mp4" else {}
    on_progress(0.0)
    try:
        with (
            FrameReader(video, FrameSettings(fps=FPS, short_side=SHORT_SIDE, damage="conceal")) as reader,
            av.open(f"file:{part.absolute()}", "w", options=muxing) as out,
        ):
            expected = (reader.info.seconds or 0.0) * float(FPS)
            stream = None
            for number, picture in enumerate(reader):
                if stream is None:
                    stream = _add_stream(out, codec, picture)
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame = frame.reformat(stream.width, stream.height, "yuv420p")
                frame.pts, frame.time_base = number, 1 / FPS
                out.mux(stream.encode(frame))
                if number % 25 == 0:
                    on_progress(min(1.0, number / expected) if expected else 0.0)
            if stream is not None:
                out.mux(stream.encode(None))
        os.replace(part, path)
    except av.error.FFmpegError as error:
        raise InputError(f"{video}: {codec} could not encode it ({error.strerror}).") from error
    finally:
        part.unlink(missing_ok=True)
    return path, media


def _add_stream(out: OutputContainer, codec: str, picture: Picture) -> VideoStream:
    """A stream for pictures (H, W, 3) of this size, or smaller where they are very long; sides are even."""
    from av.video.stream import VideoStream

    # A key frame every 2 s makes seeking quick.
    options = (
        {"preset": "veryfast", "crf": "26", "g": "50"} if codec == "libx264" else {"b": "800k", "g": "50"}
    )
    stream = out.add_stream(codec, rate=FPS, options=options)
    assert isinstance(stream, VideoStream)
    height, width = picture.shape[:2]
    scale = min(1.0, LONGEST_SIDE / max(width, height))
    stream.width, stream.height = (max(2, round(side * scale / 2) * 2) for side in (width, height))
    stream.pix_fmt = "yuv420p"
    return stream
