"""Open a video file, and what its header says."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from dgam.core.errors import InputError


@dataclass(frozen=True)
class VideoInfo:
    """What a video's header says. ``seconds`` and ``frames`` are None where it does not say.

    ``width`` and ``height`` are in pixels as stored, before any rotation; ``rate`` is the average frame rate.
    """

    path: str
    container: str
    codec: str
    width: int
    height: int
    rate: Fraction | None
    frames: int | None
    seconds: float | None


def probe(path: str | os.PathLike[str]) -> VideoInfo:
    """Read a video's header only. InputError as for :func:`open_video`."""
    container, stream = open_video(os.fspath(path))
    with container:
        return describe(os.fspath(path), container, stream)


def open_video(path: str) -> tuple[InputContainer, VideoStream]:
    """The file and its first moving picture; attached cover pictures do not count.

    InputError where it is missing, empty, a folder, unreadable, or without a moving picture.
    """
    file = Path(path)
    try:
        empty = file.stat().st_size == 0
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}.") from None
    if file.is_dir():
        raise InputError(f"{path}: is a folder, expected a video file.")
    if empty:
        raise InputError(f"{path}: the file is empty (0 bytes). Get it again, or leave it out.")
    try:
        # The prefix keeps FFmpeg from reading a name such as "a:b.mp4" as an address.
        container = av.open(f"file:{file.absolute()}", metadata_errors="replace")
    except (av.error.FFmpegError, OSError) as error:
        raise InputError(
            f"{path}: is no video that FFmpeg can read ({error.strerror}). It may be cut off, damaged, or of "
            "another kind; check that it plays, and get it again or leave it out."
        ) from None
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        names = {"video": "a cover picture"}
        kinds = ", ".join(sorted({names.get(one.type, one.type) for one in container.streams})) or "nothing"
        container.close()
        raise InputError(
            f"{path}: holds no moving picture (only {kinds}). Leave it out, or give the video file."
        )
    stream = streams[0]
    if stream.codec_context is None:
        container.close()
        raise InputError(f"{path}: FFmpeg has no decoder for its picture. Re-encode it, e.g. as H.264.")
    return container, stream


def describe(path: str, container: InputContainer, stream: VideoStream) -> VideoInfo:
    """Collect what the header says."""
    promised, _ = promised_seconds(container, stream)
    rate = stream.average_rate or stream.guessed_rate or stream.base_rate
    return VideoInfo(
        path=path,
        container=container.format.name,
        codec=stream.codec_context.name,
        width=stream.width,
        height=stream.height,
        rate=rate or None,
        frames=stream.frames or None,
        seconds=None if promised is None else float(promised),
    )


def promised_seconds(container: InputContainer, stream: VideoStream) -> tuple[Fraction | None, bool]:
    """The length that the header gives, and whether it is sure to be that of the picture alone."""
    if container.format.name == "avi" and stream.frames and stream.average_rate:
        # FFmpeg shortens a cut-off AVI's duration to what is there, but leaves its number of frames.
        return stream.frames / stream.average_rate, True
    if stream.duration and stream.time_base:
        return stream.duration * stream.time_base, True
    if tag := stream.metadata.get("DURATION"):
        with contextlib.suppress(ValueError):
            hours, minutes, seconds = (Fraction(part) for part in tag.split(":"))
            return hours * 3600 + minutes * 60 + seconds, True
    if container.duration:
        return Fraction(container.duration, av.time_base), len(container.streams) == 1
    return None, False
