"""Streams fused before there are segments: one attention and one TCAM from all of a video's streams.

The paper lets each stream find its own segments and puts those together in NMS. A snippet that one stream
attends to for its looks and the other not at all, for nothing moves there, is then still proposed. Where
attention is fused first, by a geometric mean, all streams have to agree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from dgam.core.config import LocalizeSettings
from dgam.detection.proposals import Floats, StreamCurves, interpolate

# Attention below this counts as this in a geometric mean: one stream alone cannot veto for good.
LEAST_ATTENTION = 1e-6

FUSED = "fused"
"""What stands for a stream where several streams' curves are fused before there are segments."""


def as_scored(
    curves: Mapping[str, StreamCurves], settings: Mapping[str, LocalizeSettings]
) -> tuple[Mapping[str, StreamCurves], Mapping[str, LocalizeSettings]]:
    """The curves that segments are found and scored on, and their settings: the streams' own, or the fused
    ones where ``fusion`` fuses them and the video has several."""
    shared = next(iter(settings.values()))
    if shared.fusion == "segments" or len(curves) < 2:
        return curves, settings
    return {FUSED: fuse_curves(curves, settings)}, {FUSED: fuse_settings(curves, settings)}


def fuse_curves(curves: Mapping[str, StreamCurves], settings: Mapping[str, LocalizeSettings]) -> StreamCurves:
    """One stream's worth of curves from several, at the samples of the first.

    Attention is the mean that ``fusion`` names, weighted by each stream's ``attention_share``; TCAM, logits
    and class probabilities are means weighted by ``class_share``. Shares count in proportion to those of the
    streams that the video has. A single stream is returned as it is.
    """
    streams = list(curves)
    first = curves[streams[0]]
    if len(streams) == 1:
        return first
    alike = [_at(curves[stream], first.positions) for stream in streams]
    attending = _shares([settings[stream].attention_share for stream in streams])
    naming = _shares([settings[stream].class_share for stream in streams])
    return StreamCurves(
        positions=first.positions,
        attention=_fuse_attention(
            [own.attention for own in alike], attending, settings[streams[0]].fusion == "geometric"
        ),
        tcam=_mean([own.tcam for own in alike], naming),
        logits=_mean([own.logits for own in alike], naming),
        probabilities=_mean([own.probabilities for own in alike], naming),
    )


def mean_curves(members: Sequence[StreamCurves]) -> StreamCurves:
    """The mean, at every snippet, of what several models say about one stream of one video; they have to be
    at the same samples. A single one is returned as it is."""
    first = members[0]
    if len(members) == 1:
        return first
    equal = _shares([1.0] * len(members))
    return StreamCurves(
        positions=first.positions,
        attention=_mean([own.attention for own in members], equal),
        tcam=_mean([own.tcam for own in members], equal),
        logits=_mean([own.logits for own in members], equal),
        probabilities=_mean([own.probabilities for own in members], equal),
    )


def fuse_settings(
    curves: Mapping[str, StreamCurves], settings: Mapping[str, LocalizeSettings]
) -> LocalizeSettings:
    """The settings for fused curves: the first stream's, with the class threshold fused as probabilities
    are."""
    present = [settings[stream] for stream in curves]
    shares = _shares([own.class_share for own in present])
    threshold = float(shares @ np.array([own.class_threshold for own in present]))
    return present[0].model_copy(update={"class_threshold": threshold})


def _fuse_attention(attentions: Sequence[Floats], shares: Floats, geometric: bool) -> Floats:
    if not geometric:
        return np.clip(_mean(attentions, shares), 0.0, 1.0)
    logs = [np.log(np.maximum(attention, LEAST_ATTENTION)) for attention in attentions]
    fused = np.clip(np.exp(_mean(logs, shares)), 0.0, 1.0)  # rounding may pass 1
    return np.where(np.max(attentions, axis=0) > 0, fused, 0.0)


def _mean(arrays: Sequence[Floats], shares: Floats) -> Floats:
    return np.asarray(np.tensordot(shares, np.stack(arrays), axes=1))


def _shares(values: Sequence[float]) -> Floats:
    return np.asarray(values, dtype=np.float64) / sum(values)


def _at(curves: StreamCurves, positions: Floats) -> StreamCurves:
    """The curves at other positions; as they are where those are their own."""
    if np.array_equal(curves.positions, positions):
        return curves
    attention, tcam, logits = (
        interpolate(curves.positions, values, positions)
        for values in (curves.attention, curves.tcam, curves.logits)
    )
    return StreamCurves(positions, attention, tcam, logits, curves.probabilities)
