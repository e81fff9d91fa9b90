"""The attention's convolution along time: PyTorch's own, and what belongs to a kernel of one snippet."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from dgam.model.convolution import at_middle, by_output, by_tap, gather, spread
from dgam.model.networks import DGAM, Attention, ModelShape, linear

D, HIDDEN = 5, 4
LENGTHS = (1, 2, 3, 4, 9)


def attention(kernel: int, seed: int = 0) -> Attention:
    return Attention(D, HIDDEN, torch.Generator().manual_seed(seed), kernel=kernel).double()


def features(length: int, videos: int = 3, seed: int = 1) -> Tensor:
    return torch.randn(videos, length, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def convolved(module: Attention, x: Tensor) -> Tensor:
    """λ (B, T) by PyTorch's convolution with the same weights."""
    hidden = module.hidden
    weight = hidden.weight.view(HIDDEN, module.kernel, D).transpose(1, 2)  # (hidden, d, kernel)
    units = functional.conv1d(x.mT, weight, hidden.bias, padding="same").mT  # (B, T, hidden)
    return torch.sigmoid(module.output(torch.relu(units))).squeeze(2)


@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
@pytest.mark.parametrize("length", LENGTHS)
def test_it_is_pytorchs_convolution_gradients_too(kernel: int, length: int) -> None:
    """Also where a sequence is shorter than the kernel, down to one snippet."""
    module, x = attention(kernel), features(length).requires_grad_()
    found, expected = module(x), convolved(module, x)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    slope = torch.randn(found.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    wanted = [x, *module.parameters()]
    own, theirs = (torch.autograd.grad(out, wanted, slope) for out in (found, expected))
    for one, other in zip(own, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_videos_do_not_see_each_other() -> None:
    module, x = attention(5), features(6)
    together = module(x)
    for video in range(3):
        torch.testing.assert_close(together[video], module(x[video : video + 1])[0], rtol=1e-12, atol=0)


def test_a_snippet_sees_as_far_as_the_kernel_reaches() -> None:
    module = attention(5)
    x = torch.ones(1, 11, D, dtype=torch.float64)
    moved = x.clone()
    moved[0, 6] += 10
    assert (module(x) != module(moved))[0].nonzero().flatten().tolist() == [4, 5, 6, 7, 8]


def test_beyond_the_ends_there_are_zeros() -> None:
    module, x = attention(3), features(4)
    silent = functional.pad(x, (0, 0, 2, 2))  # (B, T + 4, d)
    torch.testing.assert_close(module(x), module(silent)[:, 2:-2], rtol=1e-12, atol=1e-12)


def test_with_a_kernel_of_one_it_is_a_layer_on_each_snippet_bit_for_bit() -> None:
    module = Attention(D, HIDDEN, torch.Generator().manual_seed(0))
    x = features(9).float()
    expected = torch.sigmoid(module.output(torch.relu(module.hidden(x)))).squeeze(2)
    assert torch.equal(module(x), expected)


@pytest.mark.parametrize("kernel", [1, 3])
def test_weights_start_as_those_of_a_linear_layer_with_as_many_inputs(kernel: int) -> None:
    shape = ModelShape(D, 2, attention_hidden=HIDDEN, attention_kernel=kernel, cvae_hidden=3, latent=2)
    model = DGAM(shape, torch.Generator().manual_seed(7))
    hidden = linear(kernel * D, HIDDEN, torch.Generator().manual_seed(7))
    assert torch.equal(model.attention.hidden.weight, hidden.weight)
    assert torch.equal(model.attention.hidden.bias, hidden.bias)
    assert model.attention.hidden.weight.shape == (HIDDEN, kernel * D)


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("length", LENGTHS)
def test_spread_is_the_transpose_of_gather(kernel: int, length: int) -> None:
    """⟨gather(a), b⟩ = ⟨a, spread(b)⟩, whatever was in the memory before."""
    generator = torch.Generator().manual_seed(3)
    a, b = (
        torch.randn(2, 3, length, kernel, HIDDEN, generator=generator, dtype=torch.float64) for _ in range(2)
    )
    of_sums = b[..., kernel // 2, :].clone()
    spread(b)
    expected = (a * b).sum()
    torch.testing.assert_close((gather(a.clone()) * of_sums).sum(), expected, rtol=1e-12, atol=1e-12)


def test_weights_go_by_tap_and_back() -> None:
    weight = torch.arange(2 * 4 * 15.0).view(2, 4, 15)  # E = 2, 4 outputs, kernel 3, d = 5
    taps = by_tap(weight, 5)
    assert taps.shape == (2, 12, 5)
    assert torch.equal(taps[1, 4 + 2], weight[1, 2, 5:10])  # the middle tap of output 2
    assert torch.equal(by_output(taps, 4), weight)
    assert at_middle(torch.tensor([1.0, 2.0]), 3).tolist() == [0, 0, 1, 2, 0, 0]
