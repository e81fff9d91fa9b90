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
from pathlib import Path

import numpy as np
import torch

from dgam.core.config import Config, change_config, load_config
from dgam.core.errors import InputError, InputProblems, Problem
from dgam.core.files import atomic_write
from dgam.core.results import read_detections, write_detections
from dgam.core.run import RUN_FILE, Run, load_run
from dgam.core.types import Detections, SegmentAnnotations, VideoLabels
from dgam.data.annotations import read_labels, read_segments
from dgam.data.checks import check
from dgam.data.dataset import SnippetDataset
from dgam.data.simulate import simulate
from dgam.detection.localize import StreamModel, localize_videos, snippet_scores
from dgam.detection.proposals import StreamCurves
from dgam.evaluation import AttentionStatistics, SnippetScores, attention_statistics, evaluate
from dgam.features.convert import import_features
from dgam.features.layouts import open_features
from dgam.features.names import file_stem
from dgam.features.source import FeatureSource, read_stream
from dgam.model.losses import foreground_loss, label_targets, pool
from dgam.model.networks import DGAM
from dgam.training.checkpoint import load_model
from dgam.training.trainer import STREAM_FILES, train_stream

__all__ = [
    "check",
    "evaluate",
    "import_features",
    "load_config",
    "load_run",
    "localize",
    "open_features",
    "read_detections",
    "read_labels",
    "read_segments",
    "simulate",
    "statistics",
    "train",
    "write_detections",
]

_HELD_OUT = 3  # keeps the draw of held-out videos apart from other draws of the same seed


def train(
    features: FeatureSource,
    labels: VideoLabels,
    out: str | os.PathLike[str],
    *,
    config: Config | None = None,
    seed: int = 0,
    streams: Sequence[str] | None = None,
    device: str | None = None,
    restart: bool = False,
    test: tuple[FeatureSource, SegmentAnnotations] | None = None,
    labels_from: str = "",
    on_problem: Callable[[Problem], None] | None = None,
    on_epoch: Callable[[str, int, dict[str, float]], None] | None = None,
) -> Run:
    """Train one model per stream on video labels, and leave a run folder.

    ``streams`` are those of the features by default; "rgb+flow" joins two into one model's input. A run that
    was interrupted goes on from its newest checkpoint; ``restart`` begins anew. ``device`` is a torch device,
    by default a GPU if there is one. ``test`` is used only where ``config.train.select`` is "test-map", which
    chooses the weights by the test annotations as DGAM's authors did; the run then says so.

    Defective videos are raised together as InputProblems before training starts; with ``on_problem`` each is
    told and left out. ``on_epoch`` is told (stream, epoch, losses). Raises InputError for anything else that
    is not usable.
    """
    config = config or load_config()
    folder, device = Path(out), _usable_device(device)
    if seed < 0:
        raise InputError(f"--seed: must be a whole number from 0 on, got {seed}.")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--out {folder}: is a file; expected the run folder to write, or to go on with.")
    chosen = tuple(streams or features.streams)
    _refuse_unknown_streams(features, chosen, config)
    if (test is None) != (config.train.select != "test-map"):
        raise InputError(
            "train.select=test-map needs the test features and annotations, and only it does. "
            "Give --test-features and --test-ground-truth with it, or leave all three out."
        )
    labels = _usable(features, labels, chosen, on_problem)
    if restart:
        # Only what training itself wrote: a folder named after a stream may also hold that stream's features.
        for name in (RUN_FILE, *(f"{stream}/{name}" for stream in chosen for name in STREAM_FILES)):
            (folder / name).unlink(missing_ok=True)
    selections = []
    for stream in chosen:
        own = config.for_stream(stream)
        training, held_out = _split(labels, own, seed)
        dataset = SnippetDataset(features, training, stream, snippets=own.train.snippets, seed=seed)
        validate = None
        if own.train.select == "held-out":
            validate = _by_classification(features, held_out, stream)
        elif test is not None:
            validate = _by_test_map(test, stream, own, labels.classes)

        def tell(epoch: int, losses: dict[str, float], stream: str = stream) -> None:
            if on_epoch is not None:
                on_epoch(stream, epoch, losses)

        trained = train_stream(
            dataset, own, folder / stream, seed=seed, device=device, validate=validate, on_epoch=tell
        )
        selections.append(f"{stream}: epoch {trained.epoch}")
    run = Run(
        path=folder,
        seed=seed,
        classes=labels.classes,
        streams={s: sum(features.streams[part] for part in s.split("+")) for s in chosen},
        config=config,
        selection=f"{_SELECTION[config.train.select]} ({', '.join(selections)})",
        videos=len(labels),
        labels=labels_from,
    )
    run.save()
    return run


