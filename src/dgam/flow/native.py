"""TV-L1 on the CPU: the steps of one pair in order, each a compiled kernel; pairs spread over threads."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from queue import SimpleQueue

import numpy as np
from numpy.typing import NDArray

from dgam.flow.kernels import BLOCK, BORDER, MARGIN, library
from dgam.flow.pyramid import resize_table
from dgam.flow.settings import FlowSettings
from dgam.flow.vector_ir import Library

Floats = NDArray[np.float32]
_VECTOR = 16  # rows are padded to whole vectors of the widest processors


def _aligned(count: int) -> Floats:
    """Zeros that start on a cache line, with a vector to spare at the end."""
    raw = np.zeros(count + 2 * _VECTOR, np.float32)
    skip = (-raw.ctypes.data // 4) % _VECTOR
    return raw[skip : skip + count + _VECTOR]


class _Buffer:
    """Floats and their address (asking an array for it takes longer than some of the kernels)."""

    def __init__(self, count: int) -> None:
        self.floats = _aligned(count)
        self.address = self.floats.ctypes.data


@lru_cache(maxsize=256)
def _table(size_in: int, size_out: int, step: float) -> _Buffer:
    table = _Buffer(3 * size_out)
    table.floats[: 3 * size_out] = resize_table(size_in, size_out, step).ravel()  # (3, n) -> (3 n)
    return table


class _Level:
    """Buffers of one pyramid level. What lies outside the image stays zero for good."""

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height, width
        self.span = MARGIN + -(-width // _VECTOR) * _VECTOR
        self.pitch = 4 * (width + 2 * BORDER)
        self.images = [_Buffer(height * self.span) for _ in range(2)]
        self.u = [_Buffer(2 * height * self.span) for _ in range(2)]
        self.p = [_Buffer(4 * (height + 1) * self.span) for _ in range(2)]
        self.coefficients = _Buffer(4 * height * self.span)
        self.texels = _Buffer((height + 2 * BORDER) * self.pitch)

    def rows(self, buffer: _Buffer, planes: int) -> Floats:
        """The pixels of a buffer, shape (height, planes, width)."""
        rows = buffer.floats[: self.height * planes * self.span].reshape(self.height, planes, self.span)
        return rows[:, :, MARGIN : MARGIN + self.width]


class Solver:
    """Buffers and kernels for pairs of one size. One thread at a time may use it."""

    def __init__(self, sizes: Sequence[tuple[int, int]], settings: FlowSettings, kernels: Library) -> None:
        self._settings = settings
        self._kernels = kernels
        self._levels = [_Level(height, width) for height, width in sizes]
        self._line = _Buffer(5 * self._levels[0].span)
        self._errors = _Buffer(BLOCK * _VECTOR)

    def solve(self, previous: Floats, following: Floats, initial: Floats | None, out: Floats) -> int:
        """Flow of one pair of grey images (H, W) into ``out`` (2, H, W). Returns the pixel-iterations."""
        settings = self._settings
        finest = self._levels[0]
        for image, buffer in zip((previous, following), finest.images, strict=True):
            finest.rows(buffer, 1)[:, 0] = image
        for fine, coarse in zip(self._levels, self._levels[1:], strict=False):
            for source, target in zip(fine.images, coarse.images, strict=True):
                self._resize(fine, source, coarse, target, 1, 0, 1 / settings.scale_step, 1.0)
        self._start(initial)
        work = 0
        for index in range(len(self._levels) - 1, -1, -1):
            level = self._levels[index]
            work += self._level(level)
            if index:
                fine = self._levels[index - 1]
                for plane in range(2):
                    self._resize(level, level.u[0], fine, fine.u[0], 2, plane, None, 1 / settings.scale_step)
        out[...] = finest.rows(finest.u[0], 2).transpose(1, 0, 2)  # (H, 2, W) -> (2, H, W)
        return work

    def _start(self, initial: Floats | None) -> None:
        """The flow to begin with, at the coarsest level."""
        if initial is None:
            self._levels[-1].u[0].floats.fill(0)
            return
        step = self._settings.scale_step
        self._levels[0].rows(self._levels[0].u[0], 2)[...] = initial.transpose(
            1, 0, 2
        )  # (2, H, W) -> (H, 2, W)
        for fine, coarse in zip(self._levels, self._levels[1:], strict=False):
            for plane in range(2):
                self._resize(fine, fine.u[0], coarse, coarse.u[0], 2, plane, 1 / step, step)

    def _resize(
        self,
        source: _Level,
        planes_in: _Buffer,
        target: _Level,
        planes_out: _Buffer,
        count: int,
        plane: int,
        step: float | None,
        factor: float,
    ) -> None:
        """One of ``count`` interleaved planes to another level; ``step`` None: the ratio of the sizes."""
        rows = _table(source.height, target.height, step or source.height / target.height)
        columns = _table(source.width, target.width, step or source.width / target.width)
        self._kernels["resize"](
            planes_in.address + 4 * plane * source.span,
            planes_out.address + 4 * plane * target.span,
            *(buffer.address for buffer in (rows, columns, self._line)),
            *(source.width, count * source.span, target.height, target.width, count * target.span),
            factor,
        )

    def _level(self, level: _Level) -> int:
        """All warps at one level; the flow stays in ``level.u[0]``. Returns the pixel-iterations done."""
        settings = self._settings
        shape = (level.height, level.width, level.span)
        level.p[0].floats.fill(0)
        self._kernels["texels"](level.images[1].address, level.texels.address, *shape, level.pitch)
        limit = float(np.float32(settings.epsilon**2 * level.height * level.width))
        median = f"median{settings.median_filtering}"
        counts: list[int] = []
        for _ in range(settings.warps):
            self._kernels["warp"](
                *(
                    buffer.address
                    for buffer in (level.texels, level.images[0], level.u[0], level.coefficients)
                ),
                *(*shape, level.pitch, settings.grid),
            )
            expected = 0.8 * counts[-1] if counts else BLOCK
            counts.append(0)
            changes = [np.inf]
            for _ in range(settings.outer_iterations):
                if not changes[-1] > limit:
                    break
                if settings.median_filtering > 1:
                    self._kernels[median](*(buffer.address for buffer in (*level.u, self._line)), *shape)
                    level.u.reverse()
                changes = []
                while len(changes) < settings.inner_iterations and not (changes and changes[-1] <= limit):
                    ahead = (
                        _iterations_ahead(changes, limit)
                        if len(changes) > 1
                        else 2
                        if counts[-1]
                        else expected
                    )
                    left = settings.inner_iterations - len(changes)
                    changes += self._sweep(level, max(1, int(min(ahead, left, BLOCK))), limit)
                counts[-1] += len(changes)
        return sum(counts) * level.height * level.width

    def _sweep(self, level: _Level, count: int, limit: float) -> list[float]:
        """Up to ``count`` iterations, the last the first to change no more than ``limit``; the changes."""
        changes = self._iterate(level, count)
        stop = next((i for i, change in enumerate(changes) if not change > limit), count - 1)
        if stop < count - 1:
            changes = self._iterate(level, stop + 1)
        level.u.reverse()
        level.p.reverse()
        return changes

    def _iterate(self, level: _Level, count: int) -> list[float]:
        settings = self._settings
        self._errors.floats.fill(0)
        self._kernels["iterate"](
            *(buffer.address for buffer in (level.u[0], level.p[0], level.u[1], level.p[1])),
            *(level.coefficients.address, self._errors.address),
            *(level.height, level.width, level.span, count),
            *(settings.lambda_ * settings.theta, settings.tau, settings.tau / settings.theta),
        )
        lanes = self._errors.floats[: count * self._kernels.lanes].reshape(count, -1)  # (n, lanes)
        return [float(change) for change in lanes.sum(axis=1, dtype=np.float64)]


def _iterations_ahead(changes: Sequence[float], limit: float) -> float:
    """How many more iterations until the change is down to ``limit``, if it goes on falling as a power of
    their number.

    Only the speed rests on this guess: a sweep that goes too far is taken back.
    """
    count = len(changes)
    half = count // 2
    fall = np.log(changes[half - 1] / changes[-1]) / np.log(count / half)
    return float(count * ((changes[-1] / limit) ** (1 / fall) - 1)) if fall > 0.1 else 2.0


def solve(
    previous: Floats,
    following: Floats,
    initial: Floats | None,
    sizes: Sequence[tuple[int, int]],
    settings: FlowSettings,
    threads: int,
) -> Floats:
    """Flow of grey pairs (B, H, W) in 0…255 -> (B, 2, H, W); a pair is one thread's work throughout."""
    count = previous.shape[0]
    out = np.empty((count, 2, *previous.shape[1:]), np.float32)
    kernels = library()
    solvers: SimpleQueue[Solver] = SimpleQueue()
    workers = max(1, min(threads, count))
    for _ in range(workers):
        solvers.put(Solver(sizes, settings, kernels))

    def one(index: int) -> None:
        solver = solvers.get()
        start = None if initial is None else initial[index]
        try:
            solver.solve(previous[index], following[index], start, out[index])
        finally:
            solvers.put(solver)

    if workers == 1:
        for index in range(count):
            one(index)
    else:
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(one, range(count)))
    return out
