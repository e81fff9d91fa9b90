"""A snippet encoder for tests whose vectors say which colours a snippet has."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

import numpy as np

from dgam.encoders.encoder import Clips, EncoderOptions, Setting, Vectors, check_clips


class MeanColours:
    """RGB: a snippet's mean red, green and blue from 0 to 1, and how far red and blue are from green. Flow:
    the mean length of the flow, right and down."""

    name = "mean-colours"
    streams: Mapping[str, int] = {"rgb": 5, "flow": 2}
    short_side: int | None = 32

    def __init__(self, options: EncoderOptions) -> None:
        self.settings: Mapping[str, Setting] = {"seed": options.seed}

    def encode(self, stream: str, clips: Clips) -> Vectors:
        check_clips(stream, clips, self.streams)
        time.sleep(float(os.environ.get("COLOUR_ENCODER_SECONDS", "0")))
        mean = clips.mean(axis=(1, 2, 3), dtype=np.float64) / 255  # (N, 3) or (N, 2)
        if stream == "rgb":
            red, green, blue = mean.T
            mean = np.stack([red, green, blue, np.abs(red - green), np.abs(blue - green)], axis=1)  # (N, 5)
        return mean.astype(np.float32)


def mean_colours(options: EncoderOptions) -> MeanColours:
    return MeanColours(options)
