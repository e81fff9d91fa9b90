"""When things happen in a simulated video: instances, the context around them, and background shots."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dgam.core.timeline import SnippetGrid, Timeline
from dgam.core.types import Segment
from dgam.data.simulate_knobs import Simulation

SUBSETS = ("train", "test")
Kind = Literal["action", "context", "background"]

GRID = SnippetGrid()
"""25 frames a second and snippets of 16 frames without overlap: 0.64 s a snippet."""
SHORTEST = 0.2
"""Shortest instance and shortest gap in seconds."""
LEFTOVER = 0.3
"""Seconds of background between two contexts below which the contexts meet instead."""
CONTEXT_SPREAD = 0.7
"""Standard deviation of the logarithm of a context stretch's length."""
FULLEST = 0.9
"""Largest share of a video of the greatest length that instances may fill."""

_SALT, _CLASS_SALT = 1, 2
_SNIPPET = float(GRID.stride / GRID.fps)


@dataclass(frozen=True)
class Stretch:
    """A part of a video in which one thing is shown, ``start`` to ``end`` in seconds.

    ``label`` is the class that acts (kind action) or whose scene is shown without it (context); -1 in
    background.
    """

    start: float
    end: float
    kind: Kind
    label: int = -1


@dataclass(frozen=True)
class Script:
    """What happens in one video: stretches that tile ``[0, duration]`` in order of time."""

    video: str
    subset: str
    labels: tuple[int, ...]
    stretches: tuple[Stretch, ...]
    timeline: Timeline

    @property
    def duration(self) -> float:
        """Length of the video in seconds."""
        return self.timeline.end

    def segments(self) -> tuple[Segment, ...]:
        """The action instances, with the class names."""
        return tuple(
            Segment(s.start, s.end, class_name(s.label)) for s in self.stretches if s.kind == "action"
        )


def class_name(label: int) -> str:
    """Name of a class, such as ``action_007``; sorted names are in the order of the numbers."""
    return f"action_{label:03d}"


def write_script(knobs: Simulation, subset: str, index: int, seed: int) -> Script:
    """Draw the script of one video. It depends on knobs, subset, index and seed, on no other video."""
    rng = np.random.default_rng([seed, _SALT, SUBSETS.index(subset), index])
    labels = _labels(rng, knobs, index)
    acted = _instances(rng, knobs, labels)
    offset = _class_offsets(knobs, seed)
    within = knobs.duration_spread * math.sqrt(1 - (knobs.class_durations if knobs.classes > 1 else 0))
    logs = np.log(knobs.duration_median) + offset[acted] + within * rng.standard_normal(len(acted))
    longest = knobs.max_snippets * _SNIPPET
    durations = np.clip(np.exp(logs), SHORTEST, longest / 2)
    keep = max(len(labels), int(np.searchsorted(np.cumsum(durations), FULLEST * longest, side="right")))
    acted, durations = acted[:keep], durations[:keep]
    durations *= min(1.0, FULLEST * longest / durations.sum())
    gaps = _gaps(rng, knobs, len(acted), durations.sum())  # (instances + 1,)

    frames = math.ceil((durations.sum() + gaps.sum()) * float(GRID.fps))
    timeline = Timeline(GRID, GRID.count(frames), float(frames / GRID.fps))
    starts = np.cumsum(gaps[:-1]) + np.concatenate([[0.0], np.cumsum(durations)[:-1]])
    times = [(round(a, 2), round(a + d, 2)) for a, d in zip(starts.tolist(), durations.tolist(), strict=True)]
    stretches = tuple(_tile(rng, knobs, times, acted.tolist(), timeline.end))
    return Script(f"{subset}_{index:05d}", subset, tuple(sorted(set(acted.tolist()))), stretches, timeline)


def _labels(rng: np.random.Generator, knobs: Simulation, index: int) -> list[int]:
    first = index % knobs.classes
    if rng.random() >= knobs.two_labels:
        return [first]
    return [first, int(first + rng.integers(1, knobs.classes)) % knobs.classes]