_SELECTION = {
    "last": "the weights after the last epoch",
    "held-out": "the best by video classification on held-out training videos",
    "test-map": "CHOSEN ON THE TEST SET: the best by test mAP@0.5, as DGAM's authors did; not comparable "
    "with models chosen without test annotations",
}


def localize(
    run: Run | str | os.PathLike[str],
    features: FeatureSource,
    *,
    videos: Sequence[str] | None = None,
    overrides: Sequence[str] = (),
    curves: str | os.PathLike[str] | None = None,
    device: str | None = None,
    on_problem: Callable[[Problem], None] | None = None,
    on_video: Callable[[str], None] | None = None,
) -> Detections:
    """Find segments in videos with a trained run.

    ``videos`` are all of the features by default. ``overrides`` change the run's ``localize`` settings, as
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
            _save_curves(folder / f"{file_stem(video)}.npz", found, run.classes)
        if on_video is not None:
            on_video(video)

    about = {
        "used": True,
        "details": f"Features from {features.name}",
        "selection": run.selection,
        "dgam": {
            "preset": run.config.preset,
            "streams": list(run.streams),
            "seed": run.seed,
            "localize": run.config.localize.model_dump(mode="json"),
        },
    }
    models = load_models(run, device)
    return localize_videos(
        models, features, chosen, run.classes, on_problem=on_problem, on_video=finished, about=about
    )


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


def load_models(run: Run, device: str | None = None) -> dict[str, StreamModel]:
    """The models of a run by stream, on ``device``, with each stream's own settings."""
    models, device = {}, _usable_device(device)
    for stream in run.streams:
        model = load_model(run.folder(stream) / "model.safetensors").to(device)
        if model.shape.classes != len(run.classes):
            raise InputError(
                f"{run.folder(stream)}: a model of {model.shape.classes} classes, but run.json lists "
                f"{len(run.classes)}. Both must come from the same training."
            )
        models[stream] = StreamModel(model, run.config.for_stream(stream).localize)
    return models


