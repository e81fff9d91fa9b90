"""Stores and runs of the size of real data sets, for timing: the numbers in them are simulated.

Feature vectors are noise plus, inside an instance, the direction of its class; the weights are set by hand to
find it. So curves rise and fall about as a trained model's do, and there is a realistic number of proposals,
without training anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from dgam.core.config import Config
from dgam.core.run import Run
from dgam.core.timeline import SnippetGrid
from dgam.core.types import AnnotatedVideo, Segment, SegmentAnnotations
from dgam.features.writer import StoreWriter
from dgam.model.networks import DGAM, ModelShape
from dgam.training.checkpoint import save_model

STREAMS = ("rgb", "flow")
_GRID = SnippetGrid()


@dataclass(frozen=True)
class Shape:
    """How large a data set is: snippets a video are log-normal, cut off at ``longest``."""

    name: str
    videos: int
    classes: int
    median: float
    spread: float
    longest: int
    instances: float
    seconds: float
    wander: float = 0.3
    dimension: int = 1024


THUMOS = Shape("THUMOS14-shaped", 210, 20, 235, 0.85, 2500, 15, 4.5)
ACTIVITYNET = Shape("ActivityNet-shaped", 2400, 100, 175, 0.5, 480, 1.5, 45, wander=0.7)


def make(folder: Path, shape: Shape, config: Config, seed: int = 0) -> tuple[Run, SegmentAnnotations]:
    """A store under ``folder/store``, a run with hand-set weights under ``folder/run``, and the ground
    truth."""
    rng = np.random.default_rng(seed)
    directions = {s: rng.normal(size=(shape.classes, shape.dimension)).astype(np.float32) for s in STREAMS}
    directions = {s: v / np.linalg.norm(v, axis=1, keepdims=True) for s, v in directions.items()}
    writer = StoreWriter(folder / "store", dict.fromkeys(STREAMS, shape.dimension))
    names = tuple(f"class {index:03d}" for index in range(shape.classes))
    annotated = {}
    for index in range(shape.videos):
        length = int(np.clip(rng.lognormal(np.log(shape.median), shape.spread), 20, shape.longest))
        label = int(rng.integers(shape.classes))
        inside, spans = _instances(rng, shape, length)
        arrays = {
            stream: _features(rng, inside, directions[stream][label], shape.wander) for stream in STREAMS
        }  # (T, d) each
        name, duration = f"video_{index:05d}", length * 16 / 25
        writer.add(name, arrays, grid=_GRID, duration=duration)
        found = tuple(Segment(start, end, names[label]) for start, end in spans)
        annotated[name] = AnnotatedVideo(found, "test", duration)
    run = _run(folder / "run", shape, config, directions, names)
    return run, SegmentAnnotations(annotated, names, f"simulated, {shape.name}")


def _instances(
    rng: np.random.Generator, shape: Shape, length: int
) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """Which snippets are inside an instance (T,), and the instances in seconds."""
    inside, spans = np.zeros(length), []
    for _ in range(1 + rng.poisson(shape.instances - 1)):
        width = min(max(1, round(rng.lognormal(np.log(shape.seconds), 0.6) * 25 / 16)), length - 2)
        start = int(rng.integers(0, length - width))
        inside[start : start + width] = 1
        spans.append((start * 16 / 25, (start + width) * 16 / 25))
    return inside, sorted(spans)


def _features(
    rng: np.random.Generator, inside: np.ndarray, direction: np.ndarray, wander: float
) -> np.ndarray:
    """Features (T, d) float32: noise of each unit, and a signal that wanders from snippet to snippet."""
    length = len(inside)
    drift = np.convolve(rng.normal(size=length + 4), np.full(5, wander), "valid")  # (T,)
    noise = rng.standard_normal((length, len(direction)), dtype=np.float32)
    signal = (4 * inside + drift).astype(np.float32)
    return np.asarray(0.2 * noise + signal[:, None] * direction)


def _run(
    folder: Path, shape: Shape, config: Config, directions: dict[str, np.ndarray], names: tuple[str, ...]
) -> Run:
    for stream in STREAMS:
        own = ModelShape(shape.dimension, shape.classes, normalise=config.model.normalise)
        model = DGAM(own, torch.Generator().manual_seed(0))
        every = torch.from_numpy(directions[stream])  # (C, d)
        with torch.no_grad():
            model.attention.hidden.weight.mul_(0.05)
            model.attention.output.weight.mul_(0.05)
            # One hidden unit a class (shared where there are more classes than units) sees its direction.
            units = torch.arange(shape.classes) % own.attention_hidden
            model.attention.hidden.weight.index_add_(0, units, every)
            model.attention.output.weight[0, : shape.classes] = 1.5
            model.attention.output.bias.fill_(-4.0)
            model.classifier.output.weight[:-1] = 3 * every
            model.classifier.output.bias.zero_()
            model.classifier.output.bias[-1] = 3.0
        save_model(folder / stream / "model.safetensors", own, model.state_dict(), 0)
    streams = dict.fromkeys(STREAMS, shape.dimension)
    run = Run(folder, 0, names, streams, config, "weights set by hand, for timing", shape.videos)
    run.save()
    return run
