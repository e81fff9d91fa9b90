"""I3D's forward pass on a GPU: channels last, and between the convolutions few passes over memory.

The 1×1×1 convolutions that read the same tensor are one; bias and ReLU are done while the result is put where
it belongs in the joined channels; the two large max pools add the bias after the pool. Where Triton is not to
be had, PyTorch's own operations do the same, slower.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor
from torch.nn import functional as F

from dgam.encoders.i3d import MIXED_CHANNELS, pool_places, same_padding

Triple = tuple[int, int, int]
LAYOUT = torch.channels_last_3d
ROWS_TIMES_CHANNELS = 1024  # of one program of a kernel


class GpuI3D:
    """From clips to features. ``units``: names, folded weights (O, C, k, k, k) and biases (O,).

    Weights are in the precision that is wanted, biases float32, all on the device. Nothing here needs a GPU.
    """

    def __init__(self, units: Iterable[tuple[str, Tensor, Tensor]]) -> None:
        self._weights: dict[str, Tensor] = {}
        self._biases: dict[str, Tensor] = {}
        for name, weight, bias in units:
            self._weights[name] = weight.contiguous(memory_format=LAYOUT)
            self._biases[name] = bias
        for name in MIXED_CHANNELS:  # b0, b1a and b2a all read the block's input
            joined = torch.cat([self._weights[f"{name}.{letter}"] for letter in ("b0", "b1a", "b2a")])
            self._weights[name] = joined.contiguous(memory_format=LAYOUT)
        first = self._weights["Conv3d_1a_7x7"]
        self._dtype = first.dtype
        self._in_blocks = weight_in_blocks(first).contiguous(memory_format=LAYOUT)

    def __call__(self, clips: Tensor) -> Tensor:
        """``(B, C, T, H, W)`` in [−1, 1] to ``(B, 1024)``, float32."""
        x = self._stem(clips.to(self._dtype))  # (B, 64, T/2, H/2, W/2)
        x = max_pool(x, (1, 3, 3), (1, 2, 2), self._biases["Conv3d_1a_7x7"])
        x = self._unit("Conv3d_2b_1x1", x)  # (B, 64, T/2, H/4, W/4)
        x = self._convolve("Conv3d_2c_3x3", x)
        x = max_pool(x, (1, 3, 3), (1, 2, 2), self._biases["Conv3d_2c_3x3"])  # (B, 192, T/2, H/8, W/8)
        for name, plan in MIXED_CHANNELS.items():
            if name == "Mixed_4b":
                x = max_pool(x, (3, 3, 3), (2, 2, 2))  # (B, 480, T/4, H/16, W/16)
            elif name == "Mixed_5b":
                x = max_pool(x, (2, 2, 2), (2, 2, 2))  # (B, 832, T/8, H/32, W/32)
            x = self._mixed(name, plan, x)
        return pool_places(x)

    def _stem(self, clips: Tensor) -> Tensor:
        """Conv3d_1a_7x7 without bias and ReLU."""
        # Matrix units stay mostly empty with 3 channels; blocks of 2×2×2 pixels make 24 of them.
        if self._dtype != torch.float32 and all(size % 2 == 0 for size in clips.shape[2:]):
            return F.conv3d(clip_in_blocks(clips).contiguous(memory_format=LAYOUT), self._in_blocks)
        pads = [side for size in reversed(clips.shape[2:]) for side in same_padding(size, 7, 2)]
        padded = F.pad(clips, pads).contiguous(memory_format=LAYOUT)
        return F.conv3d(padded, self._weights["Conv3d_1a_7x7"], stride=2)

    def _convolve(self, name: str, x: Tensor) -> Tensor:
        weight = self._weights[name]
        return F.conv3d(x, weight, padding=weight.shape[2] // 2)

    def _unit(self, name: str, x: Tensor, out: Tensor | None = None) -> Tensor:
        """Convolution, bias and ReLU, into ``out`` if given."""
        return bias_relu(self._convolve(name, x), self._biases[name], out)

    def _mixed(self, name: str, plan: tuple[int, ...], x: Tensor) -> Tensor:
        b0, b1a, b1b, b2a, b2b, b3b = plan
        thin = self._convolve(name, x)  # (B, b0 + b1a + b2a, T, H, W)
        shape = (len(x), b0 + b1b + b2b + b3b, *x.shape[2:])
        out = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=LAYOUT)
        to = torch.split(out, [b0, b1b, b2b, b3b], dim=1)
        own, middle, small = torch.split(thin, [b0, b1a, b2a], dim=1)
        bias_relu(own, self._biases[f"{name}.b0"], to[0])
        self._unit(f"{name}.b1b", bias_relu(middle, self._biases[f"{name}.b1a"]), to[1])
        self._unit(f"{name}.b2b", bias_relu(small, self._biases[f"{name}.b2a"]), to[2])
        self._unit(f"{name}.b3b", max_pool(x, (3, 3, 3), (1, 1, 1)), to[3])
        return out


def bias_relu(x: Tensor, bias: Tensor, out: Tensor | None = None) -> Tensor:
    """max(x + bias, 0) of ``(B, C, T, H, W)``, channels last or some channels of such; ``out`` likewise."""
    if out is None:
        out = torch.empty(x.shape, dtype=x.dtype, device=x.device, memory_format=LAYOUT)
    if not _has_triton(x.device):
        return out.copy_((x + bias.view(1, -1, 1, 1, 1)).relu_())
    from dgam.encoders import gpu_kernels

    x = _by_channels(x)
    channels = x.shape[1]
    rows = x.numel() // channels
    across = _columns(channels)
    grid = (-(-rows * across // ROWS_TIMES_CHANNELS), channels // across)
    with torch.cuda.device(x.get_device()):
        gpu_kernels.bias_relu[grid](
            *(x, bias, out, rows, _stride(x), _stride(out)), BR=ROWS_TIMES_CHANNELS // across, BC=across
        )
    return out


def max_pool(x: Tensor, kernel: Triple, stride: Triple, bias: Tensor | None = None) -> Tensor:
    """Max pool of ``(B, C, T, H, W)``, channels last, with "SAME" padding; then bias and ReLU, if given."""
    sizes = x.shape[2:]
    before = [same_padding(n, k, s)[0] for n, k, s in zip(sizes, kernel, stride, strict=True)]
    if not _has_triton(x.device):
        pooled = F.max_pool3d(x, kernel, stride, before, ceil_mode=True)
        return (
            pooled.contiguous(memory_format=LAYOUT)
            if bias is None
            else bias_relu(pooled.contiguous(memory_format=LAYOUT), bias)
        )
    from dgam.encoders import gpu_kernels

    x = _by_channels(x)
    batch, channels = x.shape[:2]
    places = [-(-n // s) for n, s in zip(sizes, stride, strict=True)]
    out = torch.empty(batch, channels, *places, dtype=x.dtype, device=x.device, memory_format=LAYOUT)
    rows = out.numel() // channels
    across = _columns(channels)
    grid = (-(-rows * across // ROWS_TIMES_CHANNELS), channels // across)
    with torch.cuda.device(x.get_device()):
        gpu_kernels.max_pool[grid](
            *(x, x if bias is None else bias, out, rows, _stride(x), *sizes, *places, *before),
            KT=kernel[0], KS=kernel[1], ST=stride[0], SS=stride[1], BIAS=bias is not None,
            BR=ROWS_TIMES_CHANNELS // across, BC=across,
        )  # fmt: skip
    return out


def _by_channels(x: Tensor) -> Tensor:
    """``x``, or a copy with channels last: of one place, PyTorch may take either order for the other."""
    return x if x.stride(1) == 1 else x.contiguous(memory_format=LAYOUT)


def _stride(x: Tensor) -> int:
    """From one place to the next. Axes of one place have any stride."""
    return next((x.stride(axis) for axis in (4, 3, 2) if x.shape[axis] > 1), x.stride(0))


def _columns(channels: int) -> int:
    """Channels of one program: the largest power of two, up to 128, that divides them."""
    return min(channels & -channels, 128)


@cache
def _has_triton(device: torch.device) -> bool:
    return device.type == "cuda" and find_spec("triton") is not None


def clip_in_blocks(x: Tensor) -> Tensor:
    """``(B, C, T, H, W)``, even sizes, to blocks of 2×2×2 as channels: ``(B, 8·C, T/2 + 3, H/2 + 3, W/2 +
    3)``.

    Padded by one block in front and two behind, so that :func:`weight_in_blocks` fits without padding.
    """
    b, c, t, h, w = x.shape
    x = x.reshape(b, c, t // 2, 2, h // 2, 2, w // 2, 2).permute(0, 3, 5, 7, 1, 2, 4, 6)
    return F.pad(x.reshape(b, 8 * c, t // 2, h // 2, w // 2), [1, 2, 1, 2, 1, 2])


def weight_in_blocks(weight: Tensor) -> Tensor:
    """The 7×7×7 kernel of stride 2, ``(O, C, 7, 7, 7)``, as a 4×4×4 kernel of stride 1 on blocks of 2×2×2."""
    outputs, channels = weight.shape[:2]
    weight = F.pad(weight, [0, 1, 0, 1, 0, 1])  # (O, C, 8, 8, 8)
    weight = weight.reshape(outputs, channels, 4, 2, 4, 2, 4, 2).permute(0, 3, 5, 7, 1, 2, 4, 6)
    return weight.reshape(outputs, 8 * channels, 4, 4, 4)
