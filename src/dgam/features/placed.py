"""Snippet features read in place: a table that says where each video's streams lie."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from dgam.core.errors import InputError
from dgam.core.timeline import SnippetGrid, Timeline
from dgam.features.arrays import Place
from dgam.features.source import Array

_SAMPLED = 16


class PlacedFeatures:
    """A feature source over ``places``, ``{video: {stream: place}}``, with one time grid for all videos.

    A stream's dimension is what most of a few files say; a video that deviates is an InputError when it is
    read. ``durations`` gives the seconds of videos where they are known. Raises InputError where no file of a
    stream can be read.
    """

    def __init__(
        self,
        name: str,
        places: Mapping[str, Mapping[str, Place]],
        streams: Sequence[str],
        *,
        grid: SnippetGrid | None = None,
        durations: Mapping[str, float] | None = None,
    ) -> None:
        self.name = name
        self._places = {video: places[video] for video in sorted(places)}
        self._grid = grid or SnippetGrid()
        self._durations = dict(durations or {})
        self._lengths: dict[str, int] = {}
        self._streams: dict[str, int] = {}
        for stream in streams:
            holders = [at[stream] for at in self._places.values() if stream in at]
            self._streams[stream] = usual_dimension(holders, f"{name}: stream {stream!r}")

    @property
    def streams(self) -> Mapping[str, int]:
        return dict(self._streams)

    @property
    def videos(self) -> Sequence[str]:
        return tuple(self._places)

    def timeline(self, video: str) -> Timeline:
        """The video's time line; its snippets are counted in its first stream. InputError where that is
        unreadable."""
        places = self._places[video]
        if video not in self._lengths:
            first = next(stream for stream in self._streams if stream in places)
            self._lengths[video] = places[first].shape()[0]
        return Timeline(self._grid, self._lengths[video], self._durations.get(video))

    def has(self, video: str, stream: str) -> bool:
        return stream in self._streams and stream in self._places.get(video, {})

    def where(self, video: str, stream: str) -> str:
        """The file that holds, or would hold, the video's features."""
        place = self._places[video].get(stream)
        return place.where if place else self.name

    def read(self, video: str, stream: str) -> Array:
        dimension = self._streams[stream]
        place = self._places[video][stream]
        array = place.load()
        if array.shape[1] != dimension:
            turned = " Is it transposed?" if array.shape[0] == dimension else ""
            raise InputError(
                f"{place.where}: has {array.shape[1]} features a snippet, expected {dimension} as in other "
                f"videos' stream {stream!r}.{turned}"
            )
        try:
            length = self.timeline(video).snippets
        except InputError:  # said when the first stream is read
            length = array.shape[0]
        if array.shape[0] != length:
            raise InputError(
                f"{place.where}: stream {stream!r} has {array.shape[0]} snippets, the video's first stream "
                f"has {length}."
            )
        return array


def usual_dimension(places: Sequence[Place], where: str) -> int:
    """The dimension that most of a few places have. InputError where none of them can be read."""
    found: Counter[int] = Counter()
    problem = InputError(f"{where}: holds no video.")
    for place in sample(places):
        try:
            found[place.shape()[1]] += 1
        except InputError as error:
            problem = error
    if not found:
        raise problem
    return max(found, key=lambda size: found[size])


def sample(places: Sequence[Place]) -> Sequence[Place]:
    """A few of the places, evenly spread, the first among them."""
    return places[:: max(1, len(places) // _SAMPLED)]
