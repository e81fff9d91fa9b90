"""A look at one video as extraction sees it: some pictures, their flow, and where snippets lie."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dgam.core.timeline import Timeline
from dgam.extraction.worker import ExtractSettings
from dgam.video.framing import Picture
from dgam.video.reader import FrameReader


@dataclass(frozen=True)
class Sample:
    """A picture in the middle of snippet ``snippet``: its number, uint8 (H, W, 3), and the flow to the next
    one, float32 (H, W, 2) in pixels, None where no flow was asked for."""

    frame: int
    snippet: int
    picture: Picture
    flow: NDArray[np.float32] | None


@dataclass(frozen=True)
class SampledVideo:
    """Samples of a video in order of time, with its time line, number of frames, and warnings."""

    samples: tuple[Sample, ...]
    timeline: Timeline
    frames: int
    seconds: float
    warnings: tuple[str, ...]


def sample_video(path: str | os.PathLike[str], settings: ExtractSettings, count: int = 6) -> SampledVideo:
    """Read a video to its end and keep ``count`` pictures, evenly spread over its snippets.

    The pictures have the size of ``settings``, by default I3D's; no encoder is needed. InputError as from
    :class:`FrameReader`.
    """
    frames = settings.pictures(None)
    with FrameReader(path, frames, settings.threads) as reader:
        total = sum(1 for _ in reader)
    snippets = max(1, settings.grid.count(total))
    chosen = sorted({round(position) for position in np.linspace(0, snippets - 1, min(count, snippets))})
    middles = {_middle(settings, snippet, total): snippet for snippet in chosen}
    wanted = {*middles, *(frame + 1 for frame in middles)}
    with FrameReader(path, frames, settings.threads) as reader:
        kept = {number: picture for number, picture in enumerate(reader) if number in wanted}
    flow = settings.build_flow(quantised=False)
    samples = []
    for frame, snippet in middles.items():
        motion: NDArray[Any] | None = None
        if flow is not None and frame + 1 in kept:
            motion = flow(np.stack([kept[frame], kept[frame + 1]]))[0]  # (H, W, 2)
        samples.append(Sample(frame, snippet, kept[frame], motion))
    timeline = Timeline(settings.grid, snippets, float(reader.seconds))
    return SampledVideo(tuple(samples), timeline, total, float(reader.seconds), reader.warnings)


def _middle(settings: ExtractSettings, snippet: int, total: int) -> int:
    """The number of the snippet's middle picture, with one after it where there is one."""
    return max(0, min(snippet * settings.stride + settings.length // 2, total - 2))
