"""Which snippets of a video are looked at: T at random in training, up to T_max evenly spread at test."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def stratified(
    lengths: int | NDArray[np.integer], snippets: int, generator: np.random.Generator
) -> NDArray[np.intp]:
    """``snippets`` indices into a video of so many snippets, one at random from each of as many equal
    stretches.

    Sorted; a short video repeats snippets. Shape ``(snippets,)``, or ``(N, snippets)`` for the ``lengths``
    ``(N,)`` of N videos. ValueError for an empty video.
    """
    each = np.asarray(lengths)[..., None]  # (…, 1)
    if each.size and each.min() < 1:
        raise ValueError("cannot sample from a video without snippets")
    drawn = generator.random((*each.shape[:-1], snippets))  # (…, snippets)
    edges: NDArray[np.float64] = (np.arange(snippets) + drawn) * (each / snippets)
    last: NDArray[np.intp] = each.astype(np.intp) - 1
    return np.minimum(edges.astype(np.intp), last)


def uniform(length: int, t_min: int, t_max: int) -> NDArray[np.intp]:
    """The snippets seen at test: all of them, or T_max evenly spread, or (with repeats) T_min of a short
    video.

    Sorted indices in ``[0, length)``; each stands for the middle of its share of the video. ValueError for an
    empty video.
    """
    if length < 1:
        raise ValueError("cannot sample from a video without snippets")
    count = min(max(length, t_min), max(t_max, 1))
    if count == length:
        return np.arange(length)
    return np.minimum(((np.arange(count) + 0.5) * length / count).astype(np.intp), length - 1)
