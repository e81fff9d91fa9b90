"""How fast optical flow is beside OpenCV's DualTVL1, and which bound it comes near.

    python benchmarks/flow.py                      simulated frames
    python benchmarks/flow.py VIDEO... [--pairs 6] [--rounds 3]
    python benchmarks/flow.py [VIDEO...] --device cuda [--pairs 128]     as flow_on_gpu.py says

Same frames at 340 × 256, same ε, every core: ours with one thread a core, OpenCV with one process a core, in
turn. Frames per second are the best of the rounds; the ratio is of those. Where others use the machine at the
same time, the ratio of processor seconds is the steadier one.

The bounds are measured in the same run, on one core: what an iteration would cost if its 64 bytes a pixel
came from and went to memory at the speed of a plain copy, what its two square roots and one division cost
alone, and what the whole arithmetic costs when everything lies in the first-level cache.
"""

from __future__ import annotations

import argparse
import itertools
import os
import platform
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dgam.flow.kernels import BLOCK, library
from dgam.flow.native import Solver, _Level
from dgam.flow.pyramid import pyramid_sizes
from dgam.flow.tvl1 import FlowSettings, flow, grey, quantise
from dgam.flow.vector_ir import INTEGER, POINTER, Kernel, Library, compile_module, host_lanes, new_module

HEIGHT, WIDTH = 256, 340
Pairs = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def decoded(videos: list[str], count: int) -> Pairs:
    """``count`` pairs of neighbouring grey frames, spread over the videos, from the fortieth frame on."""
    import av

    first, second = [], []
    for name in itertools.islice(itertools.cycle(videos), count):
        start = 40 + 3 * (len(first) // len(videos))
        with av.open(name) as video:
            frames = list(itertools.islice(video.decode(video=0), start, start + 2))
        if len(frames) < 2:
            raise SystemExit(f"{name} has fewer than {start + 2} frames; name a longer video.")
        images = [frame.reformat(WIDTH, HEIGHT, "rgb24").to_ndarray() for frame in frames]
        first.append(grey(images[0]))
        second.append(grey(images[1]))
    return np.stack(first), np.stack(second)


def simulated(count: int) -> Pairs:
    """Smooth noise in which a part moves over a ground that moves otherwise."""
    rng = np.random.default_rng(0)

    def texture(height: int, width: int) -> NDArray[np.float64]:
        spectrum = np.fft.rfft2(rng.normal(size=(height, width)))
        slow = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)) * 40
        image = np.fft.irfft2(spectrum / (1 + slow**2), s=(height, width))
        return (image - image.min()) / np.ptp(image) * 255

    first, second = [], []
    for _ in range(count):
        ground, part = texture(HEIGHT + 40, WIDTH + 40), texture(100, 100)
        shift, move = rng.integers(-3, 4, 2), rng.integers(-6, 7, 2)
        for images, (dy, dx), (py, px) in ((first, (0, 0), (0, 0)), (second, shift, move)):
            image = ground[20 - dy : 20 - dy + HEIGHT, 20 - dx : 20 - dx + WIDTH].copy()
            image[70 + py : 170 + py, 120 + px : 220 + px] = part
            images.append((image + rng.normal(0, 1, image.shape)).clip(0, 255).astype(np.uint8))
    return np.stack(first), np.stack(second)


def opencv_one(pair: Pairs) -> tuple[NDArray[np.float32], float]:
    """One pair by OpenCV in this process, on one thread; and the processor seconds it took."""
    import cv2

    cv2.setNumThreads(1)
    # OpenCV annotates the contrib modules in some versions only.
    # For mypy: in opencv-contrib alone.
    create: Any = cv2.optflow.DualTVL1OpticalFlow_create  # type: ignore[attr-defined,unused-ignore]
    start = time.process_time()
    return np.asarray(create().calc(*pair, None)), time.process_time() - start


def seconds(run: Callable[[], object], rounds: int) -> float:
    """Processor seconds of this thread for one call, the best of ``rounds``."""
    best = float("inf")
    for _ in range(rounds):
        start = time.thread_time()
        run()
        best = min(best, time.thread_time() - start)
    return best


