"""From frames as they are decoded to what a 3D network reads."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from dgam.core.errors import InputError
from dgam.encoders.encoder import Clips, EncoderOptions


@dataclass(frozen=True)
class ClipGeometry:
    """I3D's preprocessing: short side, centre crop, values in [−1, 1] (kinetics-i3d's README).

    Frames that already have the crop's size are taken as they are. RGB frames whose short side is not
    ``short_side`` are resized, bilinearly (widened when shrinking, so that every pixel counts); flow is
    not, since it must be computed on frames of the final size. Raises InputError for a size that cannot be.
    """

    short_side: int = 256
    crop: int = 224
    flow_bound: float = 20.0
    quantise_flow: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.crop <= self.short_side <= 8192:
            raise InputError(
                f"the crop must be at least 1 pixel and at most the short side, and that at most 8192; "
                f"got crop {self.crop}, short side {self.short_side}."
            )
        if not 0 < self.flow_bound < float("inf"):
            raise InputError(f"the flow bound must be positive, got {self.flow_bound}.")

    @classmethod
    def of(cls, options: EncoderOptions) -> ClipGeometry:
        """I3D's usual geometry with what the options change in it."""
        return cls(
            options.short_side if options.short_side is not None else cls.short_side,
            options.crop if options.crop is not None else cls.crop,
            options.flow_bound,
            options.quantise_flow,
        )

    def prepare(self, stream: str, clips: Clips, device: torch.device) -> Tensor:
        """Clips ``(N, L, H, W, C)`` to float32 ``(N, C, L, crop, crop)`` in [−1, 1], channels last in memory.

        Float flow is clipped to ± ``flow_bound`` and, with ``quantise_flow``, rounded to the 256 levels
        ``(flow + bound) · 255 / (2 · bound)`` that uint8 flow holds already.
        """
        if clips.shape[2:4] == (self.crop, self.crop):
            fitted = torch.from_numpy(clips)
        else:
            fitted = self._fit(stream, torch.from_numpy(clips))
        x = fitted.to(device).permute(0, 4, 1, 2, 3)  # (N, L, h, w, C) -> (N, C, L, h, w)
        if x.dtype == torch.uint8:
            return x.float() * (2 / 255) - 1
        bound = self.flow_bound
        x = x.clamp(-bound, bound)
        if not self.quantise_flow:
            return x / bound
        return ((x + bound) * (255 / (2 * bound))).round() * (2 / 255) - 1

    def _fit(self, stream: str, clips: Tensor) -> Tensor:
        short = min(clips.shape[2:4])
        if short != self.short_side:
            if stream != "rgb":
                raise InputError(
                    f"flow has frames of {clips.shape[3]}×{clips.shape[2]}, expected a short side of "
                    f"{self.short_side}. Resize the frames before the flow is computed."
                )
            clips = self._resize(clips, self.short_side / short)
        height, width = clips.shape[2:4]
        top, left = (height - self.crop) // 2, (width - self.crop) // 2
        return clips[:, :, top : top + self.crop, left : left + self.crop]

    def _resize(self, clips: Tensor, factor: float) -> Tensor:
        n, length, height, width, channels = clips.shape
        size = [max(self.short_side, round(side * factor)) for side in (height, width)]
        frames = (
            clips.reshape(n * length, height, width, channels).permute(0, 3, 1, 2).float()
        )  # (N·L, C, H, W)
        frames = F.interpolate(frames, size, mode="bilinear", align_corners=False, antialias=True)
        rounded = frames.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)  # (N·L, h, w, C)
        return rounded.reshape(n, length, *size, channels)
