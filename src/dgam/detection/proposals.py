"""From a stream's curves to segments: section 3.5's "consecutive segments with high attention", generalised.

Curves are known at sampled snippets and are thresholded on a finer, regular lattice of *points*: ``upsample``
of them in each snippet cell, so that point ``p`` stands for the stretch ``[p, p + 1) / upsample`` of the
snippet axis (edge coordinates, see :mod:`dgam.core.timeline`). A run of points ``a … b`` above a threshold is
the segment ``[a, b + 1)`` in points; dividing by ``upsample`` gives edge coordinates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dgam.core.config import LocalizeSettings

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class StreamCurves:
    """What one stream's model says about one video, at T sampled snippets and for C action classes.

    ``positions`` (T,): where the samples lie on the snippet axis, in edge coordinates (snippet i is at
    i + 0.5), in any order; a snippet sampled several times has equal values each time. ``attention`` (T,):
    λ in [0, 1]. ``tcam`` (T, C): x_t·w_c, without bias. ``logits`` (T, C): the classifier's output for each
    snippet, with its bias where it has one. ``probabilities`` (C,): the video's class probabilities; what is
    left to 1 is the background's. All become float64. Raises ValueError unless T >= 1, shapes agree, all
    values are finite, and λ is in [0, 1].
    """

    positions: Floats
    attention: Floats
    tcam: Floats
    logits: Floats
    probabilities: Floats

    def __post_init__(self) -> None:
        for name in ("positions", "attention", "tcam", "logits", "probabilities"):
            array = np.asarray(getattr(self, name), dtype=np.float64)
            if not np.isfinite(array).all():
                raise ValueError(f"{name} must be finite, but has NaN or infinite values")
            object.__setattr__(self, name, array)
        samples, classes = self.attention.size, self.probabilities.size
        expected = {
            "positions": (samples,),
            "attention": (samples,),
            "tcam": (samples, classes),
            "logits": (samples, classes),
            "probabilities": (classes,),
        }
        actual = {name: getattr(self, name).shape for name in expected}
        if actual != expected or samples == 0:
            raise ValueError(
                f"curves must have shapes (T,), (T,), (T, C), (T, C), (C,) with T >= 1, got {actual}"
            )
        if self.attention.min() < 0 or self.attention.max() > 1:
            raise ValueError(
                f"attention must be in [0, 1], got {self.attention.min()} to {self.attention.max()}"
            )


class Proposals(NamedTuple):
    """n segments ``[start, end)`` in points, each of the curve of index ``row``; (n,) int64 arrays."""

    row: Integers
    start: Integers
    end: Integers


def sigmoid(x: ArrayLike) -> Floats:
    """1 / (1 + e^−x) for any finite x, without overflow."""
    return np.asarray(np.exp(-np.logaddexp(0.0, -np.asarray(x, dtype=np.float64))))


def weighted_tcam(curves: StreamCurves, classes: Integers) -> Floats:
    """λ·sigmoid(TCAM) of the chosen classes (K,) at the samples: (T, K)."""
    return np.asarray(curves.attention[:, None] * sigmoid(curves.tcam[:, classes]))


def interpolate(positions: Floats, values: Floats, at: Floats) -> Floats:
    """Linear interpolation of curves along their first axis, constant beyond the outermost samples.

    ``positions`` (T,) in any order, repeats allowed (the first of them counts); ``values`` (T,) or (T, K);
    ``at`` (P,). Returns (P,) or (P, K). Exact at a sample, and for a curve that is constant.
    """
    positions, first = np.unique(positions, return_index=True)
    values = values[first]
    right = np.searchsorted(positions, at, side="right")  # (P,)
    left = np.clip(right - 1, 0, len(positions) - 1)
    right = np.clip(right, 0, len(positions) - 1)
    gap = positions[right] - positions[left]
    share = np.where(gap > 0, (at - positions[left]) / np.where(gap > 0, gap, 1.0), 0.0)
    rise = np.diff(values, axis=0, append=values[-1:])[left]  # (P,) or (P, K), from a sample to the next
    rise *= share.reshape(-1, *[1] * (values.ndim - 1))  # (P,) or (P, 1)
    rise += values[left]
    return np.asarray(rise)


def curve_points(positions: Floats, values: Floats, snippets: int, upsample: int) -> Floats:
    """Curves at the centres of all points of a video of ``snippets`` snippets, ``upsample`` points each.

    ``positions`` (T,) in edge coordinates; ``values`` (T,) or (T, K). Returns (snippets·upsample,) or
    (snippets·upsample, K): linear between samples, constant before the first and after the last.
    """
    centres = (np.arange(snippets * upsample) + 0.5) / upsample
    return interpolate(positions, values, centres)


def smooth(curves: Floats, sigma: float) -> Floats:
    """Gaussian smoothing along the first axis of (P, K); ``sigma`` in points, 0 for none.

    The kernel ends at 4σ and sums to 1; beyond its ends a curve goes on as its mirror image (edge point
    repeated), so that a constant stays what it is and nothing fades at the borders of the video.
    """
    radius = int(4 * sigma + 0.5)
    if radius == 0 or curves.size == 0:
        return curves
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    mirrored = np.pad(curves, ((radius, radius), (0, 0)), mode="symmetric")  # (P + 2·radius, K)
    return np.column_stack([np.convolve(column, kernel, mode="valid") for column in mirrored.T])  # (P, K)


def mask_curves(attention: Floats, weighted_tcam: Floats | None, settings: LocalizeSettings) -> Floats:
    """The curves that are thresholded: mask_tcam·λσ(TCAM_c) + mask_attention·λ^mask_power, smoothed.

    ``attention`` (P,) and ``weighted_tcam`` (P, K), λ·sigmoid(TCAM) of K classes, both at points. Returns
    (P, K); or (P, 1) where ``weighted_tcam`` is None: one curve for all classes, without the first term.
    """
    mask = settings.mask_attention * attention[:, None] ** settings.mask_power  # (P, 1)
    if weighted_tcam is not None:
        mask = mask + settings.mask_tcam * weighted_tcam  # (P, K)
    return smooth(mask, settings.mask_sigma)


def propose(
    curves: Floats, thresholds: Sequence[float], scale: Literal["absolute", "relative"] = "absolute"
) -> Proposals:
    """Maximal runs of points strictly above a threshold, of each of the curves (P, K) at each threshold.

    Relative thresholds are fractions of the way from a curve's least to its greatest value. A segment that
    several thresholds find in a curve is listed once. Sorted by row, start, end.
    """
    points, rows = curves.shape
    levels = np.repeat(np.asarray(thresholds, dtype=np.float64)[:, None], rows, axis=1)  # (L, K)
    if scale == "relative" and points:
        least, greatest = curves.min(axis=0), curves.max(axis=0)  # (K,)
        levels = least + levels * (greatest - least)
    above = np.zeros((len(levels), rows, points + 2), dtype=bool)  # (L, K, 1 + P + 1): false on either side
    above[:, :, 1:-1] = levels[:, :, None] < curves.T
    changes = np.flatnonzero(above[:, :, 1:] != above[:, :, :-1])  # starts and ends take turns
    line, edge = np.divmod(changes, points + 1)  # line counts (L, K) pairs, edge is 0 … P
    row, start, end = line[::2] % max(rows, 1), edge[::2], edge[1::2]
    keys = np.unique((row * (points + 1) + start) * (points + 1) + end)
    keys, end = np.divmod(keys, points + 1)
    row, start = np.divmod(keys, points + 1)
    return Proposals(row, start, end)
