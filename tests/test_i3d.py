"""The I3D network against an independent implementation, and its fast form against itself."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from dgam.core.errors import InputError
from dgam.encoders import fast_i3d, fused_convolution
from dgam.encoders.fast_i3d import (
    FastI3D,
    choose_device,
    clip_in_blocks,
    max_pool_nonnegative,
    weight_in_blocks,
)
from dgam.encoders.i3d import I3D, max_pool, randomise, same_padding
from dgam.encoders.i3d_names import tensorflow_names

CPU = torch.device("cpu")

# Output channels as tables 1 and 2 of GoogLeNet, inflated, have them: "#1×1, #3×3 reduce, #3×3, #3×3 reduce
# (the 5×5 of GoogLeNet), #3×3, pool proj".
ARCHITECTURE = """
conv 1a 7 2 64
pool 1,3,3 1,2,2
conv 2b 1 1 64
conv 2c 3 1 192
pool 1,3,3 1,2,2
mixed 3b 64 96 128 16 32 32
mixed 3c 128 128 192 32 96 64
pool 3,3,3 2,2,2
mixed 4b 192 96 208 16 48 64
mixed 4c 160 112 224 24 64 64
mixed 4d 128 128 256 24 64 64
mixed 4e 112 144 288 32 64 64
mixed 4f 256 160 320 32 128 128
pool 2,2,2 2,2,2
mixed 5b 256 160 320 32 128 128
mixed 5c 384 192 384 48 128 128
"""


def reference(weights: dict[str, np.ndarray], clip: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Features and scores of ``(B, C, T, H, W)`` by the table, in float64; weights as TensorFlow has them."""

    def pad(x: torch.Tensor, kernel: list[int], stride: list[int], value: float) -> torch.Tensor:
        sides: list[int] = []
        for n, k, s in zip(x.shape[2:], kernel, stride, strict=True):
            missing = k - s if n % s == 0 else k - n % s
            sides = [max(missing, 0) // 2, -(-max(missing, 0) // 2), *sides]
        return F.pad(x, sides, value=value)

    def conv(x: torch.Tensor, path: str, stride: int, outputs: int) -> torch.Tensor:
        kernel = torch.from_numpy(weights[f"{path}/conv_3d/w"]).double()
        assert kernel.shape[-1] == outputs
        sizes = list(kernel.shape[:3])
        y = F.conv3d(pad(x, sizes, [stride] * 3, 0.0), torch.einsum("dhwio->oidhw", kernel), stride=stride)
        beta, mean, variance = (
            torch.from_numpy(weights[f"{path}/batch_norm/{name}"]).double()[:, None, None, None]
            for name in ("beta", "moving_mean", "moving_variance")
        )
        return ((y - mean) / (variance + 0.001).sqrt() + beta).clamp(min=0)

    def pool(x: torch.Tensor, kernel: list[int], stride: list[int]) -> torch.Tensor:
        return F.max_pool3d(pad(x, kernel, stride, -torch.inf), kernel, stride)

    x = clip.double()
    for line in ARCHITECTURE.split("\n"):
        match line.split():
            case ["conv", name, kernel, stride, outputs]:
                x = conv(x, f"Conv3d_{name}_{kernel}x{kernel}", int(stride), int(outputs))
            case ["pool", kernel, stride]:
                x = pool(x, [int(k) for k in kernel.split(",")], [int(s) for s in stride.split(",")])
            case ["mixed", name, *channels]:
                n = [int(count) for count in channels]
                at = f"Mixed_{name}/Branch"
                last = "Conv3d_0a_3x3" if name == "5b" else "Conv3d_0b_3x3"
                y0 = conv(x, f"{at}_0/Conv3d_0a_1x1", 1, n[0])
                y1 = conv(conv(x, f"{at}_1/Conv3d_0a_1x1", 1, n[1]), f"{at}_1/Conv3d_0b_3x3", 1, n[2])
                y2 = conv(conv(x, f"{at}_2/Conv3d_0a_1x1", 1, n[3]), f"{at}_2/{last}", 1, n[4])
                y3 = conv(pool(x, [3, 3, 3], [1, 1, 1]), f"{at}_3/Conv3d_0b_1x1", 1, n[5])
                x = torch.cat([y0, y1, y2, y3], 1)
    x = F.avg_pool3d(x, (min(2, x.shape[2]), *x.shape[3:]), stride=1)
    kernel = torch.from_numpy(weights["Logits/Conv3d_0c_1x1/conv_3d/w"]).double()
    bias = torch.from_numpy(weights["Logits/Conv3d_0c_1x1/conv_3d/b"]).double()
    scores = torch.einsum("bithw,io->bo", x, kernel[0, 0, 0]) / x.shape[2] + bias
    return x.mean((2, 3, 4)), scores


def tensorflow_arrays(network: I3D) -> dict[str, np.ndarray]:
    """The network's weights under TensorFlow's names and in its layouts."""
    state = network.state_dict()
    arrays = {}
    for ours, theirs in tensorflow_names(network).items():
        array = state[ours].numpy()
        if ours == "Logits.weight":
            array = array.T[None, None, None]
        elif array.ndim == 5:
            array = np.moveaxis(array, (0, 1), (4, 3))
        arrays[theirs] = np.ascontiguousarray(array)
    return arrays


def random_clip(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.fixture(scope="module")
def rgb() -> I3D:
    return randomise(I3D(3), seed=1).eval()


@pytest.fixture(scope="module")
def flow() -> I3D:
    return randomise(I3D(2), seed=2).eval()


SIZES = [(1, 16, 32, 48), (2, 9, 33, 27), (1, 7, 30, 50), (1, 37, 17, 16), (1, 1, 31, 31)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("stream", ["rgb", "flow"])
def test_parity_with_an_independent_implementation(
    size: tuple[int, ...], stream: str, request: pytest.FixtureRequest
) -> None:
    network: I3D = request.getfixturevalue(stream)
    clip = random_clip(size[0], network.channels, *size[1:], seed=sum(size))
    wanted_features, wanted_scores = reference(tensorflow_arrays(network), clip)
    with torch.inference_mode():
        features, scores = network.features(clip), network(clip)
    assert features.shape == (size[0], 1024)
    assert scores.shape == (size[0], 400)
    assert features.dtype == torch.float32
    assert wanted_features.abs().max() > 0.5  # the comparison is not one of zeros
    assert (features - wanted_features).abs().max() < 1e-4
    assert (scores - wanted_scores).abs().max() < 1e-4
    fast = FastI3D(network, CPU).features(clip)
    assert (fast - wanted_features).abs().max() < 1e-4


@pytest.mark.slow
def test_parity_at_the_size_of_the_features(rgb: I3D) -> None:
    clip = random_clip(1, 3, 16, 224, 224)
    with torch.inference_mode():
        features = rgb.features(clip)
    wanted, _ = reference(tensorflow_arrays(rgb), clip)
    assert (features - wanted).abs().max() < 1e-4
    fast = FastI3D(rgb, CPU).features(clip)
    assert (fast - wanted).abs().max() < 1e-4


@given(st.integers(1, 300), st.integers(1, 9), st.integers(1, 4))
def test_same_padding_is_the_smallest_that_gives_ceil_of_size_by_stride(
    size: int, kernel: int, stride: int
) -> None:
    before, after = same_padding(size, kernel, stride)
    places = -(-size // stride)
    assert after - before in (0, 1)
    assert before + after == max(0, (places - 1) * stride + kernel - size)


@settings(deadline=None, max_examples=60)
@given(
    st.tuples(st.integers(1, 9), st.integers(1, 13), st.integers(1, 13)),
    st.sampled_from(
        [((1, 3, 3), (1, 2, 2)), ((3, 3, 3), (2, 2, 2)), ((2, 2, 2), (2, 2, 2)), ((3, 3, 3), (1, 1, 1))]
    ),
    st.integers(0, 1000),
)
def test_max_pools_agree_with_windows_taken_one_by_one(
    size: tuple[int, int, int], window: tuple[tuple[int, int, int], tuple[int, int, int]], seed: int
) -> None:
    kernel, stride = window
    x = torch.randn((2, 3, *size), generator=torch.Generator().manual_seed(seed))
    wanted = torch.empty(2, 3, *(-(-n // s) for n, s in zip(size, stride, strict=True)))
    starts = [same_padding(n, k, s)[0] for n, k, s in zip(size, kernel, stride, strict=True)]
    for place in itertools.product(*(range(n) for n in wanted.shape[2:])):
        box = [
            slice(max(0, i * s - b), i * s - b + k)
            for i, s, b, k in zip(place, stride, starts, kernel, strict=True)
        ]
        wanted[(..., *place)] = x[(..., *box)].amax((2, 3, 4))
    assert torch.equal(max_pool(x, kernel, stride), wanted)
    assert torch.equal(max_pool_nonnegative(x.relu(), kernel, stride), wanted.relu())


def test_folding_batch_norms_changes_nothing_but_rounding(rgb: I3D) -> None:
    clip = random_clip(1, 3, 8, 32, 32)
    folded = copy.deepcopy(rgb)
    for _, unit in folded.units():
        unit.fold()
        unit.fold()  # a second time does nothing
    with torch.inference_mode():
        assert (folded.features(clip) - rgb.features(clip)).abs().max() < 1e-4
    assert all(unit.norm is not None for _, unit in rgb.units())


def test_first_convolution_in_blocks_is_the_same_convolution() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(5, 3, 7, 7, 7, generator=generator, dtype=torch.float64)
    clip = torch.randn(2, 3, 8, 10, 12, generator=generator, dtype=torch.float64)
    wanted = F.conv3d(F.pad(clip, [2, 3] * 3), weight, stride=2)
    blocks = F.conv3d(clip_in_blocks(clip), weight_in_blocks(weight))
    torch.testing.assert_close(blocks, wanted)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_clips_features_do_not_depend_on_the_batch_or_on_threads(flow: I3D, precision: str) -> None:
    clips = random_clip(3, 2, 8, 32, 32)
    threads = torch.get_num_threads()
    rows = []
    try:
        for batch, count in ((2, threads), (2, 1)):
            torch.set_num_threads(count)
            # For mypy: one of the precisions there are.
            fast = FastI3D(flow, CPU, precision, batch=batch)  # type: ignore[arg-type]
            rows.append(fast.features(clips))
            rows.append(torch.cat([fast.features(clip[None]) for clip in clips]))
    finally:
        torch.set_num_threads(threads)
    for other in rows[1:]:
        assert torch.equal(rows[0], other)
    assert not torch.equal(rows[0][0], rows[0][1])


@pytest.mark.parametrize("size", [(8, 32, 32), (7, 33, 31)])
def test_bfloat16_features_are_within_one_percent(rgb: I3D, size: tuple[int, int, int]) -> None:
    clip = random_clip(2, 3, *size)
    exact = FastI3D(rgb, CPU).features(clip)
    rough = FastI3D(rgb, CPU, "bfloat16").features(clip)
    error = (rough - exact).norm() / exact.norm()
    assert 1e-6 < error < 1e-2  # 0.3 to 0.5 % is usual; none at all would mean that float32 was used
    assert rough.dtype == torch.float32


def test_without_fused_kernels_the_plain_ones_give_the_same(
    rgb: I3D, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = random_clip(1, 3, 9, 33, 30)
    fused = FastI3D(rgb, CPU).features(clip)
    for module in (fast_i3d, fused_convolution):
        monkeypatch.setattr(module, "has_fused_kernels", lambda weight: False)
    plain = FastI3D(rgb, CPU)
    assert not torch.equal(plain.features(clip), fused)
    assert (plain.features(clip) - fused).abs().max() < 1e-4


def test_random_weights_are_those_of_the_seed() -> None:
    first, again, other = (randomise(I3D(2), seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["Mixed_4d.b1b.conv.weight"], other["Mixed_4d.b1b.conv.weight"])


def test_no_clips_give_no_rows(rgb: I3D) -> None:
    assert FastI3D(rgb, CPU).features(torch.zeros(0, 3, 16, 32, 32)).shape == (0, 1024)


def test_a_device_or_batch_that_cannot_be_is_refused(rgb: I3D) -> None:
    with pytest.raises(InputError, match="--device nowhere: cannot be used"):
        choose_device("nowhere")
    with pytest.raises(InputError, match="at least one snippet, got 0"):
        FastI3D(rgb, CPU, batch=0)
