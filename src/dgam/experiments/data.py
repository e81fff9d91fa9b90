"""The data of an experiment: where training and test lie, whether they are simulated, and what they hold.

A folder is laid out as ``dgam simulate`` lays it out: ``train/`` and ``test/`` with features, ``labels.csv``
and ``gt.json`` with subsets train and test. ``{seed}`` in any path becomes the run's seed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dgam.core.errors import InputError
from dgam.core.types import SegmentAnnotations, VideoLabels
from dgam.data.annotations import read_labels, read_segments
from dgam.data.checks import check
from dgam.data.simulate import MARK, simulate
from dgam.evaluation import Protocol
from dgam.experiments.cache import RunCache, digest_of
from dgam.experiments.source import SIMULATING, source_of
from dgam.features.layouts import open_features
from dgam.features.source import FeatureSource

SIMULATION: Mapping[str, Any] = {"train": 200, "test": 100}
"""Knobs of ``--data sim``: the simulated benchmark with half of its test videos."""
SIMULATION_PRESET = "default"
SIMULATION_SETTINGS = ("train.epochs=40",)
"""How ``--data sim`` trains: two thirds of the default preset's epochs, at most."""


@dataclass(frozen=True)
class DataSpec:
    """Where everything lies. Plain values and a function, so that it can be sent to another process.

    ``name`` is what tables call the data. ``subsets`` are those of the labels to train on, all if empty;
    ``protocol`` says which videos are evaluated. ``opener`` opens features at a path.
    """

    name: str
    training: str
    test: str
    labels: str
    truth: str
    protocol: Protocol
    subsets: tuple[str, ...] = ()
    opener: Callable[[Path], FeatureSource] = open_features

    def at(self, seed: int) -> DataSpec:
        """The data of one seed: ``{seed}`` filled in."""
        places = {
            key: getattr(self, key).replace("{seed}", str(seed))
            for key in ("training", "test", "labels", "truth")
        }
        return replace(self, **places)

    @property
    def per_seed(self) -> bool:
        """Whether each seed has data of its own."""
        return self.at(0) != self.at(1)

    def read_training(self, without: Iterable[str] = ()) -> tuple[FeatureSource, VideoLabels]:
        """Features and video labels to train on, ``without`` some videos."""
        labels = read_labels(Path(self.labels))
        chosen = labels.in_subset(*self.subsets) if self.subsets else labels
        if not chosen:
            known = ", ".join(sorted(set(labels.subset_of.values()))) or "none"
            wanted = ", ".join(self.subsets)
            raise InputError(f"{self.labels}: has no video of subset {wanted}. Its subsets: {known}.")
        left_out = set(without)
        kept = chosen.only(video for video in chosen.videos if video not in left_out)
        return self.opener(Path(self.training)), kept

    def read_test(self) -> tuple[FeatureSource, SegmentAnnotations]:
        """Test features, and all of the ground truth; the protocol chooses from it."""
        return self.opener(Path(self.test)), read_segments(Path(self.truth))

    @property
    def simulated(self) -> bool:
        """Whether features or annotations say that they are simulated."""
        folders = {Path(place).parent for place in (self.training, self.test, self.labels, self.truth)}
        folders |= {Path(self.training), Path(self.test)}
        marked = any(_begins(folder / "README.txt", MARK) for folder in folders)
        return marked or "simulated" in _version(Path(self.truth)).lower()


def in_folder(folder: str, protocol: Protocol, name: str = "") -> DataSpec:
    """The data in a folder as ``dgam simulate`` lays it out."""
    return DataSpec(
        name=name or folder,
        training=f"{folder}/train",
        test=f"{folder}/test",
        labels=f"{folder}/labels.csv",
        truth=f"{folder}/gt.json",
        protocol=protocol.changed(subsets=("test",)),
        subsets=("train",),
    )


def simulated_data(
    cache: RunCache, seeds: Sequence[int], protocol: Protocol, knobs: Mapping[str, Any] | None = None
) -> DataSpec:
    """The simulated benchmark, a data set for each seed, made where it is not there yet."""
    chosen = {**SIMULATION, **(knobs or {})}
    shown = {key: repr(value) for key, value in sorted(chosen.items())}
    kind = digest_of({"knobs": shown, "source": source_of(*SIMULATING)})[:8]
    place = cache.root / "simulated" / kind
    for seed in seeds:
        folder = place / f"seed-{seed}"
        with cache.claim(f"simulated-{kind}-{seed}", wait=True):
            if not folder.is_dir():
                place.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryDirectory(dir=place, prefix=".part-") as scratch:
                    simulate(Path(scratch) / "data", seed=seed, **chosen)
                    (Path(scratch) / "data").rename(folder)
    told = ", ".join(f"{key} = {value}" for key, value in chosen.items())
    name = f"simulated data (dgam simulate, {told}; each run's own seed)"
    return in_folder(f"{place}/seed-{{seed}}", protocol, name)


