"""From a run and snippet features to detections: the only part of detection that needs torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from dgam.core.config import LocalizeSettings
from dgam.core.errors import InputError, InputProblems, Problem
from dgam.core.types import Detection, Detections
from dgam.data.sampling import uniform
from dgam.detection.fusion import mean_curves
from dgam.detection.proposals import StreamCurves
from dgam.detection.scoring import detect_video
from dgam.features.arrays import all_finite, as_problem
from dgam.features.source import FeatureSource, dimension, read_stream
from dgam.model.networks import DGAM


@dataclass(frozen=True)
class StreamModel:
    """A trained model of one stream, ready to localise: on its device and in evaluation mode.

    ``others`` are models of the same stream and classes from other trainings, such as other seeds; what all
    of them say is averaged.
    """

    model: DGAM
    settings: LocalizeSettings
    others: tuple[DGAM, ...] = ()

    def curves(self, x: NDArray[np.floating]) -> StreamCurves:
        """What :func:`stream_curves` says of features (T, d), the mean over all models."""
        return mean_curves([stream_curves(model, x, self.settings) for model in (self.model, *self.others)])


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
        scaled = model.scaled(batch)  # (1, T', d)
        attention = model.attention(scaled)[0].cpu().numpy()  # (T',)
        tcam = model.classifier.tcam(scaled)[0].cpu().numpy()  # (T', C + 1)
    # The classifier is linear: its output for a snippet, or for pooled ones, is the TCAM's and the bias.
    bias = _bias(model)  # (C + 1,)
    weight = attention.astype(np.float64)
    pooled = weight @ tcam / max(weight.sum(), np.finfo(np.float64).tiny) + bias  # (C + 1,)
    likelihood = np.exp(pooled - pooled.max())
    return StreamCurves(
        positions=rows.astype(np.float64) + 0.5,
        attention=weight,
        tcam=tcam[:, :-1].astype(np.float64),
        logits=(tcam + bias)[:, :-1].astype(np.float64),
        probabilities=(likelihood / likelihood.sum())[:-1],
    )


def _bias(model: DGAM) -> NDArray[np.float32]:
    """The classifier's bias (C + 1,), 0 where it has none."""
    layer = model.classifier.output
    if layer.bias is None:
        return np.zeros(layer.out_features, dtype=np.float32)
    return layer.bias.detach().cpu().numpy()


def snippet_scores(model: DGAM, x: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Attention λ (T,) and class probabilities (T, C), the softmax of the TCAM, at every snippet of (T,
    d)."""
    device = next(model.parameters()).device
    batch = torch.from_numpy(np.array(x, dtype=np.float32)).to(device).unsqueeze(0)  # (1, T, d)
    with torch.inference_mode():
        scaled = model.scaled(batch)  # (1, T, d)
        attention, tcam = model.attention(scaled), model.classifier.tcam(scaled)  # (1, T), (1, T, C + 1)
    return _array(attention[0]), _array(torch.softmax(tcam[0], dim=-1)[:, :-1])


def localize_video(
    models: Mapping[str, StreamModel], features: FeatureSource, video: str, classes: tuple[str, ...]
) -> tuple[list[Detection], dict[str, StreamCurves]]:
    """Detections of one video, best first, and the curves of the streams that it has.

    A video without any of the streams, or without snippets, is an InputError.
    """
    return _localize(models, features, video, classes, checked=False)


def _localize(
    models: Mapping[str, StreamModel],
    features: FeatureSource,
    video: str,
    classes: tuple[str, ...],
    *,
    checked: bool,
) -> tuple[list[Detection], dict[str, StreamCurves]]:
    curves = {
        stream: models[stream].curves(x) for stream, x in _inputs(models, features, video, checked=checked)
    }
    settings = {stream: own.settings for stream, own in models.items()}
    return detect_video(curves, settings, features.timeline(video), classes), curves


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
    of them are raised together as InputProblems, before any video is localised; with it each is told, and
    what the video has is used.
    """
    _refuse_dimensions(models, features)
    videos = list(videos)
    checked = on_problem is None
    if checked:
        _refuse_bad_videos(models, features, videos)
    found: dict[str, list[Detection]] = {}
    problems: list[Problem] = []
    report = on_problem or problems.append
    for video in videos:
        missing = _missing(models, features, video)
        for problem in missing:
            report(problem)
        try:
            found[video], curves = _localize(models, features, video, classes, checked=checked)
        except InputError as error:
            if not missing or _present(models, features, video):
                report(_as_problem(error, features, video))
            continue
        if on_video is not None:
            on_video(video, curves)
    if problems:
        raise InputProblems(_CANNOT, problems)
    return Detections(found, about or {})


_CANNOT = "Some videos cannot be localised (--skip-bad goes on without them):"


def _refuse_bad_videos(
    models: Mapping[str, StreamModel], features: FeatureSource, videos: Sequence[str]
) -> None:
    """InputProblems with all defects of the videos' features: reading them is quick beside localising, and a
    bad video at the end must not cost the work on those before it."""
    problems: list[Problem] = []
    for video in videos:
        missing = _missing(models, features, video)
        problems += missing
        try:
            for _ in _inputs(models, features, video, checked=False):
                pass
        except InputError as error:
            if not missing or _present(models, features, video):
                problems.append(_as_problem(error, features, video))
    if problems:
        raise InputProblems(_CANNOT, problems)


def _inputs(
    models: Mapping[str, StreamModel], features: FeatureSource, video: str, *, checked: bool
) -> Iterator[tuple[str, NDArray[np.floating]]]:
    """The features (T, d) of each stream that the video has, one at a time; InputError where they are not
    usable. What is ``checked`` already is not searched for NaN again."""
    present = _present(models, features, video)
    if not present:
        raise InputError(f"{features.name}: video {video!r} has none of the streams {', '.join(models)}.")
    if features.timeline(video).snippets < 1:
        raise InputError(f"{features.name}: video {video!r} has no snippets (T = 0).")
    for stream in present:
        x = read_stream(features, video, stream)  # (T, d)
        if not checked and not all_finite(x):
            raise InputError(
                f"{features.name}: video {video!r}: stream {stream!r} has NaN or infinite features."
            )
        yield stream, x


def _missing(models: Mapping[str, StreamModel], features: FeatureSource, video: str) -> list[Problem]:
    """The first stream that the video lacks, as a problem; [] where it has all."""
    parts = [part for s in models for part in s.split("+") if not features.has(video, part)]
    return [Problem(features.name, f"has no features in stream {part!r}.", video) for part in parts[:1]]


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
