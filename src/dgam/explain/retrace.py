"""A video's candidates with where they come from: what ``detect_video`` does, with nothing forgotten.

:func:`dgam.detection.scoring.detect_video` returns detections alone. To explain one, each candidate's stream,
its place in edge coordinates and its score before thinning are needed; they are computed here by the same
functions, in the same order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dgam.core.config import LocalizeSettings
from dgam.core.errors import InputError
from dgam.core.timeline import Timeline
from dgam.core.types import Detection
from dgam.detection.fusion import as_scored
from dgam.detection.nms import suppress
from dgam.detection.proposals import Floats, Integers, StreamCurves
from dgam.detection.scoring import stream_candidates

# A detection read from a file has every digit; this is for times that were computed on another processor.
_SAME_TIME = 1e-6
_SAME_SCORE = 1e-3


@dataclass(frozen=True)
class Retraced:
    """All n candidates of a video before thinning, of all streams in the order of the settings.

    ``streams`` names them; ``stream`` (n,) indexes it, ``label`` (n,) the classes. ``edges`` (n, 2) are edge
    coordinates, ``seconds`` (n, 2) the same in seconds and cut to the video. ``score`` (n,) is equation 17's.
    """

    streams: tuple[str, ...]
    stream: Integers
    label: Integers
    edges: Floats
    seconds: Floats
    score: Floats


@dataclass(frozen=True)
class Thinning:
    """What thinning did within one class: its m candidates' rows, and the k kept ones, best first.

    ``members`` (m,) and ``kept`` (k,) are rows of :class:`Retraced`, ``final`` (k,) the scores
    after thinning.
    """

    members: Integers
    kept: Integers
    final: Floats


def retrace(
    curves: Mapping[str, StreamCurves], settings: Mapping[str, LocalizeSettings], timeline: Timeline
) -> Retraced:
    """The candidates that ``detect_video`` makes of the same arguments, before it thins them."""
    curves, settings = as_scored(curves, settings)
    streams = tuple(name for name in settings if name in curves)
    stream, label = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
    edges, seconds, scores = [np.zeros((0, 2))], [np.zeros((0, 2))], [np.zeros(0)]
    for index, name in enumerate(streams):
        others = [other for key, other in curves.items() if key != name]
        found = stream_candidates(curves[name], others, settings[name], timeline.snippets)
        times = timeline.clipped_seconds(found.segments)  # (n, 2)
        length = times[:, 1] - times[:, 0]
        keep = (length > 0) & (length >= settings[name].min_seconds)
        stream.append(np.full(np.count_nonzero(keep), index, dtype=np.int64))
        label.append(found.labels[keep])
        edges.append(found.segments[keep])
        seconds.append(times[keep])
        scores.append(found.scores[keep])
    return Retraced(
        streams,
        np.concatenate(stream),
        np.concatenate(label),
        np.concatenate(edges),
        np.concatenate(seconds),
        np.concatenate(scores),
    )


def thin(found: Retraced, label: int, settings: LocalizeSettings) -> Thinning:
    """Thin the candidates of one class, as ``detect_video`` does; any stream's settings serve."""
    members = np.flatnonzero(found.label == label)
    chosen, final = suppress(
        found.seconds[members], found.score[members], settings.nms, settings.nms_tiou, settings.nms_sigma
    )
    return Thinning(members, members[chosen], final)


def row_of(found: Retraced, thinning: Thinning, detection: Detection) -> int:
    """Which of ``thinning.kept`` a detection is, as an index into it.

    Of equal segments, proposed by several streams, it is the one with the detection's score. InputError where
    there is none: the detection comes from another model, other settings, other features, or a correction.
    """
    told = f"the detection {detection.label!r} from {detection.start:g} to {detection.end:g} s"
    apart = np.abs(found.seconds[thinning.kept] - (detection.start, detection.end)).max(axis=1, initial=0.0)
    same = np.flatnonzero(apart <= _SAME_TIME)
    if not same.size:
        raise InputError(
            f"{told} is not among what these weights and settings find in this video, so it cannot be "
            "explained. Use the run, the features and the settings that it was found with."
        )
    gaps = np.abs(thinning.final[same] - detection.score)
    best = int(same[np.argmin(gaps)])
    if gaps.min() > _SAME_SCORE * max(1.0, abs(detection.score)):
        raise InputError(
            f"{told} has the score {detection.score:g}, these weights and settings give "
            f"{thinning.final[best]:g}. Use the run and the settings that it was found with."
        )
    return best


def detections_of(
    found: Retraced, settings: Mapping[str, LocalizeSettings], classes: Sequence[str]
) -> list[Detection]:
    """The detections that come of the candidates, best first: those of ``detect_video``."""
    shared = next(iter(settings.values()))
    labels = np.unique(found.label)
    parts = [thin(found, int(label), shared) for label in labels]
    kept = np.concatenate([np.zeros(0, dtype=np.int64), *(part.kept for part in parts)])
    final = np.concatenate([np.zeros(0), *(part.final for part in parts)])
    order = np.lexsort((kept, -final))[: shared.max_detections]
    rows = zip(found.seconds[kept[order]].tolist(), found.label[kept[order]], final[order], strict=True)
    return [Detection(start, end, classes[int(label)], float(score)) for (start, end), label, score in rows]
