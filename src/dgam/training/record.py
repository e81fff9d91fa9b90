"""What the training of a stream leaves in its folder as it goes, and goes on from after it was stopped."""

from __future__ import annotations

import json
import math
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from dgam.core.config import Config, LossSettings, ModelSettings, TrainSettings
from dgam.core.errors import InputError
from dgam.core.files import atomic_write
from dgam.data.dataset import SnippetDataset
from dgam.model.networks import DGAM, ModelShape
from dgam.training.checkpoint import load_tensors, save_model, save_tensors
from dgam.training.ending import EPOCHS, Ending

Validate = Callable[[DGAM], float]

STREAM_FILES = ("checkpoint.safetensors", "best.safetensors", "model.safetensors", "metrics.jsonl")
"""All that the training of a stream writes into its folder."""

# What does not change the weights may differ between a checkpoint and the training that goes on from it.
_FREE = {"checkpoint_every", "log_every", "resident_gib"}

_SECTIONS = {"model": ModelSettings(), "loss": LossSettings(), "train": TrainSettings()}


_PAUSE = 0.5  # seconds between two writings of the log
_TOLD = 4  # differences between two trainings that are named


@dataclass(frozen=True)
class Trained:
    """What training a stream came to: the epoch whose weights were kept, and the last losses."""

    epoch: int
    metrics: dict[str, float]


class Diverged(InputError):
    """A loss that stopped being finite."""


