"""mAP over seeds, with and without the generative part, per stream and fused, beside trivial baselines.

    python benchmarks/quality.py run  NAME --data 'st-{seed}' --seeds 0 1 2 3 4 --out results [--set loss.r=3]
    python benchmarks/quality.py show results/*.json

``run`` trains on the video labels of ``DATA/train`` (``{seed}`` in the path becomes the seed), localises
``DATA/test`` and evaluates; ``DATA`` is laid out as ``dgam simulate`` and the stitched benchmark lay it
out. With ``--folds K`` the data set has no split: ``DATA/features`` is cut into K parts by video, each is
localised by a model trained on the others, and all detections are evaluated together. ``show`` prints
Markdown: mean ± standard deviation over the seeds, and paired differences to NAME:without.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import dgam
from dgam.core.types import Detection, Detections, SegmentAnnotations, VideoLabels
from dgam.features.source import FeatureSource

TIOU = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
CHUNK_SECONDS = 5.0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run")
    run.add_argument("name")
    run.add_argument("--data", required=True)
    run.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    run.add_argument("--streams", nargs="+", default=["rgb", "flow"])
    run.add_argument("--folds", type=int, default=0)
    run.add_argument("--set", action="append", default=[])
    run.add_argument("--out", type=Path, required=True)
    run.add_argument("--threads", type=int, default=1)
    show = commands.add_parser("show")
    show.add_argument("files", type=Path, nargs="+")
    given = parser.parse_args()
    if given.command == "show":
        show_results([json.loads(path.read_text()) for path in given.files])
        return
    torch.set_num_threads(given.threads)
    for seed in given.seeds:
        target = given.out / f"{given.name}-{seed}.json"
        if target.exists():
            continue
        result = measure(Path(given.data.format(seed=seed)), seed, given.streams, given.set, given.folds)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(
            json.dumps({"name": given.name, "seed": seed, "set": given.set, **result}, indent=1)
        )
        print(f"{target}: {result['cpu_seconds']:.0f} s of CPU time", file=sys.stderr)


def measure(data: Path, seed: int, streams: list[str], overrides: list[str], folds: int) -> dict[str, Any]:
    """Train, localise and evaluate one seed; mAP and table 2 per stream and fused, and the baselines' mAP."""
    began = time.process_time()
    parts = split(data, folds)
    truth = dgam.read_segments(data / "gt.json")
    if not folds:
        truth = truth.in_subset("test")
    found: dict[str, dict[str, list[Detection]]] = {}
    attention: dict[str, list[dict[str, float]]] = {stream: [] for stream in streams}
    for number, (training, labels, test) in enumerate(parts):
        with tempfile.TemporaryDirectory() as scratch:
            config = dgam.load_config(overrides=overrides)
            run = dgam.train(
                training, labels, scratch, config=config, seed=seed + 1000 * number, streams=streams
            )
            systems = {stream: {stream: run.streams[stream]} for stream in streams}
            if len(streams) > 1:
                systems["fused"] = dict(run.streams)
            for name, chosen in systems.items():
                detections = dgam.localize(replace(run, streams=chosen), test)
                found.setdefault(name, {}).update(detections.videos)
            seen = SegmentAnnotations(
                {v: truth.videos[v] for v in test.videos if v in truth.videos}, truth.classes
            )
            for stream, values in dgam.statistics(run, test, seen).items():
                attention[stream].append(values.to_dict())
            for name, videos in baselines(run, test).items():
                found.setdefault(name, {}).update(videos)
    scores = {
        name: dgam.evaluate(Detections(videos), truth, TIOU).to_dict()["map"]
        for name, videos in found.items()
    }
    return {
        "map": scores,
        "attention": {
            s: {k: statistics.mean(v[k] for v in values) for k in values[0]}
            for s, values in attention.items()
        },
        "cpu_seconds": time.process_time() - began,
    }


def split(data: Path, folds: int) -> list[tuple[FeatureSource, VideoLabels, FeatureSource]]:
    """(training features, their labels, test features), once or for every fold."""
    if not folds:
        labels = dgam.read_labels(data / "labels.csv").in_subset("train")
        return [(dgam.open_features(data / "train"), labels, dgam.open_features(data / "test"))]
    features = dgam.open_features(data / "features")
    labels = dgam.read_labels(data / "gt.json")
    parts = []
    for fold in range(folds):
        apart = [video for index, video in enumerate(labels.videos) if index % folds == fold]
        rest = labels.only(video for video in labels.videos if video not in apart)
        parts.append((features, rest, Only(features, apart)))
    return parts


