"""What a whole training takes: the paper's schedule on data of THUMOS14's shape, one seed and several.

    python benchmarks/full_training.py --device cuda --epochs 6000 --seeds 1 5
    python benchmarks/full_training.py --epochs 4 --videos 40 --seeds 1        on a CPU, as far as one likes

200 simulated videos whose lengths are spread as THUMOS14's are, two streams of 1,024 numbers, preset
thumos14 (T = 400) in bfloat16, by ``dgam.train_many``: reading, scaling, sampling, training, logging and
checkpoints included, from a store on disk to finished run folders. Seconds are of the whole call, those of an
epoch are the mean after the first tenth of them. Simulated features: only the time means something.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

import dgam
from dgam.core.types import VideoLabels
from dgam.features.store import FeatureStore
from simulated_store import THUMOS, make


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--epochs", type=int, default=6000)
    parser.add_argument("--videos", type=int, default=200)
    parser.add_argument("--dimension", type=int, default=1024)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 5], help="how many at once, in turn")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    # Twenty epochs pass in a moment on a GPU: a checkpoint each would be most of the work.
    common = (f"train.epochs={given.epochs}", "train.precision=bfloat16", "train.checkpoint_every=500")
    config = dgam.load_config("thumos14", overrides=[*common, *given.set])
    found = []
    with tempfile.TemporaryDirectory() as folder:
        store, labels = data(Path(folder), given.videos, given.dimension)
        for count in given.seeds:
            outs = [Path(folder) / f"{count}-{seed}" for seed in range(count)]
            ends: dict[int, float] = {}

            def tell(run: int, stream: str, epoch: int, losses: dict[str, float]) -> None:
                ends[epoch] = time.perf_counter()  # noqa: B023 - of this turn's training

            began = time.perf_counter()
            dgam.train_many(store, labels, outs, config, range(count), device=given.device, on_epoch=tell)
            seconds = time.perf_counter() - began
            early = 1 + given.epochs // 10
            each = (ends[given.epochs] - ends[early]) / max(1, given.epochs - early)
            found.append({"seeds": count, "seconds": seconds, "seconds an epoch": each})
            size = f"{given.videos} videos, d = {given.dimension}, two streams, {given.epochs} epochs"
            taken = f"{seconds:.1f} s, {seconds / count:.1f} s each, {each * 1e3:.2f} ms an epoch"
            print(f"{size}, {count} at once: {taken}, on {name(given.device)}", flush=True)
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


def data(folder: Path, videos: int, dimension: int) -> tuple[FeatureStore, VideoLabels]:
    """A store of simulated features, and the label of each video."""
    shape = replace(THUMOS, videos=videos, dimension=dimension)
    _, truth = make(folder, shape, dgam.load_config("thumos14"))
    labels = {video: (one.segments[0].label,) for video, one in truth.videos.items()}
    return FeatureStore(folder / "store"), VideoLabels(labels, truth.classes)


def name(device: str) -> str:
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else "a CPU"


if __name__ == "__main__":
    main()
