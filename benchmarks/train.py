"""How fast a training step is: ours, the plain one, one written the straightforward way, and the bounds.

    python benchmarks/train.py [--videos 32] [--snippets 400] [--dimension 1024] [--classes 20] [--seconds 40]
                               [--threads 2] [--members 5] [--device cpu] [--json FILE]

Everything is measured in one run and by turns, so a busy moment hits all alike; the best and the median time
are given, and ratios are of medians. Features are simulated. The lines:

- eager       benchmarks/eager_step.py, checked here to give our losses, step after step
- plain       the reference in dgam/training/engine.py (train.step=plain)
- ours        the fast step in float32; in bfloat16 from float32 features; and in bfloat16 from features that
              are kept so, as training keeps them
- together    that many members side by side, the time of one (on a GPU as one batched model)
- arithmetic  FLOPs divided by what the machine does in a large matrix product, measured between the steps:
              of the model as it is written (the plain step's products, counted; it makes no needless ones)
              and of ours, which are fewer
- memory      what a step cannot avoid moving (x read four times, weights and optimiser state) divided by the
              measured bandwidth

On a GPU, where ours is recorded and replayed as one CUDA graph, the eager step is also timed with its batch
coming from the host's memory, as a loop over a data loader has it; ours gathers its own from the device.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from dgam.core.config import Config, load_config
from dgam.model.networks import DGAM, ModelShape
from dgam.training.engine import Batch, Engine
from dgam.training.ensemble_engine import EnsembleEngine
from eager_step import EagerStep

SETTINGS = ("loss.warmup_epochs=0", "train.betas=[0.8,0.999]")
LARGE = 4096
COPIED = 1 << 25  # float32 numbers
PROBES = ("product float32", "product bfloat16", "copy")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--videos", type=int, default=32)
    parser.add_argument("--snippets", type=int, default=400)
    parser.add_argument("--dimension", type=int, default=1024)
    parser.add_argument("--classes", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--members", type=int, default=0)
    parser.add_argument("--large", type=int, default=LARGE, help="size of the matrices of the large product")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    result = measure(options)
    print(table(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


def settings(*overrides: str) -> Config:
    return load_config("thumos14", overrides=(*SETTINGS, *overrides)).for_stream("rgb")


class Bench:
    """Steps of every kind on the same simulated batch."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.device = torch.device(options.device)
        self.shape = ModelShape(dimension=options.dimension, classes=options.classes)
        generator = torch.Generator().manual_seed(0)
        size = (options.videos, options.snippets, options.dimension)
        x = torch.relu(torch.randn(size, generator=generator) * 0.3)
        labels = torch.eye(options.classes)[torch.randint(0, options.classes, size[:1], generator=generator)]
        self.batch = Batch(x.to(self.device), labels.to(self.device), scaled=True)

    def model(self) -> DGAM:
        return DGAM(self.shape, torch.Generator().manual_seed(1)).to(self.device)

    def noise(self) -> torch.Generator:
        return torch.Generator(self.device).manual_seed(2)

    def engine(self, *overrides: str) -> Engine:
        return Engine(self.model(), settings(*overrides), self.noise())

    def eager(self) -> EagerStep:
        made = EagerStep(self.shape, settings(), self.noise()).to(self.device)
        made.take(self.model().state_dict())
        return made

    def in_bfloat16(self) -> Batch:
        return Batch(self.batch.x.bfloat16(), self.batch.labels, scaled=True)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    bench = Bench(options)
    agreement = check(bench)
    flops = {step: counted(bench, step) for step in ("plain", "fast")}
    contestants = steps(bench, options.members)
    contestants |= probes(options.large, bench.device)
    times = by_turns(contestants, options.seconds, bench.device)
    taken = {name: summary(own) for name, own in times.items()}
    rates = {
        kind: {how: 2 * options.large**3 / taken[f"product {kind}"][how] for how in ("best", "median")}
        for kind in ("float32", "bfloat16")
    }
    bandwidth = {how: 2 * 4 * COPIED / taken["copy"][how] for how in ("best", "median")}
    weights = sum(p.numel() for p in bench.model().parameters())
    features = bench.batch.x.numel()
    # Optimiser: weights, gradients and two moments read, weights and moments written, 4 bytes each.
    moved = {kind: 4 * features * size + 7 * 4 * weights for kind, size in (("float32", 4), ("bfloat16", 2))}
    return {
        "machine": f"{platform.machine()} {bench.device}, {options.threads} threads, {torch.__version__}",
        "size": [options.videos, options.snippets, options.dimension, options.classes],
        "members": options.members,
        "agreement": agreement,
        "flops": flops,
        "matrix_flops_per_second": rates,
        "bytes_per_second": bandwidth,
        "bytes": moved,
        "seconds": {name: own for name, own in taken.items() if name not in PROBES},
    }


def summary(seconds: list[float]) -> dict[str, float]:
    """Best and median, and how far the middle half spreads, as a share of the median."""
    low, middle, high = statistics.quantiles(seconds, n=4) if len(seconds) > 1 else seconds * 3
    return {"best": min(seconds), "median": middle, "spread": (high - low) / middle, "steps": len(seconds)}


def check(bench: Bench, rounds: int = 3) -> float:
    """The largest relative difference between eager and our losses over some steps; refuses above 1e-3."""
    eager, ours, largest = bench.eager(), bench.engine(), 0.0
    for _ in range(rounds):
        expected, found = eager.step(bench.batch.x, bench.batch.labels), ours.step(bench.batch, 0)
        for name, value in expected.items():
            largest = max(largest, abs(float(found[name]) - value) / abs(value))
    if largest > 1e-3:
        raise SystemExit(f"the eager step's losses differ from ours by {largest:.1e}")
    return largest