def describe(data: DataSpec, seeds: Sequence[int]) -> tuple[str, bool]:
    """What tables call the data, with what the ground truth says of its origin; and whether it is simulated.

    The name then begins with "simulated data".
    """
    told = [_version(Path(data.at(seed).truth)) for seed in seeds]
    if data.per_seed:
        told = [text.replace(f"seed {s}", "seed of the run") for s, text in zip(seeds, told, strict=True)]
    versions = "; ".join(dict.fromkeys(version for version in told if version))
    simulated = any(data.at(seed).simulated for seed in seeds)
    if simulated and data.name.startswith("simulated data"):
        return data.name, True
    name = f"{data.name} ({versions})" if versions else data.name
    return (f"simulated data: {name}" if simulated else name), simulated


def refuse_missing(data: DataSpec, seeds: Sequence[int]) -> None:
    """InputError that names every file of the data that is not there."""
    places = [
        getattr(data.at(seed), key) for seed in seeds for key in ("training", "test", "labels", "truth")
    ]
    missing = [place for place in dict.fromkeys(places) if not Path(place).exists()]
    if missing:
        more = f" ({len(missing)} such in all)" if len(missing) > 1 else ""
        raise InputError(
            f"{missing[0]}: does not exist{more}. Expected train/, test/, labels.csv and gt.json as 'dgam "
            "simulate' writes them, or --features, --labels and --ground-truth."
        )


def defective(data: DataSpec, streams: Sequence[str]) -> dict[str, str]:
    """Training videos that cannot be trained on, and why."""
    features, labels = data.read_training()
    parts = list(dict.fromkeys(part for stream in streams for part in stream.split("+")))
    found = check(features, labels, streams=parts, unlabelled=False)
    return {p.video: str(p) for p in found if p.video is not None and p.video in labels.labels}


class Identities:
    """Digests of what the data hold, by which runs are recognised wherever the files lie.

    Each is computed once; ``without`` are videos left out of training.
    """

    def __init__(self, without: Mapping[DataSpec, Sequence[str]]) -> None:
        self._without = without
        self._known: dict[tuple[DataSpec, str, str], str] = {}

    def training(self, data: DataSpec, stream: str) -> str:
        """Of the labels, and of the labelled videos' features in a stream."""
        if (data, "training", stream) not in self._known:
            features, labels = data.read_training(self._without.get(data, ()))
            about = {
                "classes": list(labels.classes),
                "labels": {v: list(x) for v, x in labels.labels.items()},
            }
            self._known[data, "training", stream] = digest_of(about, _arrays(features, labels.videos, stream))
        return self._known[data, "training", stream]

    def test(self, data: DataSpec, stream: str) -> str:
        """Of the ground truth, and of its videos' features in a stream."""
        if (data, "test", stream) not in self._known:
            features, truth = data.read_test()
            about = {
                video: [
                    annotated.subset,
                    [(s.start, s.end, s.label) for s in annotated.segments],
                    [(s.start, s.end) for s in annotated.ambiguous],
                    str(features.timeline(video)) if video in set(features.videos) else None,
                ]
                for video, annotated in sorted(truth.videos.items())
            }
            self._known[data, "test", stream] = digest_of(
                {"classes": list(truth.classes), "videos": about},
                _arrays(features, truth.videos, stream),
            )
        return self._known[data, "test", stream]


def _arrays(features: FeatureSource, videos: Iterable[str], stream: str) -> Iterable[bytes]:
    for video in sorted(videos):
        for part in stream.split("+"):
            yield f"{video}\0{part}".encode()
            if features.has(video, part):
                x = np.ascontiguousarray(features.read(video, part))  # (T, d)
                yield f"{x.shape} {x.dtype.str}".encode()
                yield hashlib.blake2b(x.data if x.size else b"").digest()


def _version(truth: Path) -> str:
    """What an annotation file in ActivityNet's form calls itself."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        value = json.loads(truth.read_text(encoding="utf-8"))
        if isinstance(value, dict) and isinstance(value.get("version"), str):
            return str(value["version"])
    return ""


def _begins(path: Path, mark: str) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(len(mark)) == mark.encode()
    except OSError:
        return False
