"""Medians of 5 × 5 and 3 × 3 pixels as fixed lists of comparisons, for any kind of number."""

from __future__ import annotations

from collections.abc import Callable, MutableSequence
from typing import TypeVar

Comparisons = tuple[tuple[int, int], ...]
Value = TypeVar("Value")

# First each column is sorted on its own (and so serves all windows that hold it) …
SORT_COLUMN: dict[int, Comparisons] = {
    3: ((0, 2), (0, 1), (1, 2)),
    5: ((0, 3), (1, 4), (0, 2), (1, 3), (0, 1), (2, 4), (1, 2), (3, 4), (2, 3)),
}
# … then these leave the median of the sorted columns in element MIDDLE (element = size × row + column). The
# list for 5 was found by random search for few minima and maxima; the test feeds it all 7,776 sorted columns
# of zeros and ones, which is proof for all numbers.
SELECT_MEDIAN: dict[int, Comparisons] = {
    3: ((0, 1), (1, 2), (3, 4), (4, 5), (3, 4), (7, 8), (6, 7), (2, 4), (4, 6), (2, 4)),
    5: (
        (0, 2), (0, 1), (2, 4), (1, 2), (3, 4), (2, 3), (5, 8), (6, 9), (6, 8), (5, 6),
        (7, 9), (6, 7), (8, 9), (7, 8), (10, 13), (11, 14), (10, 12), (11, 13), (10, 11), (12, 14),
        (13, 14), (12, 13), (15, 18), (16, 19), (15, 17), (16, 18), (15, 16), (17, 19), (16, 17), (17, 18),
        (20, 23), (21, 24), (20, 22), (21, 23), (20, 21), (22, 24), (21, 22), (7, 20), (12, 11), (13, 21),
        (20, 3), (12, 4), (20, 15), (11, 4), (20, 11), (15, 4), (3, 17), (8, 16), (15, 12), (3, 11),
        (13, 16), (3, 12), (11, 4), (9, 13), (12, 8), (11, 9), (4, 8), (11, 4),
    ),
}  # fmt: skip
MIDDLE = 4


def compare(
    values: MutableSequence[Value],
    comparisons: Comparisons,
    minimum: Callable[[Value, Value], Value],
    maximum: Callable[[Value, Value], Value],
) -> None:
    """Put the smaller of each named pair in its first place and the larger in its second."""
    for low, high in comparisons:
        values[low], values[high] = minimum(values[low], values[high]), maximum(values[low], values[high])
