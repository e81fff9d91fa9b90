"""Convolutions with bias and ReLU inside, by oneDNN on a CPU: whole, by frames, and by pairs of frames."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from dgam.encoders.i3d import same_padding

Triple = tuple[int, int, int]


class FusedConvolution:
    """Convolution, bias and ReLU in one, by default with half the kernel's width as padding."""

    def __init__(self, weight: Tensor, bias: Tensor, stride: int = 1, padding: Triple | None = None) -> None:
        self._weight = weight.contiguous(memory_format=torch.channels_last_3d)
        self._bias = bias
        self._stride = [stride] * 3
        self._padding = list(padding or (side // 2 for side in weight.shape[2:]))
        self._fused = has_fused_kernels(weight)
        self._packed: tuple[torch.Size, Tensor] | None = None

    def __call__(
        self, x: Tensor, then: Literal["relu", "none"] = "relu", add_to: Tensor | None = None
    ) -> Tensor:
        """``(B, C, T, H, W)`` convolved, after ``add_to`` was added (and overwritten) if given, and ReLU."""
        x = x.contiguous(memory_format=torch.channels_last_3d)
        if not self._fused:
            x = F.conv3d(x, self._weight, self._bias, self._stride, self._padding)
            x = x if add_to is None else x.add_(add_to)
            return F.relu_(x) if then == "relu" else x
        if self._packed is None or self._packed[0] != x.shape:  # the best layout depends on the shape
            packed = torch.ops.mkldnn._reorder_convolution_weight(
                self._weight, self._padding, self._stride, [1, 1, 1], 1, list(x.shape)
            )
            self._packed = (x.shape, packed)
        places = (self._bias, self._padding, self._stride, [1, 1, 1], 1)
        result: Tensor
        if add_to is None:
            result = torch.ops.mkldnn._convolution_pointwise(x, self._packed[1], *places, then, [], "")
        else:
            result = torch.ops.mkldnn._convolution_pointwise_.binary(
                add_to, x, self._packed[1], *places, "add", 1.0, then, [], ""
            )
        return result


class ByFrames:
    """A convolution of stride 1 or 2 with ReLU, one frame of its output at a time.

    What comes after finds the frame in the cache. Of the padding along time nothing is read: at the ends the
    kernel is cut to the frames that are there.
    """

    def __init__(self, weight: Tensor, bias: Tensor, stride: int = 1) -> None:
        self._weight = weight
        self._bias = bias
        self._stride = stride
        self._cut: dict[tuple[int, int], FusedConvolution] = {}
        self._padded: Tensor | None = None

    def __call__(self, x: Tensor) -> Iterator[Tensor]:
        """``(B, C, T, H, W)`` to the frames of the output, ``(B, outputs, 1, H / stride, W / stride)``
        each."""
        length, width = x.shape[2], self._weight.shape[2]
        before = same_padding(length, width, self._stride)[0]
        x = self._pad(x) if self._stride > 1 else x
        for first in range(-before, length - before, self._stride):
            start, stop = max(first, 0), min(first + width, length)
            yield self._taps(start - first, stop - first)(x[:, :, start:stop])

    def _taps(self, first: int, stop: int) -> FusedConvolution:
        """The convolution by the kernel's planes from ``first`` to before ``stop``."""
        if (first, stop) not in self._cut:
            weight = self._weight[:, :, first:stop]
            side = self._weight.shape[3] // 2 if self._stride == 1 else 0
            self._cut[first, stop] = FusedConvolution(weight, self._bias, self._stride, (0, side, side))
        return self._cut[first, stop]

    def _pad(self, x: Tensor) -> Tensor:
        """Zeros around every frame, in a buffer that is kept: its margins stay zero."""
        b, c, length, height, width = x.shape
        side = self._weight.shape[3]
        (top, bottom), (left, right) = (same_padding(size, side, self._stride) for size in (height, width))
        shape = (b, c, length, top + height + bottom, left + width + right)
        if self._padded is None or self._padded.shape != shape:
            zeros = torch.zeros(shape, dtype=x.dtype, device=x.device)
            self._padded = zeros.contiguous(memory_format=torch.channels_last_3d)
        self._padded[..., top : top + height, left : left + width] = x
        return self._padded


class ByPairs:
    """A 3×3×3 convolution with ReLU, two frames of its output from four convolutions of single frames.

    Winograd's F(2, 3) along time (Lavin and Gray, "Fast algorithms for convolutional neural networks", 2016):
    with x0 … x3 the frames around a pair and g0, g1, g2 the kernel's planes, the two outputs are
    m0 + m1 + m2 and m1 − m2 − m3, where m0 = g0 (x0 − x2), m1 = ½(g0 + g1 + g2)(x1 + x2),
    m2 = ½(g0 − g1 + g2)(x2 − x1) and m3 = g2 (x1 − x3): a third of the products saved, at one more rounding.
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        g0, g1, g2 = weight.double().unbind(2)
        planes = (g0, (g0 + g1 + g2) / 2, (g0 - g1 + g2) / 2, -g2)  # the last with its sign in the sum
        none = torch.zeros_like(bias)
        self._products = [
            FusedConvolution(plane.unsqueeze(2).to(weight.dtype), shift)
            for plane, shift in zip(planes, (bias, none, none, bias), strict=True)
        ]

    def __call__(self, x: Tensor) -> Iterator[Tensor]:
        """``(B, C, T, H, W)`` to the frames of the output, ``(B, outputs, 1, H, W)`` each."""
        frames = torch.split(x, 1, dim=2)  # T × (B, C, 1, H, W)
        nothing = torch.zeros_like(frames[0])
        at = dict(enumerate(frames))
        m0, m1, m2, m3 = self._products
        for t in range(0, len(frames), 2):
            x0, x1, x2, x3 = (at.get(t + offset, nothing) for offset in (-1, 0, 1, 2))
            both, difference = m1(x1 + x2, "none"), m2(x2 - x1, "none")
            yield m0(x0 - x2, add_to=both + difference)
            if t + 1 < len(frames):
                yield m3(x1 - x3, add_to=both - difference)


def has_fused_kernels(weight: Tensor) -> bool:
    """Whether torch's oneDNN kernels, the ones its compiler uses, can run this convolution."""
    # torch.backends.mkldnn has no annotations.
    # For mypy: torch has no types here.
    if weight.device.type != "cpu" or not bool(torch.backends.mkldnn.is_available()):  # type: ignore[no-untyped-call]
        return False
    operators = torch.ops.mkldnn
    if not all(
        hasattr(operators, name) for name in ("_convolution_pointwise", "_reorder_convolution_weight")
    ):
        return False
    return weight.dtype != torch.bfloat16 or bool(operators._is_mkldnn_bf16_supported())
