"""A camera, a stream or a file, as snippet features that come one by one, in bounded memory."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from dgam.core.errors import InputError
from dgam.core.timeline import SnippetGrid
from dgam.encoders.encoder import SnippetEncoder
from dgam.video.framing import FrameSettings, Picture
from dgam.video.reader import FrameReader

PATIENCE = 15.0
"""Seconds to wait for a source to answer, and for its next picture."""

FlowFunction = Callable[[Picture], NDArray[Any]]
"""Pictures uint8 (n, H, W, 3) to the flow between neighbours, (n − 1, H, W, 2), as the encoder takes it."""


def open_source(source: str, settings: FrameSettings, format: str | None = None) -> FrameReader:
    """The pictures of a file, of an address that FFmpeg opens (http, rtsp, udp, …), or of a device.

    ``format`` is FFmpeg's name of an input format, for devices; cameras under /dev are "v4l2" without it.
    What a stream loses or damages on its way is taken as it comes; a file is read as ``settings`` say. One
    decoding thread: more would hold pictures back. InputError where the source cannot be opened.
    """
    if format is None and Path(source).is_file():
        return FrameReader(source, settings, threads=1)
    if format is None and source.startswith("/dev/video"):
        format = "v4l2"
    try:
        container = av.open(source, format=format, timeout=PATIENCE, metadata_errors="replace")
    except (av.error.FFmpegError, OSError, ValueError) as error:
        what = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"{source}: cannot be opened ({what}). Expected a file, an address such as rtsp://… or http://…, "
            "or a camera such as /dev/video0."
        ) from None
    if not container.streams.video:
        container.close()
        raise InputError(f"{source}: holds no moving picture.")
    opened = (container, container.streams.video[0])
    return FrameReader(source, replace(settings, damage="conceal"), threads=1, opened=opened)


def paced(
    pictures: Iterable[Picture],
    fps: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Picture]:
    """The pictures no faster than ``fps`` a second, as a camera would give them."""
    begin: float | None = None
    for number, picture in enumerate(pictures):
        begin = clock() if begin is None else begin
        wait = begin + number / fps - clock()
        if wait > 0:
            sleep(wait)
        yield picture


def snippet_features(
    pictures: Iterable[Picture],
    encoder: SnippetEncoder,
    streams: Sequence[str],
    grid: SnippetGrid,
    flow: FlowFunction | None,
) -> Iterator[Mapping[str, NDArray[np.float32]]]:
    """Each snippet's vectors (d,) by stream, as soon as its pictures are there; flow needs one picture more.

    They are those that ``dgam extract`` stores. No more pictures are held than a snippet has, and one.
    """
    whole = grid.length + (flow is not None)
    held: deque[Picture] = deque()
    motion: deque[NDArray[Any]] = deque()  # from held[i] to held[i + 1]
    skip = 0
    for picture in pictures:
        if skip:
            skip -= 1
            continue
        held.append(picture)
        if len(held) == whole:
            yield _encode(held, motion, encoder, streams, grid.length, flow)
            drop = min(grid.stride, len(held))
            skip = grid.stride - drop
            for queue in (held, motion):
                for _ in range(min(drop, len(queue))):
                    queue.popleft()
    if flow is not None and len(held) == grid.length:  # the last picture has no successor
        yield _encode(held, motion, encoder, streams, grid.length, flow)


def _encode(
    held: deque[Picture],
    motion: deque[NDArray[Any]],
    encoder: SnippetEncoder,
    streams: Sequence[str],
    length: int,
    flow: FlowFunction | None,
) -> Mapping[str, NDArray[np.float32]]:
    if flow is not None and len(motion) < len(held) - 1:
        motion.extend(flow(np.stack(list(islice(held, len(motion), None)))))  # (n, H, W, 2)
    vectors = {}
    for stream in streams:
        # The last flow is repeated where the last picture has no successor.
        frames = [*motion, motion[-1]][:length] if stream == "flow" else list(islice(held, length))
        vectors[stream] = encoder.encode(stream, np.stack(frames)[None])[0]  # (1, L, H, W, C) -> (d,)
    return vectors
