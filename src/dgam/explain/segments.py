"""Why a detection has its score: which snippets, which stream, what the surroundings took away (section 3.5).

All parts add up: snippets to stretches, stretches to equation 17's score, streams to the same, and the score
before thinning times what each better detection left of it to the score after.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from dgam.core.config import LocalizeSettings
from dgam.core.errors import InputError
from dgam.core.timeline import Timeline
from dgam.core.types import Detection
from dgam.detection.fusion import FUSED, as_scored
from dgam.detection.nms import pairwise_tiou
from dgam.detection.proposals import StreamCurves
from dgam.explain.retrace import Retraced, Thinning, retrace, row_of, thin
from dgam.explain.scores import (
    SnippetShare,
    Stretch,
    fused_parts,
    proposing_thresholds,
    stream_parts,
    take_apart,
)

# As in hard and soft-linear NMS: an overlap that equals the limit up to rounding is not above it.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class StreamView:
    """What one stream says about a detection's segment and class.

    ``thresholds`` are those at which it proposes exactly this segment, ``levels`` their values on its curve;
    empty where it does not propose it. ``inner``, ``left``, ``right`` and ``score`` are what equation 17
    gives with this stream's own curves and settings, whoever proposed it; ``share`` is the part of the
    detection's score that comes from this stream's curves; all shares that are not None add up to it. Where
    streams are fused before there are segments, the first view is that of the "fused" curves, whose share is
    split over the streams, as far as it can be. ``attention`` is the mean λ in the segment,
    ``probability`` the video-level probability of the class.
    """

    stream: str
    proposes: bool
    thresholds: tuple[float, ...]
    levels: tuple[float, ...]
    inner: float
    left: float
    right: float
    score: float
    share: float | None
    attention: float
    probability: float


@dataclass(frozen=True)
class Decay:
    """A better detection of the class that lowered this one's score: its seconds, stream, tIoU, factor."""

    start: float
    end: float
    stream: str
    tiou: float
    factor: float


@dataclass(frozen=True)
class Suppression:
    """What thinning (NMS) did: ``after`` = ``floor`` + (``before`` − ``floor``) · the product of all factors.

    ``floor`` is 0, or the class's lowest score in this video where that is negative (see ``nms.suppress``).
    ``decays`` hold the detections that lowered it, strongest first; none with hard NMS, which keeps or drops.
    ``stands_for`` counts the candidates that hard NMS dropped for this one, by stream.
    """

    method: str
    before: float
    after: float
    floor: float
    decays: tuple[Decay, ...]
    stands_for: dict[str, int]


