"""The feature store: what dgam writes snippet features as, and reads fastest.

    STORE/store.json            format, dtype, streams with their dimensions, settings that made it
    STORE/<stream>/<video>.npy  features (T, d), float32 or float16, C order: can be read by np.load alone
    STORE/videos/<video>.json   the video's manifest entry: time grid, duration, snippets, source, SHA-256s

A video counts as stored when its manifest entry is there, which is written last. A folder without
``store.json`` but with the rest is the layout "streams" of ``layouts``. File names are those of
``names.file_stem``.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from dgam.core.errors import InputError, Problem
from dgam.core.files import sha256_of
from dgam.core.timeline import SnippetGrid, Timeline
from dgam.features.arrays import NpyPlace, as_problem
from dgam.features.folders import check_stream_name, files
from dgam.features.names import file_stem, video_id
from dgam.features.source import Array

FORMAT = 1
DTYPES = ("float32", "float16")
_RATIONAL = re.compile(r"[1-9]\d{0,17}/[1-9]\d{0,17}")


@dataclass(frozen=True)
class StoreEntry:
    """One video's manifest entry. ``frames`` and ``duration`` (seconds) are None where unknown."""

    video: str
    snippets: int
    grid: SnippetGrid
    sha256: Mapping[str, str]
    frames: int | None = None
    duration: float | None = None
    source: str = ""

    @property
    def timeline(self) -> Timeline:
        """Where the video's snippets lie in time."""
        return Timeline(self.grid, self.snippets, self.duration)

    def to_json(self) -> dict[str, Any]:
        """The entry as it is written."""
        return {
            "video": self.video,
            "snippets": self.snippets,
            "fps": f"{self.grid.fps.numerator}/{self.grid.fps.denominator}",
            "length": self.grid.length,
            "stride": self.grid.stride,
            "frames": self.frames,
            "duration": self.duration,
            "source": self.source,
            "sha256": dict(sorted(self.sha256.items())),
        }


@dataclass(frozen=True)
class StoreHead:
    """What ``store.json`` says: the dtype on disk, the streams and their dimensions, and how the features
    came about."""

    streams: Mapping[str, int]
    dtype: str = "float32"
    settings: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The head as it is written."""
        return {
            "format": FORMAT,
            "dtype": self.dtype,
            "streams": dict(self.streams),
            "settings": dict(self.settings),
        }


class FeatureStore:
    """A feature store, opened for reading: a FeatureSource.

    Opening lists the videos and reads no more; an entry is read when it is first asked for, features are
    memory-mapped when they are read and no file stays open. ``durations`` gives seconds for videos whose
    entry has none. Raises InputError where ``path`` is no store or its head is damaged.
    """

    def __init__(self, path: str | os.PathLike[str], *, durations: Mapping[str, float] | None = None) -> None:
        self.path = Path(path)
        self.name = str(path)
        self.head = read_head(self.path)
        listed = files(self.path / "videos", ".json") if (self.path / "videos").is_dir() else {}
        self._stems = dict(sorted((video_id(stem), stem) for stem in listed))
        self._streams = dict(self.head.streams)
        self._durations = dict(durations or {})
        self._known: dict[str, tuple[Timeline, frozenset[str]]] = {}
        self._grids: dict[SnippetGrid, SnippetGrid] = {}

    @property
    def streams(self) -> Mapping[str, int]:
        return dict(self._streams)

    @property
    def videos(self) -> Sequence[str]:
        return tuple(self._stems)

    def timeline(self, video: str) -> Timeline:
        return self._facts(video)[0]

    def has(self, video: str, stream: str) -> bool:
        return video in self._stems and stream in self._streams and stream in self._facts(video)[1]

    def where(self, video: str, stream: str) -> str:
        """The file with the video's features."""
        return str(self.path / stream / f"{self._stems[video]}.npy")

    def read(self, video: str, stream: str) -> Array:
        dimension, where = self._streams[stream], self.where(video, stream)
        timeline, held = self._facts(video)
        if stream not in held:
            raise KeyError(f"{video!r} has no stream {stream!r}")
        array = NpyPlace(where).load()
        if array.shape != (timeline.snippets, dimension) or array.dtype.name != self.head.dtype:
            raise InputError(
                f"{where}: holds {array.dtype} {array.shape}, the store says {self.head.dtype} "
                f"{(timeline.snippets, dimension)}. Import the video again."
            )
        return array

    def entry(self, video: str) -> StoreEntry:
        """The video's manifest entry. KeyError for an unknown video, InputError for a damaged entry."""
        return read_entry(self.path / "videos" / f"{self._stems[video]}.json", video)

    def only_streams(self, streams: Sequence[str]) -> FeatureStore:
        """The same store, showing these streams in this order. KeyError for an unknown one."""
        other = FeatureStore(self.path, durations=self._durations)
        other._streams = {stream: self._streams[stream] for stream in streams}
        return other

    def verify(self) -> Iterator[Problem]:
        """Read every file again and compare checksums; also names features that no entry speaks of."""
        for video, stem in self._stems.items():
            try:
                entry = self.entry(video)
            except InputError as error:
                yield as_problem(error, str(self.path / "videos" / f"{stem}.json"), video)
                continue
            for stream, expected in entry.sha256.items():
                where = str(self.path / stream / f"{stem}.npy")
                try:
                    found = sha256_of(where)
                except OSError as error:
                    yield Problem(
                        where, f"cannot be read: {error.strerror}.", video, "Import the video again."
                    )
                    continue
                if found != expected:
                    what = f"has SHA-256 {found[:12]}…, its entry says {expected[:12]}…."
                    yield Problem(
                        where, what, video, "The file was changed or damaged; import the video again."
                    )
        stems = set(self._stems.values())
        for stream in self.head.streams:
            if (self.path / stream).is_dir():
                for stem, path in files(self.path / stream, ".npy").items():
                    if stem not in stems:
                        what = "has features but no manifest entry: its import was interrupted."
                        yield Problem(path, what, video_id(stem), "Import it again.")

    def _facts(self, video: str) -> tuple[Timeline, frozenset[str]]:
        """Time line and streams of a video, remembered in a compact form."""
        if video not in self._known:
            entry = self.entry(video)
            duration = entry.duration if entry.duration is not None else self._durations.get(video)
            grid = self._grids.setdefault(entry.grid, entry.grid)
            self._known[video] = Timeline(grid, entry.snippets, duration), frozenset(entry.sha256)
        return self._known[video]


