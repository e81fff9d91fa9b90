"""What an experiment will cost, reckoned from one measured step; said before any work is done."""

from __future__ import annotations

import math

from dgam.core.config import Config

STEP_SECONDS = 0.19
"""A fast step of 32 videos, 400 snippets and 1,024 dimensions, two CPU cores, float32 (docs/training.md)."""
STEP_SNIPPETS, STEP_DIMENSION = 32 * 400, 1024
HIDDEN = 256
"""What a snippet costs besides its features, as if it had so many dimensions more."""


def training_seconds(config: Config, videos: int, dimension: int) -> float:
    """Seconds to train one stream on two CPU cores: a guess in proportion to snippets and dimension."""
    steps = config.train.epochs * math.ceil(videos / config.train.batch)
    snippets = config.train.batch * config.train.snippets / STEP_SNIPPETS
    return STEP_SECONDS * steps * snippets * (dimension + HIDDEN) / (STEP_DIMENSION + HIDDEN)


def duration(seconds: float) -> str:
    """A duration in words: "40 s", "12 min", "5 h", "3 days"."""
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(1, round(seconds))} s"
