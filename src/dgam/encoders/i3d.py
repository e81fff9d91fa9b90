"""Inception-I3D (Carreira and Zisserman, "Quo vadis, action recognition?", CVPR 2017, figure 3).

Convolutions and max pools pad as TensorFlow's "SAME" does: the output has ``ceil(n / stride)`` places, and
of an odd amount of padding the smaller half comes first. Batch norm has ε = 1e-3 and no scale parameter,
and always uses its stored statistics.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FEATURES = 1024
KINETICS_CLASSES = 400
EPSILON = 1e-3

# Output channels of each mixed block: 1×1×1; 1×1×1 then 3×3×3; 1×1×1 then 3×3×3; 1×1×1 after the max pool.
MIXED_CHANNELS: dict[str, tuple[int, int, int, int, int, int]] = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}


class I3D(nn.Module):
    """The network for one stream: ``channels`` is 3 for RGB and 2 for flow.

    Input is float, shape ``(B, channels, T, H, W)``, values in [−1, 1]; ``T``, ``H`` and ``W`` may be odd.
    """

    def __init__(self, channels: int = 3, classes: int = KINETICS_CLASSES) -> None:
        super().__init__()
        self.channels = channels
        self.Conv3d_1a_7x7 = Unit(channels, 64, kernel=7, stride=2)
        self.Conv3d_2b_1x1 = Unit(64, 64)
        self.Conv3d_2c_3x3 = Unit(64, 192, kernel=3)
        inputs = 192
        for name, plan in MIXED_CHANNELS.items():
            self.add_module(name, Mixed(inputs, plan))
            inputs = plan[0] + plan[2] + plan[4] + plan[5]
        self.Logits = nn.Linear(FEATURES, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Class scores before the softmax, shape ``(B, classes)``, averaged over time."""
        # nn.Module.__call__ is annotated as returning Any; the head gives a Tensor.
        return self.Logits(self.features(x))  # type: ignore[no-any-return]  # a module's call has no type

    def features(self, x: Tensor) -> Tensor:
        """Mixed_5c after average pooling, averaged over time: shape ``(B, 1024)``, float32.

        The published network pools with a window of 2 × 7 × 7 at stride 1 and averages what comes out. At
        224 × 224 that window is the whole frame; at other sizes the whole frame is pooled here too, and a
        single time step is left as it is. The scores are linear in the pooled values, so averaging over
        time before or after them is the same.
        """
        x = max_pool(self.Conv3d_1a_7x7(x), (1, 3, 3), (1, 2, 2))  # (B, 64, T/2, H/4, W/4)
        x = self.Conv3d_2c_3x3(self.Conv3d_2b_1x1(x))
        x = max_pool(x, (1, 3, 3), (1, 2, 2))  # (B, 192, T/2, H/8, W/8)
        x = self._mixed(x, "Mixed_3b", "Mixed_3c")
        x = max_pool(x, (3, 3, 3), (2, 2, 2))  # (B, 480, T/4, H/16, W/16)
        x = self._mixed(x, "Mixed_4b", "Mixed_4c", "Mixed_4d", "Mixed_4e", "Mixed_4f")
        x = max_pool(x, (2, 2, 2), (2, 2, 2))  # (B, 832, T/8, H/32, W/32)
        x = self._mixed(x, "Mixed_5b", "Mixed_5c")
        return pool_places(x)

    def units(self) -> Iterator[tuple[str, Unit]]:
        """The convolution units with their dotted names, in the network's order."""
        for name, module in self.named_modules():
            if isinstance(module, Unit):
                yield name, module

    def _mixed(self, x: Tensor, *names: str) -> Tensor:
        for name in names:
            x = getattr(self, name)(x)
        return x


