"""The picture's geometry, upright and resized, and the settings that say how. Cropping is the encoder's."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dgam.core.errors import InputError

Picture = NDArray[np.uint8]

INTERPOLATIONS = ("bilinear", "bicubic", "area", "nearest")


@dataclass(frozen=True)
class FrameSettings:
    """How a video becomes pictures. The defaults are those of the standard I3D features.

    Raises InputError for a value out of range.
    """

    fps: Fraction = Fraction(25)
    """Frames a second after resampling by timestamps, a rational number."""
    short_side: int = 256
    """Pixels of the shorter side after resizing; the longer one follows. 0 keeps the size."""
    size: tuple[int, int] | None = None
    """Exact (width, height) after resizing whatever the aspect ratio, instead of ``short_side``."""
    interpolation: Literal["bilinear", "bicubic", "area", "nearest"] = "bilinear"
    """How pixels are interpolated when resizing. When shrinking, bilinear is widened to cover every pixel."""
    pixel_aspect: Literal["ignore", "apply"] = "ignore"
    """Whether non-square pixels are stretched to square ones. The field's dumps ignore them."""
    damage: Literal["refuse", "conceal"] = "refuse"
    """What to do with a damaged or cut-off file: raise InputError, or take what the decoder makes of it."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "fps", Fraction(self.fps))
        if not 0 < self.fps <= 1000:
            raise InputError(f"fps must be above 0 and at most 1000, got {self.fps}.")
        if not (self.short_side == 0 or 8 <= self.short_side <= 8192):
            raise InputError(f"short_side must be 0 or 8 to 8192 pixels, got {self.short_side}.")
        if self.size is not None and not all(8 <= side <= 8192 for side in self.size):
            raise InputError(f"size must be (width, height) between 8 and 8192 pixels, got {self.size}.")
        if self.interpolation not in INTERPOLATIONS:
            known = ", ".join(INTERPOLATIONS)
            raise InputError(f"interpolation must be one of {known}, got {self.interpolation!r}.")

    def to_json(self) -> dict[str, Any]:
        """The settings as plain JSON values; equal settings give equal values."""
        size = list(self.size) if self.size is not None else None
        return asdict(self) | {"fps": str(self.fps), "size": size}


@dataclass(frozen=True)
class Orientation:
    """One of the eight ways a picture can be stored: swap axes first, then mirror rows and columns."""

    transpose: bool = False
    flip_rows: bool = False
    flip_columns: bool = False

    @staticmethod
    def from_display_matrix(data: bytes) -> Orientation | None:
        """Read the 36 bytes of a display matrix; None where it is no multiple of a quarter turn.

        The matrix [a b u; c d v; x y w] maps a stored pixel (column p, row q) to the shown one
        (a·p + c·q + x, b·p + d·q + y), signs only mattering here (ISO/IEC 14496-12, 6.2.2).
        """
        a, b, _, c, d = (int(value) for value in np.frombuffer(data, dtype="=i4")[:5])
        if b == 0 and c == 0 and a != 0 and d != 0:
            return Orientation(False, flip_rows=d < 0, flip_columns=a < 0)
        if a == 0 and d == 0 and b != 0 and c != 0:
            return Orientation(True, flip_rows=b < 0, flip_columns=c < 0)
        return None

    def apply(self, picture: Picture) -> Picture:
        """Turn a stored (H, W, C) picture into the one that is shown."""
        if self.transpose:
            picture = picture.swapaxes(0, 1)  # (H, W, C) -> (W, H, C)
        if self.flip_rows:
            picture = picture[::-1]
        if self.flip_columns:
            picture = picture[:, ::-1]
        return np.ascontiguousarray(picture)


def resized(
    width: int, height: int, settings: FrameSettings, pixel_aspect: Fraction = Fraction(1)
) -> tuple[int, int]:
    """(width, height) after resizing a shown picture of this size; halves round up, as in FFmpeg's scaler.

    ``pixel_aspect`` is a pixel's width over its height as shown.
    """
    if settings.size is not None:
        return settings.size
    if settings.pixel_aspect == "apply":
        width = max(1, _rounded(width * pixel_aspect))
    if settings.short_side == 0:
        return width, height
    scale = Fraction(settings.short_side, min(width, height))
    return _rounded(width * scale), _rounded(height * scale)


def _rounded(value: Fraction) -> int:
    return int(value + Fraction(1, 2))
