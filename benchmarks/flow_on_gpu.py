"""How fast optical flow is on a GPU, and how near to what the GPU's memory allows.

Run by benchmarks/flow.py --device cuda. The pairs are on the GPU before the clock starts, and the flow stays
there. In the same run stand plain PyTorch on the same card, the kernels for CPUs on this machine's cores,
and, where OpenCV with its contributed modules is installed, a few pairs of its DualTVL1.

The bound is what iterations would take if each read and wrote its 15 floats a pixel once, at the speed of a
plain copy on the card, and nothing else took any time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from dgam.flow import gpu
from dgam.flow.pyramid import pyramid_sizes
from dgam.flow.tvl1 import FlowSettings, choose_method, flow

BYTES = 15 * 4  # a pixel of an iteration: u, 4 duals and 3 coefficients read; u and 4 duals written
Pairs = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def seconds(run: Callable[[], object], rounds: int) -> float:
    """Wall time of one call and all that it started on the GPU, the best of ``rounds``."""
    best = float("inf")
    for _ in range(rounds):
        torch.cuda.synchronize()
        start = time.perf_counter()
        run()
        torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return best


def copy_speed(device: torch.device) -> float:
    """Bytes a second of a copy of 1 GiB on the card, bytes read and bytes written both counted."""
    source = torch.ones(1 << 28, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / seconds(lambda: target.copy_(source), 10)


def iteration_time(count: int, height: int, width: int, device: torch.device) -> float:
    """Seconds of one iteration of ``count`` pairs that all move."""
    settings = replace(FlowSettings(), epsilon=0.0, median_filtering=0, warps=2)
    with torch.inference_mode():
        solver = gpu.Solver(count, [(height, width)], settings, device)
        generator = torch.Generator(device).manual_seed(0)
        images = torch.rand(2, count, height, width, generator=generator, device=device) * 255
        solver.solve(images[0], images[1], None)  # compiles and records
        iterations = settings.warps * settings.outer_iterations * settings.inner_iterations
        return seconds(lambda: solver.solve(images[0], images[1], None), 2) / iterations


def report(pairs: Pairs, name: str, rounds: int) -> None:
    from flow import difference, opencv_one

    device = torch.device(name)
    count = len(pairs[0])
    settings = FlowSettings()
    on_card = [torch.from_numpy(images).to(device) for images in pairs]
    print(f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}")

    results, speeds = {}, {}
    for method in ("triton", "torch"):
        choose_method(method, device)  # says why where one cannot be used
        start = time.perf_counter()
        results[method] = flow(on_card[0], on_card[1], method=method).cpu().numpy()
        first = time.perf_counter() - start
        times = rounds * 3 if method == "triton" else 1
        took = seconds(lambda method=method: flow(on_card[0], on_card[1], method=method), times)
        speeds[method] = count / took
        print(f"{method} on the GPU: {speeds[method]:.1f} frames/s; the first call took {first:.1f} s")
    took = seconds(lambda: results.update(llvm=flow(*pairs, method="llvm")), rounds)
    speeds["llvm"] = count / took
    print(f"llvm on the CPU's cores: {speeds['llvm']:.1f} frames/s")
    for method in ("triton", "torch"):
        if method in results:
            print(f"{method} beside llvm: {difference(results[method], results['llvm'])}")
    try:
        few = [opencv_one((pairs[0][i], pairs[1][i]))[0] for i in range(min(8, count))]
        theirs = np.stack(few).transpose(0, 3, 1, 2)  # (b, H, W, 2) -> (b, 2, H, W)
        for method, ours in results.items():
            print(f"{method} beside OpenCV: {difference(ours[: len(theirs)], theirs)}")
    except (ImportError, AttributeError):
        print("OpenCV with its contributed modules is not installed")
    if "triton" in results:
        print_bound(on_card, settings, speeds["triton"])


def print_bound(on_card: list[torch.Tensor], settings: FlowSettings, speed: float) -> None:
    """Iterations of a pair, what memory allows for them, and how near the kernels come."""
    count, height, width = on_card[0].shape
    device = on_card[0].device
    sizes = tuple(pyramid_sizes(height, width, settings.nscales, settings.scale_step))
    capacity = gpu.batch_size(height, width, count)
    flow(on_card[0][-capacity:], on_card[1][-capacity:], settings, method="triton")
    work = gpu.solver(capacity, sizes, settings, device).work()[: min(capacity, count)].double()
    pixels = float(work.mean())
    copying = copy_speed(device)
    print(
        f"iterations a pair, as many at full size would be: {pixels / height / width:.0f} "
        f"(most {float(work.max()) / height / width:.0f})"
    )
    bound = copying / BYTES / pixels
    print(f"bound by memory, {BYTES} bytes at {copying / 1e12:.2f} TB/s: {bound:.0f} frames/s; ", end="")
    print(f"reached {speed / bound:.0%}")
    took = iteration_time(capacity, height, width, device)
    reached = capacity * height * width * BYTES / took
    print(
        f"one iteration of {capacity} pairs that all move: {took * 1e6:.0f} µs, {reached / 1e12:.2f} TB/s, "
        f"{reached / copying:.0%} of the copy"
    )
