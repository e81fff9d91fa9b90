"""Snippet features so small that a model is trained on them within a second, for the tests of whole runs.

Simulated by hand: in the middle third of a video its actions are on, each in a feature of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import dgam
from data_helpers import Arrays
from dgam.core.config import Config, load_config
from dgam.core.run import Run
from dgam.core.types import AnnotatedVideo, Segment, SegmentAnnotations, VideoLabels
from dgam.features.source import ArrayFeatures

SECONDS = 0.64  # of a snippet

NETWORKS = ("model.attention_hidden=8", "model.cvae_hidden=8", "model.latent=4")
SHORT = (
    *NETWORKS,
    "train.epochs=3",
    "train.snippets=12",
    "train.batch=4",
    "train.checkpoint_every=1",
    "loss.warmup_epochs=1",
)
LEARNS = (*SHORT, "train.epochs=60", "train.checkpoint_every=60", "train.lr=0.02")

ACTIONS = {"v0": ("dive",), "v1": ("jump",), "v2": ("dive", "jump"), "v3": ("jump",), "v4": ("dive",)}


def settings(*overrides: str, preset: str | None = None, base: Sequence[str] = SHORT) -> Config:
    """Settings of a tiny training."""
    return load_config(preset, overrides=(*base, *overrides))


def labels(actions: Mapping[str, Sequence[str]] = ACTIONS) -> VideoLabels:
    """The video labels of the tiny data."""
    return VideoLabels({video: tuple(names) for video, names in actions.items()})


def arrays(
    actions: Mapping[str, Sequence[str]] = ACTIONS, dims: Mapping[str, int] | None = None, seed: int = 0
) -> Arrays:
    """``{video: {stream: (T, d)}}``, float32, T = 12, 15, 18, …; needs d >= 3."""
    rng = np.random.default_rng(seed)
    names = sorted({name for own in actions.values() for name in own})
    made: Arrays = {}
    for index, (video, own) in enumerate(actions.items()):
        third = 4 + index
        made[video] = {}
        for stream, dim in (dims or {"rgb": 5, "flow": 4}).items():
            x = rng.random((3 * third, dim), dtype=np.float32)
            x[third : 2 * third, [names.index(name) for name in own]] += 2
            made[video][stream] = x
    return made


def truth(actions: Mapping[str, Sequence[str]] = ACTIONS) -> SegmentAnnotations:
    """When the actions happen: the middle third of each video."""
    videos = {}
    for index, (video, own) in enumerate(actions.items()):
        start, end = (4 + index) * SECONDS, 2 * (4 + index) * SECONDS
        videos[video] = AnnotatedVideo(tuple(Segment(start, end, name) for name in own), "test")
    return SegmentAnnotations(videos, source="gt.json")


def features(changes: Mapping[str, Mapping[str, Any]] | None = None) -> ArrayFeatures:
    """The tiny features, some videos changed or added."""
    return ArrayFeatures({**arrays(), **(changes or {})})


def train(out: Path, *overrides: str, source: Any = None, **options: Any) -> Run:
    """Train the tiny models; ``options`` are those of ``dgam.train``, and ``labels`` and ``config``."""
    return dgam.train(
        source if source is not None else features(),
        options.pop("labels", labels()),
        out,
        config=options.pop("config", settings(*overrides)),
        **options,
    )


def weights(run: Run, stream: str = "rgb") -> bytes:
    """The bytes of a stream's weights."""
    return (run.folder(stream) / "model.safetensors").read_bytes()


def broken() -> dict[str, dict[str, Any]]:
    """v1 with a NaN in rgb, v3 without flow, v4 without a snippet."""
    made = arrays()
    made["v1"]["rgb"][2, 3] = np.nan
    del made["v3"]["flow"]
    made["v4"] = {stream: x[:0] for stream, x in made["v4"].items()}
    return {video: made[video] for video in ("v1", "v3", "v4")}
