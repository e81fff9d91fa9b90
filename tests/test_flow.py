"""Optical flow stays the same whatever the batch, the threads, the processor and the kind of images."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

from dgam.flow import batched, native
from dgam.flow.pyramid import pyramid_sizes
from dgam.flow.tvl1 import FlowSettings, flow
from flow_pairs import OURS, moved, uneven

QUICK = FlowSettings(
    nscales=3, warps=2, inner_iterations=9, outer_iterations=2
)  # most pairs stop at the last
LONGER = FlowSettings(nscales=3, warps=2, outer_iterations=3)  # most pairs stop before the last


@pytest.mark.parametrize("settings", [QUICK, LONGER], ids=["quick", "longer"])
@pytest.mark.parametrize("method", OURS)
def test_a_pair_is_the_same_to_the_bit_in_any_batch(method: str, settings: FlowSettings) -> None:
    first, second = uneven(5, (40, 52))
    together = flow(first, second, settings, method=method, threads=1)
    for index in range(5):
        alone = flow(first[index : index + 1], second[index : index + 1], settings, method=method)
        np.testing.assert_array_equal(alone[0], together[index])
    np.testing.assert_array_equal(flow(first[::-1], second[::-1], settings, method=method)[::-1], together)


def test_threads_do_not_change_a_bit() -> None:
    first, second = uneven(5, (40, 52))
    alone = flow(first, second, QUICK, method="llvm", threads=1)
    np.testing.assert_array_equal(flow(first, second, QUICK, method="llvm", threads=4), alone)
    before = torch.get_num_threads()
    results = []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            results.append(flow(first, second, QUICK, method="torch"))
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(*results)


def test_sweeps_of_several_iterations_equal_single_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Iterations following each other down the image, and sweeps taken back, give what single ones give."""
    first, second = uneven(3, (40, 52))
    settings = FlowSettings(warps=2)
    usual = flow(first, second, settings, method="llvm")
    monkeypatch.setattr(native, "BLOCK", 1)
    np.testing.assert_array_equal(flow(first, second, settings, method="llvm"), usual)


@pytest.mark.parametrize("lanes", [4, 8])
def test_narrower_processors_give_nearly_the_same(lanes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    images = moved((1.6, 0.7), (49, 67))
    usual = flow(*images, method="llvm")
    kernels = native.library(lanes)
    monkeypatch.setattr(native, "library", lambda: kernels)
    assert np.abs(flow(*images, method="llvm") - usual).mean() < 1e-3


@pytest.mark.parametrize("settings", [QUICK, LONGER], ids=["quick", "longer"])
def test_looking_seldom_at_which_pairs_stopped_changes_nothing(
    settings: FlowSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU pairs that have stopped are held still until the next look; here on the CPU."""
    first, second = uneven(4, (40, 52))
    usual = flow(first, second, settings, method="torch")
    monkeypatch.setattr(batched, "iterations_between_looks", lambda device: 8)
    np.testing.assert_array_equal(flow(first, second, settings, method="torch"), usual)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # from within torch.compile
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
def test_compiled_steps_give_what_plain_ones_give() -> None:
    images = [torch.from_numpy(image) for image in moved((1.6, 0.7), (40, 52))]
    sizes = pyramid_sizes(40, 52, 2, 0.8)
    settings = FlowSettings(nscales=2, warps=2)
    compiled = batched.solve(images[0], images[1], None, sizes, settings, compiled=True)
    usual = flow(images[0], images[1], settings, method="torch")
    assert (compiled - usual).abs().mean() < 1e-4


def test_failing_compiler_is_said_and_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> object:
        def run(*_: object) -> None:
            raise RuntimeError("no working compiler")

        return run

    monkeypatch.setattr(torch, "compile", broken)
    batched._step_for.cache_clear()
    images = [torch.from_numpy(image) for image in moved((1.6, 0.7), (40, 52))]
    sizes = pyramid_sizes(40, 52, 3, 0.8)
    with pytest.warns(UserWarning, match="torch.compile failed \\(no working compiler\\)"):
        # For mypy: a pair of images.
        compiled = batched.solve(*images, None, sizes, QUICK, compiled=True)  # type: ignore[arg-type,misc]
    batched._step_for.cache_clear()
    torch.testing.assert_close(compiled, flow(*images, QUICK, method="torch"), rtol=0, atol=0)


@pytest.mark.parametrize("method", OURS)
def test_kind_of_images_is_kept(method: str) -> None:
    first, second = uneven(2, (24, 20))
    rgb = [np.repeat(images[..., None], 3, axis=-1) for images in (first, second)]
    from_arrays = flow(rgb[0], rgb[1], QUICK, method=method)
    assert isinstance(from_arrays, np.ndarray)
    assert from_arrays.dtype == np.float32
    assert from_arrays.shape == (2, 2, 24, 20)
    from_tensors = flow(torch.from_numpy(first), torch.from_numpy(second), QUICK, method=method)
    assert isinstance(from_tensors, torch.Tensor)
    np.testing.assert_array_equal(from_tensors.numpy(), from_arrays)
    assert flow(first[:0], second[:0], QUICK, method=method).shape == (0, 2, 24, 20)
