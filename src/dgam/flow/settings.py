"""Parameters of TV-L1 optical flow."""

from __future__ import annotations

from dataclasses import dataclass

from dgam.core.errors import InputError


@dataclass(frozen=True)
class FlowSettings:
    """Parameters of TV-L1 with OpenCV's names (in this project's spelling) and defaults.

    ``tau`` time step; ``lambda_`` weight of the data term; ``theta`` tightness; ``nscales`` pyramid levels at
    most (levels under 16 px are left out), each ``scale_step`` times the one before; ``warps`` per level;
    ``epsilon`` the mean squared change, as its root in px, that ends the iterations, of which there are at
    most ``inner_iterations`` between two median filters of ``median_filtering`` px (1 or 0: none) and
    ``outer_iterations`` rounds of that; ``gamma`` weight of the brightness change (0: none; methods torch
    and opencv only). ``subpixel``: "exact" reads the second image at the exact position, as OpenCV 5 does;
    "1/32" at positions rounded to 1/32 px, as OpenCV 4 and older do. Raises InputError with every value that
    cannot be.
    """

    tau: float = 0.25
    lambda_: float = 0.15
    theta: float = 0.3
    nscales: int = 5
    warps: int = 5
    epsilon: float = 0.01
    inner_iterations: int = 30
    outer_iterations: int = 10
    scale_step: float = 0.8
    gamma: float = 0.0
    median_filtering: int = 5
    subpixel: str = "exact"

    def __post_init__(self) -> None:
        wrong = [
            f"{name} must be positive, got {getattr(self, name)}"
            for name in ("tau", "lambda_", "theta")
            if not 0 < getattr(self, name) < float("inf")
        ]
        wrong += [
            f"{name} must be at least 1, got {getattr(self, name)}"
            for name in ("nscales", "warps", "inner_iterations", "outer_iterations")
            if getattr(self, name) < 1
        ]
        wrong += [
            f"{name} must not be negative, got {getattr(self, name)}"
            for name in ("epsilon", "gamma")
            if not 0 <= getattr(self, name) < float("inf")
        ]
        if not 0.1 <= self.scale_step < 1:
            wrong.append(f"scale_step must lie from 0.1 to below 1, got {self.scale_step}")
        if self.median_filtering not in (0, 1, 3, 5):
            wrong.append(f"median_filtering must be 0, 1, 3 or 5, got {self.median_filtering}")
        if self.subpixel not in ("exact", "1/32"):
            wrong.append(f'subpixel must be "exact" or "1/32", got {self.subpixel!r}')
        if wrong:
            raise InputError("flow settings: " + "; ".join(wrong) + ".")

    @property
    def grid(self) -> float:
        """Steps a pixel that positions are rounded to; 0: not rounded."""
        return 32.0 if self.subpixel == "1/32" else 0.0
