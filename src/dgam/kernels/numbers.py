"""What may differ between members, as kernels read it: a row of numbers each."""

# mypy: ignore-errors

from collections.abc import Mapping

import torch
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

FOREGROUND = tl.constexpr(0)
ALPHA = tl.constexpr(1)
GAMMA1 = tl.constexpr(2)
GAMMA2 = tl.constexpr(3)
BETA = tl.constexpr(4)
R = tl.constexpr(5)
CVAE_WEIGHT = tl.constexpr(6)
FOREGROUND_OFFSET = tl.constexpr(7)
BACKGROUND_OFFSET = tl.constexpr(8)
SHARPNESS = tl.constexpr(9)
UNIT = tl.constexpr(10)
RATIO = tl.constexpr(11)
COUNT = tl.constexpr(12)


def numbers_of(columns: Mapping[str, Tensor]) -> Tensor:
    """(E, 12) float32 from columns (E, 1) or (E,) by name."""
    return torch.stack([columns[name].reshape(-1).float() for name in NAMES], dim=1).contiguous()
