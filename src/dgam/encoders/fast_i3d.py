"""I3D's forward pass for extraction: the same features as :meth:`I3D.features`, several times faster.

Batch norms are folded into the convolutions, memory is laid out channels last, convolutions run as oneDNN
kernels with the ReLU inside and their weights packed beforehand, max pools run one axis at a time, and
bfloat16 is there for processors and GPUs that have it. Nothing is compiled, so the first clip is as fast as
the rest.
"""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from dgam.core.errors import InputError
from dgam.encoders.i3d import FEATURES, I3D, MIXED_CHANNELS, pool_places, same_padding

Precision = Literal["float32", "bfloat16"]
Triple = tuple[int, int, int]


class FastI3D:
    """Features of clips by one network on one device. The given network is left as it is.

    Batches always have ``batch`` clips, the last one filled up, so that a clip's features do not depend on
    how many come with it. The default is 1 on a CPU, where larger ones are no faster, and 32 on a GPU.
    """

    def __init__(
        self, network: I3D, device: torch.device, precision: Precision = "float32", batch: int | None = None
    ) -> None:
        if batch is not None and batch < 1:
            raise InputError(f"the batch must hold at least one snippet, got {batch}.")
        self.device = device
        self.batch = batch or (1 if device.type == "cpu" else 32)
        self._dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        self._convolutions = {}
        for name, unit in copy.deepcopy(network).units():
            unit.fold()
            weight, bias = unit.conv.weight.detach(), unit.conv.bias
            assert bias is not None
            weight, bias = weight.to(device, self._dtype), bias.detach().to(device, self._dtype)
            if name == "Conv3d_1a_7x7":
                self._stem = FusedConvolution(weight, bias, stride=2)
                self._stem_in_blocks = FusedConvolution(weight_in_blocks(weight), bias)
            else:
                self._convolutions[name] = FusedConvolution(weight, bias)

    @torch.inference_mode()
    def features(self, clips: Tensor) -> Tensor:
        """``(N, C, L, H, W)`` in [−1, 1] on the network's device to ``(N, 1024)``, float32, on the CPU."""
        if len(clips) == 0:
            return torch.zeros(0, FEATURES)
        with _exact_kernels(self.device):
            rows = [self._one_batch(part) for part in torch.split(clips, self.batch)]
        return torch.cat(rows).cpu()  # (N, 1024)

    def _one_batch(self, clips: Tensor) -> Tensor:
        count = len(clips)
        if count < self.batch:
            clips = torch.cat([clips, clips[-1:].expand(self.batch - count, -1, -1, -1, -1)])
        x = self._first(clips.to(self._dtype))  # (B, 64, L/2, H/2, W/2)
        x = max_pool_nonnegative(x, (1, 3, 3), (1, 2, 2))
        x = self._convolutions["Conv3d_2c_3x3"](self._convolutions["Conv3d_2b_1x1"](x))
        x = max_pool_nonnegative(x, (1, 3, 3), (1, 2, 2))
        for name in MIXED_CHANNELS:
            if name == "Mixed_4b":
                x = max_pool_nonnegative(x, (3, 3, 3), (2, 2, 2))
            elif name == "Mixed_5b":
                x = max_pool_nonnegative(x, (2, 2, 2), (2, 2, 2))
            x = self._mixed(name, x)
        return pool_places(x)[:count]

    def _first(self, clips: Tensor) -> Tensor:
        # With 3 channels, bfloat16's matrix units stay mostly empty; blocks of 2×2×2 pixels make 24 of
        # them. In float32 the plain form is faster.
        if self._dtype == torch.bfloat16 and all(size % 2 == 0 for size in clips.shape[2:]):
            return self._stem_in_blocks(clip_in_blocks(clips))
        pads = [same_padding(size, 7, 2) for size in clips.shape[2:]]
        return self._stem(F.pad(clips, [side for pad in reversed(pads) for side in pad]))

    def _mixed(self, name: str, x: Tensor) -> Tensor:
        b0, b1a, b1b, b2a, b2b, b3b = (
            self._convolutions[f"{name}.{branch}"] for branch in ("b0", "b1a", "b1b", "b2a", "b2b", "b3b")
        )
        pooled = max_pool_nonnegative(x, (3, 3, 3), (1, 1, 1))
        return torch.cat([b0(x), b1b(b1a(x)), b2b(b2a(x)), b3b(pooled)], dim=1)  # (B, channels, T, H, W)