def counted(bench: Bench, step: str) -> int:
    """FLOPs of the matrix products of one step."""
    with FlopCounterMode(display=False) as counter:
        bench.engine(f"train.step={step}").step(bench.batch, 0)
    return int(counter.get_total_flops())


def steps(bench: Bench, members: int) -> dict[str, Callable[[], object]]:
    """What is timed: each call is one step."""
    batch, rounded, eager = bench.batch, bench.in_bfloat16(), bench.eager()
    plain, single = bench.engine("train.step=plain"), bench.engine()
    narrow, kept = (bench.engine("train.precision=bfloat16") for _ in range(2))
    found: dict[str, Callable[[], object]] = {
        "eager": lambda: eager.step(batch.x, batch.labels),
        "plain": lambda: plain.step(batch, 0),
        "ours float32": lambda: single.step(batch, 0),
        "ours bfloat16": lambda: narrow.step(batch, 0),
        "ours bfloat16, kept": lambda: kept.step(rounded, 0),
    }
    if bench.device.type == "cuda":
        host = batch.x.cpu()
        found["eager, batch from the host"] = lambda: eager.step(host.to(bench.device), batch.labels)
        found["ours bfloat16, gathered"] = gathering(bench, rounded)
    if members:
        many = EnsembleEngine(
            [bench.model() for _ in range(members)],
            [settings("train.precision=bfloat16")] * members,
            [bench.noise() for _ in range(members)],
        )
        wide = Batch(
            rounded.x.expand(members, *rounded.x.shape).contiguous(),
            rounded.labels.expand(members, *rounded.labels.shape).contiguous(),
            scaled=True,
        )
        found[f"together bfloat16, kept ({members})"] = lambda: many.step(wide, 0)
    return found


def gathering(bench: Bench, batch: Batch) -> Callable[[], object]:
    """A step in bfloat16 with its batch gathered by index from eight times as many snippets."""
    engine = bench.engine("train.precision=bfloat16")
    snippets = batch.x.flatten(0, 1).repeat(8, 1)  # (8·B·T, d)
    places = torch.randperm(len(snippets), device=bench.device)[: len(snippets) // 8]
    x = torch.empty_like(batch.x)  # (B, T, d)

    def step() -> object:
        torch.index_select(snippets, 0, places, out=x.view(-1, x.shape[2]))
        return engine.step(Batch(x, batch.labels, scaled=True), 0)

    return step


def probes(large: int, device: torch.device) -> dict[str, Callable[[], object]]:
    """Large products and a copy of 128 MiB."""
    found: dict[str, Callable[[], object]] = {}
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        a = torch.rand(large, large, device=device).to(dtype)
        out = torch.empty_like(a)
        found[f"product {name}"] = partial(torch.mm, a, a, out=out)
    source = torch.rand(COPIED, device=device)
    target = torch.empty_like(source)
    found["copy"] = lambda: target.copy_(source)
    return found


def by_turns(
    contestants: dict[str, Callable[[], object]], seconds: float, device: torch.device
) -> dict[str, list[float]]:
    """Seconds of every call after two to warm up, each contestant once a round until time is up."""
    times: dict[str, list[float]] = {name: [] for name in contestants}

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize()

    for call in contestants.values():
        for _ in range(2):
            call()
    wait()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or not times["copy"]:
        for name, call in contestants.items():
            start = time.perf_counter()
            call()
            wait()
            times[name].append(time.perf_counter() - start)
    return times


def table(result: Any) -> str:
    """The result in Markdown."""
    seconds, rates, flops = result["seconds"], result["matrix_flops_per_second"], result["flops"]
    bytes_per_second = result["bytes_per_second"]
    lines = [
        f"{result['machine']}; {' × '.join(map(str, result['size'][:3]))}, {result['size'][3]} classes",
        "",
        f"losses: eager and ours differ by at most {result['agreement']:.1e} of their value",
        f"products: {flops['plain'] / 1e9:.1f} GFLOP as the model is written, {flops['fast'] / 1e9:.1f} ours",
        *(
            f"large product, {kind}: {own['best'] / 1e9:.0f} GFLOP/s, median {own['median'] / 1e9:.0f}"
            for kind, own in rates.items()
        ),
        f"copy: {bytes_per_second['best'] / 1e9:.1f} GB/s, median {bytes_per_second['median'] / 1e9:.1f}",
        "",
        "| step | best, ms | median, ms | ± quartiles | eager / it | share of bound, as written | of ours | "
        "of memory bound |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, own in seconds.items():
        kind = "bfloat16" if "bfloat16" in name else "float32"
        each = result["members"] if name.startswith("together") else 1
        shares = [
            each * amount / rate["median"] / own["median"]
            for amount, rate in (
                (flops["plain"], rates[kind]),
                (flops["fast"], rates[kind]),
                (result["bytes"][kind], bytes_per_second),
            )
        ]
        if name.startswith(("eager", "plain")):
            shares[1] = float("nan")
        cells = [f"{share:.0%}" if share == share else "" for share in shares]
        speed = each * seconds["eager"]["median"] / own["median"]
        own_cells = [f"{own['best'] * 1e3:.1f}", f"{own['median'] * 1e3:.1f}", f"{own['spread']:.0%}"]
        lines.append("| " + " | ".join([name, *own_cells, f"{speed:.2f}", *cells]) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
