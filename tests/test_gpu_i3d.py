"""I3D's form for GPUs: on a CPU by PyTorch's own operations, and its Triton kernels where they can run.

They run on a GPU, or in Triton's interpreter: TRITON_INTERPRET=1 pytest tests/test_gpu_i3d.py.
"""

from __future__ import annotations

import pytest
import torch

from dgam.encoders import gpu_i3d
from dgam.encoders.fast_i3d import FastI3D, _folded
from dgam.encoders.gpu_i3d import LAYOUT, GpuI3D, bias_relu, max_pool
from dgam.encoders.i3d import I3D, randomise
from dgam.encoders.i3d import max_pool as plain_pool
from triton_kernels import INTERPRETED

CPU = torch.device("cpu")
on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def random(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(sum(shape))) * 2 - 1


@pytest.fixture(scope="module")
def network() -> I3D:
    return randomise(I3D(3), seed=1).eval()


@pytest.fixture(params=["torch", "triton"])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """Where the operations are tried, with Triton's kernels and without."""
    if request.param == "torch":
        monkeypatch.setattr(gpu_i3d, "_has_triton", lambda device: False)
        return CPU
    pytest.importorskip("triton")
    if not (INTERPRETED or torch.cuda.is_available()):
        pytest.skip("Triton's kernels need a GPU or TRITON_INTERPRET=1")
    monkeypatch.setattr(gpu_i3d, "_has_triton", lambda device: True)
    return CPU if INTERPRETED else torch.device("cuda")


@pytest.mark.parametrize("size", [(1, 16, 32, 48), (2, 9, 33, 27), (1, 1, 31, 31)])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_form_for_gpus_gives_the_features(network: I3D, size: tuple[int, ...], precision: str) -> None:
    clips = random(size[0], 3, *size[1:])
    dtype = torch.float32 if precision == "float32" else torch.bfloat16
    with torch.inference_mode():
        wanted = network.features(clips)
        found = GpuI3D(_folded(network, CPU, dtype))(clips)
    assert found.dtype == torch.float32
    if precision == "float32":
        assert (found - wanted).abs().max() < 1e-4
    else:
        assert 1e-6 < (found - wanted).norm() / wanted.norm() < 1e-2


@pytest.mark.parametrize("channels", [24, 64, 144])
def test_bias_and_relu_go_to_some_channels_of_a_wider_tensor(channels: int, device: torch.device) -> None:
    x = random(2, channels + 16, 3, 5, 7).to(device).contiguous(memory_format=LAYOUT)
    bias = random(channels).to(device)
    out = torch.full((2, channels + 32, 3, 5, 7), -1.0, device=device).contiguous(memory_format=LAYOUT)
    bias_relu(x[:, 8 : 8 + channels], bias, out[:, 16 : 16 + channels])
    wanted = (x[:, 8 : 8 + channels] + bias.view(1, -1, 1, 1, 1)).relu()
    assert torch.equal(out[:, 16 : 16 + channels], wanted)
    assert bool((out[:, :16] == -1).all())
    assert bool((out[:, 16 + channels :] == -1).all())
    alone = bias_relu(x[:, 8 : 8 + channels], bias)
    assert torch.equal(alone, wanted)


WINDOWS = [((1, 3, 3), (1, 2, 2)), ((3, 3, 3), (2, 2, 2)), ((2, 2, 2), (2, 2, 2)), ((3, 3, 3), (1, 1, 1))]


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("size", [(4, 6, 8), (3, 7, 5), (1, 1, 1)])
def test_max_pools_with_and_without_bias(
    window: tuple[tuple[int, int, int], tuple[int, int, int]],
    size: tuple[int, int, int],
    device: torch.device,
) -> None:
    x = random(2, 24, *size).to(device).contiguous(memory_format=LAYOUT)
    bias = random(24).to(device)
    pooled = max_pool(x, *window)
    assert torch.equal(pooled, plain_pool(x, *window))
    assert pooled.is_contiguous(memory_format=LAYOUT)
    added = max_pool(x, *window, bias)
    assert torch.equal(added, plain_pool((x + bias.view(1, -1, 1, 1, 1)).relu(), *window))


@on_gpu
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_features_on_a_gpu_repeat_and_are_those_of_the_cpu(network: I3D, precision: str) -> None:
    clips = random(3, 3, 16, 64, 96)
    device = torch.device("cuda")
    # For mypy: one of the precisions there are.
    fast = FastI3D(network, device, precision, batch=2)  # type: ignore[arg-type]
    rows = fast.features(clips.to(device))
    assert torch.equal(rows, fast.features(clips.to(device)))
    assert torch.equal(rows[1:2], fast.features(clips[1:2].to(device)))
    wanted = FastI3D(network, CPU).features(clips)
    error = (rows - wanted).norm() / wanted.norm()
    assert error < (1e-5 if precision == "float32" else 1e-2)
