"""The passes of ``passes`` as one kernel each, for GPUs, in Triton, which comes with PyTorch for CUDA.

A program takes blocks of whole rows (snippets) of one member. Sums over snippets are taken block by block
into a row for each program and added up after that, in the same order always, so results repeat to the bit.
Arithmetic is in float32, whatever the numbers are kept in.
"""

# Triton reads annotations as types of its own, and mypy knows none of it.
# mypy: ignore-errors

import torch
import triton
import triton.language as tl
from torch import Tensor

from dgam.training.buffers import Buffers
from dgam.training.members import product

_NUMBERS = 4096  # in a block
_PROGRAMS = 4096  # of all members: enough to hide a large GPU's memory latency
_SUMMED = 1024  # likewise where each leaves a row of sums, which are added up after that


@triton.jit
def _fold(parts, out, rows, m, o_e, R: tl.constexpr, M: tl.constexpr):
    """Rows of sums (E, rows, m) added up."""
    e, column = tl.program_id(1).to(tl.int64), tl.program_id(0) * M + tl.arange(0, M)
    total = tl.zeros((M,), tl.float32)
    for start in range(0, rows, R):
        row = start + tl.arange(0, R)
        mask = (row < rows)[:, None] & (column < m)[None, :]
        total += tl.sum(tl.load(parts + (e * rows + row)[:, None] * m + column[None, :], mask, 0.0), 0)
    tl.store(out + e * o_e + column, total, column < m)


@triton.jit
def _beside(share, column, m):
    """What stands beside the latent in rows of z: λ, 1 and zeros."""
    beside = tl.where(column[None, :] == m, share[:, None], 0.0)
    return tl.where(column[None, :] == m + 1, 1.0, beside)


@triton.jit
def _activate(out, bias, n, m, b_e, RELU: tl.constexpr, R: tl.constexpr, M: tl.constexpr, TILES):
    e, column = tl.program_id(1).to(tl.int64), tl.arange(0, M)
    inside = column < m
    b = tl.load(bias + e * b_e + column, inside, 0.0).to(tl.float32)
    for tile in range(TILES):
        row = (tl.program_id(0) * TILES + tile) * R + tl.arange(0, R)
        at = out + e * n * m + row[:, None] * m + column[None, :]
        mask = (row < n)[:, None] & inside[None, :]
        x = tl.load(at, mask, 0.0).to(tl.float32) + b[None, :]
        tl.store(at, tl.maximum(x, 0.0) if RELU else x, mask)


@triton.jit
def _fill(z, noise, attention, n, samples, m, wide, R: tl.constexpr, M: tl.constexpr, TILES):
    """M is a power of 2 that is no less than z's width."""
    e, column = tl.program_id(1).to(tl.int64), tl.arange(0, M)
    for tile in range(TILES):
        row = (tl.program_id(0) * TILES + tile) * R + tl.arange(0, R)
        share = tl.load(attention + e * n + row, row < n, 0.0)
        beside = _beside(share, column, m)
        for sample in range(samples):
            where = (e * samples + sample) * n + row
            mask = (row < n)[:, None] & (column < m)[None, :]
            eps = tl.load(noise + where[:, None] * m + column[None, :], mask, 0.0)
            target = z + where[:, None] * wide + column[None, :]
            value = tl.where((column < m)[None, :], eps, beside)
            tl.store(target, value, (row < n)[:, None] & (column < wide)[None, :])


@triton.jit
def _attend(units, weight, bias, out, n, m, s_e, s_n, R: tl.constexpr, M: tl.constexpr, TILES):
    e, column = tl.program_id(1).to(tl.int64), tl.arange(0, M)
    inside = column < m
    w = tl.load(weight + e * m + column, inside, 0.0).to(tl.float32)
    b = tl.load(bias + e)
    for tile in range(TILES):
        row = (tl.program_id(0) * TILES + tile) * R + tl.arange(0, R)
        at = units + e * s_e + row[:, None] * s_n + column[None, :]
        mask = (row < n)[:, None] & inside[None, :]
        x = tl.maximum(tl.load(at, mask, 0.0).to(tl.float32), 0.0)
        tl.store(at, x, mask)
        tl.store(out + e * n + row, tl.sigmoid(tl.sum(x * w[None, :], 1) + b), row < n)


