"""Checks that speak: everything that is wrong with features, labels and segments together, before work
begins."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress

from dgam.core.errors import InputError, Problem
from dgam.core.progress import Advance
from dgam.core.timeline import Timeline
from dgam.core.types import AnnotatedVideo, SegmentAnnotations, VideoLabels
from dgam.data.fields import nearest
from dgam.features.arrays import as_problem, defect, where_of
from dgam.features.source import FeatureSource

_SLACK = 0.1  # by how much of it a duration may differ from the features' length


def check(
    features: FeatureSource,
    labels: VideoLabels | None = None,
    segments: SegmentAnnotations | None = None,
    *,
    streams: Sequence[str] | None = None,
    unlabelled: bool = True,
    progress: Advance | None = None,
) -> list[Problem]:
    """Find every defect; the videos of the Problems returned are those to leave out.

    Of the features, in ``streams`` (all by default): a video id that occurs twice, a stream missing for a
    video, a file that cannot be read, streams of different lengths, no snippets, another dimension, NaN or
    infinity. Of ``labels``: a labelled video without features and, if ``unlabelled``, features without
    labels; no label at all. Of ``segments``: a label that is not among the classes of ``labels``, a video
    without features, a segment of zero length or one that begins before the video or ends more than a snippet
    after it, a duration that differs from the features' length by a tenth and two snippets (a sign of a wrong
    frame rate).

    Reads one video after the other, in bounded memory; ``progress(1)`` is called after each video of the
    features.
    """
    problems = list(_check_features(features, tuple(streams or features.streams), progress))
    if labels is not None:
        problems += _check_labels(features, labels, unlabelled)
    if segments is not None:
        problems += _check_segments(features, segments, labels.classes if labels is not None else None)
    return problems


def _check_features(
    features: FeatureSource, streams: Sequence[str], progress: Advance | None
) -> Iterator[Problem]:
    if not features.videos:
        yield Problem(features.name, "holds no video.")
    for video, count in Counter(features.videos).items():
        if count > 1:
            yield Problem(
                features.name, f"the id occurs {count} times.", video, "Rename or remove all but one."
            )
        yield from _check_video(features, video, streams)
        if progress is not None:
            progress(1)


def _check_video(features: FeatureSource, video: str, streams: Sequence[str]) -> Iterator[Problem]:
    said: set[str] = set()
    length: int | None = None
    held = list(features.streams)
    for stream in streams:
        where = where_of(features, video, stream)
        try:
            if not features.has(video, stream):
                others = ", ".join(repr(other) for other in held if features.has(video, other))
                yield Problem(
                    where, f"has no features in stream {stream!r}, only in {others or 'none'}.", video
                )
                continue
            array = features.read(video, stream)
        except InputError as error:
            if str(error) not in said:
                said.add(str(error))
                yield as_problem(error, where, video)
            continue
        if found := defect(array, features.streams[stream]):
            yield Problem(where, found, video)
        length = array.shape[0] if length is None else length
        if array.shape[0] != length:
            yield Problem(
                where, f"stream {stream!r} has {array.shape[0]} snippets, {streams[0]!r} {length}.", video
            )


def _check_labels(features: FeatureSource, labels: VideoLabels, unlabelled: bool) -> Iterator[Problem]:
    held = set(features.videos)
    if not any(labels.labels.values()):
        yield Problem("labels", f"no video of {len(labels)} has a label.")
    for video in labels.videos:
        if video not in held:
            yield Problem(features.name, "has labels but no features.", video)
    if unlabelled:
        for video in features.videos:
            if video not in labels.labels:
                yield Problem(features.name, "has features but no labels.", video)


def _check_segments(
    features: FeatureSource, segments: SegmentAnnotations, classes: Sequence[str] | None
) -> Iterator[Problem]:
    held = set(features.videos)
    where = segments.source or "segments"
    for video, annotated in segments.videos.items():
        timeline: Timeline | None = None
        if video not in held:
            yield Problem(where, "has segments but no features.", video)
        else:
            with suppress(InputError):  # said by the check of the features
                timeline = features.timeline(video)
        for what in _segment_defects(annotated, timeline, classes):
            yield Problem(where, what, video)


def _segment_defects(
    annotated: AnnotatedVideo, timeline: Timeline | None, classes: Sequence[str] | None
) -> Iterator[str]:
    end = annotated.duration if annotated.duration is not None else timeline.end if timeline else None
    what = "the video" if annotated.duration is not None else "the last snippet"
    slack = timeline.snippet_seconds if timeline else 0.0
    for label, count in Counter(segment.label for segment in annotated.segments).items():
        if classes is not None and label not in classes:
            yield f"{count} segments have the unknown label {label!r}. {nearest(label, classes)}"
    for number, segment in enumerate(annotated.segments):
        named = f"segment {number} ({segment.label}, {segment.start:g} to {segment.end:g} s)"
        if segment.start == segment.end:
            yield f"{named}: has zero length."
        if segment.start < 0:
            yield f"{named}: begins before the video."
        if end is not None and segment.end > end + slack:
            yield f"{named}: ends {segment.end - end:.2f} s after {what} ({end:g} s)."
    if annotated.duration is not None and timeline is not None:
        covered = timeline.snippets * timeline.snippet_seconds
        gap = abs(covered - annotated.duration)
        if gap > max(_SLACK * annotated.duration, 2 * timeline.snippet_seconds):
            yield (
                f"lasts {annotated.duration:g} s, but its {timeline.snippets} snippets of "
                f"{timeline.snippet_seconds:g} s cover {covered:g} s. Are --fps and --snippet right?"
            )
