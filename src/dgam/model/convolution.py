"""A convolution along time by way of its outputs: one product gives every tap's, which are shifted and added.

T snippets, d feature dimension, m outputs. Tap k of a kernel sees the snippet k − kernel // 2 places later;
beyond either end of the sequence there are zeros. Features are read once, by the product, and no copy of them
is made; with a kernel of 1 nothing is left but the product.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor
from torch.nn import functional


def by_tap(weight: Tensor, dimension: int) -> Tensor:
    """A convolution's weight (…, m, kernel·d) as that of one product with features, tap after tap, (…,
    kernel·m, d)."""
    taps = weight.reshape(*weight.shape[:-1], -1, dimension)  # (…, m, kernel, d)
    return taps.transpose(-3, -2).flatten(-3, -2)  # (…, kernel·m, d)


def by_output(weight: Tensor, outputs: int) -> Tensor:
    """The way back from :func:`by_tap`: (…, kernel·m, d) to (…, m, kernel·d), m being ``outputs``."""
    taps = weight.reshape(*weight.shape[:-2], -1, outputs, weight.shape[-1])  # (…, kernel, m, d)
    return taps.transpose(-3, -2).flatten(-2)  # (…, m, kernel·d)


def at_middle(bias: Tensor, kernel: int) -> Tensor:
    """A bias (…, m) as the middle tap's, and 0 as the others', (…, kernel·m): it is added once."""
    if kernel == 1:
        return bias
    beside = kernel // 2 * bias.shape[-1]
    return functional.pad(bias, (beside, beside))


def gather(taps: Tensor) -> Tensor:
    """Each snippet's sum over the kernel: taps (…, T, kernel, m) to (…, T, m), in the middle tap's memory."""
    middle = taps.select(-2, taps.shape[-2] // 2)  # (…, T, m)
    for tap, here, there in _neighbours(taps):
        middle[..., here, :].add_(taps[..., there, tap, :])
    return middle


def spread(taps: Tensor) -> None:
    """The transpose of :func:`gather`, in place: taps (…, T, kernel, m) that hold a gradient by its sums in
    the middle get in every other tap what this one's product has of it."""
    middle = taps.select(-2, taps.shape[-2] // 2)  # (…, T, m)
    for tap, here, there in _neighbours(taps):
        other = taps.select(-2, tap)  # (…, T, m)
        other[..., : there.start, :] = 0
        other[..., there.stop :, :] = 0
        other[..., there, :] = middle[..., here, :]


def _neighbours(taps: Tensor) -> Iterator[tuple[int, slice, slice]]:
    """Of each tap but the middle one: its number, the snippets that see another by it, and those they see."""
    length, kernel = taps.shape[-3], taps.shape[-2]
    for tap in range(kernel):
        offset = tap - kernel // 2
        if offset:
            count = max(0, length - abs(offset))
            here, there = max(0, -offset), max(0, offset)
            yield tap, slice(here, here + count), slice(there, there + count)
