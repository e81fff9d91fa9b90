"""The decoder's last layer, whose gradients and squared error need no reconstruction; and the losses."""

# Triton has no types, and reads annotations as its own.
# mypy: ignore-errors

from collections.abc import Mapping

import triton
import triton.language as tl
from torch import Tensor

from dgam.kernels.blocks import total_of, vector
from dgam.kernels.losses import Discriminated
from dgam.kernels.numbers import ALPHA, BETA, CVAE_WEIGHT, FOREGROUND, GAMMA1, GAMMA2, SHARPNESS, number
from dgam.kernels.sums import own_factor

_ROWS = 16  # of the layer's outputs in a block


@triton.jit
def _last(
    last, bias, of_x, squares, mean, sums, of_features, of_last, of_bias, of_entry, errors, numbers, share,
    n, d, hidden, s, g, R: tl.constexpr, K: tl.constexpr, W: tl.constexpr,
):  # fmt: skip
    e, column = tl.program_id(1).to(tl.int64), tl.arange(0, W)
    row = tl.program_id(0) * R + tl.arange(0, R)
    there, inside = row < d, column < hidden
    mask = there[:, None] & inside[None, :]
    factor = own_factor(numbers, share, e)
    middle, gathered = vector(mean + e * W, 1, W, W), vector(sums + e * W, 1, W, W)
    total = gathered + n * middle  # Σh
    b = tl.load(bias + e * s + row, there, 0.0)
    x = tl.load(of_features + e * d + row, there, 0.0)
    made = tl.zeros((R, W), tl.float32)  # W hᵀh, where hᵀh = gᵀg + m Σhᵀ + Σg mᵀ
    for start in range(0, W, K):
        k = start + tl.arange(0, K)
        known = there[:, None] & (k < hidden)[None, :]
        weight = tl.load(last + e * s + row[:, None] * hidden + k[None, :], known, 0.0)
        with_itself = tl.load(squares + (e * W + k)[:, None] * W + column[None, :])
        with_itself += tl.load(mean + e * W + k)[:, None] * total[None, :]
        with_itself += tl.load(sums + e * W + k)[:, None] * middle[None, :]
        made = tl.dot(weight, with_itself, made, input_precision="ieee")
    at = of_x + (e * 2 * W + column)[None, :] * d + row[:, None]
    with_x = tl.load(at + W * d, mask, 0.0).to(tl.float32)  # xᵀg
    by = b[:, None] * total[None, :] - x[:, None] * middle[None, :] - with_x  # b Σhᵀ − xᵀh
    place = row[:, None] * hidden + column[None, :]
    weight = tl.load(last + e * s + place, mask, 0.0)
    tl.store(of_last + e * g + place, (made + by) * factor, mask)
    by_bias = tl.sum(weight * total[None, :], 1) + n * b - x
    tl.store(of_bias + e * g + row, by_bias * factor, there)
    entry = tl.load(at, mask, 0.0).to(tl.float32)
    tl.store(of_entry + e * g + column[None, :] * (d + 1) + row[:, None], entry * factor, mask)
    # Σ‖x̂ − x‖² − Σ‖x‖²
    error = tl.sum(tl.where(mask, weight * (made + 2.0 * by), 0.0), 1) + b * (n * b - 2.0 * x)
    place = errors + e * tl.num_programs(0) + tl.program_id(0)
    tl.store(place, tl.sum(tl.where(there, error, 0.0), 0))


def last_layer(
    of_x: Tensor,
    squares: Tensor,
    mean: Tensor,
    sums: Tensor,
    of_features: Tensor,
    snippets: int,
    weights: Mapping[str, Tensor],
    gradients: Mapping[str, Tensor],
    numbers: Tensor,
    share: Tensor,
) -> Tensor:
    """Gradients of the decoder's last layer and of the encoder's first but for λ's and its bias, put in their
    places; Σ‖x̂ − x‖² − Σ‖x‖² of blocks (E, blocks).

    ``of_x`` (E, 2·W, d) are the two halves of ``posterior``'s ``beyond`` times x, ``of_features`` Σx (E, d);
    ``squares`` and ``sums`` as ``sums.multiply`` gives them, ``mean`` as ``posterior.forward`` does.
    """
    last, bias = weights["cvae.decode_x.weight"], weights["cvae.decode_x.bias"]
    of_last = gradients["cvae.decode_x.weight"]
    members, d, hidden = last.shape
    wide = mean.shape[1]
    errors = mean.new_empty(members, triton.cdiv(d, _ROWS))
    _last[(errors.shape[1], members)](
        last, bias, of_x, squares, mean, sums, of_features, of_last, gradients["cvae.decode_x.bias"],
        gradients["cvae.encode_x.weight"], errors, numbers, share, snippets, d, hidden, last.stride(0),
        of_last.stride(0), R=_ROWS, K=16, W=wide, num_warps=4,
    )  # fmt: skip
    return errors