def read_head(path: Path) -> StoreHead:
    """Read ``store.json``. InputError where it is missing, damaged, or of another version."""
    file = path / "store.json"
    if not file.is_file():
        raise InputError(f"{path}: is not a feature store, it has no store.json. 'dgam import' makes one.")
    value = _read_object(file)
    if value.get("format") != FORMAT:
        raise InputError(f"{file}: format {value.get('format')!r}, this version of dgam reads {FORMAT}.")
    streams, dtype, settings = value.get("streams"), value.get("dtype"), value.get("settings", {})
    if dtype not in DTYPES:
        raise InputError(f"{file}: dtype {dtype!r}, expected one of {', '.join(DTYPES)}.")
    if (
        not isinstance(streams, dict)
        or not streams
        or not all(_is_count(size, 1) for size in streams.values())
    ):
        raise InputError(f"{file}: 'streams' must give each stream's dimension, got {str(streams)[:80]}.")
    if not isinstance(settings, dict):
        raise InputError(f"{file}: 'settings' must be an object, got {str(settings)[:80]}.")
    for stream in streams:
        check_stream_name(stream, str(file))
    return StoreHead(streams, dtype, settings)


def read_entry(file: Path, video: str) -> StoreEntry:
    """Read a video's manifest entry. InputError where it is missing, damaged or of another video."""
    value = _read_object(file)
    try:
        return parse_entry(value, video, str(file))
    except InputError as error:
        raise InputError(f"{error} Import the video again.") from None


def parse_entry(value: Mapping[str, Any], video: str, where: str) -> StoreEntry:
    """Check a manifest entry field by field. InputError names the first that is not usable."""

    def refuse(key: str, expected: str) -> InputError:
        return InputError(f"{where}: {key!r} is {str(value.get(key))[:80]!r}, expected {expected}.")

    if value.get("video") != video:
        raise refuse("video", f"{video!r}, which its file name says")
    for key, least in (("snippets", 1), ("length", 1), ("stride", 1)):
        if not _is_count(value.get(key), least):
            raise refuse(key, f"a whole number from {least}")
    fps, frames, duration, sha256 = (value.get(key) for key in ("fps", "frames", "duration", "sha256"))
    if not isinstance(fps, str) or not _RATIONAL.fullmatch(fps):
        raise refuse("fps", "a fraction such as '30000/1001'")
    if frames is not None and not _is_count(frames, 1):
        raise refuse("frames", "a whole number from 1, or null")
    if duration is not None and not (type(duration) in (int, float) and 0 < duration < math.inf):
        raise refuse("duration", "seconds above 0, or null")
    if not isinstance(value.get("source"), str):
        raise refuse("source", "text")
    if (
        not isinstance(sha256, dict)
        or not sha256
        or not all(isinstance(text, str) for text in sha256.values())
    ):
        raise refuse("sha256", "a checksum for each stream")
    grid = SnippetGrid(Fraction(fps), value["length"], value["stride"])
    duration = None if duration is None else float(duration)
    return StoreEntry(video, value["snippets"], grid, sha256, frames, duration, value["source"])


def entry_file(path: Path, video: str) -> Path:
    """Where a video's manifest entry lies in the store ``path``. InputError for an id that no file can
    have."""
    return path / "videos" / f"{file_stem(video)}.json"


def _is_count(value: object, least: int) -> bool:
    return type(value) is int and least <= value < 1 << 48


def _read_object(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file}: is not valid JSON: {str(error)[:200]}.") from error
    if not isinstance(value, dict):
        raise InputError(f"{file}: must hold a JSON object, got {type(value).__name__}.")
    return value
