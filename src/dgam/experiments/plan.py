"""From an experiment and a request to the work that has to be done, every piece named by its key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import dgam
from dgam.core.config import Config
from dgam.core.errors import InputError
from dgam.evaluation import TIOU_ACTIVITYNET, TIOU_THUMOS14
from dgam.experiments.cache import digest_of
from dgam.experiments.data import DataSpec, Identities
from dgam.experiments.source import MEASURING, TRAINING, source_of
from dgam.experiments.spec import Experiment, Row
from dgam.experiments.tasks import Measurement, Part, Training

STANDARD_TIOU = tuple(sorted({*TIOU_THUMOS14, *TIOU_ACTIVITYNET}))
"""Thresholds at which everything is measured, so that experiments share measurements."""

FREE = {"checkpoint_every", "log_every", "resident_gib"}
"""Settings of training that change no weight, so they are no part of a key."""


@dataclass(frozen=True)
class Request:
    """What the user asks for besides the experiment.

    ``overrides`` go on top of the preset (the experiment's, unless ``preset`` names another) and below the
    experiment's own. ``streams`` limits an experiment to these. ``left_out`` maps the data of a seed to
    training videos that are left out; ``lenient`` localises what test videos have.
    """

    data: DataSpec
    seeds: tuple[int, ...]
    preset: str | None = None
    file: Path | None = None
    overrides: tuple[str, ...] = ()
    streams: tuple[str, ...] = ()
    device: str | None = None
    lenient: bool = False
    left_out: Mapping[DataSpec, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """The work of an experiment: what to train, then what to measure, by row and seed."""

    experiment: Experiment
    request: Request
    configs: Mapping[str, Config]
    rows: tuple[Row, ...]
    streams: tuple[str, ...]
    trainings: tuple[Training, ...]
    measurements: Mapping[tuple[str, int], Measurement]
    notes: tuple[str, ...]


def make_plan(experiment: Experiment, request: Request, identities: Identities) -> Plan:
    """Resolve every model's settings and name every piece of work. InputError where the request does not fit
    the experiment or the data."""
    streams = _streams(experiment, request)
    base = experiment.base(request.preset, request.file, request.overrides)
    configs = {model: experiment.config(model, base) for model in experiment.models}
    rows = _rows(experiment, streams)
    trainings: dict[str, Training] = {}
    measurements: dict[tuple[str, int], Measurement] = {}
    for seed in request.seeds:
        data = request.data.at(seed)
        keys: dict[tuple[str, str], str] = {}
        for model, config in configs.items():
            for stream in streams:
                made = training_of(config, data, stream, seed, request, identities, model)
                keys[model, stream] = made.key
                trainings.setdefault(made.key, made)
        for row in rows:
            parts = {
                stream: Part(
                    keys[row.attention, stream],
                    keys[row.classifier, stream],
                    # proposals and scores are cut from curves by the settings of the model that attends
                    configs[row.attention].for_stream(stream).localize,
                )
                for stream in streams
            }
            measurements[row.name, seed] = measurement_of(
                parts,
                data,
                f"{experiment.name}, {row.name}, seed {seed}",
                request,
                identities,
                experiment.tiou,
                also=(row.streams,),
            )
    notes = (*_notes(experiment, request, base, configs), *_missing_rows(experiment, rows))
    return Plan(experiment, request, configs, rows, streams, tuple(trainings.values()), measurements, notes)


def training_of(
    config: Config,
    data: DataSpec,
    stream: str,
    seed: int,
    request: Request,
    identities: Identities,
    model: str,
) -> Training:
    """The training of one stream, with its key."""
    own = config.for_stream(stream)
    about: dict[str, Any] = {
        "what": "training",
        "dgam": dgam.__version__,
        "source": source_of(*TRAINING),
        "data": identities.training(data, stream),
        "stream": stream,
        "seed": seed,
        "model": own.model.model_dump(mode="json"),
        "loss": own.loss.model_dump(mode="json"),
        "train": own.train.model_dump(mode="json", exclude=FREE),
    }
    if own.train.select == "test-map":  # then the test data shape the weights, too
        about["source"] = source_of(*MEASURING)
        about["test"] = identities.test(data, stream)
        about["localize"] = own.localize.model_dump(mode="json")
    return Training(
        key=digest_of(about),
        title=f"{model}, {stream}, seed {seed}",
        data=data,
        stream=stream,
        seed=seed,
        config=own,
        device=request.device,
        without=request.left_out.get(data, ()),
        about=about,
    )


def measurement_of(
    parts: Mapping[str, Part],
    data: DataSpec,
    title: str,
    request: Request,
    identities: Identities,
    tiou: Sequence[float],
    videos: tuple[str, ...] | None = None,
    also: Sequence[tuple[str, ...]] = (),
) -> Measurement:
    """What is measured of finished runs, with its key: all streams fused, each by itself, and ``also`` sets
    of them."""
    thresholds = tuple(sorted({*STANDARD_TIOU, *tiou}))
    systems = tuple(dict.fromkeys([tuple(parts), *((stream,) for stream in parts), *also]))
    about = {
        "what": "measurement",
        "dgam": dgam.__version__,
        "source": source_of(*MEASURING),
        "data": {stream: identities.test(data, stream) for stream in parts},
        "parts": {
            stream: [part.attention, part.classifier, part.settings.model_dump(mode="json")]
            for stream, part in parts.items()
        },
        "protocol": repr(data.protocol),
        "tiou": list(thresholds),
        "systems": systems,
        "videos": None if videos is None else sorted(videos),
        "lenient": request.lenient,
    }
    return Measurement(
        key=digest_of(about),
        title=title,
        data=data,
        parts=parts,
        systems=systems,
        tiou=thresholds,
        device=request.device,
        videos=videos,
        lenient=request.lenient,
    )


def _streams(experiment: Experiment, request: Request) -> tuple[str, ...]:
    chosen = request.streams or experiment.streams
    here = request.data.at(request.seeds[0]).read_training()[0].streams
    missing = [stream for stream in chosen if not set(stream.split("+")) <= set(here)]
    if missing:
        has = ", ".join(here) or "none"
        raise InputError(
            f"{experiment.name} uses the streams {', '.join(chosen)}; {request.data.training} has {has}. "
            f"Choose with --streams, as --streams {next(iter(here), 'rgb')}."
        )
    return chosen


def _rows(experiment: Experiment, streams: tuple[str, ...]) -> tuple[Row, ...]:
    """The rows that these streams can give; one on all of the experiment's streams is now one on these."""
    found: dict[tuple[str, str, tuple[str, ...]], Row] = {}
    for row in experiment.rows:
        if set(row.streams) <= set(streams):
            kept = row
        elif row.streams == experiment.streams:
            kept = replace(row, streams=streams)
        else:
            continue
        found.setdefault((kept.attention, kept.classifier, kept.streams), kept)
    return tuple(found.values())


def _missing_rows(experiment: Experiment, rows: Sequence[Row]) -> list[str]:
    names = {row.name for row in rows}
    gone = [row.name for row in experiment.rows if row.name not in names]
    return [f"Left out, since their streams were not asked for: {', '.join(gone)}."] if gone else []


def _notes(
    experiment: Experiment, request: Request, base: Config, configs: Mapping[str, Config]
) -> list[str]:
    """What a reader should know of the settings."""
    notes = []
    own = {override.partition("=")[0] for overrides in experiment.models.values() for override in overrides}
    asked = {override.partition("=")[0].strip() for override in request.overrides}
    if overruled := sorted(own & asked):
        notes.append(
            f"The experiment's own values of {', '.join(overruled)} win over those given with --set."
        )
    generative = any(config.loss.gamma1 > 0 for config in configs.values())
    if generative and base.loss.warmup_epochs > base.train.epochs:
        notes.append(
            f"The warm-up of the generative losses ({base.loss.warmup_epochs} epochs) is longer than the "
            f"training ({base.train.epochs} epochs): they never reach their full weight."
        )
    if base.preset != experiment.preset:
        notes.append(f"Preset {base.preset} in place of the experiment's own, {experiment.preset}.")
    return notes
