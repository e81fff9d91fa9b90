"""Two halves of the test videos: one to choose settings on, the other to report on."""

from __future__ import annotations

import numpy as np

from dgam.core.types import SegmentAnnotations

_HALVES = 5  # keeps this draw apart from other draws of the same seed


def halves(truth: SegmentAnnotations, seed: int = 0) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The selection half and the report half of the annotated videos, disjoint, together all of them, sorted.

    Each class is split evenly: videos are drawn in random order within their first label, then dealt in turn.
    The same videos, labels and seed give the same halves.
    """
    generator = np.random.default_rng([seed, _HALVES])
    by_label: dict[str, list[str]] = {}
    for video in sorted(truth.videos):
        first = min((segment.label for segment in truth.videos[video].segments), default="")
        by_label.setdefault(first, []).append(video)
    dealt: list[str] = []
    for label in sorted(by_label):
        videos = by_label[label]
        dealt += [videos[index] for index in generator.permutation(len(videos))]
    return tuple(sorted(dealt[0::2])), tuple(sorted(dealt[1::2]))
