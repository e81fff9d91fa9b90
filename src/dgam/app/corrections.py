"""What people correct by hand: checked, kept with the job, and handed out as labels for the next training."""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dgam.app.schemas import CorrectionValue
from dgam.core.errors import InputError
from dgam.core.files import write_json
from dgam.video.listing import VIDEO_ENDINGS

FILE = "correction.json"
_BEYOND = 0.05
"""Seconds that a segment may reach beyond the duration, for players that round it up; it is cut there."""


def checked(correction: CorrectionValue, duration: float) -> dict[str, Any]:
    """A correction as it is kept: names without outer space, segments sorted, their labels among the labels.

    InputError for a segment outside the video or without length, and for a name that a labels CSV cannot
    hold.
    """
    segments = []
    for number, one in enumerate(correction.segments):
        where = f"segments[{number}]: [{one.start:g}, {one.end:g}]"
        if one.end > duration + _BEYOND:
            raise InputError(f"{where} reaches beyond the video, which lasts {duration:.3f} s.")
        start, end = min(one.start, duration), min(one.end, duration)
        if end <= start:
            raise InputError(f"{where} has no length; its end must lie after its start.")
        segments.append({"start": start, "end": end, "label": _name(one.label, f"segments[{number}].label")})
    segments.sort(key=lambda one: (one["start"], one["end"], one["label"]))
    labels = [_name(label, f"labels[{number}]") for number, label in enumerate(correction.labels)]
    return {
        "labels": list(dict.fromkeys([*labels, *(one["label"] for one in segments)])),
        "segments": segments,
    }


def save(folder: Path, correction: dict[str, Any]) -> None:
    """Keep a checked correction with its job, atomically."""
    write_json(folder / FILE, correction)


def load(folder: Path) -> dict[str, Any] | None:
    """A job's correction, None where it has none."""
    try:
        value: dict[str, Any] = json.loads((folder / FILE).read_bytes())
    except FileNotFoundError:
        return None
    return value


def discard(folder: Path) -> bool:
    """Forget a job's correction. False where it had none."""
    try:
        (folder / FILE).unlink()
    except FileNotFoundError:
        return False
    return True


def labels_csv(corrected: Iterable[tuple[str, dict[str, Any]]]) -> str:
    """Video labels as ``dgam fit`` reads them, from (file name, correction), newest first.

    The id of a video is its file name without the ending. Where a video was corrected in several jobs, the
    newest one counts.
    """
    rows: dict[str, list[str]] = {}
    for name, correction in corrected:
        rows.setdefault(video_of(name), correction["labels"])
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["video", "labels"])
    writer.writerows([video, ";".join(rows[video])] for video in sorted(rows))
    return text.getvalue()


def video_of(name: str) -> str:
    """The id of a video from its file name, as listing a folder gives it."""
    path = Path(name)
    return name[: -len(path.suffix)] if path.suffix.lower() in VIDEO_ENDINGS and path.stem else name


def _name(label: str, where: str) -> str:
    name = label.strip()
    if not name:
        raise InputError(f"{where}: is empty.")
    if ";" in name or any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in name):
        raise InputError(f"{where}: a label must hold no semicolon, line break or control character.")
    return name
