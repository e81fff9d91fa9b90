"""Training examples: sampled snippets of a stream and the labels of their video. Segments have no way in
here."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dgam.core.errors import InputProblems, Problem
from dgam.core.types import VideoLabels
from dgam.data.sampling import stratified
from dgam.features.source import FeatureSource, dimension, read_stream

_ORDER, _SNIPPETS = 1, 2  # keep the draws of batch order and of snippets apart
_BLOCK = 256  # videos whose snippets are drawn at a time: what is needed on the way stays small


class SnippetDataset:
    """The videos of ``labels`` with their features in one stream.

    Draws are functions of (seed, epoch, video), not of what was drawn before, so a resumed run sees the very
    samples of an uninterrupted one. Features are read whenever they are asked for; ``training.resident``
    keeps them where they fit. Raises InputProblems where a labelled video has no or empty features.

    ``lengths`` (N,): snippets of each video; ``labels`` (N, C): 0/1, float32.
    """

    def __init__(
        self, features: FeatureSource, labels: VideoLabels, stream: str, *, snippets: int, seed: int
    ) -> None:
        labels = labels.only(sorted(labels.videos))  # so that the order of a file's rows changes nothing
        self.features = features
        self.videos = labels.videos
        self.classes = labels.classes
        self.stream = stream
        self.dimension = dimension(features, stream)
        self.snippets = snippets
        self._seed = seed
        column = {name: index for index, name in enumerate(labels.classes)}
        self.labels = np.zeros((len(labels), len(labels.classes)), dtype=np.float32)
        for row, names in enumerate(labels.labels.values()):
            self.labels[row, [column[name] for name in names]] = 1.0
        self._refuse_missing()
        self.lengths = np.array([features.timeline(video).snippets for video in self.videos], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.videos)

    def labels_checksum(self) -> int:
        """CRC-32 of the 0/1 labels, by which a checkpoint knows the labels it was trained on."""
        return zlib.crc32(self.labels.tobytes())

    def batches(self, epoch: int, batch: int, *, drop_last: bool = False) -> list[NDArray[np.intp]]:
        """The videos of an epoch in random order, as index arrays of ``batch`` each (the last may be
        smaller).

        ``drop_last`` leaves a smaller last one out, unless it is the only one.
        """
        order = np.random.default_rng([self._seed, _ORDER, epoch]).permutation(len(self))
        parts = [order[start : start + batch] for start in range(0, len(order), batch)]
        return parts[:-1] if drop_last and len(parts) > 1 and len(parts[-1]) < batch else parts

    def rows(self, videos: Sequence[int] | NDArray[np.intp], draw: int) -> NDArray[np.intp]:
        """Which snippets of each of the videos are looked at, (B, T) in [0, length); ``draw`` numbers the
        sampling."""
        generator = np.random.default_rng([self._seed, _SNIPPETS, draw])
        rows = np.empty((len(self), self.snippets), dtype=np.intp)
        for start in range(0, len(self), _BLOCK):
            part = slice(start, start + _BLOCK)
            rows[part] = stratified(self.lengths[part], self.snippets, generator)
        return rows[np.asarray(videos, dtype=np.intp)]  # (B, T)

    def sample(
        self, videos: Sequence[int] | NDArray[np.intp], draw: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Features (B, T, d) and 0/1 labels (B, C), float32, of the given videos, read afresh."""
        x = np.empty((len(videos), self.snippets, self.dimension), dtype=np.float32)
        for position, (video, rows) in enumerate(zip(videos, self.rows(videos, draw), strict=True)):
            x[position] = self.read_rows(int(video), rows)  # (T, d)
        return x, self.labels[np.asarray(videos)]

    def read(self, video: int) -> NDArray[np.floating]:
        """All features (length, d) of the video of that number, in the dtype they are kept in."""
        return read_stream(self.features, self.videos[video], self.stream)

    def read_rows(self, video: int, rows: NDArray[np.intp]) -> NDArray[np.floating]:
        """Some snippets' features (T, d); others are not read where the features are memory-mapped."""
        parts = [self.features.read(self.videos[video], part)[rows] for part in self.stream.split("+")]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)  # (T, d1 + d2 + …)

    def moments(self, *, root: bool = False) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Mean and standard deviation of each feature, or of its signed root, over all snippets, each
        (d,)."""
        count, total, squares = 0, np.zeros(self.dimension), np.zeros(self.dimension)
        for video in range(len(self)):
            x = np.asarray(self.read(video), dtype=np.float64)
            x = np.sign(x) * np.sqrt(np.abs(x)) if root else x
            count, total, squares = count + len(x), total + x.sum(axis=0), squares + np.square(x).sum(axis=0)
        mean = total / max(count, 1)
        deviation = np.sqrt(np.maximum(squares / max(count, 1) - mean**2, 0.0))
        return mean.astype(np.float32), deviation.astype(np.float32)

    def _refuse_missing(self) -> None:
        problems = []
        for video in self.videos:
            absent = [part for part in self.stream.split("+") if not self.features.has(video, part)]
            if absent:
                what = f"has labels but no features in stream {absent[0]!r}."
                problems.append(Problem(self.features.name, what, video, "Extract them, or pass --skip-bad."))
            elif self.features.timeline(video).snippets < 1:
                problems.append(Problem(self.features.name, "has no snippets (T = 0).", video))
        if problems:
            raise InputProblems(f"{len(problems)} of {len(self)} videos cannot be trained on:", problems)
        if not self.videos:
            raise InputProblems(
                "Nothing to train on:", [Problem(self.features.name, "no labelled video is left.")]
            )