@dataclass(frozen=True)
class Explanation:
    """One detection taken apart.

    ``start``, ``end`` in seconds; ``stream`` proposed it and scored it. ``score`` = ``inner`` −
    ``eta``·``left`` − ``eta``·``right`` + ``video`` is the score before thinning: equation 17, and
    ``video_weight`` times the video-level score. ``final`` is that after it. ``without_outer`` = ``inner`` +
    ``video`` is the score had the surroundings not been subtracted. ``rank`` of ``ranked`` candidates of the
    class in this video is by ``score``, ``rank_without_outer`` by the score without subtraction, both from 1.
    ``kind`` is ``localize.score``: what a class score is. What ``snippets`` give adds up to ``score`` −
    ``video``.
    """

    label: str
    start: float
    end: float
    stream: str
    kind: str
    inner: float
    left: float
    right: float
    eta: float
    margin: float
    video: float
    score: float
    without_outer: float
    final: float
    rank: int
    rank_without_outer: int
    ranked: int
    stretches: tuple[Stretch, ...]
    snippets: tuple[SnippetShare, ...]
    streams: tuple[StreamView, ...]
    suppression: Suppression

    def to_dict(self) -> dict[str, Any]:
        """JSON values, with the same names; times in seconds."""
        return asdict(self)

    def words(self) -> tuple[str, ...]:
        """The explanation in sentences, for somebody who knows the video and not the equations."""
        by = {view.stream: view for view in self.streams}[self.stream]
        proposer = "The fused attention of all streams" if self.stream == FUSED else self.stream
        where = f" at threshold {', '.join(f'{t:g}' for t in by.thresholds)}" if by.thresholds else ""
        others = [v.stream for v in self.streams if v.proposes and v.stream != self.stream]
        also = f" {', '.join(others)} proposes the same segment." if others else ""
        lines = [
            f"{proposer} proposes {self.start:.2f}–{self.end:.2f} s as {self.label}{where}.{also}",
            f"Inside it scores {self.inner:.3f}. Its surroundings score {self.left:.3f} (before) and "
            f"{self.right:.3f} (after); {self.eta:g} of each is subtracted"
            + (f", {self.video:+.3f} for the whole video" if self.video else "")
            + f": {self.score:.3f}.",
            f"Without the subtraction it would be {self.without_outer:.3f}, rank "
            f"{self.rank_without_outer} instead of {self.rank} of {self.ranked} candidates of the class.",
        ]
        thinning = self.suppression
        if thinning.decays:
            worst, count = thinning.decays[0], len(thinning.decays)
            which = f"{worst.start:.2f}–{worst.end:.2f} s, {worst.stream}, tIoU {worst.tiou:.2f}"
            if count == 1:
                lines.append(
                    f"One better detection overlaps it ({which}) and lowers the score by the factor "
                    f"{worst.factor:.2f} to {self.final:.3f}."
                )
            else:
                lines.append(
                    f"{count} better detections overlap it and lower the score to {self.final:.3f}; the most "
                    f"one at {which}, by the factor {worst.factor:.2f}."
                )
        elif thinning.method == "hard":
            beaten = ", ".join(f"{count} of {name}" for name, count in thinning.stands_for.items())
            lines.append(f"It stands for the overlapping candidates dropped by NMS: {beaten or 'none'}.")
        else:
            lines.append("No better detection overlaps it, so thinning leaves its score as it is.")
        return tuple(lines)


def explain_detection(
    curves: Mapping[str, StreamCurves],
    detection: Detection,
    settings: Mapping[str, LocalizeSettings],
    timeline: Timeline,
    classes: Sequence[str],
) -> Explanation:
    """Take one detection apart. Arguments as for ``detect_video``, which made the detection of them.

    InputError where the detection is not one of theirs: other weights, settings or features, or corrected by
    hand.
    """
    return explain_detections(curves, [detection], settings, timeline, classes)[0]


def explain_detections(
    curves: Mapping[str, StreamCurves],
    detections: Sequence[Detection],
    settings: Mapping[str, LocalizeSettings],
    timeline: Timeline,
    classes: Sequence[str],
) -> list[Explanation]:
    """:func:`explain_detection` for several detections of one video, at less than the cost of each alone."""
    found = retrace(curves, settings, timeline)
    unsubtracted = {name: own.model_copy(update={"eta": 0.0}) for name, own in settings.items()}
    without = retrace(curves, unsubtracted, timeline).score
    column = {name: index for index, name in enumerate(classes)}
    explanations = []
    for detection in detections:
        if detection.label not in column:
            known = ", ".join(classes)
            raise InputError(f"the detection's class {detection.label!r} is unknown; the run has: {known}.")
        label = column[detection.label]
        thinning = thin(found, label, next(iter(settings.values())))
        place = row_of(found, thinning, detection)
        explanations.append(
            _explanation(curves, settings, timeline, detection.label, label, found, without, thinning, place)
        )
    return explanations


