"""How attention and classifier lie over the ground truth, snippet by snippet: the paper's table 2.

Let att and cls be the snippets whose attention and class score exceed t*, gt those of the ground truth.

- |att − gt| / |gt|: snippets that the attention falsely captures.
- |gt − att| / |gt|: snippets that it omits.
- |(cls − gt) ∩ ¬att| / |gt|: snippets that the classifier falsely captures and the attention filters out.
- |(att ∩ gt) − cls| / |gt|: snippets that the classifier omits and the attention captures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dgam.core.errors import InputError


@dataclass(frozen=True)
class SnippetScores:
    """One video, T snippets. All values in [0, 1].

    ``attention`` is λ, ``(T,)``. ``classes`` is the class score, ``(T,)`` or ``(T, k)`` for the video's k
    labelled classes; the greatest counts. ``truth`` is ``(T,)`` bool: the snippets inside an instance of any
    class, as ``Timeline.mask`` gives them. Raises ValueError where shapes differ or values leave the range.
    """

    attention: NDArray[np.floating]
    classes: NDArray[np.floating]
    truth: NDArray[np.bool_]

    def __post_init__(self) -> None:
        attention = np.asarray(self.attention, dtype=np.float64)
        classes = np.asarray(self.classes, dtype=np.float64)
        truth = np.asarray(self.truth)
        length = truth.shape[0] if truth.ndim == 1 else -1
        if (
            truth.dtype != bool
            or attention.shape != (length,)
            or classes.shape[:1] != (length,)
            or classes.ndim > 2
        ):
            raise ValueError(
                f"attention must be (T,), classes (T,) or (T, k), truth (T,) bool, got {attention.shape}, "
                f"{classes.shape}, {truth.shape} {truth.dtype}"
            )
        for name, values in (("attention", attention), ("classes", classes)):
            if not ((values >= 0) & (values <= 1)).all():
                raise ValueError(f"{name} must lie in [0, 1], got {values.min()} to {values.max()}")
        if classes.ndim == 2:
            classes = classes.max(axis=1, initial=0.0)  # (T, k) -> (T,)
        object.__setattr__(self, "attention", attention)
        object.__setattr__(self, "classes", classes)
        object.__setattr__(self, "truth", truth)


@dataclass(frozen=True)
class AttentionStatistics:
    """Table 2. The four ratios are to the number of ground-truth snippets, so some can exceed 1."""

    false_activation: float
    """|att − gt| / |gt|; lower is better."""
    omission: float
    """|gt − att| / |gt|; lower is better."""
    filtered: float
    """|(cls − gt) ∩ ¬att| / |gt|; higher is better."""
    recovered: float
    """|(att ∩ gt) − cls| / |gt|; higher is better."""
    threshold: float
    """t*."""
    videos: int
    snippets: int
    truth_snippets: int
    """|gt|."""

    def to_dict(self) -> dict[str, Any]:
        """All fields, as JSON values."""
        return asdict(self)


def attention_statistics(videos: Mapping[str, SnippetScores], threshold: float = 0.5) -> AttentionStatistics:
    """The statistics of table 2 at t* = ``threshold``: counts summed over all videos, then divided.

    A snippet is in att (cls) if its value is greater than the threshold. InputError where no video has a
    ground-truth snippet.
    """
    total = np.zeros(4, dtype=np.int64)
    snippets = inside = 0
    for video in videos.values():
        truth, attended, classified = video.truth, video.attention > threshold, video.classes > threshold
        total += [
            np.count_nonzero(attended & ~truth),
            np.count_nonzero(truth & ~attended),
            np.count_nonzero(classified & ~truth & ~attended),
            np.count_nonzero(attended & truth & ~classified),
        ]
        snippets += len(truth)
        inside += int(np.count_nonzero(truth))
    if not inside:
        raise InputError(
            f"none of the {snippets} snippets of {len(videos)} videos lies in a ground-truth segment, so the "
            f"statistics of table 2 are not defined; do the annotations belong to these videos?"
        )
    false_activation, omission, filtered, recovered = (total / inside).tolist()
    return AttentionStatistics(
        false_activation=false_activation,
        omission=omission,
        filtered=filtered,
        recovered=recovered,
        threshold=threshold,
        videos=len(videos),
        snippets=snippets,
        truth_snippets=inside,
    )
