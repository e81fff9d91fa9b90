"""What a model folder was asked to become, so that a killed fit goes on and another one is refused."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dgam.core.config import Config, change_config
from dgam.core.errors import InputError
from dgam.core.files import clear_unfinished, write_json
from dgam.core.locks import file_lock
from dgam.core.run import RUN_FILE
from dgam.core.types import VideoLabels
from dgam.fitting.calibration import CALIBRATION_FILE
from dgam.fitting.folder import CARD_DATA, CARD_TEXT, TIMES_FILE
from dgam.fitting.identity import ENCODER_FILE

REQUEST_FILE = "fit.json"
WORK = ".fit"
"""Folder for what is only needed until the fit is done."""
STEPS = 420
"""Training steps that the default preset takes on the 200 videos it was chosen on."""

_OWN_FILES = (RUN_FILE, ENCODER_FILE, CALIBRATION_FILE, CARD_TEXT, CARD_DATA, TIMES_FILE, REQUEST_FILE)


def refuse_foreign(out: Path) -> None:
    """InputError where ``out`` is a file, or a folder of something else than an earlier fit."""
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out}: is a file; expected the model folder to write, or to go on with.")
    if not out.is_dir() or (out / REQUEST_FILE).is_file():
        return
    if other := sorted(path.name for path in out.iterdir() if path.name[0] != "."):
        raise InputError(
            f"--out {out}: is not empty and was not made by 'dgam fit' (it holds {', '.join(other[:5])}). "
            "Give a new folder."
        )


@contextmanager
def claim(out: Path, request: Mapping[str, Any], restart: bool) -> Iterator[bool]:
    """Keep the folder for this fit for the length of the block; yields whether the fit is done already.

    InputError where something else is in the way, or another process at work on it. ``restart`` clears what
    an earlier fit left.
    """
    refuse_foreign(out)
    out.mkdir(parents=True, exist_ok=True)
    with file_lock(out / ".fit.lock") as mine:
        if not mine:
            raise InputError(
                f"--out {out}: another 'dgam fit' is at work on this folder. Wait for it to end, "
                "or give another folder."
            )
        yield _enter(out, request, restart)


def _enter(out: Path, request: Mapping[str, Any], restart: bool) -> bool:
    file = out / REQUEST_FILE
    if file.is_file() and restart:
        _clear(out, file)
    elif file.is_file():
        _refuse_other(file, request)
        if (out / RUN_FILE).is_file():
            return True
    for name in _OWN_FILES:
        clear_unfinished(out / name)
    write_json(file, dict(request))
    return False


def _clear(out: Path, file: Path) -> None:
    """Remove what an earlier fit left; run.json first, without which the folder is no model."""
    (out / RUN_FILE).unlink(missing_ok=True)
    for stream in _read(file).get("streams", ()):
        shutil.rmtree(out / str(stream), ignore_errors=True)
    for name in _OWN_FILES:
        (out / name).unlink(missing_ok=True)
    shutil.rmtree(out / WORK, ignore_errors=True)


def _read(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _refuse_other(file: Path, request: Mapping[str, Any]) -> None:
    there = _read(file)
    changed = [key for key in request if there.get(key) != json.loads(json.dumps(request[key]))]
    if changed:
        raise InputError(
            f"--out {file.parent}: holds another fit (its {', '.join(changed)} differ). Give another --out, "
            "or pass --restart to replace it."
        )


def with_enough_steps(config: Config, videos: int) -> Config:
    """The settings with as many epochs as the default preset's number of steps takes on so few videos.

    The warm-up grows with them. Settings that take that many steps already stay as they are.
    """
    steps = math.ceil(videos / config.train.batch)
    epochs = math.ceil(STEPS / steps)
    if epochs <= config.train.epochs:
        return config
    warmup = round(config.loss.warmup_epochs * epochs / config.train.epochs)
    return change_config(config, [f"train.epochs={epochs}", f"loss.warmup_epochs={warmup}"])


class Stopwatch:
    """Seconds that each step took, kept in the work folder over interruptions."""

    def __init__(self, work: Path) -> None:
        self._file = work / TIMES_FILE
        try:
            self.seconds: dict[str, float] = dict(json.loads(self._file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            self.seconds = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Add the time of a block to a step, also where it is interrupted."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.add(name, time.monotonic() - start)

    def add(self, name: str, seconds: float) -> None:
        """Add to the time of a step."""
        self.seconds[name] = round(self.seconds.get(name, 0.0) + seconds, 1)
        write_json(self._file, self.seconds)


def describe(
    labels: VideoLabels,
    digests: Mapping[str, str],
    streams: Sequence[str],
    config: Config,
    seed: int,
    parts: Sequence[Sequence[str]],
    encoder: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """The request as ``fit.json`` holds it: all that decides the model, and nothing else."""
    return {
        "format": 1,
        "seed": seed,
        "streams": list(streams),
        "classes": list(labels.classes),
        "labels": {video: sorted(names) for video, names in sorted(labels.labels.items())},
        "features": dict(digests),
        "encoder": dict(encoder) if encoder is not None else None,
        "settings": config.model_dump(mode="json"),
        "held-out parts": [list(part) for part in parts],
    }
