"""Reading annotations of any known format: video labels for training, segments for evaluation.

The format is told from the path:

    .csv file                     ``video,labels``                            labels_csv
    .json file                    ActivityNet's                               activitynet
    folder with NAME_test.txt, …  THUMOS14's text release                     thumos
    folder with videoname.npy     W-TALC's                                    wtalc
    train_labels.npy              the DGAM authors' label table               multihot
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from dgam.core.errors import InputError
from dgam.core.problems import Report, reporting
from dgam.core.types import SegmentAnnotations, VideoLabels
from dgam.data.activitynet import read_activitynet_labels, read_activitynet_segments
from dgam.data.labels_csv import read_csv_labels
from dgam.data.multihot import label_files, read_multihot_labels
from dgam.data.thumos import class_files, read_thumos_labels, read_thumos_segments
from dgam.data.wtalc import is_wtalc, read_classes, read_wtalc_labels, read_wtalc_segments
from dgam.features.folders import describe

Format = Literal["csv", "activitynet", "thumos", "wtalc", "multihot"]


def read_labels(
    path: str | os.PathLike[str],
    *,
    classes: Sequence[str] | None = None,
    trusted_pickle: bool = False,
    on_problem: Report | None = None,
) -> VideoLabels:
    """Which actions each video contains, and nothing else, also where the file holds segments.

    ``classes`` fixes the classes and their order; a label outside them is a defect. By default they are the
    file's own list where it has one (W-TALC), otherwise the labels that occur, sorted. W-TALC's folders are
    pickles and need ``trusted_pickle``.

    Every defect of a video (a second entry, an empty label, a missing column, …) is a Problem. With
    ``on_problem`` None all are raised together as InputProblems; otherwise each is passed on and the video is
    left out. Raises InputError where the path is missing, of no known format, or holds no video.
    """
    source = Path(path)
    if classes is not None and len(set(classes)) != len(classes):
        raise InputError(f"The list of classes names one twice: {', '.join(sorted(classes))}.")
    form = _format_of(source)
    chosen = tuple(classes) if classes is not None else None
    with reporting(f"The labels in {path} are not usable:", on_problem) as report:
        match form:
            case "csv":
                table = read_csv_labels(source, report)
            case "activitynet":
                table = read_activitynet_labels(source, report)
            case "thumos":
                table = read_thumos_labels(source, report)
            case "wtalc":
                chosen = chosen or read_classes(source) or None
                table = read_wtalc_labels(source, report, trusted=trusted_pickle)
            case "multihot":
                table, chosen = read_multihot_labels(source, chosen, report)
        labels = table.result(chosen)
    if not labels:
        raise InputError(f"{path}: holds no usable video.")
    return labels


def read_segments(
    path: str | os.PathLike[str], *, trusted_pickle: bool = False, on_problem: Report | None = None
) -> SegmentAnnotations:
    """When each action happens, in seconds: for evaluation and pictures, never for training.

    THUMOS14's "Ambiguous" stretches come apart from the segments. Segments that lie outside the video, or
    last no time, are kept: ``data.checks`` speaks of them. Subsets are named as in the source ("validation"
    and "test" for THUMOS14's text release). W-TALC's folders are pickles and need ``trusted_pickle``.

    Every defect (a segment that ends before it starts, a time that is no number, a video listed twice, …) is
    a Problem, handled as in :func:`read_labels`. Raises InputError where the path is missing, of no known
    format, holds labels without times, or no video.
    """
    source = Path(path)
    form = _format_of(source)
    classes: tuple[str, ...] = ()
    with reporting(f"The annotations in {path} are not usable:", on_problem) as report:
        match form:
            case "activitynet":
                videos = read_activitynet_segments(source, report)
            case "thumos":
                videos = read_thumos_segments(source, report)
            case "wtalc":
                classes = read_classes(source)
                videos = read_wtalc_segments(source, report, trusted=trusted_pickle)
            case _:
                raise InputError(
                    f"{path}: holds video labels without times, expected segments: ActivityNet JSON, "
                    "THUMOS14's text files, or W-TALC's folder."
                )
    if not videos:
        raise InputError(f"{path}: holds no usable video.")
    return SegmentAnnotations(videos, classes, str(path))


def _format_of(path: Path) -> Format:
    if not path.exists():
        raise InputError(
            f"{path}: does not exist. Expected annotations: a CSV 'video,labels' or ActivityNet JSON."
        )
    try:
        if label_files(path):
            return "multihot"
        if path.is_dir():
            if is_wtalc(path):
                return "wtalc"
            if class_files(path):
                return "thumos"
            raise InputError(
                f"{path}: no annotations found. {describe(path)} Expected THUMOS14's text files "
                "(NAME_val.txt, NAME_test.txt), W-TALC's videoname.npy, or give a CSV or JSON file."
            )
    except OSError as error:
        raise InputError(f"{error.filename or path}: cannot be read: {error.strerror or error}.") from error
    match path.suffix.lower():
        case ".csv":
            return "csv"
        case ".json":
            return "activitynet"
        case ".npy" if is_wtalc(path.parent):
            raise InputError(f"{path}: is one file of a W-TALC folder. Give the folder, {path.parent}.")
        case ".txt" if path.stem.endswith(("_val", "_test")):
            raise InputError(
                f"{path}: is one file of THUMOS14's text release. Give the folder, {path.parent}."
            )
        case ending:
            raise InputError(
                f"{path}: its ending {ending!r} is that of no known annotations. Expected .csv "
                "(video,labels) or .json (ActivityNet)."
            )
