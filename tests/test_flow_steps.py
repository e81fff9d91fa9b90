"""The steps of optical flow one by one: medians, pyramid, grey levels, and motion as bytes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dgam.flow import batched
from dgam.flow.median import MIDDLE, SELECT_MEDIAN, SORT_COLUMN, compare
from dgam.flow.pyramid import pyramid_sizes
from dgam.flow.tvl1 import grey, quantise, scale_to_unit


@pytest.mark.parametrize("size", [3, 5])
def test_comparisons_find_the_median_of_all_zeros_and_ones(size: int) -> None:
    """By the zero-one principle, a list that is right on these is right on all numbers."""
    ones = np.array(list(itertools.product(range(size + 1), repeat=size)))  # (n, column): ones in each column
    values: list[NDArray[np.bool_]] = [
        ones[:, column] >= size - row for row in range(size) for column in range(size)
    ]
    compare(values, SELECT_MEDIAN[size], np.logical_and, np.logical_or)
    np.testing.assert_array_equal(values[MIDDLE], ones.sum(axis=1) > size * size // 2)
    column = [np.array(bits) for bits in zip(*itertools.product([0, 1], repeat=size), strict=True)]
    compare(column, SORT_COLUMN[size], np.minimum, np.maximum)
    assert (np.diff(np.stack(column), axis=0) >= 0).all()


@pytest.mark.parametrize("size", [3, 5])
def test_median_filter_repeats_the_edges(size: int) -> None:
    image = np.random.default_rng(0).normal(size=(2, 9, 14)).astype(np.float32)
    reach = size // 2
    padded = np.pad(image, ((0, 0), (reach, reach), (reach, reach)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(1, 2))
    expected = np.median(windows, axis=(3, 4))
    ours = batched.median_filter(torch.from_numpy(image), size)
    np.testing.assert_array_equal(ours.numpy(), expected)


def test_pyramid_leaves_out_levels_below_sixteen_pixels() -> None:
    assert pyramid_sizes(256, 340, 5, 0.8) == [(256, 340), (205, 272), (164, 218), (131, 174), (105, 139)]
    assert pyramid_sizes(20, 300, 5, 0.8) == [(20, 300), (16, 240)]
    assert pyramid_sizes(5, 7, 5, 0.8) == [(5, 7)]


def test_grey_of_primaries() -> None:
    """0.299, 0.587 and 0.114 of 255, rounded (ITU-R BT.601)."""
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]], np.uint8)
    np.testing.assert_array_equal(grey(colours), [76, 150, 29, 255])


def test_quantise_and_scale_to_unit() -> None:
    motion = np.array([-99, -20, -19.9, 0, 10, 20, 99], np.float32)
    levels = quantise(motion)
    np.testing.assert_array_equal(levels, [0, 0, 1, 128, 191, 255, 255])
    np.testing.assert_array_equal(quantise(torch.from_numpy(motion)).numpy(), levels)
    np.testing.assert_array_equal(quantise(motion, bound=40), [0, 64, 64, 128, 159, 191, 255])
    for kind in (levels, torch.from_numpy(levels)):
        unit = np.asarray(scale_to_unit(kind))
        np.testing.assert_allclose(unit, np.asarray(levels) / 127.5 - 1, atol=1e-6)
    for exact in (motion, torch.from_numpy(motion)):
        np.testing.assert_allclose(np.asarray(scale_to_unit(exact)), motion.clip(-20, 20) / 20, rtol=1e-6)
