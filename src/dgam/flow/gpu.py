"""TV-L1 on a GPU by Triton kernels: the steps of a batch of pairs in order, and the buffers they work in.

A round of iterations (median, then as many iterations as there may be) is recorded once a level as a CUDA
graph and replayed. Pairs that have stopped are passed over on the GPU itself; the processor looks only after
each round whether any pair still moves.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from threading import Lock

import torch
from torch import Tensor

from dgam.flow import gpu_kernels
from dgam.flow.batched import centred_gradient, resize
from dgam.flow.settings import FlowSettings

Size = tuple[int, int]

TILE = (8, 64)  # rows and columns
WARPS = 4  # of an iteration: four pixels a thread
NARROW_WARPS = 16  # of what needs many registers: one pixel a thread
LARGEST = 1 << 24
"""Pixels of all pairs of a batch, margins included, at most; one takes 80 bytes."""

_lock = Lock()  # buffers are kept, so one batch at a time


class Solver:
    """Buffers and recorded rounds for up to ``capacity`` pairs of one size."""

    def __init__(
        self, capacity: int, sizes: Sequence[Size], settings: FlowSettings, device: torch.device
    ) -> None:
        self.capacity = capacity
        self._sizes, self._settings = sizes, settings
        pitch = _pitch(sizes[0][1])
        pixels = capacity * (sizes[0][0] + 2) * pitch
        # Copies of the flow and dual variable, smoothed flow, data term, second image with gradient, first
        # image. All levels use the same memory, one after the other.
        planes = {"u": 4, "p": 8, "smooth": 2, "terms": 3, "texels": 3, "first": 1}
        self._memory = {name: torch.zeros(count * pixels, device=device) for name, count in planes.items()}
        # A pitch and a number of tiles for all levels, since kernels are compiled anew for each.
        tiles = max(16, 1 << (_tiles(sizes[0]) - 1).bit_length())  # sums are taken over powers of two
        self._levels = [_Level(self._memory, size, capacity, settings, pitch, tiles) for size in sizes]

    def solve(self, previous: Tensor, following: Tensor, initial: Tensor | None) -> Tensor:
        """Flow of grey pairs (B, H, W), B ≤ capacity -> (B, 2, H, W)."""
        step = self._settings.scale_step
        images = [(previous, following)]
        for size in self._sizes[1:]:
            first, second = images[-1]
            images.append((resize(first, size, 1 / step), resize(second, size, 1 / step)))
        u = initial
        if u is not None:
            for size in self._sizes[1:]:
                u = resize(u, size, 1 / step) * step
        for index in range(len(self._sizes) - 1, -1, -1):
            u = self._levels[index].solve(*images[index], u)
            if index:
                u = resize(u, self._sizes[index - 1], None) * (1 / step)
        assert u is not None
        return u.contiguous()

    def work(self) -> Tensor:
        """Pixels times iterations of each pair of the last batch, (capacity,)."""
        return torch.stack([level.counts * level.height * level.width for level in self._levels]).sum(0)


class _Level:
    """One level: views of the buffers, and a round of iterations."""

    def __init__(
        self,
        memory: dict[str, Tensor],
        size: Size,
        capacity: int,
        settings: FlowSettings,
        pitch: int,
        tiles: int,
    ) -> None:
        self.height, self.width = size
        self._settings, self._pitch, self._tiles = settings, pitch, tiles
        rows = self.height + 2

        def planes(name: str, *shape: int) -> Tensor:
            """A view (…, planes, H, W) of the pixels, of (…, H + 2, planes, pitch) with the margins."""
            whole = (*shape[:-1], rows, shape[-1], self._pitch)
            count = torch.Size(whole).numel()
            buffer = memory[name][:count].view(whole)
            return buffer[..., 1:-1, :, : self.width].transpose(-2, -3)

        self._memory = memory
        self._u = planes("u", 2, capacity, 2)  # (2, C, 2, H, W)
        self._texels, self._first = planes("texels", capacity, 3), planes("first", capacity, 1)
        self._duals = memory["p"][: 8 * capacity * rows * self._pitch]
        device = memory["u"].device
        self._grid = (_tiles(size), capacity)
        places = settings.inner_iterations + 1  # one before the first iteration, one after each
        self._states = torch.zeros(places, -(-capacity // 32) * 32, dtype=torch.int32, device=device)
        self._changes = torch.zeros(places, capacity, self._tiles, device=device)
        self._changes[0] = float("inf")  # nothing stops before the first iteration
        self._still = torch.zeros(capacity, dtype=torch.int32, device=device)
        self.counts = torch.zeros(capacity, dtype=torch.int32, device=device)
        self._limit = torch.tensor(settings.epsilon**2 * self.height * self.width, dtype=torch.float32).item()
        self._graph: torch.cuda.CUDAGraph | None = None

    def solve(self, first: Tensor, second: Tensor, u: Tensor | None) -> Tensor:
        """All warps of pairs (B, H, W) from the flow u (B, 2, H, W) or none: (B, 2, H, W)."""
        count = len(first)
        self._first[:count, 0] = first
        self._texels[:count, 0] = second
        across, down = centred_gradient(second)
        self._texels[:count, 1], self._texels[:count, 2] = across, down
        self._u[0, :count] = 0 if u is None else u
        for buffer in (self._duals, self._states, self.counts):
            buffer.zero_()  # places for more pairs than there are stay at rest
        for _ in range(self._settings.warps):
            self._linearise(count)
            self._states[0, :count] |= 2
            for _ in range(self._settings.outer_iterations):
                self._round()
                if not bool(self._still.any()):
                    break
        side = (self._states[0, :count] & 1).long()
        return self._u[side, torch.arange(count, device=side.device)]

    def _linearise(self, count: int) -> None:
        memory, settings = self._memory, self._settings
        gpu_kernels.linearise[(self._grid[0], count)](
            *(memory[name] for name in ("u", "first", "texels", "terms")),
            *(self._states[0], self._grid[1], self.height, self.width, settings.grid or 1.0),
            PITCH=self._pitch, GRID=bool(settings.grid), BX=TILE[1], BY=TILE[0], num_warps=NARROW_WARPS,
        )  # fmt: skip

    def _round(self) -> None:
        if not self._still.is_cuda:  # Triton's interpreter
            self._launch()
            return
        if self._graph is None:
            states = self._states.clone()
            self._states.zero_()
            self._launch()  # compiles the kernels, which cannot be done while recording; nothing moves
            self._states.copy_(states)
            torch.cuda.current_stream().synchronize()
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
                self._launch()
        self._graph.replay()

    def _launch(self) -> None:
        """Median and iterations of one round, and a look at who still moves."""
        settings, memory = self._settings, self._memory
        shape = (self._grid[1], self.height, self.width, self._limit)
        smoothing = settings.median_filtering > 1
        if smoothing:
            gpu_kernels.median[self._grid](
                *(memory["u"], memory["smooth"], self._states[0], self._changes[0], *shape),
                PITCH=self._pitch, SIZE=settings.median_filtering, TILES=self._tiles,
                BX=TILE[1], BY=TILE[0], num_warps=NARROW_WARPS,
            )  # fmt: skip
        for i in range(settings.inner_iterations):
            gpu_kernels.iterate[self._grid](
                *(memory[name] for name in ("u", "smooth", "p", "terms")),
                *(self._states[i], self._changes[i], self._states[i + 1], self._changes[i + 1]),
                *(self.counts, *shape),
                *(settings.lambda_ * settings.theta, float(settings.tau), settings.tau / settings.theta),
                PITCH=self._pitch, FIRST=smoothing and i == 0, TILES=self._tiles,
                BX=TILE[1], BY=TILE[0], num_warps=WARPS,
            )  # fmt: skip
        gpu_kernels.look[(self._grid[1],)](
            *(self._states[-1], self._changes[-1], self._states[0], self._still, self._limit),
            TILES=self._tiles,
        )


def _tiles(size: Size) -> int:
    return -(-size[0] // TILE[0]) * -(-size[1] // TILE[1])


def _pitch(width: int) -> int:
    """Floats a row, one or more of them margin; few different ones, because each is compiled anew."""
    return width // 32 * 32 + 32


def batch_size(height: int, width: int, count: int) -> int:
    """Pairs that are solved together: a power of two, so that few sizes are recorded."""
    most = max(1, LARGEST // ((height + 2) * _pitch(width)))
    most = 1 << (most.bit_length() - 1)
    return min(most, 1 << (count - 1).bit_length())


@lru_cache(maxsize=2)
def solver(capacity: int, sizes: tuple[Size, ...], settings: FlowSettings, device: torch.device) -> Solver:
    """The kept solver for these sizes."""
    return Solver(capacity, sizes, settings, device)


def solve(
    previous: Tensor,
    following: Tensor,
    initial: Tensor | None,
    sizes: Sequence[Size],
    settings: FlowSettings,
) -> Tensor:
    """Flow of grey pairs (B, H, W), float32 in 0…255 -> (B, 2, H, W), on the device of the images.

    ``settings`` without brightness change (γ = 0).
    """
    count, device = len(previous), previous.device
    capacity = batch_size(*sizes[0], count)
    parts = []
    with _lock, torch.cuda.device(previous.get_device()), torch.inference_mode():
        one = solver(capacity, tuple(sizes), settings, device)
        for start in range(0, count, capacity):
            part = slice(start, start + capacity)
            parts.append(
                one.solve(previous[part], following[part], None if initial is None else initial[part])
            )
        if device.type == "cuda":  # the next batch may come from another stream
            torch.cuda.current_stream().synchronize()
    return torch.cat(parts)


@lru_cache
def why_not(device: torch.device) -> str | None:
    """What keeps these kernels from running on a GPU, if anything: they are compiled when first used."""
    number = torch.zeros(1, dtype=torch.int32, device=device)
    try:
        with torch.cuda.device(number.get_device()):
            gpu_kernels.look[(1,)](number, number.float(), number.clone(), number.clone(), 0.0, TILES=1)
    except Exception as error:  # whatever a missing compiler or driver raises
        return f"its kernels do not compile or run here ({error!s:.200})"
    return None
