"""The formats by name, and how detections become files of them."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from dgam.core.errors import InputError
from dgam.core.files import atomic_write
from dgam.core.results import results_json
from dgam.core.types import Detections
from dgam.exports.content import Content
from dgam.exports.elan import write_elan
from dgam.exports.fiftyone import write_fiftyone
from dgam.exports.labelstudio import labelling_config, write_labelstudio
from dgam.exports.subtitles import write_srt, write_vtt
from dgam.exports.table import write_csv


class Format(NamedTuple):
    """A format: how it is written (file names to contents), its files' ending, and their media type."""

    write: Callable[[Content], dict[str, bytes]]
    suffix: str
    media_type: str


def write_activitynet(content: Content) -> dict[str, bytes]:
    """``detections.json``, ActivityNet's result JSON: every digit kept, read again by ``dgam evaluate``."""
    value = results_json(content.detections)
    return {"detections.json": (json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n").encode()}


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "json": Format(write_activitynet, ".json", "application/json"),
        "csv": Format(write_csv, ".csv", "text/csv"),
        "vtt": Format(write_vtt, ".vtt", "text/vtt"),
        "srt": Format(write_srt, ".srt", "application/x-subrip"),
        "elan": Format(write_elan, ".eaf", "application/xml"),
        "labelstudio": Format(write_labelstudio, ".json", "application/json"),
        "fiftyone": Format(write_fiftyone, ".json", "application/json"),
    }
)
PER_VIDEO = frozenset({"vtt", "srt", "elan"})
"""Formats that have one file for each video; the others have one for all."""


def export(
    format: str,
    detections: Detections,
    *,
    durations: Mapping[str, float | None] | None = None,
    media: Mapping[str, str] | None = None,
    rates: Mapping[str, float] | None = None,
    classes: Sequence[str] = (),
) -> dict[str, bytes]:
    """Detections in a format: file names, safe on every system, to contents.

    ``durations`` (seconds) cut segments to their video, ``media`` says where videos lie (paths or addresses),
    ``rates`` their frames a second; each may lack any video. Times are whole milliseconds, halves up; frames
    for Label Studio; all digits in ActivityNet JSON. InputError for an unknown format, or a video id that
    cannot be a file name.
    """
    content = Content(detections, durations or {}, media or {}, rates or {}, tuple(classes))
    return known_format(format).write(content)


def known_format(name: str) -> Format:
    """The format of this name; InputError for an unknown one."""
    if name not in FORMATS:
        close = difflib.get_close_matches(name, FORMATS, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise InputError(f"--to: unknown format {name!r}.{hint} Known ones: {', '.join(FORMATS)}.")
    return FORMATS[name]


def format_of(path: Path) -> str:
    """The format that a file's ending stands for: ``.csv``, ``.vtt``, ``.srt``, ``.eaf``; else JSON."""
    return next(
        (name for name, own in FORMATS.items() if own.suffix == path.suffix.lower()),
        "json",
    )


def write_folder(out: Path, formats: Sequence[str], content: Content) -> list[Path]:
    """Write all formats into the folder ``out``, each file atomically; for Label Studio the labelling
    configuration too. The paths, in order."""
    contents: dict[str, bytes] = {}
    for name in formats:
        contents |= known_format(name).write(content)
        if name == "labelstudio":
            contents["labelstudio-config.xml"] = labelling_config(content.classes)
    return [_write(out / name, data) for name, data in contents.items()]


def write_file(path: Path, format: str, content: Content) -> Path:
    """Write one format as the file ``path``, atomically. InputError where it needs a file for each video."""
    contents = list(known_format(format).write(content).values())
    if len(contents) != 1:
        raise InputError(
            f"--out {path}: {format} has one file for each video, and there are {len(contents)} videos. "
            f"Name a folder, and the format with --to {format}."
        )
    return _write(path, contents[0])


def _write(path: Path, data: bytes) -> Path:
    with atomic_write(path) as file:
        file.write(data)
    return path