@triton.jit
def _enter(first, attention, weight, n, m, s_e, s_n, w_e, w_m, R: tl.constexpr, M: tl.constexpr, TILES):
    e, column = tl.program_id(1).to(tl.int64), tl.arange(0, M)
    inside = column < m
    w = tl.load(weight + e * w_e + column * w_m, inside, 0.0).to(tl.float32)
    for tile in range(TILES):
        row = (tl.program_id(0) * TILES + tile) * R + tl.arange(0, R)
        at = first + e * s_e + row[:, None] * s_n + column[None, :]
        mask = (row < n)[:, None] & inside[None, :]
        share = tl.load(attention + e * n + row, row < n, 0.0)
        x = tl.load(at, mask, 0.0).to(tl.float32) + share[:, None] * w[None, :]
        tl.store(at, tl.maximum(x, 0.0), mask)


@triton.jit
def _units_gradient(
    units, by_score, with_units, sums, n, m, s_e, s_n, R: tl.constexpr, M: tl.constexpr, TILES
):
    e, column = tl.program_id(1).to(tl.int64), tl.arange(0, M)
    inside = column < m
    products, total = tl.zeros((R, M), tl.float32), tl.zeros((R, M), tl.float32)
    for tile in range(TILES):
        row = (tl.program_id(0) * TILES + tile) * R + tl.arange(0, R)
        at = units + e * s_e + row[:, None] * s_n + column[None, :]
        mask = (row < n)[:, None] & inside[None, :]
        x = tl.load(at, mask, 0.0).to(tl.float32)
        by = tl.load(by_score + e * n + row, row < n, 0.0)
        masked = tl.where(x > 0, by[:, None], 0.0)
        tl.store(at, masked, mask)
        products += x * by[:, None]
        total += masked
    place = (e * tl.num_programs(0) + tl.program_id(0)) * m + column
    tl.store(with_units + place, tl.sum(products, 0), inside)
    tl.store(sums + place, tl.sum(total, 0), inside)


@triton.jit
def _spend(
    q, gap, second, distance, n, rows, m, g_e, g_n, DISTANCE: tl.constexpr, R: tl.constexpr,
    M: tl.constexpr, TILES,
):  # fmt: skip
    e, column = tl.program_id(1).to(tl.int64), tl.arange(0, M)
    inside = column < m
    for tile in range(TILES):
        row = (tl.program_id(0) * TILES + tile) * R + tl.arange(0, R)
        mask = (row < n)[:, None] & inside[None, :]
        place = e * n * m + row[:, None] * m + column[None, :]
        h = tl.load(second + place, mask, 0.0).to(tl.float32)
        # Samples of a snippet, n = L·rows, share its g.
        g = tl.load(gap + e * g_e + (row % rows)[:, None] * g_n + column[None, :], mask, 0.0).to(tl.float32)
        half = tl.load(q + place, mask, 0.0).to(tl.float32) + g
        tl.store(q + place, tl.where(h > 0, half, 0.0), mask)
        if DISTANCE:
            tl.store(distance + e * n + row, tl.sum((half + g) * h, 1), row < n)


@triton.jit
def _masked_dot(gradient, units, weight, out, n, m, w_e, w_m, R: tl.constexpr, M: tl.constexpr, TILES):
    e, column = tl.program_id(1).to(tl.int64), tl.arange(0, M)
    inside = column < m
    w = tl.load(weight + e * w_e + column * w_m, inside, 0.0).to(tl.float32)
    for tile in range(TILES):
        row = (tl.program_id(0) * TILES + tile) * R + tl.arange(0, R)
        mask = (row < n)[:, None] & inside[None, :]
        place = e * n * m + row[:, None] * m + column[None, :]
        by = tl.load(gradient + place, mask, 0.0).to(tl.float32)
        by = tl.where(tl.load(units + place, mask, 0.0) > 0, by, 0.0)
        tl.store(out + e * n + row, tl.sum(by * w[None, :], 1), row < n)


