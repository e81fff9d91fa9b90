"""What a model says of videos that it was not trained on, as far as video labels can judge it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dgam.core.errors import InputError
from dgam.core.files import write_json
from dgam.core.run import Run, load_run
from dgam.core.types import VideoLabels
from dgam.features.source import FeatureSource
from dgam.fitting.calibrate import Judged


def judge(
    run: Run | Path, features: FeatureSource, labels: VideoLabels, part: int, device: str | None = None
) -> list[Judged]:
    """Localise every class in each of the videos of ``labels``, held out together as number ``part``."""
    from dgam.api import load_models
    from dgam.detection.localize import localize_video

    run = run if isinstance(run, Run) else load_run(run)
    models = {
        # All classes, so that a class threshold can be chosen afterwards.
        stream: replace(own, settings=own.settings.model_copy(update={"class_threshold": 0.0}))
        for stream, own in load_models(run, device).items()
    }
    column = {name: index for index, name in enumerate(run.classes)}
    found = []
    for video, names in labels.labels.items():
        detections, curves = localize_video(models, features, video, run.classes)
        best = np.full(len(column), -np.inf)
        for detection in detections:
            best[column[detection.label]] = max(best[column[detection.label]], detection.score)
        truth = np.zeros(len(column), dtype=bool)
        truth[[column[name] for name in names]] = True
        found.append(
            Judged(
                video=video,
                truth=truth,
                part=part,
                probabilities={stream: own.probabilities for stream, own in curves.items()},
                best=best,
                attended={stream: float((own.attention > 0.5).mean()) for stream, own in curves.items()},
            )
        )
    return found


def save_judged(path: Path, judged: Sequence[Judged]) -> None:
    """Write them as JSON, atomically; every digit is kept."""
    write_json(path, [_to_json(one) for one in judged])


def load_judged(path: Path) -> list[Judged] | None:
    """Read what :func:`save_judged` wrote; None where it is not there."""
    try:
        return [_from_json(one) for one in json.loads(path.read_text(encoding="utf-8"))]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: is damaged ({error}). Delete it and give the command again.") from error


def _to_json(one: Judged) -> dict[str, Any]:
    return {
        "video": one.video,
        "truth": one.truth.astype(int).tolist(),
        "part": one.part,
        "probabilities": {stream: values.tolist() for stream, values in one.probabilities.items()},
        "best": [value if np.isfinite(value) else None for value in one.best.tolist()],
        "attended": one.attended,
    }


def _from_json(value: Mapping[str, Any]) -> Judged:
    return Judged(
        video=value["video"],
        truth=np.array(value["truth"], dtype=bool),
        part=value["part"],
        probabilities={s: np.array(p, dtype=np.float64) for s, p in value["probabilities"].items()},
        best=np.array([-np.inf if score is None else score for score in value["best"]]),
        attended=value["attended"],
    )
