"""A snippet encoder for tests that is cheap and whose vectors tell which frames it saw."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

import numpy as np

from coded_videos import read_number
from dgam.encoders.encoder import Clips, EncoderOptions, Setting, Vectors, check_clips


class FrameNumbers:
    """RGB: the numbers in the first and the last frame, the snippet's mean and deviation. Flow: its mean."""

    name = "frame-numbers"
    streams: Mapping[str, int] = {"rgb": 4, "flow": 2}
    short_side: int | None = 32

    def __init__(self, options: EncoderOptions) -> None:
        self.settings: Mapping[str, Setting] = {"seed": options.seed}

    def encode(self, stream: str, clips: Clips) -> Vectors:
        check_clips(stream, clips, self.streams)
        time.sleep(len(clips) * float(os.environ.get("TINY_ENCODER_SECONDS", "0")))
        if stream == "flow":
            return clips.mean(axis=(1, 2, 3), dtype=np.float64).astype(np.float32)  # (N, 2)
        rows = [[read_number(clip[0]), read_number(clip[-1]), clip.mean(), clip.std()] for clip in clips]
        return np.array(rows, dtype=np.float32)  # (N, 4)


def frame_numbers(options: EncoderOptions) -> FrameNumbers:
    return FrameNumbers(options)


def crashing(options: EncoderOptions) -> FrameNumbers:
    """As frame_numbers, but the process dies at the snippet that starts with frame 48."""
    encoder = FrameNumbers(options)
    honest = encoder.encode

    def encode(stream: str, clips: Clips) -> Vectors:
        rows = honest(stream, clips)
        if 48 in rows[:, 0]:
            os.kill(os.getpid(), 9)
        return rows

    encoder.encode = encode  # type: ignore[method-assign]  # so that it crashes
    return encoder
