"""How fast videos are localised from stored features, and the detections evaluated, with their bounds.

    python benchmarks/localize.py                        THUMOS14's size, about a minute
    python benchmarks/localize.py --data activitynet     ActivityNet's size: 3.8 GB of features, some minutes
    python benchmarks/localize.py --videos 20            a look at it

The features are simulated, in the number of videos and with lengths like those of the real sets; weights are
set by hand (``simulated_store.py``). Both versions read the same store and must find the same detections:

- plain: ``plain_localize.py``, which does what the definitions say, one after the other;
- dgam: ``dgam.localize``.

Bounds: *read*, touching every byte of the features once; *products*, the matrix products that the detections
need at the rate that this machine's products of such sizes reach. Times are medians of runs taken in turns,
with the features in the page cache; ± is half the distance between the quartiles.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from dgam.api import load_models, localize
from dgam.core.config import load_config
from dgam.core.run import Run
from dgam.core.types import SegmentAnnotations
from dgam.data.sampling import uniform
from dgam.detection.localize import StreamModel
from dgam.evaluation import TIOU_ACTIVITYNET, TIOU_THUMOS14, evaluate
from dgam.features.store import FeatureStore
from plain_localize import plain_localize
from simulated_store import ACTIVITYNET, THUMOS, Shape, make

DATA = {
    "thumos": (THUMOS, ("thumos14", "default", "release-thumos14"), TIOU_THUMOS14),
    "activitynet": (ACTIVITYNET, ("activitynet12", "default"), TIOU_ACTIVITYNET),
}


def spread(seconds: Sequence[float]) -> str:
    """Median and half the distance between the quartiles."""
    if len(seconds) < 3:
        return f"{statistics.median(seconds):.2f}"
    low, middle, high = statistics.quantiles(seconds, n=4, method="inclusive")
    return f"{middle:.2f} ± {(high - low) / 2:.2f}"


def timed(run: Callable[[], object]) -> float:
    """Seconds of one run."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def read_all(store: FeatureStore) -> None:
    """Touch every byte of the features once."""
    for video in store.videos:
        for stream in store.streams:
            flat = np.load(store.where(video, stream), mmap_mode="r").reshape(-1)
            np.dot(flat, flat)


def products(store: FeatureStore, models: dict[str, StreamModel]) -> Callable[[], None]:
    """The products of attention's first layer and the classifier, of every video's size, without the rest."""
    shape = next(iter(models.values())).model.shape
    settings = next(iter(models.values())).settings
    lengths = [
        len(uniform(store.timeline(video).snippets, settings.t_min, settings.t_max)) for video in store.videos
    ]
    x = torch.randn(max(lengths), shape.dimension)
    weights = (
        torch.randn(shape.attention_hidden, shape.dimension),
        torch.randn(shape.classes + 1, shape.dimension),
    )
    outs = [torch.empty(max(lengths), len(weight)) for weight in weights]

    def run() -> None:
        for length in lengths:
            for _ in models:
                for weight, out in zip(weights, outs, strict=True):
                    torch.mm(x[:length], weight.T, out=out[:length])

    return run


def measure(
    folder: Path, shape: Shape, presets: Sequence[str], tiou: Sequence[float], repeats: int
) -> list[str]:
    """Lines of the table for one data set."""
    run, truth = make(folder, shape, load_config(presets[0]))
    return [
        line
        for preset in presets
        for line in measure_preset(folder, run, truth, shape, preset, tiou, repeats)
    ]


def measure_preset(
    folder: Path,
    run: Run,
    truth: SegmentAnnotations,
    shape: Shape,
    preset: str,
    tiou: Sequence[float],
    repeats: int,
) -> list[str]:
    """The table's line for one preset's localisation settings."""
    wanted = load_config(preset)
    streams = {s: {"localize": own["localize"]} for s, own in wanted.streams.items() if "localize" in own}
    config = run.config.model_copy(update={"localize": wanted.localize, "streams": streams})
    run = replace(run, config=config)
    models = load_models(run, "cpu")
    store = FeatureStore(folder / "store")
    found = localize(run, store, device="cpu")
    plain = plain_localize(models, store, store.videos, run.classes)
    if {video: list(own) for video, own in found.videos.items()} != plain:
        raise SystemExit("the two versions do not find the same detections")
    bound = products(store, models)
    spent: dict[str, list[float]] = {name: [] for name in ("plain", "dgam", "read", "products", "evaluate")}
    for _ in range(repeats):
        # A store opened anew knows nothing of the last turn.
        fresh = FeatureStore(folder / "store"), FeatureStore(folder / "store")
        spent["plain"].append(
            timed(
                lambda fresh=fresh[0]: plain_localize(
                    load_models(run, "cpu"), fresh, fresh.videos, run.classes
                )
            )
        )
        spent["dgam"].append(timed(lambda fresh=fresh[1]: localize(run, fresh, device="cpu")))
        spent["read"].append(timed(lambda: read_all(store)))
        spent["products"].append(timed(bound))
        spent["evaluate"].append(timed(lambda: evaluate(found, truth, tiou)))
    ratio = statistics.median(spent["plain"]) / statistics.median(spent["dgam"])
    count = sum(map(len, found.videos.values()))
    cells = [
        f"{shape.name}, {shape.videos:,} videos",
        preset,
        f"{count:,}",
        spread(spent["plain"]),
        spread(spent["dgam"]),
        f"{ratio:.1f}",
        spread(spent["read"]),
        spread(spent["products"]),
        f"{statistics.median(spent['evaluate']):.3f} ({len(tiou)} tIoU)",
    ]
    return [f"| {' | '.join(cells)} |"]


def machine() -> str:
    """What it ran on, and how busy that was."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    return (
        f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, torch "
        f"{torch.__version__}, NumPy {np.__version__}, Python {platform.python_version()}, load {load:.1f}"
    )


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", choices=DATA, default="thumos")
    parser.add_argument("--videos", type=int, help="fewer videos than the set has")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--presets", nargs="+", help="whose localisation settings to use")
    options = parser.parse_args()
    shape, presets, tiou = DATA[options.data]
    shape = replace(shape, videos=options.videos or shape.videos)
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        lines = measure(Path(folder), shape, options.presets or presets, tiou, options.repeats)
    print(f"\nSimulated features, seconds, medians of {options.repeats}:\n")
    print("| data | settings | detections | plain | dgam | ratio | read | products | evaluate |")
    print("|---|---|---:|---:|---:|---:|---:|---:|---:|")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
