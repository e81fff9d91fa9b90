"""Clips cut out of a video, one for each detection, re-encoded so that they start on the very frame.

PyAV does it, which dgam needs anyway to decode; no ``ffmpeg`` has to be installed. A clip holds every frame
that is on the screen between its start and its end, at the times it had, as H.264 in MP4, with the sound
where there is some. Times count from the video's first frame, as everywhere in dgam.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from dgam.core.errors import InputError
from dgam.core.files import atomic_write
from dgam.core.types import Detection
from dgam.exports.text import one_line
from dgam.exports.times import milliseconds, short_clock
from dgam.features.names import file_stem
from dgam.video.container import open_video
from dgam.video.framing import Orientation

_MILLISECOND = Fraction(1, 1000)
_TICKS = Fraction(1, 90000)
# Containers that give every frame its own time, wherever one starts to read. In others (MPEG programme
# streams, AVI) FFmpeg counts frames from where it starts, so there the file is read from its beginning.
_SEEKABLE = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "mpegts")
_LONGEST_NAME = 60  # bytes of a video's and of a class's name in a clip's


def cut_clips(
    video: Path,
    detections: Sequence[Detection],
    out: Path,
    *,
    name: str | None = None,
    on_clip: Callable[[Path], None] | None = None,
) -> list[Path]:
    """Cut each detection out of ``video`` into the folder ``out``; the clips' paths, in order.

    A clip is called ``NAME_CLASS_0h01m02.345s.mp4`` by its start, ``name`` being the file's by default.
    Detections are cut to the video; one of no length gives the frame that is on the screen then. Each clip is
    written whole or not at all. ``on_clip`` is told of each. InputError where the video cannot be read, or
    ends before a detection starts.
    """
    container, stream = open_video(str(video))
    with container:
        source = _Source(str(video), container, stream)
        taken: set[str] = set()
        paths = []
        for found in detections:
            path = out / f"{_unused(_clip_name(name or video.stem, found), taken)}.mp4"
            with atomic_write(path) as file:
                source.cut(max(Fraction(0), Fraction(found.start)), Fraction(found.end), file)
            paths.append(path)
            if on_clip is not None:
                on_clip(path)
    return paths


class _Shown(NamedTuple):
    """A frame and when it is on the screen, in seconds from the video's first."""

    frame: VideoFrame
    start: Fraction
    end: Fraction


class _Source:
    """An open video that clips are cut from, in any order."""

    def __init__(self, path: str, container: InputContainer, stream: VideoStream) -> None:
        self._path, self._container, self._stream = path, container, stream
        stream.thread_type = "AUTO"
        self._sound = next(iter(container.streams.audio), None)
        if self._sound is not None and self._sound.codec_context is None:
            self._sound = None  # no decoder for it
        self._stamps = ("dts", "pts") if container.format.name == "avi" else ("pts", "dts")
        self._step = 1 / (stream.average_rate or stream.guessed_rate or Fraction(25))
        first = next(self._decode(stream), None)
        if first is None:
            raise InputError(f"{path}: no frame could be decoded. The file is cut off or damaged.")
        self._origin = self._time(first, Fraction(0))

    def cut(self, start: Fraction, end: Fraction, file: BinaryIO) -> None:
        """Write what is shown from ``start`` to ``end`` seconds."""
        frames = self._between(start, max(end, start))
        first = next(frames, None)
        if first is None:
            raise InputError(
                f"{self._path}: ends before {short_clock(float(start))}, where a detection starts. Are the "
                "detections of this video?"
            )
        with av.open(file, "w", format="mp4") as output:
            writer = _Writer(output, self._stream, self._sound, first.frame, 1 / self._step)
            writer.show(first.frame, Fraction(0))
            for shown in frames:
                writer.show(shown.frame, max(Fraction(0), shown.start - start))
            if writer.hears:
                for sound, time in self._sounds(start, end):
                    writer.play(sound, time - start)
            writer.finish()

    def _between(self, start: Fraction, end: Fraction) -> Iterator[_Shown]:
        """The frames on the screen from ``start`` to ``end``, at least the one at ``start``."""
        for shown in self._from(start):
            if shown.start > start and shown.start >= end - _MILLISECOND:
                return
            if shown.end > start + _MILLISECOND:
                yield shown

    def _from(self, start: Fraction) -> Iterator[_Shown]:
        """Frames in order, from one at or before ``start`` on."""
        self._seek(self._stream, start if self._container.format.name in _SEEKABLE else -self._origin)
        frames = self._timed()
        first = next(frames, None)
        if first is None or first.start > start:  # the container's index led too far, or has no such entry
            self._seek(self._stream, -self._origin)
            frames = self._timed()
            first = next(frames, None)
        if first is not None:
            yield first
            yield from frames

    def _timed(self) -> Iterator[_Shown]:
        held: VideoFrame | None = None
        start = Fraction(0)
        for frame in self._decode(self._stream):
            time = self._time(frame, self._origin + start + self._step) - self._origin
            if held is not None:
                time = max(time, start)
                yield _Shown(held, start, time)
            held, start = frame, time
        if held is not None:
            yield _Shown(held, start, start + self._step)

    def _sounds(self, start: Fraction, end: Fraction) -> Iterator[tuple[AudioFrame, Fraction]]:
        """Stretches of sound (some twenty milliseconds each) that begin inside, with their times."""
        assert self._sound is not None
        self._seek(self._sound, start)
        time = start
        for frame in self._decode(self._sound):
            time = self._time(frame, self._origin + time) - self._origin
            if time >= end:
                return
            if time >= start:
                yield frame, time
            time += Fraction(frame.samples, frame.sample_rate)

    def _seek(self, stream: VideoStream | AudioStream, start: Fraction) -> None:
        base = stream.time_base or _TICKS
        with suppress(av.error.FFmpegError):  # what cannot be sought is read from where it stands
            self._container.seek(int((self._origin + start) / base), stream=stream, backward=True)

    def _decode(self, stream: Any) -> Iterator[Any]:
        try:
            yield from self._container.decode(stream)
        except av.error.FFmpegError as error:
            raise InputError(
                f"{self._path}: no clip can be cut where it is damaged ({error.strerror})."
            ) from None

    def _time(self, frame: VideoFrame | AudioFrame, otherwise: Fraction) -> Fraction:
        """The frame's time by the file's clock. AVI has no presentation times; see ``video.reader``."""
        first, second = (getattr(frame, name) for name in self._stamps)
        stamp = first if first is not None else second
        return otherwise if stamp is None or frame.time_base is None else stamp * frame.time_base