class Only:
    """A feature source cut down to some of its videos."""

    def __init__(self, source: FeatureSource, videos: list[str]) -> None:
        self.name, self.streams, self.videos = source.name, source.streams, tuple(videos)
        self.timeline, self.has, self.read = source.timeline, source.has, source.read


def baselines(run: Any, test: FeatureSource) -> dict[str, dict[str, list[Detection]]]:
    """The video's likely classes on the whole video, and on equal chunks: what a classifier alone gives."""
    config = run.config.model_copy(
        update={
            "localize": run.config.localize.model_copy(update={"thresholds": (0.0,), "eta": 0.0}),
            "streams": {},
        }
    )
    best: dict[str, dict[str, float]] = {}
    for video, detections in dgam.localize(replace(run, config=config), test).videos.items():
        scores = best.setdefault(video, {})
        for d in detections:
            scores[d.label] = max(d.score, scores.get(d.label, d.score))
    whole: dict[str, list[Detection]] = {}
    chunks: dict[str, list[Detection]] = {}
    for video, scores in best.items():
        end = test.timeline(video).end
        count = max(1, round(end / CHUNK_SECONDS))
        whole[video] = [Detection(0.0, end, label, score) for label, score in scores.items()]
        chunks[video] = [
            Detection(end * k / count, end * (k + 1) / count, label, score)
            for label, score in scores.items()
            for k in range(count)
        ]
    return {"whole video": whole, f"chunks of {CHUNK_SECONDS:g} s": chunks}


def show_results(results: list[dict[str, Any]]) -> None:
    """Markdown tables: every system's mAP, table 2, and paired differences of NAME to NAME-without."""
    names = list(dict.fromkeys(result["name"] for result in results))
    by_name = {name: {r["seed"]: r for r in results if r["name"] == name} for name in names}
    print("| run | system | " + " | ".join(f"@{t:g}" for t in TIOU) + " | mean | seeds |")
    print("|---|---|" + "---:|" * (len(TIOU) + 2))
    for name, runs in by_name.items():
        for system in next(iter(runs.values()))["map"]:
            columns = list(zip(*(r["map"][system] for r in runs.values()), strict=True))
            columns.append(tuple(statistics.mean(r["map"][system]) for r in runs.values()))
            print(f"| {name} | {system} | " + " | ".join(map(spread, columns)) + f" | {len(runs)} |")
    print("\n| run | stream | false activation ↓ | omission ↓ | filtered ↑ | recovered ↑ |")
    print("|---|---|---:|---:|---:|---:|")
    for name, runs in by_name.items():
        for stream in next(iter(runs.values()))["attention"]:
            cells = [
                spread(tuple(r["attention"][stream][key] for r in runs.values()), 1, 3)
                for key in ("false_activation", "omission", "filtered", "recovered")
            ]
            print(f"| {name} | {stream} | " + " | ".join(cells) + " |")
    print("\n| paired difference | system | @0.5 | mean .1–.7 | seeds |\n|---|---|---:|---:|---:|")
    for name, runs in by_name.items():
        other = by_name.get(f"{name.split(':')[0]}:without", {})
        shared = sorted(set(runs) & set(other))
        if not shared or runs is other:
            continue
        for system in next(iter(runs.values()))["map"]:
            half = tuple(runs[s]["map"][system][4] - other[s]["map"][system][4] for s in shared)
            mean = tuple(
                statistics.mean(runs[s]["map"][system]) - statistics.mean(other[s]["map"][system])
                for s in shared
            )
            print(f"| {name} − without | {system} | {spread(half)} | {spread(mean)} | {len(shared)} |")


def spread(values: tuple[float, ...], factor: float = 100, digits: int = 1) -> str:
    scaled = [factor * value for value in values]
    deviation = statistics.stdev(scaled) if len(scaled) > 1 else 0.0
    return f"{statistics.mean(scaled):.{digits}f} ± {deviation:.{digits}f}"


if __name__ == "__main__":
    main()