class Timed:
    """The kernels, with the processor seconds that each of them took."""

    def __init__(self, kernels: Library) -> None:
        self.lanes = kernels.lanes
        self.spent: dict[str, float] = defaultdict(float)
        self._kernels = kernels

    def __getitem__(self, name: str) -> Callable[..., None]:
        def run(*arguments: object) -> None:
            start = time.thread_time()
            self._kernels[name](*arguments)
            self.spent[name] += time.thread_time() - start

        return run


def iteration_cost(height: int, width: int, count: int) -> float:
    """Nanoseconds for one pixel of one iteration, ``count`` iterations in a sweep."""
    level = _Level(height, width)
    rng = np.random.default_rng(0)
    level.rows(level.u[0], 2)[...] = rng.normal(size=(height, 2, width))
    coefficients = level.rows(level.coefficients, 4)
    coefficients[...] = rng.normal(0, 5, coefficients.shape)
    coefficients[:, 3] = 1 / (coefficients[:, 0] ** 2 + coefficients[:, 1] ** 2)
    errors = np.zeros((BLOCK, 16), np.float32)
    repeats = max(2, 2_000_000 // (height * width * count))

    def run() -> None:
        for i in range(repeats):
            u, p = level.u, level.p
            library()["iterate"](
                *(u[i % 2].address, p[i % 2].address, u[1 - i % 2].address, p[1 - i % 2].address),
                *(level.coefficients.address, errors.ctypes.data, height, width, level.span, count),
                *(0.045, 0.25, 0.25 / 0.3),
            )

    return seconds(run, 15) / repeats / height / width / count * 1e9


def root_and_division_cost() -> float:
    """Nanoseconds a pixel for two square roots and one division, each vector alone."""
    lanes, count, repeats = host_lanes(), 2048, 500
    module = new_module()
    kernel = Kernel(module, "roots", [("values", POINTER), ("count", INTEGER), ("repeats", INTEGER)])
    with kernel.loop(0, kernel["repeats"]), kernel.loop(0, kernel["count"], step=lanes) as x:
        value = kernel.load(kernel["values"], x, lanes)
        both = (value + 1.0).sqrt() * (value + 2.0).sqrt()
        kernel.store(1.0 / both, kernel["values"], x)
    kernel.finish()
    compiled = compile_module(module, {"roots": kernel}, lanes)
    values = np.ones(count + 16, np.float32)
    return seconds(lambda: compiled["roots"](values.ctypes.data, count, repeats), 15) / repeats / count * 1e9


def copy_speed() -> float:
    """Gigabytes a second of a plain copy of 64 MiB, bytes read and bytes written both counted."""
    source = np.ones(1 << 24, np.float32)
    target = np.empty_like(source)
    return 2 * source.nbytes / seconds(lambda: np.copyto(target, source), 7) / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description="Optical flow beside OpenCV's DualTVL1.")
    parser.add_argument("videos", nargs="*")
    parser.add_argument("--device", default="cpu", help="cpu or a GPU: cuda, cuda:1")
    parser.add_argument("--pairs", type=int, help="8 on a CPU, 128 on a GPU, unless said otherwise")
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    arguments.pairs = arguments.pairs or (8 if arguments.device == "cpu" else 128)
    pairs = decoded(arguments.videos, arguments.pairs) if arguments.videos else simulated(arguments.pairs)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    kind = "real" if arguments.videos else "simulated"
    print(
        f"{platform.processor() or platform.machine()}, {cores} cores, {time.strftime('%Y-%m-%d')}; ", end=""
    )
    print(f"{arguments.pairs} {kind} pairs at {WIDTH} × {HEIGHT}, ε {FlowSettings().epsilon}")

    if arguments.device != "cpu":
        import flow_on_gpu

        flow_on_gpu.report(pairs, arguments.device, arguments.rounds)
        return
    start = time.perf_counter()
    library()
    print(f"compiling the kernels took {time.perf_counter() - start:.2f} s, once a process")

    best = {"ours": float("inf"), "opencv": float("inf")}
    used = dict(best)  # processor seconds
    with ProcessPoolExecutor(cores, mp_context=get_context("spawn")) as pool:
        list(pool.map(opencv_one, zip(pairs[0][:, :32, :32], pairs[1][:, :32, :32], strict=True)))  # imports
        for _ in range(arguments.rounds):
            start, busy = time.perf_counter(), time.process_time()
            ours = flow(*pairs, method="llvm")
            best["ours"] = min(best["ours"], time.perf_counter() - start)
            used["ours"] = min(used["ours"], time.process_time() - busy)
            start = time.perf_counter()
            results = list(pool.map(opencv_one, zip(*pairs, strict=True)))
            best["opencv"] = min(best["opencv"], time.perf_counter() - start)
            used["opencv"] = min(used["opencv"], sum(busy for _, busy in results))
    theirs = np.stack([motion for motion, _ in results]).transpose(0, 3, 1, 2)  # (B, H, W, 2) -> (B, 2, H, W)
    speed = {name: arguments.pairs / value for name, value in best.items()}
    ratio = speed["ours"] / speed["opencv"]
    print(f"ours {speed['ours']:.1f} frames/s, OpenCV {speed['opencv']:.2f}: {ratio:.1f} ×")
    each = {name: value / arguments.pairs * 1e3 for name, value in used.items()}
    print(
        f"processor time a pair: ours {each['ours']:.0f} ms, OpenCV {each['opencv']:.0f} ms: "
        f"{each['opencv'] / each['ours']:.1f} ×"
    )
    print(difference(ours, theirs))

    print_bounds(pairs)


