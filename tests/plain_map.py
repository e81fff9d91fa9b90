"""An independent, slow mean average precision in plain Python, for the tests to compare with."""

from __future__ import annotations

from collections.abc import Sequence

from dgam.core.types import AnnotatedVideo, Detection, Detections, Segment, SegmentAnnotations


def truth_of(videos: dict[str, list[tuple[float, float, str]]], subset: str = "test") -> SegmentAnnotations:
    """Ground truth from ``{video: [(start, end, label)]}``."""
    annotated = {
        name: AnnotatedVideo(tuple(Segment(*row) for row in rows), subset) for name, rows in videos.items()
    }
    return SegmentAnnotations(annotated, source="gt.json")


def found_of(videos: dict[str, list[tuple[float, float, str, float]]]) -> Detections:
    """Detections from ``{video: [(start, end, label, score)]}``."""
    return Detections({name: [Detection(*row) for row in rows] for name, rows in videos.items()})


def plain_tiou(a: Segment | Detection, b: Segment | Detection) -> float:
    overlap = min(a.end, b.end) - max(a.start, b.start)
    if overlap <= 0:
        return 0.0
    return overlap / ((a.end - a.start) + (b.end - b.start) - overlap)


def plain_hits(
    found: Detections, truth: SegmentAnnotations, label: str, threshold: float
) -> tuple[list[bool], list[float], int]:
    """One prediction after the other: true positive or not, its score; and the number of instances."""
    ranked = [(video, d) for video, some in found.videos.items() for d in some if d.label == label]
    ranked.sort(key=lambda item: -item[1].score)
    instances = [
        (video, s)
        for video, annotated in truth.videos.items()
        for s in annotated.segments
        if s.label == label
    ]
    free = set(range(len(instances)))
    hits = []
    for video, d in ranked:
        wishes = [
            (
                -plain_tiou(d, s),
                min(abs(d.start - s.start), abs(d.end - s.end)),
                index,
            )
            for index, (where, s) in enumerate(instances)
            if where == video and plain_tiou(d, s) >= threshold
        ]
        choice = next((index for _, _, index in sorted(wishes) if index in free), None)
        # No choice is None, which a set of numbers does not hold and lets go in silence.
        free.discard(choice)  # type: ignore[arg-type]  # never None here
        hits.append(choice is not None)
    return hits, [d.score for _, d in ranked], len(instances)


def plain_ap(hits: Sequence[bool], instances: int) -> float:
    """The area under the precision envelope, as a sum over the true positives."""
    precisions = [sum(hits[: rank + 1]) / (rank + 1) for rank in range(len(hits))]
    return sum(max(precisions[rank:]) for rank, hit in enumerate(hits) if hit) / instances


def plain_map(found: Detections, truth: SegmentAnnotations, threshold: float) -> float:
    labels = {s.label for video in truth.videos.values() for s in video.segments}
    values = [plain_ap(*plain_hits(found, truth, label, threshold)[::2]) for label in labels]
    return sum(values) / len(values)