class Record:
    """One training's folder: checkpoint, metrics, the best weights so far, and in the end the model.

    ``epoch`` counts the epochs that are done, ``metrics`` holds the last one's losses.
    """

    def __init__(
        self, out: Path, dataset: SnippetDataset, config: Config, seed: int, shape: ModelShape
    ) -> None:
        self.epoch = 0
        self.metrics: dict[str, float] = {}
        self._out = out
        self._shape = shape
        self._stream = dataset.stream
        self._settings: TrainSettings = config.train
        self._ending = Ending(dataset.labels, config.loss, config.train)
        self._foreground: list[float] = []  # L_fg of the last epochs
        self._identity = _identity(dataset, config, seed)
        self._best: tuple[int, float] | None = None
        self._lines: list[str] = []
        self._written = time.monotonic()

    @property
    def done(self) -> bool:
        """Whether training is over: all epochs are behind us, or enough of them."""
        return self._ending.reached(self.epoch, self._foreground)

    def resume(self) -> dict[str, Tensor] | None:
        """The state in the newest checkpoint, and the metrics cut off after it; None where there is none.

        InputError where the checkpoint belongs to another training or cannot be read.
        """
        checkpoint, state = self._out / "checkpoint.safetensors", None
        if checkpoint.exists():
            state, facts = load_tensors(checkpoint)
            changed = _differing(_with_defaults(facts.get("identity", {})), self._identity)
            if changed:
                more = f" and {len(changed) - _TOLD} more" if len(changed) > _TOLD else ""
                raise InputError(
                    f"{checkpoint}: belongs to another training "
                    f"(its {', '.join(changed[:_TOLD])}{more} differ). "
                    "Choose another --out, or pass --restart to overwrite it."
                )
            best = facts.get("best")
            self.epoch = int(facts["epoch"])
            self._best = (int(best[0]), float(best[1])) if best else None
            self._foreground = [float(value) for value in facts.get("foreground", [])]
        _keep_lines_before(self._out / "metrics.jsonl", self.epoch)
        return state

    def restore(self, state: Mapping[str, Tensor], take: Callable[[Mapping[str, Tensor]], None]) -> None:
        """Have an engine ``take`` up a state; InputError where it does not fit."""
        try:
            take(state)
        except (KeyError, RuntimeError) as error:
            checkpoint = self._out / "checkpoint.safetensors"
            raise InputError(
                f"{checkpoint}: does not fit the model ({error}). Pass --restart to start anew."
            ) from error

    def add(
        self,
        metrics: dict[str, float],
        state: Callable[[], Mapping[str, Tensor]],
        weights: Callable[[], Mapping[str, Tensor]],
        score: Callable[[], float] | None,
    ) -> None:
        """Note one more epoch: keep the best weights where a ``score`` chooses them, log, save a checkpoint.

        Diverged where a loss is not finite; nothing of that epoch is written then. Lines of the log wait for
        a moment, as hundreds of epochs can pass in a second.
        """
        settings = self._settings
        try:
            self._refuse_not_finite(metrics)
        except Diverged:
            self._write_lines()
            raise
        self.epoch += 1
        self.metrics = dict(metrics)
        self._foreground = [*self._foreground, metrics["fg"]][-EPOCHS:]
        if score is not None and (self.epoch % settings.select_every == 0 or self.done):
            self.metrics["selection"] = score()
            if self._best is None or self.metrics["selection"] > self._best[1]:
                self._best = (self.epoch, self.metrics["selection"])
                save_model(self._out / "best.safetensors", self._shape, weights(), self.epoch)
        if self.epoch % settings.log_every == 0 or self.done:
            self._lines.append(json.dumps({"epoch": self.epoch, **self.metrics}) + "\n")
        due = self.epoch % settings.checkpoint_every == 0 or self.done
        if due or time.monotonic() - self._written > _PAUSE:
            self._write_lines()
        if due:
            facts = {
                "identity": self._identity,
                "epoch": self.epoch,
                "best": self._best,
                "foreground": self._foreground,
            }
            save_tensors(self._out / "checkpoint.safetensors", state(), facts)

    def finish(self, weights: Mapping[str, Tensor]) -> Trained:
        """Leave the model to localise with: the best weights, or these."""
        if self._best is not None:
            with atomic_write(self._out / "model.safetensors") as file:
                file.write((self._out / "best.safetensors").read_bytes())
            return Trained(self._best[0], self.metrics)
        save_model(self._out / "model.safetensors", self._shape, weights, self.epoch)
        return Trained(self.epoch, self.metrics)

    def _write_lines(self) -> None:
        if self._lines:
            self._out.mkdir(parents=True, exist_ok=True)
            with open(self._out / "metrics.jsonl", "a", encoding="utf-8") as file:
                file.write("".join(self._lines))
            self._lines.clear()
        self._written = time.monotonic()

    def _refuse_not_finite(self, metrics: Mapping[str, float]) -> None:
        broken = [name for name, value in metrics.items() if not math.isfinite(value)]
        if broken:
            raise Diverged(
                f"training stream {self._stream!r}: the loss {broken[0]!r} became {metrics[broken[0]]} in "
                f"epoch {self.epoch + 1}. Try a smaller train.lr, train.clip=1, or model.normalise=standard."
            )


def _identity(dataset: SnippetDataset, config: Config, seed: int) -> dict[str, Any]:
    """What must be equal for a checkpoint to be gone on from."""
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
        "train": config.train.model_dump(mode="json", exclude=_FREE),
    }


def _differing(known: Mapping[str, Any], own: Mapping[str, Any]) -> list[str]:
    """What differs, sorted; of a section of settings, which of them do."""
    found = []
    for key, value in own.items():
        theirs = known.get(key)
        if isinstance(value, dict) and isinstance(theirs, dict):
            found += [f"{key}.{name}" for name in {**theirs, **value} if theirs.get(name) != value.get(name)]
        elif theirs != value:
            found.append(key)
    return sorted(found)


def _with_defaults(identity: Mapping[str, Any]) -> dict[str, Any]:
    """An identity that an older dgam wrote: of a setting that is newer, it meant what is now its default."""
    whole = dict(identity)
    for section, settings in _SECTIONS.items():
        whole[section] = settings.model_dump(mode="json", exclude=_FREE) | whole.get(section, {})
    return whole


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
