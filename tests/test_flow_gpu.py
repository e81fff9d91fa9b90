"""The Triton kernels of optical flow beside the plain PyTorch path.

On a GPU; or, slowly, without one, in Triton's interpreter: TRITON_INTERPRET=1 pytest tests/test_flow_gpu.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dgam.flow import batched
from dgam.flow.pyramid import pyramid_sizes
from dgam.flow.tvl1 import FlowSettings, choose_method, flow, quantise
from flow_pairs import moved, uneven
from triton_kernels import INTERPRETED, device_or_skip

DEVICE = torch.device(device_or_skip())
gpu = pytest.importorskip("dgam.flow.gpu")

# The interpreter takes a second for an iteration, however small the picture.
SIZE = (24, 20) if INTERPRETED else (96, 120)
QUICK = {"nscales": 2, "warps": 2, "inner_iterations": 4, "outer_iterations": 2}
USUAL = QUICK if INTERPRETED else {"warps": 2}  # more warps let rounding errors grow


@pytest.fixture(autouse=True)
def few_programs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In the interpreter each program costs the same, however large."""
    if INTERPRETED:
        monkeypatch.setattr(gpu, "TILE", (32, 32))
    gpu.solver.cache_clear()
    yield
    gpu.solver.cache_clear()


def on_device(images: NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(images)).float().to(DEVICE)


def by_triton(
    images: tuple[NDArray[Any], NDArray[Any]], settings: FlowSettings, start: NDArray[Any] | None = None
) -> torch.Tensor:
    sizes = pyramid_sizes(*images[0].shape[1:], settings.nscales, settings.scale_step)
    first, second = (on_device(image) for image in images)
    # For mypy: imported where there is Triton.
    return gpu.solve(first, second, None if start is None else on_device(start), sizes, settings).cpu()  # type: ignore[no-any-return]


def by_torch(
    images: tuple[NDArray[Any], NDArray[Any]], settings: FlowSettings, start: NDArray[Any] | None = None
) -> torch.Tensor:
    """On the CPU, so that the two share neither device nor compiler."""
    sizes = pyramid_sizes(*images[0].shape[1:], settings.nscales, settings.scale_step)
    first, second = (torch.from_numpy(np.ascontiguousarray(image)).float() for image in images)
    return batched.solve(
        first, second, None if start is None else torch.from_numpy(start), sizes, settings, compiled=False
    )


VARIED: dict[str, dict[str, Any]] = {
    "usual": {},
    "median 3": {"median_filtering": 3},
    "no median": {"median_filtering": 0},
    "positions rounded": {"subpixel": "1/32"},
    "one iteration a round": {"inner_iterations": 1, "outer_iterations": 3},
    "never stopping": {"epsilon": 0.0, "inner_iterations": 3},
    "soon stopping": {"epsilon": 0.3},
    "other weights": {"tau": 0.2, "lambda_": 0.3, "theta": 0.2, "scale_step": 0.7},
}


@pytest.mark.parametrize("changes", VARIED.values(), ids=VARIED.keys())
def test_kernels_give_what_plain_pytorch_gives(changes: dict[str, Any]) -> None:
    settings = FlowSettings(**{**USUAL, **changes})
    images = moved((1.6, 0.7), SIZE)
    ours, plain = by_triton(images, settings), by_torch(images, settings)
    assert plain.abs().mean() > 0.1  # the comparison is not one of zeros
    assert (ours - plain).abs().mean() < 1e-3
    assert ((quantise(ours).int() - quantise(plain)).abs() <= 1).float().mean() >= 0.999


@pytest.mark.parametrize("size", [(3, 3), (5, 7), (17, 32), (33, 31)])
def test_small_and_odd_sizes(size: tuple[int, int]) -> None:
    settings = FlowSettings(**{**USUAL, "nscales": 1})
    images = moved((0.8, 0.4), size)
    assert (by_triton(images, settings) - by_torch(images, settings)).abs().mean() < 1e-3


def test_initial_flow_is_started_from() -> None:
    settings = FlowSettings(**USUAL)
    images = moved((9.0, -8.0), (24, 20) if INTERPRETED else (64, 80))
    start = np.empty((1, 2, *images[0].shape[1:]), np.float32)
    start[:, 0], start[:, 1] = 8.5, -8.2
    ours = by_triton(images, settings, start)
    assert (ours - by_torch(images, settings, start)).abs().mean() < 1e-3
    assert (ours - by_triton(images, settings)).abs().mean() > 0.5


def test_a_pair_is_the_same_to_the_bit_in_any_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = FlowSettings(**QUICK if INTERPRETED else {"warps": 3})
    first, second = uneven(3 if INTERPRETED else 21, SIZE)
    together = by_triton((first, second), settings)
    for index in (0, len(first) - 1):
        alone = by_triton((first[index : index + 1], second[index : index + 1]), settings)
        assert torch.equal(alone[0], together[index])
    # A batch larger than its solver, the last part smaller; a solver used before for other pairs.
    monkeypatch.setattr(gpu, "batch_size", lambda *_: 2)
    backwards = by_triton((first[::-1], second[::-1]), settings)
    assert torch.equal(backwards.flip(0), together)


def test_work_is_counted() -> None:
    """Pixels times iterations, of which there are as many as settings allow where nothing stops."""
    settings = FlowSettings(
        nscales=1, warps=2, inner_iterations=2, outer_iterations=2, epsilon=0, median_filtering=0
    )
    images = moved((1.6, 0.7), SIZE)
    by_triton(images, settings)
    capacity = gpu.batch_size(*SIZE, 1)
    work = gpu.solver(capacity, (SIZE,), settings, on_device(images[0]).device).work()
    assert work.tolist() == [2 * 2 * 2 * SIZE[0] * SIZE[1]]


def test_kernels_are_compiled_once_for_all_levels() -> None:
    """What they are compiled for, the distance of rows and the number of tiles, is that of the first."""
    sizes = pyramid_sizes(256, 340, 5, 0.8)
    levels = gpu.Solver(1, sizes, FlowSettings(), torch.device("cpu"))._levels
    assert len(levels) == len(sizes) == 5
    assert {level._pitch for level in levels} == {352}
    assert len({level._tiles for level in levels}) == 1
    assert [level._grid[0] for level in levels] == sorted((one._grid[0] for one in levels), reverse=True)


def test_size_of_batches() -> None:
    assert gpu.batch_size(256, 340, 128) == 128
    assert gpu.batch_size(256, 340, 1000) == 128
    assert gpu.batch_size(256, 340, 3) == 4
    assert gpu.batch_size(4320, 7680, 8) == 1


@pytest.mark.skipif(INTERPRETED, reason="on a GPU only")
def test_on_a_gpu_triton_nearly_gives_what_the_cpu_gives() -> None:
    assert choose_method(device="cuda") == "triton"
    assert choose_method(device="cuda", gamma=0.1) == "torch"
    first, second = uneven(5, (96, 120))
    on_gpu = flow(torch.from_numpy(first).cuda(), torch.from_numpy(second).cuda(), method="triton")
    assert on_gpu.is_cuda
    assert not on_gpu.is_inference()
    on_cpu = torch.from_numpy(flow(first, second, method="torch"))
    apart = (on_gpu.cpu() - on_cpu).clamp(-20, 20).pow(2).sum(1).sqrt().mean(dim=(1, 2))
    assert apart[:-1].max() < 0.02  # the last pair is noise