def _instances(rng: np.random.Generator, knobs: Simulation, labels: list[int]) -> NDArray[np.int64]:
    """The class of each instance in order of time, each label at least once and among the first ones."""
    log_mean = math.log(knobs.instances) - knobs.instances_spread**2 / 2
    count = round(math.exp(log_mean + knobs.instances_spread * rng.standard_normal()))
    more = rng.choice(labels, size=max(0, count - len(labels)))
    return np.concatenate([rng.permutation(labels), more]).astype(np.int64)


def _class_offsets(knobs: Simulation, seed: int) -> NDArray[np.float64]:
    """How far each class's log duration lies from the whole's, ``(C,)``.

    Normal quantiles dealt out at random, not draws, so that 20 classes have the whole's mean and median under
    every seed.
    """
    if knobs.classes == 1:
        return np.zeros(1)
    normal = NormalDist()
    quantiles = np.array([normal.inv_cdf((rank + 0.5) / knobs.classes) for rank in range(knobs.classes)])
    quantiles *= knobs.duration_spread * math.sqrt(knobs.class_durations) / quantiles.std()
    return np.random.default_rng([seed, _CLASS_SALT]).permutation(quantiles)


def _gaps(rng: np.random.Generator, knobs: Simulation, instances: int, acted: float) -> NDArray[np.float64]:
    """Seconds before, between and after the instances, ``(instances + 1,)``, fitted to the lengths set."""
    gaps = knobs.gap_median * np.exp(knobs.gap_spread * rng.standard_normal(instances + 1))
    gaps[[0, -1]] = knobs.lead_median * np.exp(knobs.lead_spread * rng.standard_normal(2))
    gaps = np.maximum(gaps, SHORTEST)
    missing = knobs.min_snippets * _SNIPPET - acted - gaps.sum()
    if missing > 0:
        share = rng.random()
        gaps[[0, -1]] += [share * missing, (1 - share) * missing]
    fit: NDArray[np.float64] = gaps * min(1.0, (knobs.max_snippets * _SNIPPET - acted) / gaps.sum())
    return fit


def _tile(
    rng: np.random.Generator,
    knobs: Simulation,
    times: list[tuple[float, float]],
    acted: list[int],
    end: float,
) -> Iterator[Stretch]:
    """The instances with context and background shots in between, from 0 to ``end``."""
    after, clock = 0.0, 0.0
    for index in range(len(times) + 1):
        until = times[index][0] if index < len(times) else end
        before = _context(rng, knobs) if index < len(times) else 0.0
        left, right = clock + after, until - before  # where background begins and ends
        if after + before > 0 and right - left < LEFTOVER:  # the contexts meet
            # Rounding may end the division an ulp off ``until``, where no context may come any more.
            left = right = clock + (until - clock) * after / (after + before) if before > 0 else until
        if left > clock:
            yield Stretch(clock, left, "context", acted[index - 1])
        yield from _shots(rng, knobs, left, right)
        if right < until:
            yield Stretch(right, until, "context", acted[index])
        if index < len(times):
            yield Stretch(*times[index], "action", acted[index])
            clock, after = times[index][1], _context(rng, knobs)


def _context(rng: np.random.Generator, knobs: Simulation) -> float:
    length = knobs.context_median * math.exp(CONTEXT_SPREAD * rng.standard_normal())
    return length if rng.random() < knobs.context else 0.0


def _shots(rng: np.random.Generator, knobs: Simulation, start: float, end: float) -> Iterator[Stretch]:
    if end - start <= 1e-9:
        return
    cuts = np.sort(rng.uniform(start, end, rng.poisson((end - start) / knobs.shot_seconds))).tolist()
    for a, b in zip([start, *cuts], [*cuts, end], strict=True):
        yield Stretch(a, b, "background")
