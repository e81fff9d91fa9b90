"""Convolutions frame by frame and pair by pair against torch's own, in float64."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from dgam.encoders.fused_convolution import ByFrames, ByPairs
from dgam.encoders.i3d import same_padding


@pytest.mark.parametrize("form", [ByFrames, ByPairs])
@pytest.mark.parametrize("length", [1, 2, 3, 8])
def test_by_frames_and_by_pairs_are_the_same_convolution(
    form: type[ByFrames] | type[ByPairs], length: int
) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 6, length, 9, 10, generator=generator)
    weight = torch.randn(16, 6, 3, 3, 3, generator=generator) / 12
    bias = torch.randn(16, generator=generator)
    wanted = F.relu(F.conv3d(x.double(), weight.double(), bias.double(), padding=1)).float()
    before = x.clone()
    with torch.inference_mode():
        frames = list(form(weight, bias)(x))
    assert [frame.shape for frame in frames] == [(2, 16, 1, 9, 10)] * length
    torch.testing.assert_close(torch.cat(frames, dim=2), wanted, rtol=1e-5, atol=2e-6)
    assert torch.equal(x, before)  # what other branches of the network read is left alone


@pytest.mark.parametrize("size", [(16, 12, 14), (5, 7, 9), (1, 1, 8)])
def test_the_strided_convolution_by_frames_pads_as_same_does(size: tuple[int, int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(8, 3, 7, 7, 7, generator=generator) / 30
    bias = torch.randn(8, generator=generator)
    by_frames = ByFrames(weight, bias, stride=2)
    pads = [side for places in reversed(size) for side in same_padding(places, 7, 2)]
    for _ in range(2):  # the second time, its buffer holds the first clip
        x = torch.randn(1, 3, *size, generator=generator)
        wanted = F.relu(F.conv3d(F.pad(x.double(), pads), weight.double(), bias.double(), stride=2)).float()
        with torch.inference_mode():
            found = torch.cat(list(by_frames(x)), dim=2)
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=2e-6)