@triton.jit
def _masked_sums(
    gradient, units, sums, n, m, s_e, s_n, u_e, u_n, MASK: tl.constexpr, R: tl.constexpr, M: tl.constexpr,
    TILES,
):  # fmt: skip
    e, column = tl.program_id(1).to(tl.int64), tl.arange(0, M)
    inside = column < m
    total = tl.zeros((R, M), tl.float32)
    for tile in range(TILES):
        row = (tl.program_id(0) * TILES + tile) * R + tl.arange(0, R)
        mask = (row < n)[:, None] & inside[None, :]
        at = gradient + e * s_e + row[:, None] * s_n + column[None, :]
        by = tl.load(at, mask, 0.0).to(tl.float32)
        if MASK:
            u = tl.load(units + e * u_e + row[:, None] * u_n + column[None, :], mask, 0.0)
            by = tl.where(u > 0, by, 0.0)
            tl.store(at, by, mask)
        total += by
    tl.store(sums + (e * tl.num_programs(0) + tl.program_id(0)) * m + column, tl.sum(total, 0), inside)


@triton.jit
def _centre(
    units, mean, out, sums, n, m, s_e, s_n, o_e, o_n, R: tl.constexpr, M: tl.constexpr, TILES,
):  # fmt: skip
    e, column = tl.program_id(1).to(tl.int64), tl.arange(0, M)
    inside = column < m
    centre = tl.load(mean + e * m + column, inside, 0.0).to(tl.float32)
    total = tl.zeros((R, M), tl.float32)
    for tile in range(TILES):
        row = (tl.program_id(0) * TILES + tile) * R + tl.arange(0, R)
        mask = (row < n)[:, None] & inside[None, :]
        x = tl.load(units + e * s_e + row[:, None] * s_n + column[None, :], mask, 0.0).to(tl.float32)
        x = (x - centre[None, :]).to(out.dtype.element_ty)
        tl.store(out + e * o_e + row[:, None] * o_n + column[None, :], x, mask)
        total += tl.where(mask, x.to(tl.float32), 0.0)
    tl.store(sums + (e * tl.num_programs(0) + tl.program_id(0)) * m + column, tl.sum(total, 0), inside)


@triton.jit
def _sample(
    posterior, noise, attention, prior, z, kl, n, samples, m, wide, R: tl.constexpr, M: tl.constexpr, TILES,
):  # fmt: skip
    """m is the latent's width, M a power of 2 that is no less than z's."""
    e, column = tl.program_id(1).to(tl.int64), tl.arange(0, M)
    inside = column < m
    total = tl.zeros((R, M), tl.float32)
    for tile in range(TILES):
        row = (tl.program_id(0) * TILES + tile) * R + tl.arange(0, R)
        mask = (row < n)[:, None] & inside[None, :]
        at = posterior + (e * n + row)[:, None] * (2 * m) + column[None, :]
        mean = tl.load(at, mask, 0.0).to(tl.float32)
        log_variance = tl.load(at + m, mask, 0.0).to(tl.float32)
        share = tl.load(attention + e * n + row, row < n, 0.0)
        gap = mean - tl.load(prior + e * n + row, row < n, 0.0)[:, None]
        deviation = tl.exp(0.5 * log_variance)
        twice = gap * gap + deviation * deviation - 1.0 - log_variance
        total += tl.where(mask, twice, 0.0)
        beside = _beside(share, column, m)
        for sample in range(samples):
            where = (e * samples + sample) * n + row
            eps = tl.load(noise + where[:, None] * m + column[None, :], mask, 0.0)
            value = tl.where(inside[None, :], mean + deviation * eps, beside)
            target = z + where[:, None] * wide + column[None, :]
            tl.store(target, value, (row < n)[:, None] & (column < wide)[None, :])
    tl.store(kl + e * tl.num_programs(0) + tl.program_id(0), tl.sum(tl.sum(total, 0), 0))


