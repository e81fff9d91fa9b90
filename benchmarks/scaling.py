"""How the cost of training and localising grows: time and memory against each size, over a decade.

    python benchmarks/scaling.py                     a table, and docs/pictures/scaling.png; about two minutes
    python benchmarks/scaling.py --out scaling.png   the picture elsewhere
    python benchmarks/scaling.py --device cuda

One size is varied at a time, the others stay at the smallest. Training is one epoch (its batches gathered
from resident features, the step with all losses); the number of models is the number trained side by side.
Localising is ``dgam.localize`` from a store, of two streams. Features are simulated.

Every point is measured in a process of its own: seconds are the fastest of runs, memory is how far the
process grows beyond what a tiny run of the same took (on a GPU: the most that was allocated). Slope is that
of a straight line through the logarithms: 1 is proportional, 0 does not grow.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from dgam.api import localize
from dgam.core.config import load_config
from dgam.core.types import VideoLabels
from dgam.data.dataset import SnippetDataset
from dgam.features.source import ArrayFeatures
from dgam.features.store import FeatureStore
from dgam.report.plots import COLOURS, INK, save_figure
from dgam.training.ensemble_engine import EnsembleEngine
from dgam.training.feed import Feed
from dgam.training.resident import Scaled, place_features
from dgam.training.trainer import new_generator, new_model
from simulated_store import Shape, make

STEPS = (1.0, 2.15, 4.64, 10.0)
ROUNDS = 3
LONG_ENOUGH = 0.2  # seconds that a point is measured for in each round


@dataclass(frozen=True)
class Sizes:
    """What is varied. ``snippets``: T, a video's snippets, all of them used."""

    videos: int = 16
    snippets: int = 64
    features: int = 256
    classes: int = 20
    models: int = 1


TINY = Sizes(2, 4, 4, 2)


@dataclass(frozen=True)
class Cost:
    """Seconds, and bytes."""

    seconds: float
    memory: float


@contextmanager
def train_epoch(sizes: Sizes, device: torch.device, folder: Path) -> Iterator[Callable[[], None]]:
    """One epoch of training, ready to run again and again."""
    rng = np.random.default_rng(0)
    names = [f"class {index}" for index in range(sizes.classes)]
    shape = (sizes.snippets, sizes.features)
    arrays = {f"{n:05d}": {"rgb": rng.random(shape, dtype=np.float32)} for n in range(sizes.videos)}
    labels = VideoLabels({video: (names[n % sizes.classes],) for n, video in enumerate(arrays)}, tuple(names))
    overrides = (f"train.snippets={sizes.snippets}", "train.batch=16", "loss.warmup_epochs=0")
    config = load_config("thumos14", overrides=overrides)
    source = ArrayFeatures(arrays)
    data = [
        SnippetDataset(source, labels, "rgb", snippets=sizes.snippets, seed=seed)
        for seed in range(sizes.models)
    ]
    models = [new_model(own, config, seed) for seed, own in enumerate(data)]
    scaled = [Scaled.of(own, model) for own, model in zip(data, models, strict=True)]
    engine = EnsembleEngine(
        [model.to(device) for model in models],
        [config] * sizes.models,
        [new_generator(seed, device) for seed in range(sizes.models)],
    )
    features = place_features(scaled, torch.float32, device, None)
    feed = Feed(data, [config.train] * sizes.models, features, device)
    with closing(feed.batches(0, 1_000_000)) as batches:

        def run() -> None:
            for batch in islice(batches, feed.steps):
                engine.step(batch, 0)
            if device.type == "cuda":
                torch.cuda.synchronize()

        yield run


@contextmanager
def localize_all(sizes: Sizes, device: torch.device, folder: Path) -> Iterator[Callable[[], None]]:
    """All videos of a store localised, ready to run again and again."""
    shape = Shape(
        "scaling", sizes.videos, sizes.classes, sizes.snippets, 0.0, sizes.snippets, 4, 4, 0.3, sizes.features
    )
    settings = load_config("thumos14", overrides=[f"localize.t_max={sizes.snippets}"])
    run, _ = make(folder, shape, settings)
    store = FeatureStore(folder / "store")

    def once() -> None:
        localize(run, store, device=device.type)
        if device.type == "cuda":
            torch.cuda.synchronize()

    yield once


WORK = {"training": train_epoch, "localising": localize_all}


def measure(what: str, sizes: Sizes, device: str, answer: multiprocessing.SimpleQueue[Cost]) -> None:
    """Measure one point; runs in a process of its own."""
    on = torch.device(device)
    with tempfile.TemporaryDirectory() as folder:
        with WORK[what](TINY, on, Path(folder) / "tiny") as run:
            run()  # loads the libraries' code
        before = memory(on, "VmRSS")
        with WORK[what](sizes, on, Path(folder) / "sized") as run:
            run()
            spent: list[float] = []
            while len(spent) < 3 or (sum(spent) < LONG_ENOUGH and len(spent) < 50):
                start = time.perf_counter()
                run()
                spent.append(time.perf_counter() - start)
            answer.put(Cost(min(spent), memory(on, "VmHWM") - before))


