"""L_re of stage (a), equation 11, and its gradient by λ, without leaving anything of a layer's size behind.

A program takes a block of snippets from noise to the squared error and back. With x̂ = W h + b the error needs
x only as Wᵀx, see ``dgam.training.fast_decoder``.
"""

# Triton has no types, and reads annotations as its own.
# mypy: ignore-errors

from collections.abc import Mapping

import triton
import triton.language as tl
from torch import Tensor

from dgam.kernels.blocks import back, forth, matrix, vector
from dgam.kernels.first import Packed

ROWS = 128  # snippets of a block
WARPS = 8


@triton.jit
def _reconstruct(
    noise, attention, gap, crossed, entry, entry_bias, by_lambda, inner, inner_bias, gram,
    by_attention, distances, n, hidden, latent, x_e, x_n, s, i_e, R: tl.constexpr, W: tl.constexpr,
):  # fmt: skip
    e, column = tl.program_id(1).to(tl.int64), tl.arange(0, W)
    row = tl.program_id(0) * R + tl.arange(0, R)
    there, inside = row < n, column < hidden
    # Loads first: a block has nothing else to do while it waits for them.
    mask = there[:, None] & (column < latent)[None, :]
    eps = tl.load(noise + (e * n + row)[:, None] * latent + column[None, :], mask, 0.0)
    of_entry = matrix(entry + e * hidden * latent, latent, hidden, latent, W, W)
    weight = matrix(inner + e * i_e, hidden, hidden, hidden, W, W)
    g = tl.load(gap + e * x_e + row[:, None] * x_n + column[None, :], there[:, None] & inside[None, :], 0.0)
    square = matrix(gram + e * hidden * hidden, hidden, hidden, hidden, W, W)
    lam = tl.load(attention + e * n + row, there, 0.0)
    beside = tl.load(crossed + e * x_e + row * x_n, there, 0.0).to(tl.float32)
    dtype: tl.constexpr = entry.dtype.element_ty

    through = vector(by_lambda + e * 2 * hidden, 1, hidden, W)
    first = forth(eps.to(dtype), of_entry)
    first += lam[:, None] * through[None, :] + vector(entry_bias + e * s, 1, hidden, W)[None, :]
    first = tl.maximum(first, 0.0).to(dtype)
    second = forth(first, weight) + vector(inner_bias + e * s, 1, hidden, W)[None, :]
    second = tl.maximum(second, 0.0).to(dtype)
    q = back(second, square) + g.to(tl.float32)
    distance = tl.sum((q + g.to(tl.float32)) * second.to(tl.float32), 1) - 2.0 * beside
    by_first = back(tl.where(second > 0, q, 0.0).to(dtype), weight)
    by = tl.sum(tl.where(first > 0, by_first, 0.0) * through[None, :], 1)
    tl.store(by_attention + e * n + row, by, there)
    place = distances + e * tl.num_programs(0) + tl.program_id(0)
    tl.store(place, tl.sum(tl.where(there, distance, 0.0), 0))


def reconstruct(
    noise: Tensor,
    attention: Tensor,
    gap: Tensor,
    crossed: Tensor,
    gram: Tensor,
    packed: Packed,
    weights: Mapping[str, Tensor],
    rounded: Mapping[str, Tensor],
) -> tuple[Tensor, Tensor]:
    """Half the gradient by λ (E, n) of Σ‖x̂ − x‖², and Σ(‖x̂ − x‖² − ‖b‖² − ‖x‖²) of blocks (E, blocks).

    Noise (E, n, latent), λ (E, n), g = Wᵀ(b − x) (E, n, hidden) and b·x (E, n) with equal strides, ``gram``
    WᵀW (E, hidden, hidden).
    """
    members, n, latent = noise.shape
    hidden, bias = gap.shape[2], weights["cvae.decode_z.bias"]
    inner = rounded["cvae.decode_hidden.weight"]
    by_attention = attention.new_empty(members, n)
    distances = attention.new_empty(members, triton.cdiv(n, ROWS))
    _reconstruct[(distances.shape[1], members)](
        noise, attention, gap, crossed, packed.entry, bias, packed.by_lambda, inner,
        weights["cvae.decode_hidden.bias"], gram, by_attention, distances, n, hidden, latent,
        *gap.stride()[:2], bias.stride(0), inner.stride(0), R=ROWS, W=width(hidden, latent),
        num_warps=WARPS,
    )  # fmt: skip
    return by_attention, distances


def width(hidden: int, latent: int) -> int:
    """Columns of a block that holds hidden units or the latent."""
    return max(16, triton.next_power_of_2(max(hidden, latent)))