class _Writer:
    """A clip being encoded."""

    def __init__(
        self,
        output: OutputContainer,
        source: VideoStream,
        sound: AudioStream | None,
        first: VideoFrame,
        rate: Fraction,
    ) -> None:
        self._output = output
        self._turn = _orientation(first)
        self._last = -1
        codec = "libx264" if "libx264" in av.codec.codecs_available else "mpeg4"
        options = {"crf": "18", "preset": "veryfast"} if codec == "libx264" else {"qscale": "3"}
        added = output.add_stream(codec, rate=rate.limit_denominator(65535), options=options)
        assert isinstance(added, VideoStream)
        self._picture = added
        height, width = (first.width, first.height) if self._turn.transpose else (first.height, first.width)
        self._picture.width, self._picture.height = width - width % 2, height - height % 2
        self._picture.pix_fmt = "yuv420p"
        context = self._picture.codec_context
        context.time_base = _TICKS
        aspect = source.sample_aspect_ratio or Fraction(1)
        context.sample_aspect_ratio = 1 / aspect if self._turn.transpose else aspect
        if self._turn == Orientation():  # pictures that are turned go through RGB and lose these
            context.colorspace = source.codec_context.colorspace
            context.color_primaries = source.codec_context.color_primaries
            context.color_trc = source.codec_context.color_trc
        self._heard = None
        if sound is not None:
            self._heard = output.add_stream("aac", rate=sound.codec_context.sample_rate)
            self._heard.layout = "stereo" if sound.codec_context.channels > 1 else "mono"

    @property
    def hears(self) -> bool:
        """Whether the clip has sound."""
        return self._heard is not None

    def show(self, frame: VideoFrame, time: Fraction) -> None:
        """Add a picture ``time`` seconds into the clip."""
        if self._turn != Orientation():
            upright = self._turn.apply(np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8))
            frame = VideoFrame.from_ndarray(upright, format="rgb24")
        made = frame.reformat(
            self._picture.width,
            self._picture.height,
            "yuv420p",
            dst_color_range=av.video.reformatter.ColorRange.MPEG,
        )
        self._last = max(self._last + 1, round(time / _TICKS))
        made.pts, made.time_base = self._last, _TICKS
        made.pict_type = av.video.frame.PictureType.NONE  # the encoder's own choice, not the source's
        self._output.mux(self._picture.encode(made))

    def play(self, frame: AudioFrame, time: Fraction) -> None:
        """Add sound ``time`` seconds into the clip."""
        assert self._heard is not None
        base = Fraction(1, frame.sample_rate)
        frame.pts, frame.time_base = round(time / base), base
        self._output.mux(self._heard.encode(frame))

    def finish(self) -> None:
        """Let the encoders give what they still hold."""
        self._output.mux(self._picture.encode(None))
        if self._heard is not None:
            self._output.mux(self._heard.encode(None))


def _orientation(frame: VideoFrame) -> Orientation:
    try:
        matrix = frame.side_data["DISPLAYMATRIX"]  # type: ignore[typeddict-item]  # any side data by its name
    except KeyError:
        return Orientation()
    return Orientation.from_display_matrix(bytes(matrix)) or Orientation()


def _clip_name(video: str, found: Detection) -> str:
    minutes, thousandths = divmod(max(0, milliseconds(found.start)), 60_000)
    hours, minutes = divmod(minutes, 60)
    start = f"{hours}h{minutes:02}m{thousandths / 1000:06.3f}s"
    label = one_line(found.label)
    return f"{_short(video)}_{_short(label)}_{start}"


def _short(name: str) -> str:
    """As much of a name as a clip's has room for, as text that any file system takes."""
    safe = "" if name else "unnamed"
    for end in range(1, len(name) + 1):
        longer = file_stem(name[:end])
        if len(longer.encode()) > _LONGEST_NAME:
            break
        safe = longer
    return safe


def _unused(name: str, taken: set[str]) -> str:
    found, number = name, 2
    while found in taken:
        found, number = f"{name}_{number}", number + 1
    taken.add(found)
    return found
