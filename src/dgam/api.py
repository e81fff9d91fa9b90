"""The functions that users call, from Python or, through the command line, from a shell.

>>> import dgam
>>> features = dgam.open_features("features")                       # doctest: +SKIP
>>> labels = dgam.read_labels("labels.csv").in_subset("train")      # doctest: +SKIP
>>> run = dgam.train(features, labels, "run")                       # doctest: +SKIP
>>> detections = dgam.localize(run, dgam.open_features("new"))      # doctest: +SKIP
>>> dgam.write_detections("detections.json", detections)            # doctest: +SKIP
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dgam.core.config import change_config, load_config
from dgam.core.errors import InputError, Problem
from dgam.core.files import atomic_write
from dgam.core.results import read_detections, write_detections
from dgam.core.run import Run, load_run
from dgam.core.types import Detections, SegmentAnnotations
from dgam.data.annotations import read_labels, read_segments
from dgam.data.checks import check
from dgam.data.simulate import simulate
from dgam.detection.localize import StreamModel, localize_videos, snippet_scores
from dgam.detection.proposals import StreamCurves
from dgam.evaluation import AttentionStatistics, SnippetScores, attention_statistics, evaluate
from dgam.features.convert import import_features
from dgam.features.layouts import open_features
from dgam.features.names import file_stem
from dgam.features.source import FeatureSource, read_stream
from dgam.runs import default_device as default_device
from dgam.runs import train, train_many, usable_device
from dgam.training.checkpoint import load_model as load_network

if TYPE_CHECKING:
    from dgam.extraction.worker import ExtractSettings
    from dgam.fitting.findings import Severity
    from dgam.fitting.fit import FitOptions, OnTraining
    from dgam.fitting.folder import ModelFolder

__all__ = [
    "check",
    "evaluate",
    "fit",
    "import_features",
    "load_config",
    "load_model",
    "load_run",
    "localize",
    "open_features",
    "read_detections",
    "read_labels",
    "read_segments",
    "simulate",
    "statistics",
    "train",
    "train_many",
    "write_detections",
]


def localize(
    run: Run | str | os.PathLike[str],
    features: FeatureSource,
    *,
    members: Sequence[Run | str | os.PathLike[str]] = (),
    videos: Sequence[str] | None = None,
    overrides: Sequence[str] = (),
    curves: str | os.PathLike[str] | None = None,
    device: str | None = None,
    on_problem: Callable[[Problem], None] | None = None,
    on_video: Callable[[str], None] | None = None,
) -> Detections:
    """Find segments in videos with a trained run.

    ``members`` are further runs, of the same streams and classes but for example other seeds: attention, TCAM
    and class probabilities are then means over all of them, and all settings those of ``run``. ``videos`` are
    all of the features by default. ``overrides`` change the run's ``localize`` settings, as
    "localize.thresholds=[0.3]". ``curves`` is a folder for one ``.npz`` per video with ``<stream>.positions``
    (T,) in edge coordinates, ``<stream>.attention`` (T,), ``<stream>.tcam`` and ``<stream>.logits`` (T, C),
    ``<stream>.probabilities`` (C,) and ``classes`` (C,). ``on_video`` is told of each finished video.

    Videos that cannot be localised are raised together as InputProblems; with ``on_problem`` each is told.
    """
    run = run if isinstance(run, Run) else load_run(run)
    run = _with_localize(run, overrides)
    chosen = tuple(features.videos if videos is None else videos)
    unknown = sorted(set(chosen) - set(features.videos))
    if unknown:
        raise InputError(f"{features.name}: has no video {unknown[0]!r} ({len(unknown)} such in all).")
    folder = Path(curves) if curves is not None else None
    if folder is not None and folder.exists() and not folder.is_dir():
        raise InputError(f"--curves {folder}: is a file; expected a folder.")

    def finished(video: str, found: Mapping[str, StreamCurves]) -> None:
        if folder is not None:
            save_curves(folder / f"{file_stem(video)}.npz", found, run.classes)
        if on_video is not None:
            on_video(video)

    more = [member if isinstance(member, Run) else load_run(member) for member in members]
    about = about_run(run, f"Features from {features.name}", more)
    models = load_members(run, more, device)
    return localize_videos(
        models, features, chosen, run.classes, on_problem=on_problem, on_video=finished, about=about
    )


def about_run(run: Run, details: str, members: Sequence[Run] = ()) -> dict[str, object]:
    """What a result file says of the run that made it, and of its further ``members``; ``details`` in words,
    such as where features are from."""
    facts = {
        "preset": run.config.preset,
        "streams": list(run.streams),
        "seed": run.seed,
        "localize": run.config.localize.model_dump(mode="json"),
    }
    if members:
        facts["members"] = [{"seed": member.seed, "preset": member.config.preset} for member in members]
    # One that was chosen on the test set makes all of it so.
    selections = dict.fromkeys(one.selection for one in (run, *members))
    return {"used": True, "details": details, "selection": "; ".join(selections), "dgam": facts}


def statistics(
    run: Run | str | os.PathLike[str],
    features: FeatureSource,
    truth: SegmentAnnotations,
    *,
    threshold: float = 0.5,
    device: str | None = None,
) -> dict[str, AttentionStatistics]:
    """The paper's table 2 for each stream: how attention and classifier lie over the ground truth.

    The class score of a snippet is the softmax of its TCAM for the video's own classes, the greatest where it
    has several (equation 13 without smoothing). Videos without features are left out of the count.
    """
    run = run if isinstance(run, Run) else load_run(run)
    column = {name: index for index, name in enumerate(run.classes)}
    found = {}
    for stream, own in load_models(run, device).items():
        scores = {}
        for video, annotated in truth.videos.items():
            if not all(features.has(video, part) for part in stream.split("+")):
                continue
            attention, classes = snippet_scores(
                own.model, read_stream(features, video, stream)
            )  # (T,), (T, C)
            labels = sorted({column[s.label] for s in annotated.segments if s.label in column})
            stretches = [(s.start, s.end) for s in annotated.segments]
            inside = features.timeline(video).mask(stretches)
            scores[video] = SnippetScores(attention, classes[:, labels], inside)
        found[stream] = attention_statistics(scores, threshold)
    return found


def fit(
    videos: str | os.PathLike[str] | FeatureSource,
    labels: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    extraction: ExtractSettings | None = None,
    store: str | os.PathLike[str] | None = None,
    options: FitOptions | None = None,
    on_problem: Callable[[Severity, Problem], None] | None = None,
    on_training: OnTraining | None = None,
) -> ModelFolder:
    """Train on one's own videos, or their features, and a table of labels: :func:`dgam.fitting.fit.fit`."""
    from dgam.fitting.fit import fit

    return fit(
        videos,
        labels,
        out,
        extraction=extraction,
        store=store,
        options=options,
        on_problem=on_problem,
        on_training=on_training,
    )