@triton.jit
def _tell(
    found, guide, sums, distances, squares, bias, numbers, share, out,
    videos, guides, blocks, n, d, s, snippet, B: tl.constexpr,
):  # fmt: skip
    e, members = tl.program_id(0).to(tl.int64), tl.num_programs(0)
    front, back = tl.zeros((B,), tl.float32), tl.zeros((B,), tl.float32)
    for start in range(0, videos, B):
        i = start + tl.arange(0, B)
        front += tl.load(found + (e * videos + i) * 2, i < videos, 0.0)
        back += tl.load(found + (e * videos + i) * 2 + 1, i < videos, 0.0)
    of_front, of_back = tl.sum(front, 0) / videos, tl.sum(back, 0) / videos
    of_guide = total_of(guide + e * guides, guides, B) / n
    fixed = tl.zeros((B,), tl.float32)  # ‖b‖²
    for start in range(0, d, B):
        i = start + tl.arange(0, B)
        b = tl.load(bias + e * s + i, i < d, 0.0)
        fixed += b * b
    distance = total_of(distances + e * blocks, blocks, B) + n * tl.sum(fixed, 0) + tl.load(squares + e)
    of_features = distance * number(numbers, e, SHARPNESS) * snippet
    total = number(numbers, e, FOREGROUND) * of_front + number(numbers, e, ALPHA) * of_back
    total += number(numbers, e, GAMMA2) * of_guide
    total += number(numbers, e, GAMMA1) * tl.load(share + e) * of_features
    tl.store(out + e, of_front)
    tl.store(out + members + e, of_back)
    tl.store(out + 2 * members + e, of_guide)
    tl.store(out + 3 * members + e, of_features)
    tl.store(out + 4 * members + e, total)
    tl.store(out + 5 * members + e, total_of(sums + e * videos, videos, B) / n)


def tell(
    discriminated: Discriminated,
    distances: Tensor,
    squares: Tensor,
    bias: Tensor,
    numbers: Tensor,
    share: Tensor,
    snippets: int,
    snippet: float,
) -> dict[str, Tensor]:
    """Stage (a)'s terms, each (E,), from what discriminative losses and ``prior.reconstruct`` left,
    Σ‖x‖² (E, 1) and the decoder's last bias (E, d). ``snippet`` is what one counts in L_re."""
    members, videos = discriminated.sums.shape
    out = distances.new_empty(6, members)
    guide = discriminated.guide
    _tell[(members,)](
        discriminated.found, guide, discriminated.sums, distances, squares, bias, numbers, share, out,
        videos, guide.shape[1], distances.shape[1], snippets, bias.shape[1], bias.stride(0), snippet, B=256,
    )  # fmt: skip
    return dict(zip(("fg", "bg", "guide", "re", "total", "attention"), out, strict=True))


@triton.jit
def _tell_cvae(errors, kl, squares, numbers, share, out, blocks, kls, n, terms, snippet, B: tl.constexpr):
    e, members = tl.program_id(0).to(tl.int64), tl.num_programs(0)
    error = total_of(errors + e * blocks, blocks, B) + tl.load(squares + e)
    of_kl = 0.5 * total_of(kl + e * kls, kls, B) / terms
    loss = (error * number(numbers, e, SHARPNESS) + number(numbers, e, BETA) * of_kl) * snippet
    tl.store(out + e, loss * number(numbers, e, CVAE_WEIGHT) * tl.load(share + e))
    tl.store(out + members + e, of_kl / n)


def tell_cvae(
    errors: Tensor,
    kl: Tensor,
    squares: Tensor,
    numbers: Tensor,
    share: Tensor,
    snippets: int,
    terms: int,
    snippet: float,
) -> dict[str, Tensor]:
    """Stage (b)'s weighted loss and the mean KL of a snippet, each (E,). ``terms`` is what KL is divided
    by."""
    members, blocks = errors.shape
    out = errors.new_empty(2, members)
    _tell_cvae[(members,)](
        errors, kl, squares, numbers, share, out, blocks, kl.shape[1], snippets, terms, snippet, B=256
    )
    return dict(zip(("cvae", "kl"), out, strict=True))