@triton.jit
def _bend(
    posterior, noise, prior, by_z, ratio, n, samples, m, R: tl.constexpr, M: tl.constexpr, TILES,
):  # fmt: skip
    e, column = tl.program_id(1).to(tl.int64), tl.arange(0, M)
    inside = column < m
    factor = tl.load(ratio + e)
    for tile in range(TILES):
        row = (tl.program_id(0) * TILES + tile) * R + tl.arange(0, R)
        mask = (row < n)[:, None] & inside[None, :]
        at = posterior + (e * n + row)[:, None] * (2 * m) + column[None, :]
        gap = tl.load(at, mask, 0.0).to(tl.float32) - tl.load(prior + e * n + row, row < n, 0.0)[:, None]
        deviation = tl.exp(0.5 * tl.load(at + m, mask, 0.0).to(tl.float32))
        by_mean, by_spread = factor * gap, factor * (deviation * deviation - 1.0)
        for sample in range(samples):
            place = ((e * samples + sample) * n + row)[:, None] * m + column[None, :]
            by = tl.load(by_z + place, mask, 0.0).to(tl.float32)
            by_mean += by
            by_spread += by * tl.load(noise + place, mask, 0.0) * deviation
        tl.store(at, by_mean, mask)
        tl.store(at + m, 0.5 * by_spread, mask)


