"""Copying snippet features from any layout into a feature store."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dgam.core.errors import InputError, Problem
from dgam.core.problems import Report, reporting
from dgam.core.progress import Advance
from dgam.features.arrays import as_problem, defect, where_of
from dgam.features.source import Array, FeatureSource
from dgam.features.writer import StoreWriter, too_large


@dataclass(frozen=True)
class Imported:
    """How many videos an import wrote, found there already, and left out because of defects."""

    written: int
    kept: int
    left_out: int


def import_features(
    source: FeatureSource,
    out: str | os.PathLike[str],
    *,
    dtype: str = "float32",
    durations: Mapping[str, float] | None = None,
    on_problem: Report | None = None,
    progress: Advance | None = None,
) -> Imported:
    """Write every video of ``source`` into the feature store ``out``, made where there is none.

    ``dtype`` is that on disk, "float32" or "float16" (half the size; features of usual networks lose nothing
    that matters, and values above 65504 are refused). ``durations`` gives seconds of videos where the source
    has none. Videos that the store holds already, with the same source, grid and number of snippets, are
    kept, so an import that was killed goes on where it was. ``progress(1)`` is called after each video.

    A video that lacks a stream, or whose features are unreadable, empty, of the wrong dimension, not finite
    or too large for ``dtype``, is a Problem. With ``on_problem`` None all are raised together as
    InputProblems, after every sound video was written; otherwise each is passed on and the video is left out.
    Raises InputError where ``out`` holds something else.
    """
    target = Path(out)
    if target.exists() and Path(source.name).exists() and target.resolve() == Path(source.name).resolve():
        raise InputError(f"{out}: is the source itself. Give another folder for the store.")
    writer = StoreWriter(out, source.streams, dtype=dtype)
    written = kept = left_out = 0
    with reporting(f"{source.name}: some videos cannot be imported:", on_problem) as report:
        for video in source.videos:
            problems = _copy(source, video, writer, (durations or {}).get(video))
            if problems is None:
                kept += 1
            elif problems:
                left_out += 1
                for problem in problems:
                    report(problem)
            else:
                written += 1
            if progress is not None:
                progress(1)
    return Imported(written, kept, left_out)


def _copy(
    source: FeatureSource, video: str, writer: StoreWriter, duration: float | None
) -> list[Problem] | None:
    """Write one video. What is wrong with it, empty when it was written; None where it was there already."""
    streams = list(source.streams)
    held = [stream for stream in streams if source.has(video, stream)]
    if missing := [stream for stream in streams if stream not in held]:
        absent, present = ", ".join(map(repr, missing)), ", ".join(map(repr, held))
        return [Problem(source.name, f"has no features in stream {absent}, only in {present}.", video)]
    origin = where_of(source, video, streams[0])
    try:
        timeline = source.timeline(video)
        duration = timeline.duration if timeline.duration is not None else duration
        stored = writer.entry(video)
    except InputError as error:
        return [as_problem(error, origin, video)]
    if stored and (stored.timeline, stored.source) == (replace(timeline, duration=duration), origin):
        return None
    arrays: dict[str, Array] = {}
    problems: list[Problem] = []
    for stream, dimension in source.streams.items():
        where = where_of(source, video, stream)
        try:
            arrays[stream] = source.read(video, stream)
        except InputError as error:
            problems.append(as_problem(error, where, video))
            continue
        found = defect(arrays[stream], dimension) or too_large(arrays[stream], np.dtype(writer.head.dtype))
        if found:
            problems.append(Problem(where, found, video))
    if not problems:
        try:
            writer.add(video, arrays, grid=timeline.grid, duration=duration, source=origin)
        except InputError as error:
            problems.append(as_problem(error, origin, video))
    return problems
