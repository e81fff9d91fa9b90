"""Building video labels out of a file's lines: duplicates and unknown labels are found, bad videos left
out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dgam.core.errors import Problem
from dgam.core.problems import Report
from dgam.core.types import VideoLabels
from dgam.data.fields import nearest


class LabelTable:
    """Labels and subsets of videos as they are read from ``where``; a video with a defect is not in the
    result."""

    def __init__(self, where: str, report: Report) -> None:
        self._where = where
        self._report = report
        self._labels: dict[str, tuple[str, ...]] = {}
        self._subsets: dict[str, str] = {}
        self._refused: set[str] = set()

    def add(self, video: str, labels: Iterable[str], subset: str = "", place: str = "") -> None:
        """One video; a second one of the same id is a defect of both. ``place`` begins messages about it."""
        if video in self._labels or video in self._refused:
            self.refuse(video, f"{place}the video is listed a second time.", "Keep one, with all its labels.")
            return
        self._labels[video] = tuple(labels)
        if subset:
            self._subsets[video] = subset

    def refuse(self, video: str | None, what: str, remedy: str = "") -> None:
        """Report a defect and leave the video out, whatever else is said about it."""
        self._report(Problem(self._where, what, video, remedy))
        if video is not None:
            self._refused.add(video)
            self._labels.pop(video, None)

    def refused(self, video: str) -> bool:
        """Whether a defect of this video was reported."""
        return video in self._refused

    def result(self, classes: Sequence[str] | None) -> VideoLabels:
        """The labels read; with ``classes``, a video with a label that is not among them is refused."""
        if classes is not None:
            known = set(classes)
            for video, labels in list(self._labels.items()):
                for label in labels:
                    if label not in known:
                        what = f"has the label {label!r}, which is not among the {len(known)} classes."
                        self.refuse(video, what, nearest(label, known))
        subsets = {video: subset for video, subset in self._subsets.items() if video in self._labels}
        return VideoLabels(self._labels, tuple(classes or ()), subsets)
