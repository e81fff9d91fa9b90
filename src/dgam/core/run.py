"""The run folder: what a training leaves behind and what localising needs to know of it.

RUN/run.json                        format, seed, classes, streams, settings, how the weights were chosen
RUN/<stream>/model.safetensors      the weights to localise with
RUN/<stream>/checkpoint.safetensors the whole state of training, to go on from
RUN/<stream>/metrics.jsonl          one JSON object per logged epoch
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from dgam.core.config import Config
from dgam.core.errors import InputError
from dgam.core.files import write_json

FORMAT = 1
RUN_FILE = "run.json"


@dataclass(frozen=True)
class Run:
    """Facts about a training run.

    ``streams`` maps a stream to its feature dimension ("rgb+flow" is a joint one), ``selection`` says in
    words how the weights were chosen, ``videos`` is how many were trained on, ``labels`` where the labels are
    from.
    """

    path: Path
    seed: int
    classes: tuple[str, ...]
    streams: dict[str, int]
    config: Config
    selection: str
    videos: int
    labels: str = ""

    def folder(self, stream: str) -> Path:
        """Where a stream's files lie."""
        return self.path / stream

    def save(self) -> None:
        """Write ``run.json``, atomically."""
        value = {
            "format": FORMAT,
            "seed": self.seed,
            "selection": self.selection,
            "videos": self.videos,
            "labels": self.labels,
            "streams": self.streams,
            "classes": list(self.classes),
            "config": self.config.model_dump(mode="json"),
        }
        write_json(self.path / RUN_FILE, value)


def load_run(path: str | os.PathLike[str]) -> Run:
    """Read a run folder's ``run.json``. InputError where there is none or it does not fit this version."""
    folder = Path(path)
    file = folder / RUN_FILE
    if not file.is_file():
        raise InputError(
            f"{folder}: not a run folder, it has no run.json. Expected what 'dgam train --out RUN' made."
        )
    try:
        value: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if value["format"] != FORMAT:
            raise InputError(f"{file}: format {value['format']}, this version of dgam reads {FORMAT}.")
        return Run(
            path=folder,
            seed=int(value["seed"]),
            classes=tuple(map(str, value["classes"])),
            streams={str(name): int(size) for name, size in value["streams"].items()},
            config=Config.model_validate(value["config"]),
            selection=str(value["selection"]),
            videos=int(value["videos"]),
            labels=str(value.get("labels", "")),
        )
    except (KeyError, TypeError, ValueError, AttributeError, ValidationError) as error:
        detail = " ".join(str(error).split())
        raise InputError(
            f"{file}: damaged or not written by dgam ({type(error).__name__}: {detail})."
        ) from error
