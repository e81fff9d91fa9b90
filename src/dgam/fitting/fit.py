"""From videos and their labels to a model folder: check, extract, hold out and judge, train on all."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from dgam.core.config import Config, change_config, load_config
from dgam.core.errors import InputError, Problem
from dgam.core.files import atomic_write, write_json
from dgam.core.timeline import SnippetGrid
from dgam.core.types import VideoLabels
from dgam.extraction.worker import ExtractSettings
from dgam.features.layouts import Layout
from dgam.features.source import FeatureSource, dimension
from dgam.fitting.calibrate import Judged
from dgam.fitting.calibration import CALIBRATION_FILE, Calibration
from dgam.fitting.card import build_card, card_text
from dgam.fitting.conclude import conclude, warnings_of
from dgam.fitting.findings import Severity
from dgam.fitting.folder import CARD_DATA, CARD_TEXT, TIMES_FILE, ModelFolder, load_model_folder
from dgam.fitting.folds import HoldOut, parts_to_hold_out
from dgam.fitting.identity import ENCODER_FILE
from dgam.fitting.inputs import Inputs, Strictness, from_features, from_videos, holds_videos
from dgam.fitting.judge import judge, load_judged, save_judged
from dgam.fitting.request import WORK, Stopwatch, claim, describe, refuse_foreign, with_enough_steps

OnTraining = Callable[[str, float, dict[str, float]], None]
"""Told of each epoch: what is trained ("part 1 of 5, rgb"), how much of all training is done (0 to 1), and
the losses."""


@dataclass(frozen=True)
class FitOptions:
    """How a fit goes about it, apart from its data.

    ``streams`` are the models' ("rgb+flow" is a joint one), by default each of the features'. ``config`` None
    is the default preset. ``enough_steps`` says whether it gets as many epochs as few videos need, see
    :func:`dgam.fitting.request.with_enough_steps`; by default only where no config is given.
    ``hold_out``: see :func:`dgam.fitting.folds.parts_to_hold_out`. ``device`` is a torch device, by default a
    GPU if there is one. ``layout``, ``grid`` and ``weights`` are for ready features: how they lie, their
    place in time, and where the weights of the encoder that made them lie.
    """

    streams: tuple[str, ...] | None = None
    config: Config | None = None
    enough_steps: bool | None = None
    seed: int = 0
    hold_out: HoldOut = "auto"
    subset: tuple[str, ...] = ()
    skip_bad: bool = False
    strict: bool = False
    restart: bool = False
    workers: int = 1
    device: str | None = None
    layout: Layout = "auto"
    grid: SnippetGrid | None = None
    weights: dict[str, str] = field(default_factory=dict)

    @property
    def parts(self) -> tuple[str, ...] | None:
        """The streams that features must have; None for all that there are."""
        if self.streams is None:
            return None
        return tuple(dict.fromkeys(part for stream in self.streams for part in stream.split("+")))


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
    """Train a model that finds when actions happen, from videos and the labels of each, into a model folder.

    ``videos`` is a folder (or ``.txt`` list) of videos, or ready features; ``labels`` a spreadsheet
    ``video,labels`` or any other format of ``read_labels``, of which times are not read. ``extraction`` says
    which encoder and streams; for ready features, which encoder made them (then the model can read videos).
    ``store`` keeps extracted features, by default ``OUT.features`` beside the model folder.

    Parts of the videos are held out to judge the model and to choose thresholds, by video labels only; the
    model that stays is trained on all videos. A fit that was interrupted goes on when called again in the
    same way, and ends with the same bytes (``times.json`` apart). ``on_problem`` is told what the checks
    found. Raises InputProblems with everything that is wrong, and InputError for a folder in the way.
    """
    options, folder = options or FitOptions(), Path(out)
    _refuse_options(options)
    refuse_foreign(folder)
    warnings: list[str] = []

    def tell(severity: Severity, problem: Problem) -> None:
        if severity == "warning":
            warnings.append(str(problem))
        if on_problem is not None:
            on_problem(severity, problem)

    manner = Strictness(tell, options.skip_bad, options.strict)
    start = time.monotonic()
    inputs, streams = _gather(videos, Path(labels), folder, extraction, store, options, manner)
    seconds = time.monotonic() - start
    config = options.config or load_config()
    if options.enough_steps or (options.enough_steps is None and options.config is None):
        config = with_enough_steps(config, len(inputs.labels))
    parts, held_out = parts_to_hold_out(inputs.labels, options.hold_out, options.seed)
    needed = tuple(dict.fromkeys(part for stream in streams for part in stream.split("+")))
    recorded = inputs.identity.recorded if inputs.identity is not None else None
    request = describe(inputs.labels, inputs.digests(needed), streams, config, options.seed, parts, recorded)
    with claim(folder, request, options.restart) as done:
        if not done:
            watch = Stopwatch(folder / WORK)
            watch.add("checking and extracting", seconds)
            job = _Job(inputs, folder, streams, config, options, str(labels), parts, watch, on_training)
            job.run(held_out, warnings)
        shutil.rmtree(folder / WORK, ignore_errors=True)
    return load_model_folder(folder)


@dataclass(frozen=True)
class _Job:
    """A fit whose data are ready."""

    inputs: Inputs
    out: Path
    streams: tuple[str, ...]
    config: Config
    options: FitOptions
    labels_from: str
    parts: tuple[tuple[str, ...], ...]
    watch: Stopwatch
    on_training: OnTraining | None

    def run(self, held_out: str, warnings: list[str]) -> None:
        """Judge on held-out parts, then train on all. run.json comes last: with it the folder is a model."""
        judged: list[Judged] = []
        for number, part in enumerate(self.parts):
            with self.watch.step("held-out parts"):
                judged += self._judge(number, part)
        calibration: Calibration | None = None
        config = self.config
        if judged:
            with self.watch.step("calibrating"):
                calibration, overrides = conclude(
                    judged, self.inputs.labels.classes, self.config, self.streams, held_out, self.options.seed
                )
            config = change_config(self.config, overrides)
        card = build_card(
            self.inputs,
            config,
            seed=self.options.seed,
            streams={stream: dimension(self.inputs.features, stream) for stream in self.streams},
            labels_from=self.labels_from,
            calibration=calibration,
            held_out=held_out,
            data_warnings=warnings,
            model_warnings=warnings_of(judged, calibration),
        )
        identity = self.inputs.identity
        write_json(self.out / ENCODER_FILE, identity.to_json() if identity is not None else None)
        write_json(self.out / CALIBRATION_FILE, calibration.to_json() if calibration is not None else None)
        write_json(self.out / CARD_DATA, card)
        with atomic_write(self.out / CARD_TEXT) as file:
            file.write(card_text(card, self.out.resolve().name).encode())
        with self.watch.step("training on all videos"):
            self._train(self.inputs.labels, config, self.out, "all videos", len(self.parts))
        write_json(self.out / TIMES_FILE, self.watch.seconds)

    def _judge(self, number: int, part: tuple[str, ...]) -> list[Judged]:
        """Train without a part and judge that part, unless that was done before an interruption."""
        file = self.out / WORK / f"part-{number}.json"
        found = load_judged(file)
        if found is None:
            labels = self.inputs.labels
            rest = labels.only(video for video in labels.videos if video not in part)
            folder = self.out / WORK / f"part-{number}"
            self._train(rest, self.config, folder, f"part {number + 1} of {len(self.parts)}", number)
            found = judge(folder, self.inputs.features, labels.only(part), number, self.options.device)
            save_judged(file, found)
        return found

    def _train(self, labels: VideoLabels, config: Config, out: Path, what: str, number: int) -> None:
        from dgam.api import train

        def tell(stream: str, epoch: int, losses: dict[str, float]) -> None:
            if self.on_training is not None:
                epochs = config.train.epochs
                done = (number * len(self.streams) + self.streams.index(stream)) * epochs + epoch
                whole = (len(self.parts) + 1) * len(self.streams) * epochs
                self.on_training(f"{what}, {stream}", done / whole, losses)

        train(
            self.inputs.features,
            labels,
            out,
            config=config,
            seed=self.options.seed,
            streams=self.streams,
            device=self.options.device,
            labels_from=self.labels_from,
            on_epoch=tell,
        )


def _gather(
    videos: str | os.PathLike[str] | FeatureSource,
    labels: Path,
    out: Path,
    extraction: ExtractSettings | None,
    store: str | os.PathLike[str] | None,
    options: FitOptions,
    manner: Strictness,
) -> tuple[Inputs, tuple[str, ...]]:
    """The training data, and the streams to train."""
    if not isinstance(videos, str | os.PathLike):
        inputs = _ready(videos, labels, extraction, options, manner)
    elif not Path(videos).exists():
        raise InputError(f"{videos}: does not exist. Expected a folder of videos, or of their features.")
    elif holds_videos(Path(videos)):
        settings = extraction or ExtractSettings()
        if options.parts is not None:
            settings = replace(settings, streams=options.parts)
        place = Path(store) if store is not None else out.with_name(f"{out.name}.features")
        inputs = from_videos(
            Path(videos), labels, settings, place, manner, subset=options.subset, workers=options.workers
        )
        return inputs, options.streams or settings.streams
    else:
        inputs = _ready(Path(videos), labels, extraction, options, manner)
    return inputs, options.streams or tuple(inputs.features.streams)


def _ready(
    features: Path | FeatureSource,
    labels: Path,
    extraction: ExtractSettings | None,
    options: FitOptions,
    manner: Strictness,
) -> Inputs:
    return from_features(
        features,
        labels,
        manner,
        parts=options.parts,
        subset=options.subset,
        layout=options.layout,
        grid=options.grid,
        settings=extraction,
        weights=options.weights,
    )


def _refuse_options(options: FitOptions) -> None:
    if options.seed < 0:
        raise InputError(f"--seed: must be a whole number from 0 on, got {options.seed}.")
    if options.config is not None and options.config.train.select == "test-map":
        raise InputError(
            "train.select=test-map looks at test annotations; 'dgam fit' sees video labels only."
        )
