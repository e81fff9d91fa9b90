"""TV-L1 in plain PyTorch, batched over pairs, on any device.

Slower on a CPU than the compiled kernels, and what there is where those cannot be had; the path for a GPU.
Only operations that treat each pixel alone are used (sums are taken pairwise), so a pair's result is the same
to the bit in a batch of any size.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from dgam.flow.median import MIDDLE, SELECT_MEDIAN, SORT_COLUMN, compare
from dgam.flow.pyramid import resize_table
from dgam.flow.settings import FlowSettings

Step = Callable[..., tuple[Tensor, Tensor, Tensor]]
_TINY = 1.1920929e-07  # |∇I|² counts as no less than this


@dataclass(frozen=True)
class _Data:
    """The data term of each pair, linear about the flow at the time of warping.

    gradient (A, C, H, W): by u, v and, with γ, by the brightness change; constant and inverse (1/|∇I|²): (A,
    H, W).
    """

    gradient: Tensor
    constant: Tensor
    inverse: Tensor

    def of(self, pairs: Tensor) -> _Data:
        return _Data(self.gradient[pairs], self.constant[pairs], self.inverse[pairs])


def resize(x: Tensor, size: tuple[int, int], step: float | None) -> Tensor:
    """Bilinear resampling of (…, H, W); ``step`` None: the ratio of the sizes."""
    for axis, length in ((-1, size[1]), (-2, size[0])):
        table = resize_table(x.shape[axis], length, step or x.shape[axis] / length)
        lower, upper = (torch.from_numpy(line).long().to(x.device) for line in table[:2])
        weight = torch.from_numpy(table[2]).to(x.device)
        weight = weight if axis == -1 else weight[:, None]
        x = x.index_select(axis, lower) * (1 - weight) + x.index_select(axis, upper) * weight
    return x


def centred_gradient(image: Tensor) -> tuple[Tensor, Tensor]:
    """Half the difference of the neighbours along x and y, (B, H, W) each; edges repeated outwards."""
    padded = F.pad(image[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]  # (B, H + 2, W + 2)
    across = 0.5 * (padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2])
    return across, 0.5 * (padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1])


def _cubic_weights(fraction: Tensor) -> list[Tensor]:
    """Weights of the four taps of Keys' kernel, a = −0.75."""
    f = fraction
    return [
        ((-0.75 * f + 1.5) * f - 0.75) * f,
        (1.25 * f - 2.25) * f * f + 1,
        ((-1.25 * f + 1.5) * f + 0.75) * f,
        (0.75 * f - 0.75) * f * f,
    ]


def _warp(first: Tensor, texels: Tensor, u: Tensor, settings: FlowSettings) -> _Data:
    """Data term from ``first`` (B, H, W) and the second image with its gradient ``texels`` (B, 3, H, W)."""
    batch, _, height, width = texels.shape
    border = 4
    padded = F.pad(texels, (border,) * 4).flatten(2)  # (B, 3, (H + 8)(W + 8))
    starts, weights = [], []
    for i, (size, shape) in enumerate(((width, (1, 1, -1)), (height, (1, -1, 1)))):
        position = torch.arange(size, dtype=u.dtype, device=u.device).view(shape) + u[:, i]
        if settings.grid:
            position = torch.round(position * settings.grid) / settings.grid
        whole = position.clamp(-3, size + 1).floor()  # two pixels outside, every tap falls on zeros
        starts.append(whole.long() + (border - 1))
        weights.append(_cubic_weights(position.clamp(-3, size + 1) - whole))
    corner = starts[1] * (width + 2 * border) + starts[0]  # (B, H, W)
    warped = torch.zeros_like(texels)
    for row in range(4):
        line = torch.zeros_like(texels)
        for column in range(4):
            place = (corner + (row * (width + 2 * border) + column)).view(batch, 1, -1).expand(-1, 3, -1)
            line = line + padded.gather(2, place).view_as(texels) * weights[0][column][:, None]
        warped = warped + line * weights[1][row][:, None]
    value, gx, gy = warped.unbind(1)
    parts = [gx, gy] if not settings.gamma else [gx, gy, torch.full_like(gx, settings.gamma)]
    constant = value - gx * u[:, 0] - gy * u[:, 1] - first
    return _Data(torch.stack(parts, 1), constant, 1 / (gx * gx + gy * gy).clamp(min=_TINY))


def _pairwise_sum(x: Tensor) -> Tensor:
    """Sum over all but the first axis, by halves, so that the order never depends on the batch."""
    x = x.flatten(1)  # (A, n)
    while x.shape[1] > 1:
        x = F.pad(x, (0, x.shape[1] % 2))
        half = x.shape[1] // 2
        x = x[:, :half] + x[:, half:]  # (A, n / 2)
    return x[:, 0]


def _step(
    u: Tensor,
    p: Tensor,
    gradient: Tensor,
    constant: Tensor,
    inverse: Tensor,
    constants: tuple[float, float, float],
) -> tuple[Tensor, Tensor, Tensor]:
    """One primal-dual iteration: u (A, C, H, W), θp (A, C, 2, H, W) -> new ones, squared change."""
    threshold, tau, tau_theta = constants
    residual = constant
    for i in range(u.shape[1]):
        residual = residual + gradient[:, i] * u[:, i]
    step = (residual * inverse).clamp(-threshold, threshold)  # (A, H, W)
    across, down = p[:, :, 0], p[:, :, 1]  # (A, C, H, W)
    divergence = (across - F.pad(across, (1, 0))[..., :-1]) + (down - F.pad(down, (0, 0, 1, 0))[..., :-1, :])
    new = u - step[:, None] * gradient + divergence
    right = F.pad(new[..., 1:] - new[..., :-1], (0, 1))
    below = F.pad(new[..., 1:, :] - new[..., :-1, :], (0, 0, 0, 1))
    norm = 1 + tau_theta * torch.sqrt(right * right + below * below)
    dual = torch.stack([(across + tau * right) / norm, (down + tau * below) / norm], 2)  # (A, C, 2, H, W)
    change = new - u
    return new, dual, change * change