class FusedConvolution:
    """Convolution, bias and ReLU in one. It pads to keep the size where stride is 1 and the kernel odd."""

    def __init__(self, weight: Tensor, bias: Tensor, stride: int = 1) -> None:
        self._weight = weight.contiguous(memory_format=torch.channels_last_3d)
        self._bias = bias
        self._stride = [stride] * 3
        kernel = weight.shape[2]
        self._padding = [kernel // 2 if stride == 1 and kernel % 2 else 0] * 3
        self._fused = _has_fused_kernels(weight)
        self._packed: tuple[torch.Size, Tensor] | None = None

    def __call__(self, x: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last_3d)
        if not self._fused:
            return F.relu_(F.conv3d(x, self._weight, self._bias, self._stride, self._padding))
        if self._packed is None or self._packed[0] != x.shape:  # the best layout depends on the shape
            packed = torch.ops.mkldnn._reorder_convolution_weight(
                self._weight, self._padding, self._stride, [1, 1, 1], 1, list(x.shape)
            )
            self._packed = (x.shape, packed)
        result: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x, self._packed[1], self._bias, self._padding, self._stride, [1, 1, 1], 1, "relu", [], ""
        )
        return result


def max_pool_nonnegative(x: Tensor, kernel: Triple, stride: Triple) -> Tensor:
    """Max pool of ``(B, C, T, H, W)``, all ≥ 0, with "SAME" padding, one axis after the other."""
    for axis, width, step in zip((4, 3, 2), reversed(kernel), reversed(stride), strict=True):
        if width == 1:
            continue
        size = x.shape[axis]
        before, _ = same_padding(size, width, step)
        places = -(-size // step)
        centre = x[_every(axis, step)]  # the window's place `before` lies on i·step, there for every output i
        layout = torch.channels_last_3d
        largest = torch.empty(centre.shape, dtype=x.dtype, device=x.device, memory_format=layout)
        reach = min(places, (size - 2) // step + 1)  # outputs for which i·step + 1 lies inside too
        if reach:
            torch.maximum(
                centre.narrow(axis, 0, reach),
                x.narrow(axis, 1, (reach - 1) * step + 1)[_every(axis, step)],
                out=largest.narrow(axis, 0, reach),
            )
        largest.narrow(axis, reach, places - reach).copy_(centre.narrow(axis, reach, places - reach))
        for offset in (*range(2, width - before), *range(-before, 0)):
            first = max(0, -(offset // step))  # outputs for which i·step + offset lies inside
            last = min(places, (size - 1 - offset) // step + 1)
            if first < last:
                shifted = x.narrow(axis, first * step + offset, (last - first - 1) * step + 1)
                part = largest.narrow(axis, first, last - first)
                torch.maximum(part, shifted[_every(axis, step)], out=part)
        x = largest
    return x


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


def choose_device(name: str) -> torch.device:
    """``auto``, or a torch device by name. InputError for one that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise InputError(
            f"--device {name}: cannot be used: {reason} Take cpu, cuda, cuda:1 or auto."
        ) from error
    return device


def _every(axis: int, step: int) -> tuple[slice, ...]:
    return (*(slice(None),) * axis, slice(None, None, step))


def _has_fused_kernels(weight: Tensor) -> bool:
    """Whether torch's oneDNN kernels, the ones its compiler uses, can run this convolution."""
    # torch.backends.mkldnn has no annotations.
    if weight.device.type != "cpu" or not bool(torch.backends.mkldnn.is_available()):  # type: ignore[no-untyped-call]
        return False
    operators = torch.ops.mkldnn
    if not all(
        hasattr(operators, name) for name in ("_convolution_pointwise", "_reorder_convolution_weight")
    ):
        return False
    return weight.dtype != torch.bfloat16 or bool(operators._is_mkldnn_bf16_supported())


def _exact_kernels(device: torch.device) -> AbstractContextManager[None]:
    """On CUDA: the same kernels in every run, and no TF32 behind the name of float32."""
    if device.type != "cuda":
        return nullcontext()
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
