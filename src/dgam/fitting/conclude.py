"""What follows from the held-out videos: thresholds, scores, and warnings about the model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dgam.core.config import Config
from dgam.fitting.calibrate import Judged, choose_class_threshold, choose_score_threshold, held_out_scores
from dgam.fitting.calibration import Calibration

EVERYWHERE, NOWHERE = 0.95, 0.02


def conclude(
    judged: Sequence[Judged],
    classes: Sequence[str],
    config: Config,
    streams: Sequence[str],
    method: str,
    seed: int,
) -> tuple[Calibration, list[str]]:
    """The calibration, and the settings (as dotted overrides) that the final model takes from it."""
    notes, thresholds = [], {}
    overrides = []
    for stream in streams:
        preset = config.for_stream(stream).localize.class_threshold
        thresholds[stream], note = choose_class_threshold(judged, stream, preset)
        notes.append(note)
        if thresholds[stream] != preset:
            one = "localize" if len(streams) == 1 else f"streams.{stream}.localize"
            overrides.append(f"{one}.class_threshold={thresholds[stream]!r}")
    score, note = choose_score_threshold(judged, thresholds)
    notes.append(note)
    notes.append(
        "attention thresholds are the preset's: video labels do not say where segments begin and end, so "
        "they cannot choose them."
    )
    attention = {stream: config.for_stream(stream).localize.thresholds for stream in streams}
    scores = held_out_scores(judged, classes, seed)
    scores["attended"] = _attended(judged)
    calibration = Calibration(method, len(judged), thresholds, attention, score, scores, tuple(notes))
    return calibration, overrides


def warnings_of(judged: Sequence[Judged], calibration: Calibration | None) -> list[str]:
    """What is doubtful about the model itself, in words."""
    if calibration is None:
        return ["Nothing was held out: how well the model tells even the video labels is not known."]
    found = []
    scores = calibration.scores
    if scores["map"] is not None and scores["map"] <= scores["chance_95"]:
        found.append(
            "On held-out videos the model may tell the labels by chance only (mean average precision "
            f"{scores['map']:.2f}; 95 % of random orders stay below {scores['chance_95']:.2f})."
        )
    for stream, share in _attended(judged).items():
        if share > EVERYWHERE:
            found.append(
                f"{stream}: attention is high in {100 * share:.0f} % of held-out snippets: segments will "
                "hardly be tighter than whole videos."
            )
        elif share < NOWHERE:
            found.append(
                f"{stream}: attention is high in {100 * share:.1f} % of held-out snippets: most actions will "
                "be missed, or be found by relative thresholds only."
            )
    return found


def _attended(judged: Sequence[Judged]) -> dict[str, float]:
    """By stream, the mean share of snippets whose attention is above a half."""
    streams = dict.fromkeys(stream for one in judged for stream in one.attended)
    return {
        stream: float(np.mean([one.attended[stream] for one in judged if stream in one.attended]))
        for stream in streams
    }