def _explanation(
    curves: Mapping[str, StreamCurves],
    settings: Mapping[str, LocalizeSettings],
    timeline: Timeline,
    name: str,
    label: int,
    found: Retraced,
    without: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    thinning: Thinning,
    place: int,
) -> Explanation:
    row = int(thinning.kept[place])
    stream = found.streams[int(found.stream[row])]
    scored, scored_settings = as_scored(curves, settings)
    own = scored_settings[stream]
    edges = (float(found.edges[row, 0]), float(found.edges[row, 1]))
    taken = take_apart(scored, stream, own, timeline, label, edges)
    inner, left, right = (taken.stretches[role].score for role in ("inner", "left", "right"))
    start, end = found.seconds[row].tolist()
    members = thinning.members
    return Explanation(
        label=name,
        start=start,
        end=end,
        stream=stream,
        kind=own.score,
        inner=inner,
        left=left,
        right=right,
        eta=own.eta,
        margin=own.margin,
        video=taken.video,
        score=taken.score,
        without_outer=inner + taken.video,
        final=float(thinning.final[place]),
        rank=1 + int(np.count_nonzero(found.score[members] > found.score[row])),
        rank_without_outer=1 + int(np.count_nonzero(without[members] > without[row])),
        ranked=len(members),
        stretches=tuple(taken.stretches.values()),
        snippets=taken.snippets,
        streams=_stream_views(curves, settings, timeline, label, stream, edges),
        suppression=_suppression(found, thinning, place, own),
    )


def _stream_views(
    curves: Mapping[str, StreamCurves],
    settings: Mapping[str, LocalizeSettings],
    timeline: Timeline,
    label: int,
    scorer: str,
    edges: tuple[float, float],
) -> tuple[StreamView, ...]:
    scored, scored_settings = as_scored(curves, settings)
    parts: dict[str, float] | None
    if scorer == FUSED:
        parts = fused_parts(curves, settings, scored[FUSED], timeline, label, edges)
        parts = parts or {
            FUSED: take_apart(scored, FUSED, scored_settings[FUSED], timeline, label, edges).score
        }
    else:
        parts = stream_parts(curves, scorer, settings[scorer], timeline, label, edges)
    views = []
    for name in [*([FUSED] if scorer == FUSED else []), *(name for name in settings if name in curves)]:
        among, own = (scored, scored_settings[name]) if name == FUSED else (curves, settings[name])
        taken = take_apart(among, name, own, timeline, label, edges)
        at = proposing_thresholds(among[name], own, timeline, label, edges)
        inside = [(s.end - s.start, s.attention) for s in taken.snippets if s.role == "inner"]
        widths, attention = np.array(inside).reshape(-1, 2).T
        views.append(
            StreamView(
                stream=name,
                proposes=bool(at),
                thresholds=tuple(threshold for threshold, _ in at),
                levels=tuple(level for _, level in at),
                inner=taken.stretches["inner"].score,
                left=taken.stretches["left"].score,
                right=taken.stretches["right"].score,
                score=taken.score,
                share=parts.get(name),
                attention=float(widths @ attention / widths.sum()),
                probability=float(among[name].probabilities[label]),
            )
        )
    return tuple(views)


def _suppression(found: Retraced, thinning: Thinning, place: int, settings: LocalizeSettings) -> Suppression:
    row = int(thinning.kept[place])
    span = found.seconds[row : row + 1]  # (1, 2)
    before = float(found.score[row])
    floor = 0.0
    decays: list[Decay] = []
    stands_for: dict[str, int] = {}
    if settings.nms.startswith("soft"):
        floor = min(0.0, float(found.score[thinning.members].min()))
        better = thinning.kept[:place]
        overlaps = pairwise_tiou(span, found.seconds[better])[0]  # (k,)
        for other, overlap in zip(better.tolist(), overlaps.tolist(), strict=True):
            if settings.nms == "soft-gaussian":
                factor = float(np.exp(-(overlap**2) / settings.nms_sigma))
            else:
                factor = 1.0 - overlap if overlap > settings.nms_tiou + _ROUNDING else 1.0
            if factor < 1:
                first, last = found.seconds[other].tolist()
                decays.append(Decay(first, last, found.streams[int(found.stream[other])], overlap, factor))
        decays.sort(key=lambda decay: decay.factor)
    elif settings.nms == "hard":
        dropped = np.setdiff1d(thinning.members, thinning.kept)
        close = pairwise_tiou(span, found.seconds[dropped])[0] > settings.nms_tiou + _ROUNDING
        beaten = dropped[close & (found.score[dropped] <= before)]
        for index, name in enumerate(found.streams):
            if count := int(np.count_nonzero(found.stream[beaten] == index)):
                stands_for[name] = count
    return Suppression(settings.nms, before, float(thinning.final[place]), floor, tuple(decays), stands_for)
