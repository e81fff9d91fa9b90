"""Training of one stream, from its first epoch or from its newest checkpoint."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dgam.core.config import Config
from dgam.data.dataset import SnippetDataset
from dgam.model.networks import DGAM, ModelShape
from dgam.training.engine import Batch, Engine
from dgam.training.feed import Feed
from dgam.training.precision import settled
from dgam.training.record import STREAM_FILES, Record, Trained, Validate
from dgam.training.resident import Scaled, place_features

__all__ = ["STREAM_FILES", "OnEpoch", "Trained", "Validate", "stream_seed", "train_stream"]

OnEpoch = Callable[[int, dict[str, float]], None]


class Scaling(NamedTuple):
    """Measured shift and scale of each feature, both (d,) float32."""

    shift: Tensor
    scale: Tensor


def stream_seed(seed: int, stream: str) -> int:
    """A seed for one stream's draws, so that streams neither share draws nor depend on each other's order."""
    return int(
        np.random.SeedSequence([seed, zlib.crc32(stream.encode())]).generate_state(1, np.uint64)[0] >> 1
    )


def train_stream(
    dataset: SnippetDataset,
    config: Config,
    out: Path,
    *,
    seed: int,
    device: str = "cpu",
    validate: Validate | None = None,
    on_epoch: OnEpoch | None = None,
) -> Trained:
    """Train one stream and leave ``model.safetensors``, ``checkpoint.safetensors`` and ``metrics.jsonl`` in
    ``out``.

    ``config`` holds the stream's own settings. Where ``out`` has a checkpoint of the same settings, seed and
    data, training goes on from it, and ends with the same bytes as if it had never stopped (on the same
    machine). ``validate`` takes the model and returns a score, higher being better; it is asked every
    ``select_every`` epochs when ``select`` is not ``last``, and the best weights are kept. ``on_epoch`` is
    told of every epoch. Raises InputError for a checkpoint of another training, and where a loss stops being
    finite.
    """
    on, own_seed, config = torch.device(device), stream_seed(seed, dataset.stream), settled(config, device)
    record = Record(out, dataset, config, seed, shape_of(dataset, config))
    state = record.resume()
    model = new_model(dataset, config, own_seed)
    scaled = Scaled.of(dataset, model)
    engine = Engine(model.to(on), config, new_generator(own_seed, on))
    if state is not None:
        record.restore(state, engine.restore)
    if not record.done:
        features = place_features([scaled], precision_of(config), on, config.train.resident_gib)
        feed = Feed([dataset], [config.train], features, on)
        score = None if validate is None else lambda: judged(validate, model.shape, engine.weights(), on)
        with closing(feed.batches(record.epoch, config.train.epochs)) as batches:
            while not record.done:
                record.add(
                    _epoch(engine, batches, feed.steps, record.epoch), engine.state, engine.weights, score
                )
                if on_epoch is not None:
                    on_epoch(record.epoch, record.metrics)
    return record.finish(engine.weights())


def _epoch(engine: Engine, batches: Iterator[Batch], steps: int, epoch: int) -> dict[str, float]:
    """Mean losses of one epoch."""
    names: tuple[str, ...] = ()
    total: Tensor | float = 0.0
    for batch in islice(batches, steps):
        alone = Batch(batch.x[0], batch.labels[0], scaled=batch.scaled)  # (B, T, d), (B, C)
        terms = engine.step(alone, epoch)
        names, total = tuple(terms), total + torch.stack(list(terms.values()))  # (losses,)
    # The one moment at which a GPU is waited for.
    return {name: value / steps for name, value in zip(names, torch.as_tensor(total).tolist(), strict=True)}


def shape_of(dataset: SnippetDataset, config: Config) -> ModelShape:
    """The shape of a data set's model."""
    return ModelShape(
        dimension=dataset.dimension,
        classes=len(dataset.classes),
        attention_hidden=config.model.attention_hidden,
        attention_kernel=config.model.attention_kernel,
        cvae_hidden=config.model.cvae_hidden,
        latent=config.model.latent,
        r=config.model.r,
        classifier_bias=config.model.classifier_bias,
        normalise=config.model.normalise,
    )


def new_model(dataset: SnippetDataset, config: Config, seed: int, scaling: Scaling | None = None) -> DGAM:
    """An untrained model for a data set, on the CPU; its scaling is measured unless it is given."""
    model = DGAM(shape_of(dataset, config), torch.Generator().manual_seed(seed))
    if config.model.attention_start == "level":
        model.attention.level()
    if (scaling := scaling or measure_scaling(dataset, model.shape.normalise)) is not None:
        model.shift.copy_(scaling.shift)
        model.scale.copy_(scaling.scale)
    return model


def measure_scaling(dataset: SnippetDataset, normalise: str) -> Scaling | None:
    """What ``model.normalise`` needs to know of the training features, if anything."""
    if normalise not in ("scale", "root", "standard"):
        return None
    mean, deviation = dataset.moments(root=normalise == "root")  # (d,), (d,)
    if normalise != "standard":
        mean = np.zeros_like(mean)
        deviation = np.full_like(deviation, np.sqrt(np.mean(np.square(deviation))))
    # A dimension that never varies keeps scale 1.
    scale = 1 / np.where(deviation > 1e-6, deviation, 1)
    return Scaling(torch.from_numpy(mean), torch.from_numpy(scale))


def new_generator(seed: int, device: torch.device) -> torch.Generator:
    """The generator of a training's noise, from the seed that its model was made with."""
    return torch.Generator(device).manual_seed(seed + 1)


def precision_of(config: Config) -> torch.dtype:
    """In what the networks take features."""
    return torch.bfloat16 if config.train.precision == "bfloat16" else torch.float32


def judged(validate: Validate, shape: ModelShape, weights: dict[str, Tensor], device: torch.device) -> float:
    """The score of these weights, in a model of their own: training is not disturbed."""
    model = DGAM(shape, torch.Generator()).to(device)
    model.load_state_dict(weights)
    with torch.no_grad():
        return validate(model.eval())
