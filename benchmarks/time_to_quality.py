"""How much processor time training takes until its detections are as good as the plain trainer's.

    python benchmarks/time_to_quality.py run  NAME --data 'sim-{seed}' --out results --every 20
                                              --preset thumos14 --set train.step=plain --set train.epochs=300
    python benchmarks/time_to_quality.py show results/*.json --reference NAME

``run`` trains every stream on the video labels of ``DATA/train`` (``{seed}`` in the path becomes the seed;
``DATA`` as ``dgam simulate`` and the stitched benchmark lay it out) and keeps the weights and the time so far
every few epochs. Then ``DATA/test`` is localised with each, by the settings of the default
preset whatever trained them, and evaluated; that time does not count. ``show`` prints Markdown: mAP@0.5 after
each look, mean ± standard deviation over the seeds, and the least time after which the mean is within the
reference's deviation of where the reference ends.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

import dgam
from dgam.core.config import Config
from dgam.core.types import VideoLabels
from dgam.data.dataset import SnippetDataset
from dgam.detection.localize import StreamModel, localize_videos
from dgam.features.source import FeatureSource
from dgam.model.networks import DGAM
from dgam.training.trainer import train_stream

TIOU = (0.5,)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run")
    run.add_argument("name")
    run.add_argument("--data", required=True)
    run.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    run.add_argument("--preset", default="default")
    run.add_argument("--set", action="append", default=[])
    run.add_argument("--every", type=int, default=10, help="epochs between two looks")
    run.add_argument("--out", type=Path, required=True)
    run.add_argument("--threads", type=int, default=1)
    show = commands.add_parser("show")
    show.add_argument("files", type=Path, nargs="+")
    show.add_argument("--reference", required=True)
    given = parser.parse_args()
    if given.command == "show":
        show_results([json.loads(path.read_text()) for path in given.files], given.reference)
        return
    torch.set_num_threads(given.threads)
    for seed in given.seeds:
        target = given.out / f"{given.name}-{seed}.json"
        if target.exists():
            continue
        data = Path(given.data.format(seed=seed))
        # Streams that end apart cannot be looked at together, and the reference is to be seen to its end.
        looking = ("train.select=held-out", f"train.select_every={given.every}", "train.until=0")
        curve = measure(data, seed, dgam.load_config(given.preset, overrides=[*given.set, *looking]))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps({"name": given.name, "seed": seed, "set": given.set, "curve": curve}))
        print(f"{target}: {curve[-1]['seconds']:.0f} s, {100 * curve[-1]['map']:.1f}", file=sys.stderr)


def measure(data: Path, seed: int, config: Config) -> list[dict[str, Any]]:
    """Epoch, processor seconds of all streams until there, and mAP@0.5, for each look."""
    labels = dgam.read_labels(data / "labels.csv").in_subset("train")
    training, test = dgam.open_features(data / "train"), dgam.open_features(data / "test")
    looks: dict[int, dict[str, DGAM]] = {}
    seconds: dict[int, float] = {}
    for stream in training.streams:
        for epoch, (spent, model) in train(training, labels, stream, seed, config).items():
            seconds[epoch] = seconds.get(epoch, 0.0) + spent
            looks.setdefault(epoch, {})[stream] = model
    truth = dgam.read_segments(data / "gt.json").in_subset("test")
    settings = dgam.load_config()
    curve = []
    for epoch, models in looks.items():
        ready = {s: StreamModel(model, settings.for_stream(s).localize) for s, model in models.items()}
        found = localize_videos(ready, test, test.videos, labels.classes)
        score = dgam.evaluate(found, truth, TIOU).to_dict()["map"][0]
        curve.append({"epoch": epoch, "seconds": seconds[epoch], "map": score})
    return curve


def train(
    features: FeatureSource, labels: VideoLabels, stream: str, seed: int, config: Config
) -> dict[int, tuple[float, DGAM]]:
    """The processor seconds until each look, and the model there."""
    own = config.for_stream(stream)
    found: dict[int, tuple[float, DGAM]] = {}
    apart = 0.0

    def look(model: DGAM) -> float:
        nonlocal apart
        now = time.process_time()
        found[own.train.select_every * (len(found) + 1)] = now - began - apart, copy.deepcopy(model)
        apart += time.process_time() - now
        return 0.0

    began = time.process_time()
    dataset = SnippetDataset(features, labels, stream, snippets=own.train.snippets, seed=seed)
    with tempfile.TemporaryDirectory() as out:
        train_stream(dataset, own, Path(out), seed=seed, validate=look)
    return found


def show_results(results: list[dict[str, Any]], reference: str) -> None:
    """Markdown: every contestant's looks, and when each first came near the reference's end."""
    names = sorted({result["name"] for result in results}, key=lambda name: name != reference)
    curves = {name: [r["curve"] for r in results if r["name"] == name] for name in names}
    goal, deviation = spread([100 * curve[-1]["map"] for curve in curves[reference]])
    print("| training | epochs | processor time, s | mAP@0.5 | seeds |")
    print("|---|---:|---:|---:|---:|")
    reached: dict[str, float] = {}
    for name, own in curves.items():
        for looks in zip(*own, strict=True):
            seconds = statistics.mean(look["seconds"] for look in looks)
            score, own_deviation = spread([100 * look["map"] for look in looks])
            if score >= goal - deviation:
                reached.setdefault(name, seconds)
            quality = f"{score:.1f} ± {own_deviation:.1f}"
            print(f"| {name} | {looks[0]['epoch']} | {seconds:.1f} | {quality} | {len(looks)} |")
    whole = statistics.mean(curve[-1]["seconds"] for curve in curves[reference])
    print(f"\nTo within {deviation:.1f} of {goal:.1f}, where {reference} ends after {whole:.1f} s:")
    for name in names:
        if name not in reached:
            print(f"- {name}: not reached")
        else:
            print(f"- {name}: {reached[name]:.1f} s, {whole / reached[name]:.1f} times less")


def spread(values: list[float]) -> tuple[float, float]:
    """Mean and standard deviation."""
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0


if __name__ == "__main__":
    main()
