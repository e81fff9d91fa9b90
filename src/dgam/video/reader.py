"""Read any video FFmpeg can, at an exact rational frame rate, in bounded memory.

Times count from the first frame shown. Picture ``k`` is the one on the screen just before ``(k + ½)/fps``,
the middle of its slot: a source frame shown from ``t`` to ``u`` seconds fills the slots from ``round(t·fps)``
up to, not including, ``round(u·fps)`` (halves up). This is what FFmpeg's ``fps`` filter does by default; it
needs no constant source rate, and jitter of timestamps below half a slot does not move a picture.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream

from dgam.core.errors import InputError
from dgam.video.container import describe, open_video, promised_seconds
from dgam.video.framing import FrameSettings, Orientation, Picture, resized

# Exact rounding and the bit-exact code path, so that a picture does not depend on the processor's make.
_SCALER = Interpolation.ACCURATE_RND | Interpolation.BITEXACT | Interpolation.FULL_CHR_H_INT
_KERNELS = {
    "bilinear": Interpolation.BILINEAR,
    "bicubic": Interpolation.BICUBIC,
    "area": Interpolation.AREA,
    "nearest": Interpolation.POINT,
}
LONGEST_GAP = 600
"""Seconds that one source frame may stand still; beyond it timestamps are taken to be broken."""


class FrameReader:
    """Iterate over the pictures of one video: uint8 RGB arrays ``(H, W, 3)``, read-only, upright, resized.

    A picture that fills several slots is yielded several times as the same array. ``threads`` is the number
    of the decoder's threads (0: one per core); it changes the speed only. InputError where the file is
    missing, empty, without a moving picture, or, unless ``settings.damage`` is "conceal", damaged or cut
    off, which may only show while iterating. Use it once, and close it or use it as a context manager.
    ``opened`` is a source that is open already and no file, such as a camera; ``path`` is then its name.

    While iterating, ``frames`` counts pictures yielded and ``decoded`` source frames; afterwards ``seconds``
    is the exact duration of what was shown, and ``warnings`` says in words what was odd.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        settings: FrameSettings | None = None,
        threads: int = 1,
        opened: tuple[InputContainer, VideoStream] | None = None,
    ) -> None:
        self.path = os.fspath(path)
        self.settings = settings if settings is not None else FrameSettings()
        self.frames = 0
        self.decoded = 0
        self.seconds = Fraction(0)
        self._notes: dict[str, int] = {}
        self._container, self._stream = opened if opened is not None else open_video(self.path)
        self._stream.thread_type = "AUTO"
        self._stream.thread_count = threads
        self._scaler = VideoReformatter()
        self._size: tuple[int, int] | None = None
        self.info = describe(self.path, self._container, self._stream)

    def __enter__(self) -> FrameReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. Closing twice does no harm."""
        self._container.close()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was odd about the video, one sentence each, with how often where more than once."""
        return tuple(text if n == 1 else f"{text} ({n} times)" for text, n in self._notes.items())

    def __iter__(self) -> Iterator[Picture]:
        fps = self.settings.fps
        for frame, start, end in self._shown():
            slots = range(_slot(start * fps), _slot(end * fps))
            if slots:
                picture = self._picture(frame)
                for _ in slots:
                    self.frames += 1
                    yield picture
        if self.frames == 0:  # a single frame shorter than half a slot is still a picture
            self.frames = 1
            yield self._picture(frame)

    def _shown(self) -> Iterator[tuple[VideoFrame, Fraction, Fraction]]:
        """Source frames, each with the stretch of seconds from the first in which it is on the screen."""
        step = 1 / self.info.rate if self.info.rate else Fraction(1, 25)
        base = self._stream.time_base or Fraction(1, 90000)
        clock = Clock(prefer_dts=self.info.container == "avi")
        origin: int | None = None
        held: VideoFrame | None = None
        start = Fraction(0)
        for frame in self._decode():
            stamp = clock.stamp(frame)
            if held is None:
                origin = stamp
                self._inspect(frame)
                held = frame
                continue
            time = None if stamp is None or origin is None else (stamp - origin) * base
            if time is not None and time <= start:
                self._note("a frame's timestamp does not lie after the one before; it is put one frame later")
                time = None
            if time is None:
                time = start + step
            if time - start > LONGEST_GAP:
                raise InputError(
                    f"{self.path}: its timestamps jump from {float(start):.3f} to {float(time):.3f} s. "
                    "Re-encode it, for example with: ffmpeg -fflags +genpts -i IN -c:v libx264 OUT.mp4"
                )
            yield held, start, time
            held, start = frame, time
        if held is None:
            raise InputError(
                f"{self.path}: no frame could be decoded. The file is cut off or damaged; get it again."
            )
        length = held.duration * base if held.duration and origin is not None else step
        self.seconds = start + (length if 0 < length <= LONGEST_GAP else step)
        self._check_length((origin or 0) * base)
        yield held, start, self.seconds

    def _decode(self) -> Iterator[VideoFrame]:
        for packet in self._packets():
            try:
                frames = packet.decode() if packet is not None else self._stream.decode(None)
            except av.error.FFmpegError as error:
                self._damaged(f"a packet cannot be decoded ({error.strerror})")
                continue
            for frame in frames:
                assert isinstance(frame, VideoFrame)
                if frame.is_corrupt:
                    self._damaged("a frame is damaged")
                self.decoded += 1
                yield frame

    def _packets(self) -> Iterator[av.Packet[VideoStream] | None]:
        """The stream's packets; None once where the file broke off, for the decoder to give the rest."""
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except av.error.FFmpegError as error:
                self._damaged(f"the file cannot be read on ({error.strerror})")
                yield None
                return
            if packet is None:
                return
            yield packet

    def _picture(self, frame: VideoFrame) -> Picture:
        turn = self._orientation(frame)
        if self._size is None:
            aspect = self._stream.sample_aspect_ratio or Fraction(1)
            shown = (frame.width, frame.height) if not turn.transpose else (frame.height, frame.width)
            self._size = resized(*shown, self.settings, 1 / aspect if turn.transpose else aspect)
        width, height = self._size if not turn.transpose else self._size[::-1]
        try:
            scaled = self._scaler.reformat(
                frame, width, height, "rgb24",
                interpolation=_KERNELS[self.settings.interpolation] | _SCALER, threads=1,
            )  # fmt: skip
        except av.error.FFmpegError as error:
            raise InputError(
                f"{self.path}: frame {self.decoded} ({frame.width}×{frame.height}, {frame.format.name}) "
                f"cannot be resized to {width}×{height}: {error.strerror}."
            ) from None
        picture = turn.apply(np.asarray(scaled.to_ndarray(), dtype=np.uint8))
        picture.flags.writeable = False
        return picture

    def _orientation(self, frame: VideoFrame) -> Orientation:
        try:
            matrix = frame.side_data["DISPLAYMATRIX"]  # type: ignore[typeddict-item]  # any side data by its name
        except KeyError:
            return Orientation()
        turn = Orientation.from_display_matrix(bytes(matrix))
        if turn is None:
            self._notes["its rotation is no multiple of 90 degrees and was ignored"] = 1
        return turn or Orientation()

    def _inspect(self, first: VideoFrame) -> None:
        aspect = self._stream.sample_aspect_ratio or Fraction(1)
        if aspect != 1 and self.settings.pixel_aspect == "ignore":
            self._note(f"its pixels are not square ({aspect}); they were taken as square (pixel_aspect)")
        if first.interlaced_frame:
            self._note("its frames are interlaced and were not deinterlaced")

    def _check_length(self, origin: Fraction) -> None:
        """Compare what was shown with what the header promised; ``origin`` is the first frame's timestamp."""
        promised, sure = promised_seconds(self._container, self._stream)
        if promised is None:
            return
        # Some containers promise a length, others a last instant: only the smaller shortfall counts.
        missing = promised - max(self.seconds, self.seconds + origin)
        if missing <= max(Fraction(1, 2), promised / 200):
            return
        what = f"ends after {float(self.seconds):.2f} s, its header promises {float(promised):.2f} s"
        if sure:
            self._damaged(what)
        else:
            self._note(f"its picture {what} of picture or sound")

    def _damaged(self, what: str) -> None:
        if self.settings.damage == "conceal":
            self._note(what)
            return
        raise InputError(
            f"{self.path}: {what}, at {self.decoded} decoded frames. The file is damaged or cut off: "
            "get it again, leave it out, or use what can be decoded of it with --damage conceal."
        )

    def _note(self, text: str) -> None:
        self._notes[text] = self._notes.get(text, 0) + 1


class Clock:
    """Which of a decoded frame's two timestamps to believe.

    Presentation timestamps, as a rule. AVI has none, and what FFmpeg makes up for packed B-frames is out of
    order; there, and wherever they have gone backwards more often, decoding timestamps serve.
    """

    def __init__(self, prefer_dts: bool) -> None:
        self._last: dict[str, int] = {}
        self._faults = {"pts": int(prefer_dts), "dts": 0}

    def stamp(self, frame: VideoFrame) -> int | None:
        """The frame's time in the stream's time base; None where it has none that fits."""
        stamps = {"pts": frame.pts, "dts": frame.dts}
        for kind, value in stamps.items():
            if value is not None:
                self._faults[kind] += value <= self._last.get(kind, value - 1)
                self._last[kind] = value
        first, second = ("pts", "dts") if self._faults["pts"] <= self._faults["dts"] else ("dts", "pts")
        if stamps[first] is not None:
            return stamps[first]
        other, last = stamps[second], self._last.get(first)  # the decoder's last frames come without a dts
        return other if other is not None and (last is None or other > last) else None


def _slot(position: Fraction) -> int:
    return int((2 * position + 1) // 2)  # halves up
