"""I3D's forward pass for extraction: the same features as :meth:`I3D.features`, several times faster.

Batch norms are folded into the convolutions, memory is laid out channels last, convolutions run as oneDNN
kernels with the ReLU inside and their weights packed beforehand, the large ones frame by frame or with a
third of their products saved, max pools run one axis at a time, and bfloat16 is there for processors and
GPUs that have it. Nothing is compiled on a CPU, so the first clip is as fast as the rest. GPUs have a form of
their own, :mod:`dgam.encoders.gpu_i3d`.
"""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import Tensor

from dgam.core.errors import InputError
from dgam.encoders.fused_convolution import ByFrames, ByPairs, FusedConvolution, has_fused_kernels
from dgam.encoders.gpu_i3d import GpuI3D, clip_in_blocks, weight_in_blocks
from dgam.encoders.i3d import FEATURES, I3D, MIXED_CHANNELS, pool_places, same_padding

Precision = Literal["float32", "bfloat16"]
Triple = tuple[int, int, int]

# 3×3×3 convolutions large enough in space for ByPairs to be faster than the plain form.
IN_PAIRS = ("Conv3d_2c_3x3", "Mixed_3b.b1b", "Mixed_3c.b1b")


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
        self._convolutions: dict[str, FusedConvolution] = {}
        self._framewise: dict[str, ByFrames | ByPairs] = {}
        units = _folded(network, device, self._dtype)
        self._on_gpu = GpuI3D(units) if device.type == "cuda" else None
        for name, weight, exact in () if self._on_gpu else units:
            bias = exact.to(self._dtype)
            if name == "Conv3d_1a_7x7":
                self._stem = ByFrames(weight, bias, stride=2)
                self._stem_in_blocks = FusedConvolution(weight_in_blocks(weight), bias, padding=(0, 0, 0))
            elif name in IN_PAIRS:
                by_pairs = self._dtype == torch.float32 and has_fused_kernels(weight)
                self._framewise[name] = ByPairs(weight, bias) if by_pairs else ByFrames(weight, bias)
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
        if self._on_gpu is not None:
            return self._on_gpu(clips)[:count]
        x = self._first(clips.to(self._dtype))  # (B, 64, L/2, H/4, W/4)
        frames = self._framewise["Conv3d_2c_3x3"](x)
        # (B, 192, L/2, H/8, W/8)
        x = torch.cat([max_pool_nonnegative(frame, (1, 3, 3), (1, 2, 2)) for frame in frames], dim=2)
        for name in MIXED_CHANNELS:
            if name == "Mixed_4b":
                x = max_pool_nonnegative(x, (3, 3, 3), (2, 2, 2))
            elif name == "Mixed_5b":
                x = max_pool_nonnegative(x, (2, 2, 2), (2, 2, 2))
            x = self._mixed(name, x)
        return pool_places(x)[:count]

    def _first(self, clips: Tensor) -> Tensor:
        """Up to Conv3d_2b_1x1."""
        thin = self._convolutions["Conv3d_2b_1x1"]
        # With 3 channels, bfloat16's matrix units stay mostly empty; blocks of 2×2×2 pixels make 24 of
        # them. In float32 the plain form is faster.
        if self._dtype == torch.bfloat16 and all(size % 2 == 0 for size in clips.shape[2:]):
            x = self._stem_in_blocks(clip_in_blocks(clips))  # (B, 64, L/2, H/2, W/2)
            return thin(max_pool_nonnegative(x, (1, 3, 3), (1, 2, 2)))
        frames = [thin(max_pool_nonnegative(frame, (1, 3, 3), (1, 2, 2))) for frame in self._stem(clips)]
        return torch.cat(frames, dim=2)  # (B, 64, L/2, H/4, W/4)

    def _mixed(self, name: str, x: Tensor) -> Tensor:
        def branch(letter: str, x: Tensor) -> Tensor:
            place = f"{name}.{letter}"
            if place in self._framewise:
                return torch.cat(list(self._framewise[place](x)), dim=2)  # (B, outputs, T, H, W)
            return self._convolutions[place](x)

        branches = (
            branch("b0", x),
            branch("b1b", branch("b1a", x)),
            branch("b2b", branch("b2a", x)),
            branch("b3b", max_pool_nonnegative(x, (3, 3, 3), (1, 1, 1))),
        )
        return torch.cat(branches, dim=1)  # (B, channels, T, H, W)


def _folded(network: I3D, device: torch.device, dtype: torch.dtype) -> list[tuple[str, Tensor, Tensor]]:
    """Names, weights and float32 biases of the convolutions with the batch norms in them."""
    units = []
    for name, unit in copy.deepcopy(network).units():
        unit.fold()
        weight, bias = unit.conv.weight.detach(), unit.conv.bias
        assert bias is not None
        units.append((name, weight.to(device, dtype), bias.detach().to(device)))
    return units


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


def _exact_kernels(device: torch.device) -> AbstractContextManager[None]:
    """On CUDA: the same kernels in every run, and no TF32 behind the name of float32."""
    if device.type != "cuda":
        return nullcontext()
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