def _grid(
    members: int, rows: int, width: int, most: int = _PROGRAMS
) -> tuple[tuple[int, int], dict[str, int]]:
    """At ``most`` so many programs for (E, rows, width); rows and columns of a block, blocks of a program."""
    columns = triton.next_power_of_2(width)
    block = max(1, _NUMBERS // columns)
    tiles = triton.cdiv(triton.cdiv(rows, block), max(1, most // members))
    return (triton.cdiv(rows, block * tiles), members), {"R": block, "M": columns, "TILES": tiles}


def _folded(parts: Tensor, out: Tensor) -> None:
    """Rows of sums (E, rows, m) added up into ``out`` (E, m)."""
    members, rows, m = parts.shape
    _fold[(triton.cdiv(m, 16), members)](parts, out, rows, m, out.stride(0), R=256, M=16)


class Fused:
    """See ``passes.Plain``, whose methods these are."""

    def latent(self, buffers: Buffers) -> "FusedLatent":
        return FusedLatent()

    def activate(self, out: Tensor, bias: Tensor, relu: bool) -> Tensor:
        members, n, m = out.shape
        grid, sizes = _grid(members, n, m)
        _activate[grid](out, bias, n, m, bias.stride(0), RELU=relu, **sizes)
        return out

    def fill(self, z: Tensor, noise: Tensor, attention: Tensor) -> None:
        members, samples, n, m = noise.shape
        grid, sizes = _grid(members, n, z.shape[-1])
        _fill[grid](z, noise, attention, n, samples, m, z.shape[-1], **sizes)

    def attend(self, units: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        members, n, m = units.shape
        grid, sizes = _grid(members, n, m)
        out = bias.new_empty(members, n)
        weight, bias = weight.contiguous(), bias.contiguous()
        _attend[grid](units, weight, bias, out, n, m, *units.stride()[:2], **sizes)
        return out

    def enter(self, first: Tensor, attention: Tensor, weight: Tensor) -> None:
        members, n, m = first.shape
        grid, sizes = _grid(members, n, m)
        _enter[grid](first, attention, weight, n, m, *first.stride()[:2], *weight.stride(), **sizes)

    def units_gradient(self, units: Tensor, by_score: Tensor, of_output: Tensor, of_bias: Tensor) -> None:
        members, n, m = units.shape
        grid, sizes = _grid(members, n, m, _SUMMED)
        parts = of_bias.new_empty(2, members, grid[0], m)
        _units_gradient[grid](
            units, by_score.contiguous(), parts[0], parts[1], n, m, *units.stride()[:2], **sizes
        )
        _folded(parts[0], of_output)
        _folded(parts[1], of_bias)

    def half_gradient(self, second: Tensor, gap: Tensor, gram: Tensor, buffers: Buffers) -> Tensor:
        return self._spend(second, gap, gram, buffers, None)

    def spend(self, second: Tensor, gap: Tensor, gram: Tensor, buffers: Buffers) -> tuple[Tensor, Tensor]:
        members, rows = gap.shape[:2]
        distance = torch.empty(
            members, second.shape[1] // rows, rows, dtype=torch.float32, device=second.device
        )
        return self._spend(second, gap, gram, buffers, distance), distance

    def _spend(
        self, second: Tensor, gap: Tensor, gram: Tensor, buffers: Buffers, distance: Tensor | None
    ) -> Tensor:
        members, n, m = second.shape
        q = product(second, gram, buffers.get("q", tuple(second.shape), second.dtype))
        grid, sizes = _grid(members, n, m)
        into = q if distance is None else distance
        _spend[grid](
            q,
            gap,
            second,
            into,
            n,
            gap.shape[1],
            m,
            *gap.stride()[:2],
            DISTANCE=distance is not None,
            **sizes,
        )
        return q

    def masked_dot(self, gradient: Tensor, units: Tensor, weight: Tensor) -> Tensor:
        members, n, m = gradient.shape
        grid, sizes = _grid(members, n, m)
        out = torch.empty(members, n, dtype=torch.float32, device=gradient.device)
        _masked_dot[grid](gradient, units, weight, out, n, m, *weight.stride(), **sizes)
        return out

    def masked_sums(self, gradient: Tensor, units: Tensor, sums: Tensor) -> Tensor:
        return self._summed(gradient, units, sums)

    def sums(self, x: Tensor, sums: Tensor) -> None:
        self._summed(x, None, sums)

    def _summed(self, gradient: Tensor, units: Tensor | None, sums: Tensor) -> Tensor:
        members, n, m = gradient.shape
        grid, sizes = _grid(members, n, m, _SUMMED)
        parts = sums.new_empty(members, grid[0], m)
        other = gradient if units is None else units
        _masked_sums[grid](
            gradient, other, parts, n, m, *gradient.stride()[:2], *other.stride()[:2],
            MASK=units is not None, **sizes,
        )  # fmt: skip
        _folded(parts, sums)
        return gradient

    def centre(self, units: Tensor, mean: Tensor, out: Tensor, sums: Tensor) -> None:
        members, n, m = units.shape
        grid, sizes = _grid(members, n, m, _SUMMED)
        parts = sums.new_empty(members, grid[0], m)
        _centre[grid](
            units, mean.contiguous(), out, parts, n, m, *units.stride()[:2], *out.stride()[:2], **sizes
        )
        _folded(parts, sums)


class FusedLatent:
    """See ``passes.Latent``. Nothing as large as the batch is kept: σ is computed twice."""

    def sample(self, posterior: Tensor, noise: Tensor, attention: Tensor, mean: Tensor, z: Tensor) -> None:
        members, samples, n, m = noise.shape
        grid, sizes = _grid(members, n, z.shape[-1])
        self._parts = noise.new_empty(members, grid[0])
        self._noise, self._prior = noise, mean.contiguous()
        _sample[grid](
            posterior, noise, attention, self._prior, z, self._parts, n, samples, m, z.shape[-1], **sizes
        )

    def bend(self, posterior: Tensor, by_z: Tensor, ratio: Tensor) -> Tensor:
        members, samples, n, m = self._noise.shape
        grid, sizes = _grid(members, n, m)
        _bend[grid](posterior, self._noise, self._prior, by_z, ratio, n, samples, m, **sizes)
        return self._parts.sum(dim=1)