def _eager_where_compiling_fails(step: Step) -> Step:
    compiled = torch.compile(step, dynamic=True)
    usable = True

    def run(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
        nonlocal usable
        if usable:
            try:
                return compiled(*arguments)
            except Exception as error:  # whatever a missing compiler or driver raises
                usable = False
                warnings.warn(
                    f"torch.compile failed ({error!s:.200}); optical flow runs uncompiled", stacklevel=2
                )
        return step(*arguments)

    return run


@cache
def _step_for(compiled: bool) -> Step:
    return _eager_where_compiling_fails(_step) if compiled else _step


def median_filter(x: Tensor, size: int) -> Tensor:
    """Median of ``size`` × ``size`` pixels (3 or 5) of (…, H, W), edges repeated outwards."""
    reach = size // 2
    flat = x.reshape(-1, 1, *x.shape[-2:])  # (n, 1, H, W)
    padded = F.pad(flat, (reach,) * 4, mode="replicate")
    height, width = x.shape[-2:]
    column = [padded[..., i : i + height, :] for i in range(size)]
    compare(column, SORT_COLUMN[size], torch.minimum, torch.maximum)
    window = [line[..., j : j + width] for line in column for j in range(size)]
    compare(window, SELECT_MEDIAN[size], torch.minimum, torch.maximum)
    return window[MIDDLE].reshape(x.shape)


def _level(first: Tensor, second: Tensor, u: Tensor, settings: FlowSettings, compiled: bool) -> Tensor:
    """All warps at one level: images (B, H, W), u (B, C, H, W): flow and, with γ, brightness change."""
    batch, channels, height, width = u.shape
    texels = torch.stack([second, *centred_gradient(second)], 1)  # (B, 3, H, W)
    p = u.new_zeros(batch, channels, 2, height, width)
    limit = torch.tensor(settings.epsilon**2 * height * width, dtype=torch.float32).item()
    for _ in range(settings.warps):
        data = _warp(first, texels, u, settings)
        u, p = _settle(u, p, data, limit, settings, compiled)
    return u


def iterations_between_looks(device: torch.device) -> int:
    """How often to ask which pairs have stopped. On a GPU asking waits for all work queued so far."""
    return 1 if device.type == "cpu" else 8


def _settle(
    u: Tensor, p: Tensor, data: _Data, limit: float, settings: FlowSettings, compiled: bool
) -> tuple[Tensor, Tensor]:
    """Iterate each pair until its squared change is no more than ``limit``."""
    constants = (settings.lambda_ * settings.theta, settings.tau, settings.tau / settings.theta)
    step = _step_for(compiled)
    until_look = iterations_between_looks(u.device)
    settled_u, settled_p = torch.empty_like(u), torch.empty_like(p)
    pairs = torch.arange(u.shape[0], device=u.device)  # those that still move: u, p and data hold only them
    for _ in range(settings.outer_iterations):
        if settings.median_filtering > 1:
            u = torch.cat([median_filter(u[:, :2], settings.median_filtering), u[:, 2:]], 1)
        moving = torch.ones_like(pairs, dtype=torch.bool)
        for iteration in range(settings.inner_iterations):
            new_u, new_p, squares = step(u, p, data.gradient, data.constant, data.inverse, constants)
            if until_look == 1:
                u, p = new_u, new_p
            else:
                u = torch.where(moving[:, None, None, None], new_u, u)
                p = torch.where(moving[:, None, None, None, None], new_p, p)
            moving = moving & (_pairwise_sum(squares) > limit)
            if (iteration + 1) % until_look and iteration + 1 < settings.inner_iterations:
                continue
            if not bool(moving.all()):
                stopped, going = torch.nonzero(~moving)[:, 0], torch.nonzero(moving)[:, 0]
                settled_u[pairs[stopped]], settled_p[pairs[stopped]] = u[stopped], p[stopped]
                if not going.numel():
                    return settled_u, settled_p
                pairs, u, p, data, moving = pairs[going], u[going], p[going], data.of(going), moving[going]
    settled_u[pairs], settled_p[pairs] = u, p
    return settled_u, settled_p


def solve(
    previous: Tensor,
    following: Tensor,
    initial: Tensor | None,
    sizes: Sequence[tuple[int, int]],
    settings: FlowSettings,
    compiled: bool | None = None,
) -> Tensor:
    """Flow of grey pairs (B, H, W), float32 in 0…255 -> (B, 2, H, W), on the device of the images.

    ``compiled`` None: with torch.compile on a GPU and without on a CPU.
    """
    compiled = previous.device.type == "cuda" if compiled is None else compiled
    step = settings.scale_step
    images = [(previous, following)]
    for size in sizes[1:]:
        first, second = images[-1]
        images.append((resize(first, size, 1 / step), resize(second, size, 1 / step)))
    channels = 3 if settings.gamma else 2
    u = previous.new_zeros(previous.shape[0], channels, *sizes[-1])
    if initial is not None:
        start = initial
        for size in sizes[1:]:
            start = resize(start, size, 1 / step) * step
        u[:, :2] = start
    for index in range(len(sizes) - 1, -1, -1):
        u = _level(*images[index], u, settings, compiled)
        if index:
            u = resize(u, sizes[index - 1], None)
            u = torch.cat([u[:, :2] * (1 / step), u[:, 2:]], 1)  # the brightness change has no size
    return u[:, :2].contiguous()
