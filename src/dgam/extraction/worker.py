"""What one worker does: take a video, see whether it is stored already, and if not, extract and store it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from dgam.core.errors import InputError
from dgam.core.files import sha256_of
from dgam.core.timeline import SnippetGrid
from dgam.encoders.encoder import EncoderOptions, SnippetEncoder, build_encoder
from dgam.extraction.neighbour_flow import NeighbourFlow
from dgam.extraction.pipeline import encode_video
from dgam.extraction.report import VideoReport
from dgam.features.store import StoreEntry
from dgam.features.writer import StoreWriter
from dgam.video.framing import FrameSettings
from dgam.video.listing import VideoFile
from dgam.video.reader import FrameReader

USUAL_SHORT_SIDE = 256
Advance = Callable[[float, int], None]
"""Told what further part of the video's length, and how many further pictures, are done."""


@dataclass(frozen=True)
class ExtractSettings:
    """All that decides the features of a video, and ``threads``, which decides only the speed.

    Raises InputError where settings contradict each other.
    """

    streams: tuple[str, ...] = ("rgb", "flow")
    """Streams to extract."""
    encoder: str = "i3d"
    """The encoder's name, see ``dgam.encoders.encoder``."""
    options: EncoderOptions = field(default_factory=EncoderOptions)
    """What the encoder is told; its ``streams`` are taken from here."""
    frames: FrameSettings = field(default_factory=FrameSettings)
    """How videos become pictures; their ``short_side`` is the encoder's, see ``options.short_side``."""
    length: int = 16
    """Frames in a snippet."""
    stride: int = 16
    """Frames from one snippet's start to the next."""
    flow: str = "auto"
    """Which implementation of TV-L1, see ``dgam.flow.tvl1``; auto: the fastest here."""
    flow_parameters: Mapping[str, float | int | str] = field(default_factory=dict)
    """Parameters of TV-L1 that differ from their defaults."""
    dtype: str = "float32"
    """Features on disk: float32 or float16."""
    threads: int = 0
    """CPU threads of one worker; 0: all cores."""

    def __post_init__(self) -> None:
        if not self.streams or len(set(self.streams)) < len(self.streams):
            raise InputError(f"--streams must name each stream once, got {','.join(self.streams) or 'none'}.")
        if self.length < 1 or self.stride < 1:
            raise InputError(
                f"snippet length and stride must be at least 1 frame, got {self.length} and {self.stride}."
            )
        if "flow" in self.streams and self.length < 2:
            raise InputError("flow needs snippets of at least 2 frames.")

    @property
    def grid(self) -> SnippetGrid:
        """How snippets lie in time."""
        return SnippetGrid(self.frames.fps, self.length, self.stride)

    def build(self) -> SnippetEncoder:
        """The encoder; InputError where it cannot be had."""
        return build_encoder(self.encoder, replace(self.options, streams=self.streams))

    @property
    def batch(self) -> int:
        """How many snippets the encoder is handed at once: what a GPU can use, or less to save memory."""
        if self.options.batch is not None:
            return max(self.options.batch, 8)
        device, torch = self.options.device, sys.modules.get("torch")  # an encoder may do without torch
        found = device == "auto" and torch is not None and torch.cuda.is_available()
        return 32 if found or device.startswith("cuda") else 8

    def build_flow(self, quantised: bool = True) -> NeighbourFlow | None:
        """The optical flow where a stream needs it; InputError where it cannot be had."""
        if "flow" not in self.streams:
            return None
        return NeighbourFlow(
            self.flow,
            self.flow_parameters,
            device=self.options.device,
            bound=self.options.flow_bound,
            quantised=quantised and self.options.quantise_flow,
            threads=self.threads,
        )

    def pictures(self, encoder: SnippetEncoder | None) -> FrameSettings:
        """Frame settings with the short side that the encoder asks for, or else the options."""
        asked = encoder.short_side if encoder is not None else None
        short_side = asked if asked is not None else self.options.short_side
        return replace(self.frames, short_side=short_side if short_side is not None else USUAL_SHORT_SIDE)

    def recorded(self, encoder: SnippetEncoder, flow: NeighbourFlow | None) -> dict[str, Any]:
        """What the store's head says about how its features came about."""
        value: dict[str, Any] = {
            "encoder": {"name": encoder.name, **encoder.settings},
            "frames": self.pictures(encoder).to_json(),
            "snippet": {"length": self.length, "stride": self.stride},
        }
        if flow is not None:
            value["flow"] = flow.settings
        return value


class VideoExtractor:
    """Extracts videos into the store at ``out``, one after the other, in this process.

    ``encoder`` and ``flow`` are what ``settings`` build, where they are at hand already.
    """

    def __init__(
        self,
        out: str | os.PathLike[str],
        settings: ExtractSettings,
        *,
        encoder: SnippetEncoder | None = None,
        flow: NeighbourFlow | None = None,
    ) -> None:
        self.settings = settings
        self.encoder = encoder if encoder is not None else settings.build()
        self._frames = settings.pictures(self.encoder)
        self._flow = flow if flow is not None else settings.build_flow()
        streams = {stream: self.encoder.streams[stream] for stream in settings.streams}
        self.recorded = settings.recorded(self.encoder, self._flow)
        self.writer = StoreWriter(out, streams, dtype=settings.dtype, settings=self.recorded)

    def extract(self, file: VideoFile, advance: Advance = lambda part, frames: None) -> VideoReport:
        """Extract and store one video unless it is stored already; a bad one gives a report that says so."""
        start = time.perf_counter()
        try:
            source = f"{os.path.basename(file.path)} sha256:{_checksum(file.path)}"
            entry = self.writer.entry(file.video)
            if entry is not None and self._is_same(entry, source):
                return VideoReport(
                    file.video,
                    file.path,
                    "unchanged",
                    entry.frames or 0,
                    entry.snippets,
                    entry.duration or 0.0,
                )
            return self._extract(file, source, advance, start)
        except InputError as error:
            wall = time.perf_counter() - start
            return VideoReport(file.video, file.path, "failed", wall=wall, message=str(error))

    def _is_same(self, entry: StoreEntry, source: str) -> bool:
        streams = set(self.settings.streams)
        return entry.source == source and entry.grid == self.settings.grid and set(entry.sha256) == streams

    def _extract(self, file: VideoFile, source: str, advance: Advance, start: float) -> VideoReport:
        settings = self.settings
        with FrameReader(file.path, self._frames, threads=settings.threads) as reader:
            expected = (reader.info.seconds or 0.0) * float(settings.frames.fps)
            told = 0.0

            def through(frames: int) -> None:
                nonlocal told
                part = min(frames / expected, 1 - told) if expected else 0.0
                told += part
                advance(part, frames)

            done = encode_video(
                reader, self.encoder, settings.streams, settings.grid, self._flow, settings.batch, through
            )
        seconds = dict(done.seconds)
        before = time.perf_counter()
        entry = self.writer.add(
            file.video,
            done.features,
            grid=settings.grid,
            frames=done.frames,
            duration=done.duration,
            source=source,
        )
        seconds["store"] = time.perf_counter() - before
        wall = time.perf_counter() - start
        return VideoReport(
            file.video,
            file.path,
            "extracted",
            done.frames,
            entry.snippets,
            done.duration,
            wall,
            seconds,
            done.warnings,
        )


def _checksum(path: str) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}.") from None
