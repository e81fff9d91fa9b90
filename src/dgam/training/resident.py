"""Where a batch's features come from: one tensor on the device that holds all of them, or the store.

Both scale features (``DGAM.scaled``) and round them to the networks' precision snippet by snippet, on the
CPU, so batches are the same to the last bit either way.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dgam.data.dataset import SnippetDataset
from dgam.model.networks import DGAM
from dgam.training.buffers import Buffers

_GIB = 1 << 30
_SHARE_OF_FREE = 0.5
_UNKNOWN = 4 * _GIB  # taken for free memory where the system does not say

Rows = NDArray[np.intp]


@dataclass(frozen=True)
class Scaled:
    """A data set with a model, on the CPU, by whose settings its features are scaled."""

    dataset: SnippetDataset
    model: DGAM

    @classmethod
    def of(cls, dataset: SnippetDataset, model: DGAM) -> Scaled:
        """With a copy of the model, so that it can move to another device and be trained."""
        return cls(dataset, copy.deepcopy(model).requires_grad_(False))

    @property
    def content(self) -> tuple[object, ...]:
        """Equal for two whose scaled features are the same, whatever their seeds."""
        data = self.dataset
        return id(data.features), data.stream, data.videos, self.model.shape.normalise

    def tensor(self, x: NDArray[np.floating], precision: torch.dtype) -> Tensor:
        """Snippets (T, d) as the networks take them."""
        raw = torch.from_numpy(np.array(x, dtype=np.float32))  # (T, d), a copy, as features are read-only
        return self.model.scaled(raw).to(precision)


class Resident:
    """All snippets of the data sets in one tensor (ΣT, d) on the device; equal content is kept once.

    ``sets`` are those of the members of a training, one for each.
    """

    def __init__(self, sets: Sequence[Scaled], precision: torch.dtype, device: torch.device) -> None:
        held = {one.content: one for one in sets}
        self.snippets = torch.empty(
            (sum(int(one.dataset.lengths.sum()) for one in held.values()), sets[0].dataset.dimension),
            dtype=precision,
            device=device,
        )
        begins: dict[object, Rows] = {}
        end = 0
        for content, one in held.items():
            begins[content] = end + np.concatenate([[0], np.cumsum(one.dataset.lengths)[:-1]])  # (N,)
            for video, begin in enumerate(begins[content].tolist()):
                x = one.tensor(one.dataset.read(video), precision)  # (length, d)
                self.snippets[begin : begin + len(x)].copy_(x)
            end += int(one.dataset.lengths.sum())
        self._begins = [begins[one.content] for one in sets]
        self._buffers = Buffers(device)

    def only(self, members: Sequence[int]) -> Resident:
        """The same features for some of the members."""
        other = copy.copy(self)
        other._begins = [self._begins[member] for member in members]
        return other

    def places(self, member: int, videos: Rows, rows: Rows) -> Rows:
        """Where snippets ``rows`` (B, T) of ``videos`` (B,) of a member's data set lie in the tensor:
        (B, T)."""
        return self._begins[member][videos][:, None] + rows

    def gather(self, places: Tensor) -> Tensor:
        """Features (E, B, T, d) at ``places`` (E, B, T), in memory that the next call takes again."""
        shape = (*places.shape, self.snippets.shape[1])
        out = self._buffers.get("x", shape, self.snippets.dtype)
        torch.index_select(self.snippets, 0, places.reshape(-1), out=out.view(-1, shape[-1]))
        return out


class Streamed:
    """The same snippets, read from where the features are kept each time they are asked for."""

    def __init__(self, sets: Sequence[Scaled], precision: torch.dtype, device: torch.device) -> None:
        self._sets = sets
        self._precision = precision
        self._pinned = device.type == "cuda"

    def only(self, members: Sequence[int]) -> Streamed:
        """The same features for some of the members."""
        other = copy.copy(self)
        other._sets = [self._sets[member] for member in members]
        return other

    def read(self, videos: Sequence[Rows], rows: Sequence[Rows]) -> Tensor:
        """Features (E, B, T, d) on the CPU, of each member's ``videos`` (B,) at their ``rows`` (B, T)."""
        shape = (len(self._sets), *rows[0].shape, self._sets[0].dataset.dimension)
        x = torch.empty(shape, dtype=self._precision, pin_memory=self._pinned)
        for member, one in enumerate(self._sets):
            for position, video in enumerate(videos[member]):
                raw = one.dataset.read_rows(int(video), rows[member][position])  # (T, d)
                x[member, position] = one.tensor(raw, self._precision)
        return x


def place_features(
    sets: Sequence[Scaled], precision: torch.dtype, device: torch.device, gib: float | None
) -> Resident | Streamed:
    """Features on the device where they take no more than ``gib`` GiB, else streamed.

    None: half of the device's free memory.
    """
    held = {one.content: int(one.dataset.lengths.sum()) * one.dataset.dimension for one in sets}
    needed = sum(held.values()) * precision.itemsize
    budget = gib * _GIB if gib is not None else _SHARE_OF_FREE * free_memory(device)
    kind = Resident if needed <= budget else Streamed
    return kind(sets, precision, device)


def free_memory(device: torch.device) -> float:
    """Bytes that can still be had: of a GPU's memory, or of the machine's, within the container's limit."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused  # what torch holds in reserve is there too
    return min(_machine_free(), _container_free())


def _machine_free() -> int:
    try:
        fields = (line.split() for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
        return {name: int(value) for name, value, *_ in fields}["MemAvailable:"] << 10
    except (OSError, KeyError, ValueError):
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return _UNKNOWN


def _container_free() -> float:
    folder = Path("/sys/fs/cgroup")
    try:
        limit = (folder / "memory.max").read_text(encoding="ascii").strip()
        used = int((folder / "memory.current").read_text(encoding="ascii"))
        return math.inf if limit == "max" else max(0, int(limit) - used)
    except (OSError, ValueError):
        return math.inf
