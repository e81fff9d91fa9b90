"""THUMOS14's temporal annotations as released: a folder with a text file for each class and subset.

``BaseballPitch_val.txt`` and ``BaseballPitch_test.txt`` hold an instance a line, ``video_test_0000324 7.8
10.3``: video id, start and end in seconds. Subsets come out as "validation" and "test". ``Ambiguous_val.txt``
and ``Ambiguous_test.txt`` hold stretches to ignore. Other files (``detclasslist.txt``, …) are not looked at;
the files may lie up to two folders deep, as the two archives of the release unpack.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dgam.core.errors import Problem
from dgam.core.problems import Report
from dgam.core.types import AnnotatedVideo, Segment
from dgam.data.fields import AMBIGUOUS, brief, name_of, read_text, times_of
from dgam.data.labelled import LabelTable

_SUBSETS = {"val": "validation", "test": "test"}


def class_files(folder: Path) -> list[tuple[Path, str, str]]:
    """The release's text files in a folder: path, class and subset, sorted by class."""
    found = []
    for pattern in ("*.txt", "*/*.txt", "*/*/*.txt"):
        for path in folder.glob(pattern):
            label, _, ending = path.stem.rpartition("_")
            if label and ending in _SUBSETS and not path.name.startswith("."):
                found.append((path, label, _SUBSETS[ending]))
    return sorted(found, key=lambda file: (file[1], file[2], file[0]))


def read_thumos_labels(folder: Path, report: Report) -> LabelTable:
    """Video labels of the release: the classes in whose files a video stands. Times are not looked at."""
    labels: dict[str, list[str]] = {}
    subsets: dict[str, str] = {}
    table = LabelTable(str(folder), report)
    for path, label, subset in class_files(folder):
        if label == AMBIGUOUS:
            continue
        for number, words in _lines(path):
            try:
                video = name_of(words[0], "the video id")
            except ValueError as error:
                report(Problem(str(path), f"line {number}: {error}"))
                continue
            if subsets.setdefault(video, subset) != subset:
                table.refuse(
                    video, f"{path.name}: line {number}: is in {subset} here, in {subsets[video]} elsewhere."
                )
            labels.setdefault(video, []).append(label)
    for video, names in sorted(labels.items()):
        if not table.refused(video):
            table.add(video, names, subsets[video])
    return table


def read_thumos_segments(folder: Path, report: Report) -> dict[str, AnnotatedVideo]:
    """Segments of the release; every defective line goes to ``report``, and its video is left out."""
    segments: dict[str, list[Segment]] = {}
    ambiguous: dict[str, list[Segment]] = {}
    subsets: dict[str, str] = {}
    refused: set[str] = set()
    for path, label, subset in class_files(folder):
        target = ambiguous if label == AMBIGUOUS else segments
        for video, segment in read_class_file(path, label, report, refused):
            if subsets.setdefault(video, subset) != subset:
                what = f"is in {subset} here, in {subsets[video]} elsewhere."
                report(Problem(str(path), what, video))
                refused.add(video)
            target.setdefault(video, []).append(segment)
    return {
        video: AnnotatedVideo(
            tuple(segments.get(video, ())), subsets[video], None, tuple(ambiguous.get(video, ()))
        )
        for video in sorted(subsets)
        if video not in refused
    }


def read_class_file(
    path: Path, label: str, report: Report, refused: set[str]
) -> Iterator[tuple[str, Segment]]:
    """Video and segment of each line of a file; the videos of defective lines are reported and added to
    ``refused``."""
    for number, words in _lines(path):
        video: str | None = None
        try:
            video = name_of(words[0], "the video id")
            if len(words) != 3:
                raise ValueError(f"expected 'video start end', got {brief(' '.join(words))}.")
            segment = Segment(*times_of(words[1], words[2]), label)
        except ValueError as error:
            report(Problem(str(path), f"line {number}: {error}", video))
            refused.update({video} if video else set())
            continue
        yield video, segment


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if words := line.split():
            yield number, words
