"""The passes as kernels give what they give in PyTorch.

On a GPU, or anywhere with Triton's interpreter:

    TRITON_INTERPRET=1 python -m pytest tests/test_fused.py
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dgam.training.buffers import Buffers
from dgam.training.passes import Plain
from triton_kernels import device_or_skip

ON = device_or_skip()

from dgam.training.fused import Fused  # noqa: E402 - only where there is Triton

SIZES = [(1, 7, 8), (3, 70, 24), (2, 33, 128)]  # members, snippets, width
DTYPES = [torch.float32, torch.bfloat16]
sizes = pytest.mark.parametrize("size", SIZES, ids=str)
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)


class Draw:
    """Random tensors on the device; ``within`` gives columns of a wider one, whose rows do not lie end to
    end."""

    def __init__(self, seed: int = 0) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def __call__(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.randn(shape, generator=self._generator).to(ON, dtype)

    def within(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return self(*shape[:-1], shape[-1] + 5, dtype=dtype)[..., 2:-3]


def near(found: Tensor, expected: Tensor) -> None:
    """To rounding; in bfloat16, where PyTorch rounds in between and a kernel does not, as a whole."""
    if torch.bfloat16 in (found.dtype, expected.dtype):
        found, expected = found.float(), expected.float()
        assert (found - expected).norm() <= 0.01 * expected.norm() + 1e-6
    else:
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@sizes
@dtypes
def test_attend_and_enter(size: tuple[int, int, int], dtype: torch.dtype) -> None:
    draw = Draw()
    (members, _, m), results = size, []
    units, weight, bias = draw.within(*size, dtype=dtype), draw(members, 1, m, dtype=dtype), draw(members, 9)
    for passes in (Fused(), Plain()):
        own = units.clone(memory_format=torch.preserve_format)
        attention = passes.attend(own, weight, bias[:, :1])
        passes.enter(own, attention, weight[:, 0])
        results.append((attention, own))
    near(results[0][0], results[1][0].to(dtype))
    near(results[0][1], results[1][1])


@sizes
@dtypes
@pytest.mark.parametrize("relu", [True, False])
def test_activate(size: tuple[int, int, int], dtype: torch.dtype, relu: bool) -> None:
    draw = Draw(5)
    x, bias = draw(*size, dtype=dtype), draw.within(size[0], size[2], dtype=dtype)
    near(*(passes.activate(x.clone(), bias, relu) for passes in (Fused(), Plain())))


@sizes
@dtypes
@pytest.mark.parametrize("samples", [1, 2])
def test_fill(size: tuple[int, int, int], dtype: torch.dtype, samples: int) -> None:
    draw, (members, n, m) = Draw(6), size
    noise, attention, results = draw(members, samples, n, m), draw(members, n), []
    for passes in (Fused(), Plain()):
        results.append(draw(members, samples, n, -(-(m + 2) // 8) * 8, dtype=dtype))
        passes.fill(results[-1], noise, attention)
    near(*results)


@sizes
@dtypes
def test_units_gradient(size: tuple[int, int, int], dtype: torch.dtype) -> None:
    draw = Draw(1)
    (members, n, m), results = size, []
    units, by = draw.within(*size, dtype=dtype), draw(members, n)
    for passes in (Fused(), Plain()):
        own, sums = units.clone(memory_format=torch.preserve_format).relu_(), draw(2, members, m)
        passes.units_gradient(own, by, sums[0], sums[1])
        results.append((own, sums.to(dtype)))
    near(results[0][0], results[1][0])
    near(results[0][1], results[1][1])


@sizes
@dtypes
@pytest.mark.parametrize("samples", [1, 2])
def test_spend_half_gradient_and_masks(size: tuple[int, int, int], dtype: torch.dtype, samples: int) -> None:
    draw = Draw(2)
    (members, n, m), results = size, []
    second = draw(members, samples * n, m, dtype=dtype).relu_()
    first = draw(members, samples * n, m, dtype=dtype).relu_()
    gap, weight = draw.within(*size, dtype=dtype), draw.within(members, m, dtype=dtype)
    gram = draw(members, m, m, dtype=dtype) / m
    for passes in (Fused(), Plain()):
        buffers, sums = Buffers(torch.device(ON)), draw(members, m)
        q = passes.half_gradient(second, gap, gram, buffers).clone()
        spent, distance = passes.spend(second, gap, gram, buffers)
        near(spent, q)
        dot = passes.masked_dot(q.clone(), first, weight)
        masked = passes.masked_sums(q, first, sums).clone()
        results.append((spent.clone(), distance.to(dtype), dot.to(dtype), masked, sums.to(dtype)))
    for found, expected in zip(*results, strict=True):
        near(found, expected)


@sizes
@dtypes
def test_centre_and_sums(size: tuple[int, int, int], dtype: torch.dtype) -> None:
    draw = Draw(3)
    (members, _, m), results = size, []
    x, mean = draw(*size, dtype=dtype), draw(members, m, dtype=dtype)
    for passes in (Fused(), Plain()):
        sums, out = draw(2, members, m), draw.within(*size, dtype=dtype)
        passes.sums(x, sums[0])
        passes.centre(x, mean, out, sums[1])
        results.append((out, sums.to(dtype)))
    near(results[0][0], results[1][0])
    near(results[0][1], results[1][1])


@sizes
@dtypes
@pytest.mark.parametrize("samples", [1, 3])
def test_latent(size: tuple[int, int, int], dtype: torch.dtype, samples: int) -> None:
    draw = Draw(4)
    (members, n, m), results = size, []
    posterior, noise = draw(members, n, 2 * m, dtype=dtype), draw(members, samples, n, m)
    by_z = draw(members, samples * n, m, dtype=dtype)
    attention, prior, ratio = torch.sigmoid(draw(members, n)), draw(members, n), draw(members, 1).abs()
    for passes in (Fused(), Plain()):
        drawn, own = passes.latent(Buffers(torch.device(ON))), posterior.clone()
        z = draw(members, samples, n, -(-(m + 2) // 8) * 8, dtype=dtype)
        drawn.sample(own, noise.clone(), attention, prior, z)
        kl = drawn.bend(own, by_z, ratio)
        results.append((z, own, kl))
    assert torch.equal(results[0][0][..., m + 1], torch.ones_like(results[0][0][..., 0]))
    assert not results[0][0][..., m + 2 :].any()
    for found, expected in zip(*results, strict=True):
        near(found, expected)
    torch.testing.assert_close(results[0][2], results[1][2], rtol=1e-3, atol=1e-3)
