"""Writing a feature store, one video at a time, so that killing the writer at any moment loses one video at
most."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from dgam.core.errors import InputError
from dgam.core.files import atomic_write, write_json
from dgam.core.timeline import SnippetGrid
from dgam.features.arrays import defect, features_shape
from dgam.features.folders import check_stream_name
from dgam.features.npy import read_header
from dgam.features.source import Array
from dgam.features.store import DTYPES, StoreEntry, StoreHead, entry_file, parse_entry, read_entry, read_head

_TEMPORARY = re.compile(r"\.(.+)\.\w+\.part")  # as core.files names them


class StoreWriter:
    """Adds videos to the feature store at ``path``, which is made where there is none.

    ``streams`` maps each stream to its dimension, ``dtype`` is that on disk, "float32" or "float16", and
    ``settings`` (JSON values) say how the features came about. Several processes may write different videos
    at once. The bytes written depend on what is given only, not on time or order. Raises InputError where a
    store of other streams, dtype or settings, or anything else, is in the way.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        streams: Mapping[str, int],
        *,
        dtype: str = "float32",
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.path = Path(path)
        if dtype not in DTYPES:
            raise InputError(f"dtype {dtype!r}: a store keeps one of {', '.join(DTYPES)}.")
        if not streams:
            raise InputError(f"{path}: a store needs at least one stream.")
        for name, dimension in streams.items():
            check_stream_name(name, str(path))
            if dimension < 1:
                raise InputError(f"{path}: stream {name!r} has dimension {dimension}, expected at least 1.")
        self.head = StoreHead(dict(streams), dtype, dict(settings or {}))
        self._dtype = np.dtype(dtype)
        self._make()
        self._leftovers = self._find_leftovers()

    def entry(self, video: str) -> StoreEntry | None:
        """The manifest entry of a video that is stored whole: entry readable, every file there at its full
        size."""
        try:
            entry = read_entry(entry_file(self.path, video), video)
            for stream in entry.sha256:
                header = read_header(self._file(video, stream))
                if (
                    header.shape != (entry.snippets, self.head.streams.get(stream))
                    or header.dtype != self._dtype
                ):
                    return None
        except InputError:
            return None
        return entry

    def add(
        self,
        video: str,
        arrays: Mapping[str, Array],
        *,
        grid: SnippetGrid,
        frames: int | None = None,
        duration: float | None = None,
        source: str = "",
    ) -> StoreEntry:
        """Store a video: features (T, d) for one or more streams, with the same T.

        ``frames`` and ``duration`` (seconds) are those of the video where known; ``source`` says where it
        came from. A video that is there already is replaced. Raises InputError for an unknown stream, a wrong
        shape, no snippets, NaN or infinity, values that the store's dtype cannot hold, and an id or duration
        that cannot be kept; nothing is written then.
        """
        known = ", ".join(self.head.streams)
        if not arrays or not set(arrays) <= set(self.head.streams):
            raise InputError(
                f"{self.path}: video {video!r}: got streams {list(arrays)}, the store has {known}."
            )
        stored = {stream: self._fit(video, stream, array) for stream, array in arrays.items()}
        lengths = {stream: array.shape[0] for stream, array in stored.items()}
        if len(set(lengths.values())) > 1:
            raise InputError(f"{self.path}: video {video!r}: streams differ in snippets: {lengths}.")
        length = next(iter(lengths.values()))
        entry = StoreEntry(video, length, grid, dict.fromkeys(stored, ""), frames, duration, source)
        # Refuse now what a reader of the entry would refuse later.
        parse_entry(entry.to_json(), video, f"{self.path}: video {video!r}")
        entry_path = entry_file(self.path, video)
        if entry_path.exists():
            self._refuse_alias(entry_path, video)
            entry_path.unlink()  # first, so that an entry never speaks of other bytes than those beside it
        sha256 = {stream: self._write(self._file(video, stream), array) for stream, array in stored.items()}
        entry = replace(entry, sha256=sha256)
        self._clear(entry_path)
        write_json(entry_path, entry.to_json())
        return entry

    def _make(self) -> None:
        visible = [name for name in os.listdir(self.path) if name[0] != "."] if self.path.is_dir() else []
        if not (self.path / "store.json").exists():
            if visible:
                raise InputError(
                    f"{self.path}: is not a store and not empty (it holds {', '.join(sorted(visible)[:5])}). "
                    "Give a new folder."
                )
            if self.path.exists() and not self.path.is_dir():
                raise InputError(f"{self.path}: is a file, expected a folder for the store.")
            self._write_head()
        there, wanted = read_head(self.path).to_json(), self.head.to_json()
        differing = [key for key in wanted if there[key] != wanted[key]]
        if differing:
            facts = "; ".join(f"{key} {there[key]}, asked for {wanted[key]}" for key in differing)
            raise InputError(f"{self.path}: holds a store with other properties: {facts}. Give a new folder.")

    def _write_head(self) -> None:
        for _ in range(100):
            for leftover in self.path.glob(".store.json.*.part"):
                leftover.unlink(missing_ok=True)  # of a writer that was killed, or of one that starts with us
            with suppress(FileNotFoundError):  # then such a one took ours for a leftover
                write_json(self.path / "store.json", self.head.to_json())
            if (self.path / "store.json").exists():
                return

    def _find_leftovers(self) -> dict[Path, list[Path]]:
        """Temporary files of writers that were killed, by the file they would have become."""
        found: dict[Path, list[Path]] = {}
        for folder in (self.path / name for name in (*self.head.streams, "videos")):
            for name in os.listdir(folder) if folder.is_dir() else ():
                if match := _TEMPORARY.fullmatch(name):
                    found.setdefault(folder / match[1], []).append(folder / name)
        return found

    def _clear(self, path: Path) -> None:
        """Remove what a killed writer left of this file. Only when it is written anew: another writer may be
        alive."""
        for leftover in self._leftovers.pop(path, ()):
            leftover.unlink(missing_ok=True)

    def _file(self, video: str, stream: str) -> Path:
        return self.path / stream / f"{entry_file(self.path, video).stem}.npy"

    def _fit(self, video: str, stream: str, array: Array) -> NDArray[Any]:
        """The array as it goes to disk: (T, d), C order, the store's dtype."""
        where = f"{self.path}: video {video!r}: stream {stream!r}"
        features_shape(array.shape, array.dtype, where)
        if found := defect(array, self.head.streams[stream]):
            raise InputError(f"{where}: {found}")
        if found := too_large(array, self._dtype):
            raise InputError(f"{where}: {found}")
        return np.ascontiguousarray(array, dtype=self._dtype)

    def _refuse_alias(self, path: Path, video: str) -> None:
        """Where a file system ignores case, two ids can share a file; better an error than a lost video."""
        try:
            read_entry(path, video)
        except InputError as error:
            if "'video' is" in str(error):
                raise InputError(
                    f"{path}: holds another video than {video!r}; this file system cannot tell them apart."
                ) from error

    def _write(self, path: Path, array: NDArray[Any]) -> str:
        self._clear(path)
        with atomic_write(path) as file:
            hashing = _HashingFile(file)
            np.lib.format.write_array(hashing, array, version=(1, 0), allow_pickle=False)
            return hashing.sha256.hexdigest()


def too_large(array: Array, dtype: np.dtype[Any]) -> str | None:
    """Which finite value of an array does not fit into a narrower dtype, in words; None if all fit."""
    if array.dtype.itemsize <= dtype.itemsize or not array.size:
        return None
    limit = float(np.finfo(dtype).max)
    flat = int(np.argmax(np.abs(array)))
    row, column = divmod(flat, array.shape[1])
    value = float(array[row, column])
    if abs(value) <= limit:
        return None
    return (
        f"value {value:g} at snippet {row}, dimension {column} does not fit into {dtype} (at most {limit:g})."
    )


class _HashingFile:
    """Passes what is written on to a file and keeps its SHA-256."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        return self._file.write(data)
