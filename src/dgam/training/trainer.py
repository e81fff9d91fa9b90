"""Training of one stream, from its first epoch or from its newest checkpoint."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dgam.core.config import Config
from dgam.core.errors import InputError
from dgam.core.files import atomic_write
from dgam.data.dataset import SnippetDataset
from dgam.model.networks import DGAM, ModelShape
from dgam.training.checkpoint import load_tensors, save_model, save_tensors
from dgam.training.engine import Batch, Engine

Validate = Callable[[DGAM], float]
OnEpoch = Callable[[int, dict[str, float]], None]

STREAM_FILES = ("checkpoint.safetensors", "best.safetensors", "model.safetensors", "metrics.jsonl")
"""All that :func:`train_stream` writes into its folder."""


@dataclass(frozen=True)
class Trained:
    """What training a stream came to: the epoch whose weights were kept, and the last losses."""

    epoch: int
    metrics: dict[str, float]


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
    identity = _identity(dataset, config, seed)
    engine = _new_engine(dataset, config, stream_seed(seed, dataset.stream), device)
    checkpoint, metrics_file = out / "checkpoint.safetensors", out / "metrics.jsonl"
    epoch, best = _resume(engine, checkpoint, identity)
    _keep_lines_before(metrics_file, epoch)
    metrics: dict[str, float] = {}
    while epoch < config.train.epochs:
        metrics = _run_epoch(engine, dataset, config, epoch, device)
        epoch += 1
        if validate is not None and (epoch % config.train.select_every == 0 or epoch == config.train.epochs):
            metrics["selection"] = _score(engine, validate)
            if best is None or metrics["selection"] > best[1]:
                best = (epoch, metrics["selection"])
                save_model(out / "best.safetensors", engine.model.shape, engine.weights(), epoch)
        if epoch % config.train.log_every == 0 or epoch == config.train.epochs:
            _append_line(metrics_file, {"epoch": epoch, **metrics})
        if epoch % config.train.checkpoint_every == 0 or epoch == config.train.epochs:
            save_tensors(checkpoint, engine.state(), {"identity": identity, "epoch": epoch, "best": best})
        if on_epoch is not None:
            on_epoch(epoch, metrics)
    if best is not None:
        with atomic_write(out / "model.safetensors") as file:
            file.write((out / "best.safetensors").read_bytes())
        return Trained(best[0], metrics)
    save_model(out / "model.safetensors", engine.model.shape, engine.weights(), epoch)
    return Trained(epoch, metrics)


def _new_engine(dataset: SnippetDataset, config: Config, seed: int, device: str) -> Engine:
    shape = ModelShape(
        dimension=dataset.dimension,
        classes=len(dataset.classes),
        attention_hidden=config.model.attention_hidden,
        cvae_hidden=config.model.cvae_hidden,
        latent=config.model.latent,
        r=config.model.r,
        classifier_bias=config.model.classifier_bias,
        normalise=config.model.normalise,
    )
    model = DGAM(shape, torch.Generator().manual_seed(seed))
    if shape.normalise in ("scale", "root", "standard"):
        _measure_scaling(model, dataset)
    return Engine(model.to(device), config, torch.Generator(device).manual_seed(seed + 1))


def _measure_scaling(model: DGAM, dataset: SnippetDataset) -> None:
    """Set the model's shift and scale from the training features; a dimension that never varies keeps scale
    1."""
    mean, deviation = dataset.moments(root=model.shape.normalise == "root")  # (d,), (d,)
    if model.shape.normalise == "standard":
        model.shift.copy_(torch.from_numpy(mean))
    else:
        deviation = np.full_like(deviation, np.sqrt(np.mean(np.square(deviation))))
    model.scale.copy_(torch.from_numpy(1 / np.where(deviation > 1e-6, deviation, 1)))


def _run_epoch(
    engine: Engine, dataset: SnippetDataset, config: Config, epoch: int, device: str
) -> dict[str, float]:
    sums: dict[str, torch.Tensor] = {}
    batches = dataset.batches(epoch, config.train.batch, drop_last=config.train.drop_last)
    for rows in batches:
        x, labels = dataset.sample(rows, epoch // config.train.resample_every)
        batch = Batch(torch.from_numpy(x).to(device), torch.from_numpy(labels).to(device))
        for name, value in engine.step(batch, epoch).items():
            sums[name] = sums.get(name, torch.zeros((), device=value.device)) + value
    metrics = {name: float(value) / len(batches) for name, value in sums.items()}
    broken = [name for name, value in metrics.items() if not np.isfinite(value)]
    if broken:
        raise InputError(
            f"training stream {dataset.stream!r}: the loss {broken[0]!r} became {metrics[broken[0]]} in "
            f"epoch {epoch + 1}. Try a smaller train.lr, train.clip=1, or model.normalise=standard."
        )
    return metrics


def _score(engine: Engine, validate: Validate) -> float:
    """Validate with the weights that would be kept, and put the training weights back."""
    current = {name: value.clone() for name, value in engine.model.state_dict().items()}
    engine.model.load_state_dict(engine.weights())
    with torch.no_grad():
        score = validate(engine.model)
    engine.model.load_state_dict(current)
    return score


def _identity(dataset: SnippetDataset, config: Config, seed: int) -> dict[str, Any]:
    """What must be equal for a checkpoint to be gone on from; how often it is saved or logged need not be."""
    train = config.train.model_dump(mode="json", exclude={"checkpoint_every", "log_every"})
    videos = zlib.crc32("\n".join(dataset.videos).encode())
    return {
        "seed": seed,
        "stream": dataset.stream,
        "dimension": dataset.dimension,
        "classes": list(dataset.classes),
        "videos": f"{len(dataset)} of checksum {videos:08x}",
        "labels": f"checksum {dataset.labels_checksum():08x}",
        "model": config.model.model_dump(mode="json"),
        "loss": config.loss.model_dump(mode="json"),
        "train": train,
    }


def _resume(
    engine: Engine, checkpoint: Path, identity: dict[str, Any]
) -> tuple[int, tuple[int, float] | None]:
    if not checkpoint.exists():
        return 0, None
    tensors, facts = load_tensors(checkpoint)
    known = facts.get("identity", {})
    changed = sorted(key for key in identity if known.get(key) != identity[key])
    if changed:
        raise InputError(
            f"{checkpoint}: belongs to another training (its {', '.join(changed)} differ). "
            "Choose another --out, or pass --restart to overwrite it."
        )
    try:
        engine.restore(tensors)
    except (KeyError, RuntimeError) as error:
        raise InputError(
            f"{checkpoint}: does not fit the model ({error}). Pass --restart to start anew."
        ) from error
    best = facts.get("best")
    return int(facts["epoch"]), (int(best[0]), float(best[1])) if best else None


def _append_line(path: Path, value: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(value) + "\n")


def _keep_lines_before(path: Path, epoch: int) -> None:
    """Drop the metrics that a killed run logged after the checkpoint that training goes on from."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        try:
            if json.loads(line)["epoch"] <= epoch:
                kept.append(line)
        except (ValueError, KeyError, TypeError):
            break  # the line that was being written when the run was killed
    with atomic_write(path) as file:
        file.write("".join(kept).encode())
