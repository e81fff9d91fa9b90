"""Curves and settings that the tests of detection share."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from dgam.core.config import LocalizeSettings
from dgam.core.timeline import SnippetGrid, Timeline
from dgam.core.types import Detection
from dgam.detection.proposals import StreamCurves

NAMES = ("dive", "jump", "throw", "swing")
PAPER = {"rgb": LocalizeSettings(), "flow": LocalizeSettings()}
_RELEASE = LocalizeSettings(
    upsample=20, mask_tcam=0.8, mask_attention=0.2, mask_power=2, thresholds=(0.03,), score="tcam"
)
RELEASE = {
    "rgb": _RELEASE.model_copy(update={"stream_mix": 0.35}),
    "flow": _RELEASE.model_copy(update={"stream_mix": 0.65}),
}
SEVERAL = {
    "rgb": LocalizeSettings(thresholds=(0.2, 0.4, 0.6), margin=0.4, eta=0.7, video_weight=0.2),
    "flow": LocalizeSettings(thresholds=(0.1, 0.5), threshold_scale="relative", upsample=3, mask_tcam=0.5),
}


def grid_of(snippets: int, duration: float | None = None) -> Timeline:
    return Timeline(SnippetGrid(Fraction(25), 16, 16), snippets, duration)


def random_curves(rng: np.random.Generator, snippets: int, samples: int | None = None) -> StreamCurves:
    """Curves of 4 classes with few runs of high attention. ``samples`` are spread over the snippets."""
    samples = samples or snippets
    rows = np.arange(samples) * snippets // samples
    slow = np.repeat(rng.normal(size=(-(-snippets // 3), 9)), 3, axis=0)[:snippets]
    curves = 1.5 * slow + 0.5 * rng.normal(size=(snippets, 9))
    attention = 1 / (1 + np.exp(-2 * curves[:, 0]))
    return StreamCurves(
        rows + np.float64(0.5),
        attention[rows],
        curves[rows, 1:5],
        3 * curves[rows, 5:],
        rng.dirichlet([0.5] * 5)[:4],
    )


def constant(snippets: int, attention: float) -> StreamCurves:
    ones = np.ones((snippets, 4))
    return StreamCurves(
        np.arange(snippets) + 0.5, np.full(snippets, attention), ones, 7 * ones, np.array([0, 1, 0, 0])
    )


def assert_same(found: Sequence[Detection], expected: Sequence[tuple[float, float, int, float]]) -> None:
    """The detections are these (start, end, class, score), whatever their order."""

    def key(row: tuple[float, float, int, float]) -> tuple[float, ...]:
        return (row[2], round(row[0], 6), round(row[1], 6))

    rows = sorted(((d.start, d.end, NAMES.index(d.label), d.score) for d in found), key=key)
    np.testing.assert_allclose(rows, sorted(expected, key=key), rtol=1e-9, atol=1e-9)