def memory(device: torch.device, field: str) -> float:
    """Bytes now (VmRSS) or at most (VmHWM) of this process, or of the GPU; NaN where the system is silent."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated() if field == "VmHWM" else torch.cuda.memory_allocated())
    try:
        text = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return float("nan")
    return float(text.split(f"{field}:")[1].split()[0]) * 1024


def cost(what: str, sizes: Sizes, device: str) -> Cost:
    """One point, measured in a process of its own."""
    context = multiprocessing.get_context("spawn" if device == "cuda" else "fork")
    answer = context.SimpleQueue()
    process = context.Process(target=measure, args=(what, sizes, device, answer))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{what} {sizes} could not be measured")
    found: Cost = answer.get()
    return found


def slope(x: list[float], y: list[float]) -> float:
    """Of the straight line through the logarithms."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0]) if min(y) > 0 else float("nan")


Curves = Mapping[tuple[str, str], tuple[list[float], list[Cost]]]


def draw(curves: Curves, path: Path, title: str) -> None:
    """Time and memory over each size, both in multiples of the smallest, with the slopes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 7.6), layout="constrained")
    axes = figure.subplots(2, 2, sharex=True, sharey=True)
    for row, what in enumerate(("training", "localising")):
        for column, (unit, scale) in enumerate((("seconds", 1.0), ("memory", 2.0**20))):
            panel = axes[row, column]
            panel.plot([1, 10], [1, 10], ":", color=INK, lw=1, label="proportional")
            least = []
            for (kind, size), (x, costs) in curves.items():
                if kind != what:
                    continue
                colour = COLOURS[list(asdict(Sizes())).index(size)]
                y = [getattr(one, unit) / scale for one in costs]
                least.append(y[0])
                label = f"{size} {x[0]:g} to {x[-1]:g}: slope {slope(x, y):.2f}"
                panel.plot(
                    [v / x[0] for v in x],
                    [v / y[0] for v in y],
                    "o-",
                    color=colour,
                    label=label,
                    lw=1.6,
                    ms=4,
                )
            unit_name = "s" if unit == "seconds" else "MiB"
            start = f"the smallest: {statistics.median(least):.2g} {unit_name}"
            panel.set_title(
                f"{what}: {'time' if unit == 'seconds' else unit} ({start})", loc="left", fontsize=10
            )
            panel.set_xscale("log")
            panel.set_yscale("log")
            panel.grid(True, color="#dddddd", lw=0.5)
            panel.legend(fontsize=7.5, frameon=False)
            panel.set_xticks([1, 2, 5, 10], ["1", "2", "5", "10"])
            panel.set_yticks([0.5, 1, 2, 5, 10, 20], ["0.5", "1", "2", "5", "10", "20"])
            panel.minorticks_off()
    for panel in axes[1]:
        panel.set_xlabel("size, times the smallest")
    for panel in axes[:, 0]:
        panel.set_ylabel("cost, times the smallest")
    figure.suptitle(title, fontsize=9, color=INK)
    save_figure(path, figure)


def main() -> None:
    """Measure, print, draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = Path(__file__).resolve().parents[1] / "docs" / "pictures" / "scaling.png"
    parser.add_argument("--out", type=Path, default=default, help="where the picture goes")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    print(machine(options.device), flush=True)
    points = {
        (what, size): [float(round(least * step)) for step in STEPS]
        for what in WORK
        for size, least in asdict(Sizes()).items()
        if (what, size) != ("localising", "models")
    }
    found: dict[tuple[str, str, float], Cost] = {}
    for _ in range(ROUNDS):  # far apart in time, as others may use the machine for a while
        for (what, size), x in points.items():
            for value in x:
                new = cost(what, replace(Sizes(), **{size: int(value)}), options.device)
                old = found.get((what, size, value), new)
                found[what, size, value] = Cost(min(new.seconds, old.seconds), min(new.memory, old.memory))
    curves = {key: (x, [found[(*key, value)] for value in x]) for key, x in points.items()}
    print("\n| what | against | sizes | seconds | slope | MiB | slope |\n|---|---|---|---|---:|---|---:|")
    for (what, size), (x, costs) in curves.items():
        seconds, bytes_ = [one.seconds for one in costs], [one.memory for one in costs]
        cells = [
            what,
            size,
            " ".join(f"{value:g}" for value in x),
            " ".join(f"{value:.3g}" for value in seconds),
            f"{slope(x, seconds):.2f}",
            " ".join(f"{value / 2**20:.0f}" for value in bytes_),
            f"{slope(x, bytes_):.2f}",
        ]
        print(f"| {' | '.join(cells)} |")
    smallest = ", ".join(f"{value} {name}" for name, value in asdict(Sizes()).items())
    draw(
        curves,
        options.out,
        f"simulated features; one size varied, the others: {smallest}; {options.device}",
    )
    print(f"\n{options.out}")


def machine(device: str) -> str:
    """What it ran on, and how busy that was."""
    name = torch.cuda.get_device_name() if device == "cuda" else f"{os.cpu_count()} cores"
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"{platform.machine()}, {name}, torch {torch.__version__}{load}"


if __name__ == "__main__":
    main()
