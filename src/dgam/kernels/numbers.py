"""What may differ between members, as kernels read it: a row of numbers each."""

# Triton has no types, and reads annotations as its own.
# mypy: ignore-errors

from collections.abc import Mapping

import torch
import triton
import triton.language as tl
from torch import Tensor

NAMES = (
    "foreground",
    "alpha",
    "gamma1",
    "gamma2",
    "beta",
    "r",
    "cvae_weight",
    "foreground_offset",
    "background_offset",
    "sharpness",
    "unit",
    "ratio",
)
"""The losses' weights; r; 1 / 2σ², by which a squared error becomes −log p; what the CVAE's gradients are
taken in units of, 2 · sharpness · snippet; and what KL's count in that unit."""

COUNT = tl.constexpr(len(NAMES))
(
    FOREGROUND,
    ALPHA,
    GAMMA1,
    GAMMA2,
    BETA,
    DISCREPANCY,
    CVAE_WEIGHT,
    FOREGROUND_OFFSET,
    BACKGROUND_OFFSET,
    SHARPNESS,
    UNIT,
    RATIO,
) = (tl.constexpr(place) for place in range(len(NAMES)))


@triton.jit
def number(numbers, e, WHICH: tl.constexpr):
    """One of member e's numbers."""
    return tl.load(numbers + e * COUNT + WHICH)


def numbers_of(columns: Mapping[str, Tensor]) -> Tensor:
    """(E, 12) float32 from columns (E, 1) or (E,) by name."""
    return torch.stack([columns[name].reshape(-1).float() for name in NAMES], dim=1).contiguous()
