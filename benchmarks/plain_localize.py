"""Localisation as its definitions read, one after the other: what ``dgam.localize`` did before it was fast.

Kept to measure against, and to show that the fast one finds the same (``tests/test_fast_localize.py``).
Streams fused before there are segments (``localize.fusion``) are not in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from dgam.core.config import LocalizeSettings
from dgam.core.timeline import Timeline
from dgam.core.types import Detection
from dgam.data.sampling import uniform
from dgam.detection.fusion import fuse_curves, fuse_settings
from dgam.detection.localize import StreamModel
from dgam.detection.proposals import StreamCurves, mask_curves, propose, weighted_tcam
from dgam.detection.scoring import choose_classes, integrate, pooled_curves, tcam_curves, video_logits
from dgam.features.store import FeatureStore
from dgam.model.losses import pool
from dgam.model.networks import DGAM


def plain_localize(
    models: Mapping[str, StreamModel], store: FeatureStore, videos: Sequence[str], classes: Sequence[str]
) -> dict[str, list[Detection]]:
    """Detections of each video, best first."""
    settings = {stream: own.settings for stream, own in models.items()}
    found = {}
    for video in videos:
        curves = {}
        for stream, own in models.items():
            x = np.load(store.where(video, stream), mmap_mode="r")  # (T, d)
            assert np.isfinite(x).all()
            curves[stream] = plain_curves(own.model, x, own.settings)
        found[video] = plain_detect(curves, settings, store.timeline(video), classes)
    return found


def plain_curves(model: DGAM, x: np.ndarray, settings: LocalizeSettings) -> StreamCurves:
    """Curves of features (T, d)."""
    rows = uniform(x.shape[0], settings.t_min, settings.t_max)
    batch = torch.from_numpy(np.ascontiguousarray(x[rows], dtype=np.float32)).unsqueeze(0)  # (1, T', d)
    with torch.inference_mode():
        attention, logits, tcam = model(batch)  # (1, T'), (1, T', C + 1) twice
        foreground = pool(model.scaled(batch), attention)  # (1, d)
        probabilities = torch.softmax(model.classifier(foreground), dim=1)  # (1, C + 1)
    return StreamCurves(
        positions=rows.astype(np.float64) + 0.5,
        attention=attention[0].double().numpy(),
        tcam=tcam[0, :, :-1].double().numpy(),
        logits=logits[0, :, :-1].double().numpy(),
        probabilities=probabilities[0, :-1].double().numpy(),
    )


def plain_detect(
    curves: Mapping[str, StreamCurves],
    settings: Mapping[str, LocalizeSettings],
    timeline: Timeline,
    classes: Sequence[str],
) -> list[Detection]:
    """Section 3.5, stream by stream, then NMS over all of them."""
    if next(iter(settings.values())).fusion != "segments":
        fused = fuse_curves(curves, settings)
        curves, settings = {"fused": fused}, {"fused": fuse_settings(curves, settings)}
    parts = []
    for stream, own in curves.items():
        others = [other for name, other in curves.items() if name != stream]
        segments, labels, scores = plain_candidates(own, others, settings[stream], timeline.snippets)
        seconds = timeline.clipped_seconds(segments)  # (n, 2)
        length = seconds[:, 1] - seconds[:, 0]
        keep = (length > 0) & (length >= settings[stream].min_seconds)
        parts.append((seconds[keep], labels[keep], scores[keep]))
    times, label, score = (np.concatenate(column) for column in zip(*parts, strict=True))
    kept: list[tuple[int, float]] = []
    shared = next(iter(settings.values()))
    for one in np.unique(label):
        members = np.flatnonzero(label == one)
        chosen = plain_nms(times[members], score[members], shared)
        kept += [(int(members[index]), value) for index, value in chosen]
    kept.sort(key=lambda pair: (-pair[1], pair[0]))
    rows = [(*times[index].tolist(), classes[label[index]], value) for index, value in kept]
    return [Detection(*row) for row in rows[: shared.max_detections]]


def plain_candidates(
    curves: StreamCurves, others: Sequence[StreamCurves], settings: LocalizeSettings, snippets: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Segments (n, 2) in edge coordinates, labels and scores (n,) of one stream."""
    classes = choose_classes(curves.probabilities, settings.class_threshold)  # (K,)
    centres = (np.arange(snippets * settings.upsample) + 0.5) / settings.upsample

    def at_points(values: np.ndarray) -> np.ndarray:
        return plain_interpolate(curves.positions, values, centres)

    tcam = at_points(weighted_tcam(curves, classes)) if settings.mask_tcam > 0 else None  # (P, K)
    mask = mask_curves(at_points(curves.attention), tcam, settings)  # (P, K) or (P, 1)
    row, start, end = propose(mask, settings.thresholds, settings.threshold_scale)
    if tcam is None:
        row = np.repeat(np.arange(len(classes)), len(start))
        start, end = np.tile(start, len(classes)), np.tile(end, len(classes))
    if settings.score == "pooled":
        values, weights = pooled_curves(curves, classes)
    else:
        values, weights = tcam_curves(curves, others, classes, settings.stream_mix)
    values, weights = at_points(values), at_points(weights)

    def mean(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        total = integrate(values, row, a, b)
        weight = integrate(weights[:, None], np.zeros_like(row), a, b)
        return np.divide(total, weight, out=np.zeros_like(total), where=weight > 0)

    width = settings.margin * (end - start)
    left = mean(np.maximum(start - width, 0), start)
    right = mean(end, np.minimum(end + width, len(values)))
    scores = mean(start, end) - settings.eta * left - settings.eta * right
    scores = scores + settings.video_weight * video_logits(curves)[classes[row]]
    return np.column_stack([start, end]) / settings.upsample, classes[row], scores


def plain_interpolate(positions: np.ndarray, values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Linear between samples, constant beyond them."""
    positions, first = np.unique(positions, return_index=True)
    values = values[first]
    right = np.searchsorted(positions, at, side="right")  # (P,)
    left = np.clip(right - 1, 0, len(positions) - 1)
    right = np.clip(right, 0, len(positions) - 1)
    gap = positions[right] - positions[left]
    share = np.where(gap > 0, (at - positions[left]) / np.where(gap > 0, gap, 1.0), 0.0)
    share = share.reshape(-1, *[1] * (values.ndim - 1))
    return values[left] + share * (values[right] - values[left])


def plain_nms(
    segments: np.ndarray, scores: np.ndarray, settings: LocalizeSettings
) -> list[tuple[int, float]]:
    """One class's kept segments and their scores, best first, one at a time."""
    method, tiou, rounding = settings.nms, settings.nms_tiou, 1e-9
    floor = min(0.0, float(scores.min(initial=0.0)))
    height = scores if method in ("hard", "none") else scores - floor
    height, waiting, kept = height.copy(), np.ones(len(scores), dtype=bool), []
    while waiting.any():
        best = int(np.argmax(np.where(waiting, height, -np.inf)))
        waiting[best] = False
        kept.append((best, float(height[best] if method in ("hard", "none") else height[best] + floor)))
        overlap = plain_tiou(segments[best], segments)  # (n,)
        if method == "hard":
            waiting &= overlap <= tiou + rounding
        elif method == "soft-linear":
            height[waiting] *= np.where(overlap > tiou + rounding, 1.0 - overlap, 1.0)[waiting]
        elif method == "soft-gaussian":
            height[waiting] *= np.exp(-(overlap**2) / settings.nms_sigma)[waiting]
    return kept


def plain_tiou(one: np.ndarray, many: np.ndarray) -> np.ndarray:
    """Temporal intersection over union of a segment (2,) with each of (n, 2)."""
    shared = np.maximum(np.minimum(one[1], many[:, 1]) - np.maximum(one[0], many[:, 0]), 0.0)
    hull = np.maximum(one[1], many[:, 1]) - np.minimum(one[0], many[:, 0])
    return np.divide(shared, hull, out=np.zeros_like(shared), where=hull > 0)