def default_device() -> str:
    """A GPU if there is one, else the CPU."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def _usable_device(name: str | None) -> str:
    name = name or default_device()
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"--device {name}: cannot be used here. Take cpu, or a GPU that is there, as cuda or cuda:1."
        ) from error
    return name


def _usable(
    features: FeatureSource,
    labels: VideoLabels,
    streams: Sequence[str],
    on_problem: Callable[[Problem], None] | None,
) -> VideoLabels:
    """The labels without videos that cannot be trained on; without ``on_problem`` such videos are raised."""
    parts = list(dict.fromkeys(part for stream in streams for part in stream.split("+")))
    found = check(features, labels, streams=parts, unlabelled=False)
    problems = [p for p in found if p.video is None or p.video in labels.labels]
    if not problems:
        return labels
    if on_problem is None or any(p.video is None for p in problems):
        heading = "The training data are not usable (--skip-bad leaves such videos out):"
        raise InputProblems(heading, problems)
    for problem in problems:
        on_problem(problem)
    bad = {p.video for p in problems}
    kept = labels.only(video for video in labels.videos if video not in bad)
    if not kept.videos:
        raise InputProblems("No usable video is left:", problems)
    return kept


def _refuse_unknown_streams(features: FeatureSource, streams: Sequence[str], config: Config) -> None:
    for stream in streams:
        for part in stream.split("+"):
            if part not in features.streams:
                known = ", ".join(features.streams) or "none"
                raise InputError(f"--streams: {features.name} has no stream {part!r}. It has: {known}.")
    if not streams:
        raise InputError(f"{features.name}: has no stream to train on.")
    # Presets have settings for rgb and flow, which not all features have; any other name must be meant.
    for stream in sorted(set(config.streams) - {"rgb", "flow", *streams}):
        raise InputError(
            f"streams.{stream}: there is no such stream in this training; it has {', '.join(streams)}."
        )


def _split(labels: VideoLabels, config: Config, seed: int) -> tuple[VideoLabels, VideoLabels]:
    """Videos to train on and videos held out (none unless the selection asks for them)."""
    if config.train.select != "held-out":
        return labels, labels.only([])
    count = max(1, round(config.train.held_out * len(labels)))
    if count >= len(labels):
        raise InputError(
            f"train.held_out={config.train.held_out} leaves none of {len(labels)} videos to train on."
        )
    order = np.random.default_rng([seed, _HELD_OUT]).permutation(len(labels))
    apart = {labels.videos[index] for index in order[:count]}
    return labels.only(v for v in labels.videos if v not in apart), labels.only(
        v for v in labels.videos if v in apart
    )


def _by_classification(
    features: FeatureSource, held_out: VideoLabels, stream: str
) -> Callable[[DGAM], float]:
    """Mean log-likelihood of the held-out videos' labels, from all of their snippets."""
    column = {name: index for index, name in enumerate(held_out.classes)}

    def score(model: DGAM) -> float:
        device = next(model.parameters()).device
        total = 0.0
        for video, names in held_out.labels.items():
            x = torch.from_numpy(np.array(read_stream(features, video, stream), dtype=np.float32)).to(device)
            labels = torch.zeros(1, len(column), device=device)
            labels[0, [column[name] for name in names]] = 1
            scaled = model.scaled(x.unsqueeze(0))  # (1, T, d)
            logits = model.classifier(pool(scaled, model.attention(scaled)))  # (1, C + 1)
            total -= float(foreground_loss(logits, label_targets(labels)))
        return total / len(held_out)

    return score


def _by_test_map(
    test: tuple[FeatureSource, SegmentAnnotations], stream: str, config: Config, classes: tuple[str, ...]
) -> Callable[[DGAM], float]:
    features, truth = test
    parts = stream.split("+")
    videos = [video for video in truth.videos if all(features.has(video, part) for part in parts)]
    if not videos:
        raise InputError(
            f"--test-features: {features.name} has stream {stream!r} for none of the {len(truth.videos)} "
            f"videos of {truth.source or 'the test annotations'}. Are both of the same data set?"
        )
    # Videos of other subsets, or without features, would count as misses.
    truth = SegmentAnnotations({video: truth.videos[video] for video in videos}, truth.classes, truth.source)

    def score(model: DGAM) -> float:
        found = localize_videos({stream: StreamModel(model, config.localize)}, features, videos, classes)
        return evaluate(found, truth, [0.5]).map[0]

    return score


def _with_localize(run: Run, overrides: Sequence[str]) -> Run:
    outside = [
        text
        for text in overrides
        if not (text.startswith("localize.") or ".localize." in text.partition("=")[0])
    ]
    if outside:
        raise InputError(f"--set: {outside[0]!r} has no effect after training; only localize.* settings do.")
    return Run(**{**vars(run), "config": change_config(run.config, overrides)})


def _save_curves(path: Path, curves: Mapping[str, StreamCurves], classes: Sequence[str]) -> None:
    arrays = {
        f"{stream}.{name}": value for stream, own in curves.items() for name, value in vars(own).items()
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, classes=np.array(classes), **arrays)
    with atomic_write(path) as file:
        file.write(buffer.getvalue())
