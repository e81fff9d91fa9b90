"""What every holder of snippet features offers, whatever its layout on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dgam.core.errors import InputError
from dgam.core.timeline import SnippetGrid, Timeline

Array = NDArray[np.floating]


class FeatureSource(Protocol):
    """Snippet features of many videos in one or more streams.

    ``name`` says where they come from, for messages (a path, or "arrays").
    """

    name: str

    @property
    def streams(self) -> Mapping[str, int]:
        """Stream name to feature dimension, in the source's order."""
        ...

    @property
    def videos(self) -> Sequence[str]:
        """Video ids, sorted."""
        ...

    def timeline(self, video: str) -> Timeline:
        """Where the video's snippets lie in time. KeyError for an unknown video."""
        ...

    def has(self, video: str, stream: str) -> bool:
        """Whether the video has features in this stream."""
        ...

    def read(self, video: str, stream: str) -> Array:
        """Features of one video, shape ``(T, d)``, one row a snippet, in the dtype they are kept in.

        Read-only, and memory-mapped where the layout allows. KeyError for an unknown video or stream,
        InputError where the file is missing or unreadable.
        """
        ...


class ArrayFeatures:
    """Snippet features already in memory: ``{video: {stream: (T, d) array}}``.

    Streams of a video must agree in T, and a stream in d over all videos; InputError otherwise.
    """

    def __init__(self, arrays: Mapping[str, Mapping[str, Array]], grid: SnippetGrid | None = None) -> None:
        self.name = "arrays"
        self._arrays = {video: dict(arrays[video]) for video in sorted(arrays)}
        self._grid = grid or SnippetGrid()
        self._streams: dict[str, int] = {}
        for video, streams in self._arrays.items():
            lengths = {stream: array.shape[0] for stream, array in streams.items() if array.ndim == 2}
            if len(lengths) < len(streams) or len(set(lengths.values())) != 1:
                shapes = {stream: array.shape for stream, array in streams.items()}
                raise InputError(
                    f"video {video!r}: every stream must be (T, d) with the same T, got {shapes}"
                )
            for stream, array in streams.items():
                known = self._streams.setdefault(stream, array.shape[1])
                if known != array.shape[1]:
                    raise InputError(
                        f"video {video!r}: stream {stream!r} has dimension {array.shape[1]}, "
                        f"other videos {known}"
                    )

    @property
    def streams(self) -> Mapping[str, int]:
        return dict(self._streams)

    @property
    def videos(self) -> Sequence[str]:
        return tuple(self._arrays)

    def timeline(self, video: str) -> Timeline:
        return Timeline(self._grid, next(iter(self._arrays[video].values())).shape[0])

    def has(self, video: str, stream: str) -> bool:
        return stream in self._arrays.get(video, {})

    def read(self, video: str, stream: str) -> Array:
        array = self._arrays[video][stream].view()
        array.flags.writeable = False
        return array


def dimension(source: FeatureSource, stream: str) -> int:
    """Feature dimension of a stream; of a joint one such as "rgb+flow" the sum. KeyError for an unknown
    one."""
    return sum(source.streams[part] for part in stream.split("+"))


def read_stream(source: FeatureSource, video: str, stream: str) -> Array:
    """Like ``source.read``, and "rgb+flow" joins the named streams along the feature axis (early fusion)."""
    parts = [source.read(video, part) for part in stream.split("+")]
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)  # (T, d1 + d2 + …)
