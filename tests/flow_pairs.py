"""Simulated pairs of pictures that move, and our methods that the tests of optical flow try on them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

OURS = ("llvm", "torch")
Array = NDArray[np.float32]


def moved(
    shift: tuple[float, float], size: tuple[int, int] = (96, 120), seed: int = 0
) -> tuple[Array, Array]:
    """A random picture and the same moved by ``shift`` (right, down), each (1, H, W), 0…255. Simulated."""
    rng = np.random.default_rng(seed)
    waves = rng.uniform(0.03, 0.35, (24, 2)) * rng.choice([-1, 1], (24, 2))
    phases, heights = rng.uniform(0, 2 * np.pi, 24), rng.uniform(0.3, 1, 24)
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float64)

    def picture(dx: float, dy: float) -> Array:
        angles = np.multiply.outer(waves[:, 0], x - dx) + np.multiply.outer(waves[:, 1], y - dy)  # (24, H, W)
        total = np.tensordot(heights, np.sin(angles + phases[:, None, None]), 1)  # (H, W)
        return (127 + 100 * total / np.abs(heights).sum() * 2).clip(0, 255).astype(np.float32)[None]

    return picture(0, 0), picture(*shift)


def uneven(count: int, size: tuple[int, int]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Pairs that need few iterations to all of them: little motion, then more, then noise. Simulated."""
    rng = np.random.default_rng(3)
    pairs = [moved((0.7 * i, -0.4 * i), size, seed=i) for i in range(count)]
    first, second = (np.concatenate(images) for images in zip(*pairs, strict=True))
    second[-1] += rng.normal(0, 25, size)
    return first.round().astype(np.uint8), second.clip(0, 255).round().astype(np.uint8)
