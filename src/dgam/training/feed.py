"""The batches of a whole training, in order, made ready while the last ones are in use."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dgam.core.config import TrainSettings
from dgam.data.dataset import SnippetDataset
from dgam.training.engine import Batch
from dgam.training.resident import Resident, Rows, Streamed

T = TypeVar("T")

_AHEAD = 2


@dataclass(frozen=True)
class Plan:
    """One epoch of all members: E arrays of which videos (N',) and which of their snippets (N', T), and the
    batches as stretches of these."""

    videos: tuple[Rows, ...]
    rows: tuple[Rows, ...]
    batches: tuple[slice, ...]


class Feed:
    """The batches of E members that are trained side by side: x (E, B, T, d), labels (E, B, C).

    Members have data sets of their own, equal in the number of videos, snippets, dimension and classes, and
    ``settings`` equal in ``batch`` and ``drop_last``. ``features`` holds their features, in that order.
    """

    def __init__(
        self,
        datasets: Sequence[SnippetDataset],
        settings: Sequence[TrainSettings],
        features: Resident | Streamed,
        device: torch.device,
    ) -> None:
        self._datasets = datasets
        self._settings = settings
        self._features = features
        self._device = device
        self._drawn: list[tuple[int, Rows] | None] = [None] * len(datasets)
        self.steps = len(self._batches(0, 0))
        """Batches in an epoch."""

    def batches(self, first: int, last: int) -> Generator[Batch, None, None]:
        """All batches of the epochs from ``first`` up to, but not including, ``last``.

        A batch's x is valid until the next is taken. Close the iterator when leaving it early.
        """
        plans = (self._plan(epoch) for epoch in range(first, last))
        if isinstance(self._features, Resident):
            yield from self._gathered(plans, self._features)
        else:
            yield from self._streamed(plans, self._features)

    def _gathered(self, plans: Iterator[Plan], features: Resident) -> Iterator[Batch]:
        """From features on the device: where a whole epoch's snippets lie is sent at once."""
        found = ((self._places(plan, features), self._labels(plan), plan.batches) for plan in plans)
        for places, labels, batches in ahead(found, _AHEAD):
            places, labels = self._to_device(places), self._to_device(labels)
            for part in batches:
                yield Batch(features.gather(places[:, part]), labels[:, part], scaled=True)

    def _streamed(self, plans: Iterator[Plan], features: Streamed) -> Iterator[Batch]:
        """From the store: a batch is read while those before it are in use."""
        found = (
            (features.read([v[part] for v in plan.videos], [r[part] for r in plan.rows]), labels[:, part])
            for plan in plans
            for labels in [self._labels(plan)]
            for part in plan.batches
        )
        for x, labels in ahead(found, _AHEAD):
            yield Batch(self._to_device(x), self._to_device(labels), scaled=True)

    def _plan(self, epoch: int) -> Plan:
        videos, rows = [], []
        for member, dataset in enumerate(self._datasets):
            order = np.concatenate(self._batches(member, epoch))  # (N',)
            draw = epoch // self._settings[member].resample_every
            drawn = self._drawn[member]
            if drawn is None or drawn[0] != draw:
                drawn = draw, dataset.rows(range(len(dataset)), draw)  # (N, T)
                self._drawn[member] = drawn
            videos.append(order)
            rows.append(drawn[1][order])
        ends = np.cumsum([len(part) for part in self._batches(0, epoch)]).tolist()
        return Plan(tuple(videos), tuple(rows), tuple(map(slice, [0, *ends], ends)))

    def _batches(self, member: int, epoch: int) -> list[NDArray[np.intp]]:
        settings = self._settings[member]
        return self._datasets[member].batches(epoch, settings.batch, drop_last=settings.drop_last)

    def _places(self, plan: Plan, features: Resident) -> Tensor:
        """Where the plan's snippets lie: (E, N', T)."""
        pairs = zip(plan.videos, plan.rows, strict=True)
        return self._ready([features.places(e, v, r) for e, (v, r) in enumerate(pairs)])

    def _labels(self, plan: Plan) -> Tensor:
        """(E, N', C)."""
        pairs = zip(self._datasets, plan.videos, strict=True)
        return self._ready([dataset.labels[videos] for dataset, videos in pairs])

    def _ready(self, members: Sequence[NDArray[Any]]) -> Tensor:
        """One array a member as one tensor, in memory that a GPU can read while the CPU goes on."""
        tensor = torch.from_numpy(np.stack(members))
        return tensor.pin_memory() if self._device.type == "cuda" else tensor

    def _to_device(self, tensor: Tensor) -> Tensor:
        if self._device.type == "cpu":
            return tensor
        return tensor.to(self._device, non_blocking=tensor.is_pinned())


def ahead(items: Iterator[T], count: int) -> Iterator[T]:
    """The same items, ``count`` of them made in a thread while the one before is in use."""
    end = object()
    thread = ThreadPoolExecutor(1, "batches")
    try:
        waiting: deque[Future[T | object]] = deque(thread.submit(next, items, end) for _ in range(count))
        while (item := waiting.popleft().result()) is not end:
            waiting.append(thread.submit(next, items, end))
            yield item  # type: ignore[misc]  # all but the end are items
    finally:
        thread.shutdown(cancel_futures=True)
