"""Sizes of the pyramid's levels and where bilinear resampling reads, as OpenCV has them."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_SMALLEST = 16  # a coarser level than this many pixels is left out


def pyramid_sizes(height: int, width: int, nscales: int, scale_step: float) -> list[tuple[int, int]]:
    """(height, width) of each level, finest first; each ``scale_step`` times the one before, rounded."""
    sizes = [(height, width)]
    while len(sizes) < nscales:
        height, width = int(np.rint(height * scale_step)), int(np.rint(width * scale_step))
        if min(height, width) < _SMALLEST:
            break
        sizes.append((height, width))
    return sizes


@lru_cache(maxsize=256)
def resize_table(size_in: int, size_out: int, step: float) -> NDArray[np.float32]:
    """Lower neighbour, upper neighbour and weight of the upper one for each output pixel, shape (3,
    size_out).

    Pixel centres lie at halves; ``step`` is the distance of two output pixels in input pixels. Positions
    beyond the outermost centres take the outermost pixel.
    """
    position = (np.arange(size_out) + 0.5) * step - 0.5
    lower = np.floor(position)
    weight = np.where((lower < 0) | (lower >= size_in - 1), 0.0, position - lower)
    lower = np.clip(lower, 0, size_in - 1)
    return np.stack([lower, np.minimum(lower + 1, size_in - 1), weight]).astype(np.float32)
