"""Parts of the training videos that are held out in turn, alike in their labels."""

from __future__ import annotations

from collections import Counter
from typing import Literal

import numpy as np

from dgam.core.types import VideoLabels

HoldOut = Literal["auto", "folds", "one", "none"]
PARTS = 5
MANY = 200
LEAST = 4
_FOLDS = 11  # keeps this draw apart from other draws of the same seed


def parts_to_hold_out(
    labels: VideoLabels, how: HoldOut, seed: int
) -> tuple[tuple[tuple[str, ...], ...], str]:
    """Which parts of the videos are held out, one after the other, and in words how, or why none.

    "folds": each of 5 parts in turn (of as many parts as videos where there are fewer); "one": the first of
    them only; "auto": "folds" below 200 videos, else "one"; "none": none.
    """
    total = len(labels)
    if how == "none":
        return (), "No video was held out, as asked for."
    if total < LEAST:
        return (), f"No video was held out: {total} are too few, at least {LEAST} are needed."
    parts = make_folds(labels, min(PARTS, total), seed)
    labelled = {video for video, names in labels.labels.items() if names}
    if any(labelled <= set(part) for part in parts):
        return (), "No video was held out: too few videos have a label to learn without some of them."
    if how == "one" or (how == "auto" and total >= MANY):
        told = (
            f"{len(parts[0])} of {total} videos were held out once and judged by a model trained on the rest."
        )
        return parts[:1], told
    told = (
        f"The {total} videos were held out in {len(parts)} parts, each judged by a model trained on the rest."
    )
    return parts, told


def make_folds(labels: VideoLabels, count: int, seed: int) -> tuple[tuple[str, ...], ...]:
    """Share the videos out into ``count`` parts that differ by few videos in size and in each label.

    Labels are dealt out rarest first, each video to the part that has the fewest of that label, then the
    fewest videos (iterative stratification after Sechidis et al. 2011, with counts in place of shares).
    Depends on ids, labels and seed, not on their order. ValueError for fewer than 1 part, or more parts than
    videos.
    """
    if not 1 <= count <= len(labels):
        raise ValueError(f"{len(labels)} videos cannot be shared out into {count} parts")
    videos = sorted(labels.videos)
    order = [videos[index] for index in np.random.default_rng([seed, _FOLDS]).permutation(len(videos))]
    left = dict.fromkeys(order)
    parts: list[list[str]] = [[] for _ in range(count)]
    held = [Counter[str]() for _ in range(count)]

    def deal(video: str, label: str | None) -> None:
        part = min(range(count), key=lambda p: (held[p][label] if label is not None else 0, len(parts[p]), p))
        parts[part].append(video)
        held[part].update(labels.labels[video])
        del left[video]

    while left:
        remaining = Counter(name for video in left for name in labels.labels[video])
        if not remaining:
            break
        rarest = min(remaining, key=lambda name: (remaining[name], name))
        for video in [video for video in left if rarest in labels.labels[video]]:
            deal(video, rarest)
    for video in [*left]:
        deal(video, None)
    return tuple(tuple(sorted(part)) for part in parts)
