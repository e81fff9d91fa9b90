"""One video through decoding, optical flow and the network, the three at the same time.

    decoder thread ──pictures──> flow thread ──pictures, flow──> the caller's thread: network

Every queue is bounded, so memory does not grow with the video's length. Flow ``t`` leads from picture ``t``
to ``t + 1``; the last picture has no successor and repeats the flow before it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dgam.core.timeline import SnippetGrid
from dgam.encoders.encoder import SnippetEncoder
from dgam.extraction.channel import Cancelled, Channel
from dgam.video.framing import Picture
from dgam.video.reader import FrameReader

STAGES = ("decode", "flow", "network")
CHUNK_BYTES = 48 << 20
QUEUED = 2


FlowFunction = Callable[[Picture], NDArray[Any]]
"""Pictures uint8 (n, H, W, 3) to the flow between neighbours, (n − 1, H, W, 2), as the encoder takes it."""


@dataclass
class Encoded:
    """A video's features and how they came about.

    ``features`` maps a stream to (T, d) float32; ``seconds`` maps a stage to the time it was busy (they
    overlap); ``duration`` is the video's in seconds; ``frames`` counts pictures at the target rate.
    """

    features: dict[str, NDArray[np.float32]]
    frames: int
    duration: float
    seconds: dict[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def encode_video(
    reader: FrameReader,
    encoder: SnippetEncoder,
    streams: Sequence[str],
    grid: SnippetGrid,
    flow: FlowFunction | None,
    batch: int = 8,
    advance: Callable[[int], None] = lambda frames: None,
) -> Encoded:
    """Features of every snippet of a video, in the streams asked for; ``flow`` is needed for "flow" only.

    ``batch`` is how many snippets the encoder is handed at most. ``advance`` is told how many more pictures
    have gone through the network. A video shorter than one snippet is filled up by repeating its last
    picture, with a warning. InputError as from the reader and the encoder.
    """
    clock = {stage: 0.0 for stage in STAGES if stage != "flow" or flow is not None}
    decoded: Channel[Picture] = Channel(QUEUED)
    joined: Channel[tuple[Picture, NDArray[Any] | None]] = Channel(QUEUED)
    threads = [_thread(_chunks(reader, grid, batch, clock), decoded, "decode")]
    source: Iterable[tuple[Picture, NDArray[Any] | None]]
    if flow is None:
        source = ((pictures, None) for pictures in decoded)
    else:
        source = joined
        threads.append(_thread(_with_flow(decoded, flow, clock), joined, "flow"))
    parts: dict[str, list[NDArray[np.float32]]] = {stream: [] for stream in streams}
    windows = {stream: _Windows(grid, batch) for stream in streams}

    def encode(stream: str, clips: Iterable[NDArray[Any]]) -> None:
        for some in clips:
            with _busy(clock, "network"):
                parts[stream].append(encoder.encode(stream, some))

    try:
        for pictures, motion in source:
            for stream in streams:
                frames = motion if stream == "flow" else pictures
                assert frames is not None, "the stream flow needs a flow function"
                encode(stream, windows[stream].push(frames))
            advance(len(pictures))
        for stream in streams:
            encode(stream, windows[stream].rest())
    finally:
        decoded.cancel()
        joined.cancel()
        for thread in threads:
            thread.join()
    features = {stream: np.concatenate(rows).astype(np.float32, copy=False) for stream, rows in parts.items()}
    warnings = reader.warnings
    if reader.frames < grid.length:
        warnings += (
            f"it has {reader.frames} of a snippet's {grid.length} frames; the last one was repeated",
        )
    return Encoded(features, reader.frames, float(reader.seconds), clock, warnings)


def _chunks(reader: FrameReader, grid: SnippetGrid, batch: int, clock: dict[str, float]) -> Iterator[Picture]:
    """Pictures stacked into chunks (n, H, W, 3) of about one batch of snippets.

    The first chunk has one picture more, so that every call of the flow sees the same number of pairs.
    """
    source = _at_least(grid.length, iter(reader))
    pictures: list[Picture] = []
    wanted = 0
    while True:
        with _busy(clock, "decode"):
            picture = next(source, None)
            if picture is not None:
                pictures.append(picture)
                size = max(1, min(batch * grid.stride, CHUNK_BYTES // picture.nbytes))
                wanted = wanted or size + 1
            chunk = np.stack(pictures) if pictures and (picture is None or len(pictures) == wanted) else None
        if chunk is not None:
            yield chunk  # (n, H, W, 3)
            pictures, wanted = [], size
        if picture is None:
            return


def _at_least(count: int, pictures: Iterator[Picture]) -> Iterator[Picture]:
    """The pictures, the last one repeated where there are fewer than ``count``."""
    number = 0
    for picture in pictures:
        number += 1
        yield picture
    for _ in range(number, count):
        yield picture


def _with_flow(
    chunks: Iterable[Picture], flow: FlowFunction, clock: dict[str, float]
) -> Iterator[tuple[Picture, NDArray[Any]]]:
    """Each chunk with the flow known by then, one picture behind; at the end the flow that is left."""
    last: Picture | None = None
    motion: NDArray[Any] | None = None
    for chunk in chunks:
        joined = chunk if last is None else np.concatenate([last, chunk])  # (n + 1, H, W, 3)
        if len(joined) > 1:
            with _busy(clock, "flow"):
                motion = flow(joined)  # (n, H, W, 2)
            yield chunk, motion
        last = chunk[-1:]
    if last is not None and motion is not None:
        yield last[:0], motion[-1:]


class _Windows:
    """Cuts a stream of frames into snippets, and hands them out ``batch`` at a time."""

    def __init__(self, grid: SnippetGrid, batch: int) -> None:
        self._grid = grid
        self._batch = batch
        self._held: NDArray[Any] | None = None
        self._skip = 0

    def push(self, frames: NDArray[Any]) -> Iterator[NDArray[Any]]:
        """Take (n, H, W, C) more frames; give clips (batch, length, H, W, C) while there are enough."""
        self._held = frames if self._held is None else np.concatenate([self._held, frames])
        yield from self._give(self._batch)

    def rest(self) -> Iterator[NDArray[Any]]:
        """The whole snippets that are left, fewer than a batch; frames after the last one are dropped."""
        yield from self._give(1, at_most=self._batch)

    def _give(self, least: int, at_most: int | None = None) -> Iterator[NDArray[Any]]:
        length, stride = self._grid.length, self._grid.stride
        while self._held is not None:
            skipped = min(self._skip, len(self._held))
            self._held, self._skip = self._held[skipped:], self._skip - skipped
            count = min(self._grid.count(len(self._held)), at_most or least)
            if count < least:
                return
            clips = np.stack([self._held[i * stride : i * stride + length] for i in range(count)])
            self._skip = count * stride
            yield clips  # (count, length, H, W, C)


def _thread(items: Iterator[Any], channel: Channel[Any], name: str) -> threading.Thread:
    """Run an iterator in a thread of its own, into a channel."""

    def work() -> None:
        try:
            for item in items:
                channel.put(item)
            channel.close()
        except Cancelled:
            pass
        except BaseException as error:
            channel.close(error)

    thread = threading.Thread(target=work, name=f"dgam-{name}", daemon=True)
    thread.start()
    return thread


@contextmanager
def _busy(clock: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    try:
        yield
    finally:
        clock[stage] += time.perf_counter() - start
