"""From a run and snippet features to detections: the only part of detection that needs torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from dgam.core.config import LocalizeSettings
from dgam.core.errors import InputError, InputProblems, Problem
from dgam.core.types import Detection, Detections
from dgam.data.sampling import uniform
from dgam.detection.proposals import StreamCurves
from dgam.detection.scoring import detect_video
from dgam.features.arrays import as_problem
from dgam.features.source import FeatureSource, dimension, read_stream
from dgam.model.losses import pool
from dgam.model.networks import DGAM


@dataclass(frozen=True)
class StreamModel:
    """A trained model of one stream, ready to localise: on its device and in evaluation mode."""

    model: DGAM
    settings: LocalizeSettings


def stream_curves(model: DGAM, x: NDArray[np.floating], settings: LocalizeSettings) -> StreamCurves:
    """What a model says about one video: features (T, d) of any float type, T >= 1, at the snippets that it
    samples.

    ValueError where T is 0.
    """
    rows = uniform(x.shape[0], settings.t_min, settings.t_max)
    device = next(model.parameters()).device
    batch = (
        torch.from_numpy(np.ascontiguousarray(x[rows], dtype=np.float32)).to(device).unsqueeze(0)
    )  # (1, T', d)
    with torch.inference_mode():
        attention, logits, tcam = model(batch)  # (1, T'), (1, T', C + 1) twice
        foreground = pool(model.scaled(batch), attention)  # (1, d)
        probabilities = torch.softmax(model.classifier(foreground), dim=1)  # (1, C + 1)
    return StreamCurves(
        positions=rows.astype(np.float64) + 0.5,
        attention=_array(attention[0]),
        tcam=_array(tcam[0, :, :-1]),
        logits=_array(logits[0, :, :-1]),
        probabilities=_array(probabilities[0, :-1]),
    )


def snippet_scores(model: DGAM, x: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Attention λ (T,) and class probabilities (T, C), the softmax of the TCAM, at every snippet of (T,
    d)."""
    device = next(model.parameters()).device
    batch = torch.from_numpy(np.array(x, dtype=np.float32)).to(device).unsqueeze(0)  # (1, T, d)
    with torch.inference_mode():
        attention, _, tcam = model(batch)  # (1, T), …, (1, T, C + 1)
    return _array(attention[0]), _array(torch.softmax(tcam[0], dim=-1)[:, :-1])


def localize_video(
    models: Mapping[str, StreamModel], features: FeatureSource, video: str, classes: tuple[str, ...]
) -> tuple[list[Detection], dict[str, StreamCurves]]:
    """Detections of one video, best first, and the curves of the streams that it has.

    A video without any of the streams, or without snippets, is an InputError.
    """
    present = _present(models, features, video)
    if not present:
        raise InputError(f"{features.name}: video {video!r} has none of the streams {', '.join(models)}.")
    timeline = features.timeline(video)
    if timeline.snippets < 1:
        raise InputError(f"{features.name}: video {video!r} has no snippets (T = 0).")
    curves = {}
    for stream in present:
        x = read_stream(features, video, stream)  # (T, d)
        if not np.isfinite(x).all():
            raise InputError(
                f"{features.name}: video {video!r}: stream {stream!r} has NaN or infinite features."
            )
        curves[stream] = stream_curves(models[stream].model, x, models[stream].settings)
    settings = {stream: own.settings for stream, own in models.items()}
    return detect_video(curves, settings, timeline, classes), curves


def localize_videos(
    models: Mapping[str, StreamModel],
    features: FeatureSource,
    videos: Iterable[str],
    classes: tuple[str, ...],
    *,
    on_problem: Callable[[Problem], None] | None = None,
    on_video: Callable[[str, Mapping[str, StreamCurves]], None] | None = None,
    about: Mapping[str, object] | None = None,
) -> Detections:
    """Localise many videos. ``on_video`` is told of each with its curves, as soon as it is done.

    A video that cannot be localised, or lacks some of the streams, is a problem: without ``on_problem`` all
    of them are raised together as InputProblems, at the end; with it each is told, and what the video has is
    used.
    """
    _refuse_dimensions(models, features)
    found: dict[str, list[Detection]] = {}
    problems: list[Problem] = []
    report = on_problem or problems.append
    for video in videos:
        missing = [part for s in models for part in s.split("+") if not features.has(video, part)]
        if missing:
            report(Problem(features.name, f"has no features in stream {missing[0]!r}.", video))
        try:
            found[video], curves = localize_video(models, features, video, classes)
        except InputError as error:
            if not missing or _present(models, features, video):
                report(_as_problem(error, features, video))
            continue
        if on_video is not None:
            on_video(video, curves)
    if problems:
        raise InputProblems("Some videos cannot be localised (--skip-bad goes on without them):", problems)
    return Detections(found, about or {})


def _present(models: Mapping[str, StreamModel], features: FeatureSource, video: str) -> list[str]:
    return [s for s in models if all(features.has(video, part) for part in s.split("+"))]


def _as_problem(error: InputError, features: FeatureSource, video: str) -> Problem:
    """An error about a video as a Problem, which names source and video by itself."""
    found = as_problem(error, features.name, video)
    return replace(found, what=found.what.removeprefix(f"video {video!r}").removeprefix(":").strip())


def _refuse_dimensions(models: Mapping[str, StreamModel], features: FeatureSource) -> None:
    for stream, own in models.items():
        missing = [part for part in stream.split("+") if part not in features.streams]
        if missing:
            raise InputError(
                f"{features.name}: has no stream {missing[0]!r}, which the run was trained on. "
                f"It has: {', '.join(features.streams) or 'none'}."
            )
        here, there = dimension(features, stream), own.model.shape.dimension
        if here != there:
            raise InputError(
                f"{features.name}: stream {stream!r} has dimension {here}, the run was trained on "
                f"dimension {there}. Features must come from the same extractor."
            )


def _array(tensor: torch.Tensor) -> NDArray[np.float64]:
    return tensor.double().cpu().numpy()