class Mixed(nn.Module):
    """An inception block: four branches side by side, joined along the channels."""

    def __init__(self, inputs: int, plan: tuple[int, int, int, int, int, int]) -> None:
        super().__init__()
        self.b0 = Unit(inputs, plan[0])
        self.b1a = Unit(inputs, plan[1])
        self.b1b = Unit(plan[1], plan[2], kernel=3)
        self.b2a = Unit(inputs, plan[3])
        self.b2b = Unit(plan[3], plan[4], kernel=3)
        self.b3b = Unit(inputs, plan[5])

    def forward(self, x: Tensor) -> Tensor:
        branches = (
            self.b0(x),
            self.b1b(self.b1a(x)),
            self.b2b(self.b2a(x)),
            self.b3b(max_pool(x, (3, 3, 3), (1, 1, 1))),
        )
        return torch.cat(branches, dim=1)  # (B, sum of the branches' channels, T, H, W)


class Unit(nn.Module):
    """Convolution without bias, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv3d(inputs, outputs, kernel, stride, bias=False)
        self.norm: FixedNorm | None = FixedNorm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        axes = zip(x.shape[2:], self.conv.kernel_size, self.conv.stride, strict=True)
        pads = [same_padding(size, kernel, stride) for size, kernel, stride in axes]
        before = [first for first, _ in pads]
        if any(first != last for first, last in pads):
            x = F.pad(x, [side for pad in reversed(pads) for side in pad])  # F.pad counts from the last axis
            before = [0, 0, 0]
        x = F.conv3d(x, self.conv.weight, self.conv.bias, self.conv.stride, before)
        return F.relu(x if self.norm is None else self.norm(x))

    @torch.no_grad()
    def fold(self) -> None:
        """Move the batch norm into the convolution's weights and a bias, for inference."""
        if self.norm is None:
            return
        scale = torch.rsqrt(self.norm.variance.double() + EPSILON)
        weight = self.conv.weight.double() * scale.view(-1, 1, 1, 1, 1)
        bias = self.norm.beta.double() - self.norm.mean.double() * scale
        self.conv.weight = nn.Parameter(weight.to(self.conv.weight.dtype), requires_grad=False)
        self.conv.bias = nn.Parameter(bias.to(self.conv.weight.dtype), requires_grad=False)
        self.norm = None


class FixedNorm(nn.Module):
    """Batch norm with stored statistics: ``(x − mean) / sqrt(variance + 1e-3) + beta``, per channel."""

    beta: Tensor
    mean: Tensor
    variance: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.beta = nn.Parameter(torch.zeros(channels))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.mean, self.variance, None, self.beta, training=False, eps=EPSILON)


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """How many places TensorFlow's "SAME" puts before and after an axis of ``size`` places."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def max_pool(x: Tensor, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> Tensor:
    """Max pool of ``(B, C, T, H, W)`` with "SAME" padding.

    Where one place more is needed behind than in front, ``ceil_mode`` supplies it without a copy of ``x``.
    """
    before = [same_padding(n, k, s)[0] for n, k, s in zip(x.shape[2:], kernel, stride, strict=True)]
    return F.max_pool3d(x, kernel, stride, before, ceil_mode=True)


def pool_places(x: Tensor) -> Tensor:
    """``(B, C, T, H, W)`` to ``(B, C)`` as :meth:`I3D.features` describes it, always in float32."""
    frames = x.mean((3, 4), dtype=torch.float32)  # (B, C, T)
    if frames.shape[2] > 1:
        frames = (frames[:, :, :-1] + frames[:, :, 1:]) / 2
    return frames.mean(2)


@torch.no_grad()
def randomise(network: I3D, seed: int) -> I3D:
    """Give every weight a random value of a size that keeps activations in range; a seed gives the same."""
    generator = torch.Generator().manual_seed(seed)
    for _, unit in network.units():
        fan_in = unit.conv.weight[0].numel()
        unit.conv.weight.copy_(torch.randn(unit.conv.weight.shape, generator=generator) * (2 / fan_in) ** 0.5)
        norm = unit.norm
        if norm is not None:
            norm.beta.copy_(torch.randn(norm.beta.shape, generator=generator) * 0.1)
            norm.mean.copy_(torch.randn(norm.mean.shape, generator=generator) * 0.1)
            norm.variance.copy_(torch.rand(norm.variance.shape, generator=generator) + 0.5)
    for parameter in (network.Logits.weight, network.Logits.bias):
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * FEATURES**-0.5)
    return network