def load_model(path: str | os.PathLike[str]) -> ModelFolder:
    """Open a model folder: :func:`dgam.fitting.folder.load_model_folder`."""
    from dgam.fitting.folder import load_model_folder

    return load_model_folder(path)


def load_models(run: Run, device: str | None = None) -> dict[str, StreamModel]:
    """The models of a run by stream, on ``device``, with each stream's own settings."""
    models, device = {}, usable_device(device)
    for stream in run.streams:
        model = load_network(run.folder(stream) / "model.safetensors").to(device)
        if model.shape.classes != len(run.classes):
            raise InputError(
                f"{run.folder(stream)}: a model of {model.shape.classes} classes, but run.json lists "
                f"{len(run.classes)}. Both must come from the same training."
            )
        models[stream] = StreamModel(model, run.config.for_stream(stream).localize)
    return models


def load_members(run: Run, members: Sequence[Run], device: str | None = None) -> dict[str, StreamModel]:
    """The models of a run by stream, each with those of ``members`` beside it. InputError for a member of
    other classes, streams or feature dimensions."""
    models = load_models(run, device)
    for member in members:
        for what in ("classes", "streams"):  # streams with their dimensions
            if getattr(member, what) != getattr(run, what):
                raise InputError(
                    f"{member.path}: has other {what} than {run.path}. Members must be trained on the same "
                    "classes and on features of the same extractor."
                )
        for stream, own in load_models(member, device).items():
            models[stream] = replace(models[stream], others=(*models[stream].others, own.model))
    return models


def _with_localize(run: Run, overrides: Sequence[str]) -> Run:
    outside = [
        text
        for text in overrides
        if not (text.startswith("localize.") or ".localize." in text.partition("=")[0])
    ]
    if outside:
        raise InputError(f"--set: {outside[0]!r} has no effect after training; only localize.* settings do.")
    return Run(**{**vars(run), "config": change_config(run.config, overrides)})


def save_curves(path: Path, curves: Mapping[str, StreamCurves], classes: Sequence[str]) -> None:
    """Write one video's curves as ``.npz``, atomically, with the arrays that :func:`localize` tells of."""
    arrays = {
        f"{stream}.{name}": value for stream, own in curves.items() for name, value in vars(own).items()
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, classes=np.array(classes), **arrays)
    with atomic_write(path) as file:
        file.write(buffer.getvalue())