def difference(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> str:
    """How far two flows (B, 2, H, W) are apart, in words: within ± 20 px, and in levels."""
    clipped = [motion.clip(-20, 20) for motion in (ours, theirs)]
    apart = np.sqrt(((clipped[0] - clipped[1]) ** 2).sum(1)).mean(axis=(1, 2))  # (B,)
    near = (np.abs(quantise(ours).astype(int) - quantise(theirs)) <= 1).mean(axis=(0, 2, 3))
    return (
        f"mean end-point difference {apart.mean():.4f} px (worst pair {apart.max():.4f}); "
        f"within one level {near[0]:.3%} (u), {near[1]:.3%} (v)"
    )


def print_bounds(pairs: Pairs) -> None:
    """Where one core's time goes, and what an iteration costs beside its bounds."""
    timed = Timed(library())
    settings = FlowSettings()
    solver = Solver(pyramid_sizes(HEIGHT, WIDTH, settings.nscales, settings.scale_step), settings, timed)
    out = np.empty((2, HEIGHT, WIDTH), np.float32)
    work, start = 0, time.thread_time()
    for first, second in zip(*(images.astype(np.float32) for images in pairs), strict=True):
        work += solver.solve(first, second, None, out)
    total = time.thread_time() - start
    parts = {**timed.spent, "rest": total - sum(timed.spent.values())}
    shares = ", ".join(
        f"{name} {value / total:.0%}" for name, value in sorted(parts.items(), key=lambda x: -x[1])
    )
    print(f"one core: {total / len(pairs[0]) * 1e3:.0f} ms a pair, of which {shares}")
    print(f"{work / HEIGHT / WIDTH / len(pairs[0]):.0f} iterations a pair, as many at full size would be")
    speed, roots = copy_speed(), root_and_division_cost()
    print("one iteration of one pixel, ns:")
    print(f"  {64 / speed:.2f}  bound by memory, 64 bytes at {speed:.1f} GB/s")
    print(f"  {iteration_cost(HEIGHT, WIDTH, 1):.2f}  ours, one iteration a sweep")
    print(f"  {iteration_cost(HEIGHT, WIDTH, BLOCK):.2f}  ours, {BLOCK} iterations a sweep")
    print(f"  {iteration_cost(16, 320, BLOCK):.2f}  ours, everything in the caches (16 × 320)")
    print(f"  {roots:.2f}  bound by arithmetic: its two square roots and one division alone")
    print(f"  {timed.spent['iterate'] / work * 1e9:.2f}  ours in whole pairs, sweeps taken back included")


if __name__ == "__main__":
    main()
