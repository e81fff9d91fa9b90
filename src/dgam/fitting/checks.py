"""Checks of labels and videos before a fit: what cannot be trained on, and what may be a mistake."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping

from dgam.core.errors import InputError
from dgam.core.files import sha256_of
from dgam.core.timeline import SnippetGrid
from dgam.core.types import VideoLabels
from dgam.features.source import FeatureSource
from dgam.fitting.findings import Findings, counted, listed
from dgam.fitting.spelling import is_number, is_placeholder, look_alikes
from dgam.video.container import probe
from dgam.video.listing import VideoFile

FEW_VIDEOS = 10
"""Fewer videos than this are told to be few."""
FEW_PER_CLASS = 4
"""Fewer videos of a class than this are told to be few."""
FEW_SNIPPETS = 4
"""Videos of fewer snippets leave hardly anything to choose from."""


def check_labels(labels: VideoLabels, where: str, findings: Findings) -> None:
    """Labels by themselves: too few, without contrast, alike, or hardly meant as labels."""
    counts = Counter(name for names in labels.labels.values() for name in names)
    total = len(labels)
    if total < 2:
        findings.error(
            where, f"{counted(total, 'video')} to train on; at least 2 are needed, better 10 or more."
        )
        return
    if not counts:
        findings.error(where, f"none of {total} videos has a label, so there is nothing to learn.")
        return
    everywhere = sorted(name for name, count in counts.items() if count == total)
    if len(everywhere) == len(counts):
        findings.error(
            where,
            f"every video has {'the label' if len(counts) == 1 else 'each of the labels'} "
            f"{listed(everywhere)}, so nothing tells what belongs to it.",
            remedy="Add videos without it, each with a row without labels, or videos of other actions.",
        )
    else:
        for name in everywhere:
            findings.warn(
                where,
                f"every video has the label {name!r}: there is no contrast to learn it from.",
                remedy="Add videos without it, or expect little of it.",
            )
    if total < FEW_VIDEOS:
        findings.warn(
            where,
            f"{total} videos are few: expect a first impression, not a model to rely on.",
            remedy=f"{FEW_VIDEOS} give something, 50 or more are better.",
        )
    _check_scarce({name: count for name, count in counts.items() if count < total}, where, findings)
    _check_names(labels, counts, where, findings)
    _check_together(labels, where, findings)
    without = sum(not names for names in labels.labels.values())
    if without:
        findings.note(
            where, f"{counted(without, 'video')} without labels: taken to hold none of the actions."
        )
    if len(set(labels.subset_of.values())) > 1:
        subsets = listed(sorted(set(labels.subset_of.values())))
        findings.warn(
            where,
            f"names the subsets {subsets}; videos of all of them are trained on.",
            remedy="Choose with --subset, and keep the test videos out.",
        )


def _check_scarce(counts: Mapping[str, int], where: str, findings: Findings) -> None:
    remedy = "Add videos, or drop the label."
    if single := sorted(repr(name) for name, count in counts.items() if count == 1):
        one = len(single) == 1
        only = "only 1 video has the label" if one else "only 1 video each has the labels"
        told = "it from whatever else is in that video" if one else "them from whatever else is in it"
        findings.warn(where, f"{only} {listed(single)}: nothing tells {told}.", remedy=remedy)
    if few := sorted(f"{name!r} ({count})" for name, count in counts.items() if 1 < count < FEW_PER_CLASS):
        findings.warn(
            where,
            f"fewer than {FEW_PER_CLASS} videos have the label{'s' if len(few) > 1 else ''} {listed(few)}.",
            remedy=remedy,
        )


def _check_names(labels: VideoLabels, counts: Mapping[str, int], where: str, findings: Findings) -> None:
    names = sorted(counts)
    for one, two in look_alikes(names):
        findings.warn(
            where,
            f"the labels {one!r} ({counted(counts[one], 'video')}) and {two!r} "
            f"({counted(counts[two], 'video')}) look like one label written in two ways.",
            remedy="If so, write both the same; now they are learned as two.",
        )
    for name in names:
        if is_placeholder(name):
            findings.warn(
                where,
                f"the label {name!r} looks like a way to say that there is none.",
                remedy="If so, leave the cell empty; now it is learned as an action.",
            )
        elif is_number(name):
            findings.warn(
                where, f"the label {name!r} looks like a number or a time, not like the name of an action."
            )
        pieces = [piece.strip() for piece in name.split(",")]
        if len(pieces) > 1 and all(pieces):
            findings.warn(
                where,
                f"the label {name!r} holds a comma and counts as one label.",
                remedy="If several are meant, separate them with ';'.",
            )


def _check_together(labels: VideoLabels, where: str, findings: Findings) -> None:
    videos: dict[str, frozenset[str]] = {
        name: frozenset(video for video, names in labels.labels.items() if name in names)
        for name in {name for names in labels.labels.values() for name in names}
    }
    groups: dict[frozenset[str], list[str]] = defaultdict(list)
    for name in sorted(videos):
        groups[videos[name]].append(name)
    for common, names in groups.items():
        if len(names) > 1 and 1 < len(common) < len(labels):
            findings.warn(
                where,
                f"the labels {listed(names)} always come together, so nothing tells one from the other.",
                remedy="Add videos with only one of them, or make them one label.",
            )


def check_files(files: Mapping[str, VideoFile], grid: SnippetGrid, source: str, findings: Findings) -> None:
    """Video files by their headers: unreadable, very short, or the same twice."""
    short = []
    for video, file in files.items():
        try:
            seconds = probe(file.path).seconds
        except InputError as error:
            where, _, what = str(error).partition(": ")
            findings.error(where, what, video)
            continue
        if seconds is not None and grid.count(round(seconds * grid.fps)) < FEW_SNIPPETS:
            short.append(f"{video} ({seconds:.1f} s)")
    _tell_short(short, grid, source, findings)
    _check_copies(files, source, findings)


def check_snippets(features: FeatureSource, labels: VideoLabels, findings: Findings) -> None:
    """Features of the labelled videos: those of very few snippets."""
    short, grid = [], SnippetGrid()
    for video in labels.videos:
        timeline = features.timeline(video)
        if timeline.snippets < FEW_SNIPPETS:
            grid = timeline.grid
            short.append(f"{video} ({counted(timeline.snippets, 'snippet')})")
    _tell_short(short, grid, features.name, findings)


def _tell_short(short: list[str], grid: SnippetGrid, source: str, findings: Findings) -> None:
    if short:
        least = FEW_SNIPPETS * float(grid.stride / grid.fps)
        findings.warn(
            source,
            f"{counted(len(short), 'video is', 'videos are')} shorter than {FEW_SNIPPETS} snippets "
            f"({least:.1f} s): {listed(short)}.",
            remedy="There is hardly anything to find in them; longer, untrimmed videos teach more.",
        )


def _check_copies(files: Mapping[str, VideoFile], source: str, findings: Findings) -> None:
    by_size: dict[int, list[VideoFile]] = defaultdict(list)
    for file in files.values():
        by_size[file.size].append(file)
    copies: dict[str, list[str]] = defaultdict(list)
    for size, same in by_size.items():
        for file in same if len(same) > 1 and size else ():
            copies[sha256_of(file.path)].append(file.video)
    for videos in copies.values():
        if len(videos) > 1:
            findings.warn(
                source,
                f"{listed(videos)} are the same file, byte for byte.",
                remedy="Keep one: copies make held-out scores too good.",
            )
