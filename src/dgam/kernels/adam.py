"""Adam and AdamW of many small parameters that lie in one tensor, in one pass over it."""

# Triton has no types, and reads annotations as its own.
# mypy: ignore-errors

import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 1024


@triton.jit
def _adam(
    values, gradients, means, squares, numbers, steps, n, v_e, g_e, m_e,
    DECOUPLED: tl.constexpr, B: tl.constexpr,
):  # fmt: skip
    e = tl.program_id(1).to(tl.int64)
    at = tl.program_id(0) * B + tl.arange(0, B)
    there = at < n
    of_mean, of_square = tl.load(numbers + e * 5), tl.load(numbers + e * 5 + 1)
    rate, decay = tl.load(numbers + e * 5 + 2), tl.load(numbers + e * 5 + 3)
    step = tl.load(steps + e).to(tl.float64)
    # In float64: early on a decay to the power of the step is hardly less than 1.
    up = (1.0 - tl.exp(step * tl.log(of_mean))).to(tl.float32)
    spread = tl.sqrt((1.0 - tl.exp(step * tl.log(of_square))).to(tl.float32))
    value = tl.load(values + e * v_e + at, there, 0.0)
    gradient = tl.load(gradients + e * g_e + at, there, 0.0)
    if DECOUPLED:
        value -= (rate * decay).to(tl.float32) * value
    else:
        gradient += decay.to(tl.float32) * value
    mean = tl.load(means + e * m_e + at, there, 0.0)
    mean += (1.0 - of_mean).to(tl.float32) * (gradient - mean)
    square = tl.load(squares + e * m_e + at, there, 0.0)
    square = of_square.to(tl.float32) * square + (1.0 - of_square).to(tl.float32) * gradient * gradient
    tl.store(means + e * m_e + at, mean, there)
    tl.store(squares + e * m_e + at, square, there)
    below = tl.sqrt(square) / spread + tl.load(numbers + e * 5 + 4).to(tl.float32)
    tl.store(values + e * v_e + at, value - rate.to(tl.float32) / up * mean / below, there)


def adam(
    values: Tensor,
    gradients: Tensor,
    means: Tensor,
    squares: Tensor,
    numbers: Tensor,
    steps: Tensor,
    *,
    decoupled: bool,
) -> None:
    """One step of ``torch.optim.Adam``, or AdamW where weight decay is ``decoupled``, in place.

    All are (E, P), rows of any distance, float32; ``numbers`` (E, 5) float64 are β1, β2, learning rate,
    weight decay and ε, ``steps`` (E,) the number of this step, counted from 1.
    """
    members, n = values.shape
    _adam[(triton.cdiv(n, _BLOCK), members)](
        values, gradients, means, squares, numbers, steps, n, values.stride(0), gradients.stride(0),
        means.stride(0), DECOUPLED=decoupled, B=_BLOCK,
    )  # fmt: skip
