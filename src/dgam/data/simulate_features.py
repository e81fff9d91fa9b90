"""What a simulated video looks like: latent factors along time, mixed into each stream's features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dgam.data.simulate_knobs import Simulation
from dgam.data.simulate_timeline import SUBSETS, Script

Floats = NDArray[np.float32]

STREAMS = ("rgb", "flow")
PHASES = 3
"""Start, middle and end of an action, between which its class's own part moves."""
SHARPNESS = 2.0
"""Slope of the softplus: how closely a unit follows a ReLU before pooling blurs it."""
BIAS_MEAN, BIAS_SPREAD = -1.0, 0.7
"""Of the units' biases: most units are silent most of the time."""
GAIN_SPREAD = 0.8
"""Standard deviation of the logarithm of the units' gains."""

_WORLD_SALT, _VIDEO_SALT = 3, 4


@dataclass(frozen=True)
class World:
    """What all videos of a seed share, train and test alike. Directions have length 1, float32.

    ``scenes`` ``(C, q)`` of the classes, ``backgrounds`` ``(S, q)`` of the pool, ``shared`` ``(q,)`` the part
    common to all actions, ``own`` ``(C, PHASES, q)`` each class's own; per stream ``weight`` ``(q, d)``,
    ``bias`` and ``gain`` ``(d,)``.
    """

    scenes: Floats
    backgrounds: Floats
    shared: Floats
    own: Floats
    weight: dict[str, Floats]
    bias: dict[str, Floats]
    gain: dict[str, Floats]


def make_world(knobs: Simulation, seed: int) -> World:
    """Draw the world of a seed. Each part has its own generator, so that changing one leaves the others."""

    def directions(part: int, *shape: int) -> Floats:
        return _unit(np.random.default_rng([seed, _WORLD_SALT, part]).standard_normal((*shape, knobs.latent)))

    base = directions(2, knobs.classes, 1)  # (C, 1, q)
    own = _blend(base, directions(3, knobs.classes, PHASES), knobs.phases)  # (C, PHASES, q)
    weight, bias, gain = {}, {}, {}
    for number, stream in enumerate(STREAMS):
        rng = np.random.default_rng([seed, _WORLD_SALT, 10 + number])
        weight[stream] = _unit(rng.standard_normal((knobs.dimension, knobs.latent))).T.copy()  # (q, d)
        bias[stream] = (BIAS_MEAN + BIAS_SPREAD * rng.standard_normal(knobs.dimension)).astype(np.float32)
        gain[stream] = np.exp(GAIN_SPREAD * rng.standard_normal(knobs.dimension)).astype(np.float32)
    return World(
        scenes=directions(0, knobs.classes),
        backgrounds=directions(1, knobs.scenes),
        shared=directions(4, 1)[0],
        own=_unit(own),
        weight=weight,
        bias=bias,
        gain=gain,
    )


def make_features(
    knobs: Simulation, world: World, script: Script, index: int, seed: int
) -> dict[str, Floats]:
    """Snippet features of one video, ``{stream: (T, d)}``, float32, non-negative.

    A snippet that a boundary cuts is the mean of what its parts show, weighted with their lengths.
    """
    rng = np.random.default_rng([seed, _VIDEO_SALT, SUBSETS.index(script.subset), index])
    style = knobs.style * _unit(rng.standard_normal(knobs.latent))  # (q,)
    scene = _scenes(rng, knobs, world, script)  # (K, q)
    strength = knobs.action * np.exp(
        knobs.action_variation * rng.standard_normal(len(script.stretches))
    )  # (K,)

    snippet, stretch, weight, middle = _pieces(script)  # each (P,)
    look = style + scene[stretch]  # (P, q)
    act = _act(knobs, world, script, stretch, middle) * strength[stretch, None].astype(np.float32)  # (P, q)
    wander = _wander(rng, knobs, script.timeline.snippets)  # (T, streams, q)
    first = np.searchsorted(snippet, np.arange(script.timeline.snippets))  # (T,) first piece of each snippet
    scale = {"rgb": (1.0, knobs.rgb_action), "flow": (knobs.flow_scene, 1.0)}
    features = {}
    for number, stream in enumerate(STREAMS):
        of_look, of_act = scale[stream]
        z = of_look * look + of_act * act + wander[snippet, number]  # (P, q)
        noise = rng.standard_normal((script.timeline.snippets, knobs.dimension), dtype=np.float32)  # (T, d)
        # Not by BLAS, whose sums depend on the number of threads: the same seed gives the same bytes.
        u = np.einsum("pq,qd->pd", z.astype(np.float32), world.weight[stream])  # (P, d)
        u += world.bias[stream]
        u += np.float32(knobs.unit_noise) * noise[snippet]
        x = _softplus(u) * weight[:, None]  # (P, d)
        features[stream] = np.add.reduceat(x, first, axis=0) * world.gain[stream]  # (T, d)
    return features


def _unit(vectors: NDArray[np.floating]) -> Floats:
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / lengths, dtype=np.float32)


def _blend(common: Floats, particular: Floats, share: float) -> Floats:
    """Of squared length, ``share`` from ``particular`` and the rest from ``common``."""
    return np.asarray(np.sqrt(1 - share) * common + np.sqrt(share) * particular, dtype=np.float32)


def _scenes(rng: np.random.Generator, knobs: Simulation, world: World, script: Script) -> Floats:
    """The scene of each stretch, ``(K, q)``: the class's in action and context alike, else a background's."""
    particular = _unit(rng.standard_normal((knobs.classes, knobs.latent)))  # (C, q) of this video
    own = knobs.scene * _blend(world.scenes, particular, knobs.scene_variation)  # (C, q)
    absent = [label for label in range(knobs.classes) if label not in script.labels]
    rows = []
    for stretch in script.stretches:
        if stretch.kind != "background":
            rows.append(own[stretch.label])
            continue
        borrowed = rng.random() < knobs.other_scene and absent
        place = (
            world.scenes[rng.choice(absent)] if borrowed else world.backgrounds[rng.integers(knobs.scenes)]
        )
        shot = _unit(rng.standard_normal(knobs.latent))
        rows.append(knobs.background * _blend(place, shot, knobs.scene_variation))
    return np.stack(rows).astype(np.float32)


def _pieces(
    script: Script,
) -> tuple[NDArray[np.intp], NDArray[np.intp], Floats, NDArray[np.float64]]:
    """The video cut at snippet edges and at stretch boundaries, ``(P,)`` each.

    Which snippet and which stretch a piece belongs to, its share of the snippet, and its middle in seconds.
    """
    timeline = script.timeline
    bounds = timeline.position([stretch.start for stretch in script.stretches])  # (K,) in snippets
    edges = np.union1d(np.arange(timeline.snippets + 1), bounds[(bounds > 0) & (bounds < timeline.snippets)])
    edges = edges[np.r_[True, np.diff(edges) > 1e-6]]
    middle = (edges[1:] + edges[:-1]) / 2
    stretch = np.searchsorted(bounds, middle, side="right") - 1
    weight = np.diff(edges).astype(np.float32)
    return middle.astype(np.intp), np.maximum(stretch, 0), weight, timeline.seconds(middle)


def _act(
    knobs: Simulation,
    world: World,
    script: Script,
    stretch: NDArray[np.intp],
    middle: NDArray[np.float64],
) -> Floats:
    """The action in each piece, ``(P, q)``: length about 1, zero where no class acts."""
    start = np.array([s.start for s in script.stretches])
    end = np.array([s.end for s in script.stretches])
    label = np.array([s.label for s in script.stretches])
    acting = np.array([s.kind == "action" for s in script.stretches])
    phase = (middle - start[stretch]) / (end - start)[stretch] * (PHASES - 1)  # (P,) 0 … PHASES-1
    low = np.clip(phase.astype(np.intp), 0, PHASES - 2)
    part = (phase - low)[:, None].astype(np.float32)  # (P, 1)
    keys = world.own[label[stretch]]  # (P, PHASES, q)
    rows = np.arange(len(stretch))
    own = _unit((1 - part) * keys[rows, low] + part * keys[rows, low + 1])  # (P, q)
    both = _blend(own, world.shared, knobs.shared_action)
    return np.where(acting[stretch, None], both, np.float32(0))


def _wander(rng: np.random.Generator, knobs: Simulation, snippets: int) -> Floats:
    """A first-order autoregression along time for each stream, deviation ``wander``, ``(T, streams, q)``."""
    steps = rng.standard_normal((snippets, len(STREAMS), knobs.latent), dtype=np.float32)
    steps[1:] *= np.sqrt(1 - knobs.smoothness**2, dtype=np.float32)
    for now in range(1, snippets):
        steps[now] += np.float32(knobs.smoothness) * steps[now - 1]
    return steps * np.float32(knobs.wander)


def _softplus(u: Floats) -> Floats:
    """``log(1 + exp(k·u)) / k``, what a spread of ReLUs gives when pooled; safe for large ``u``."""
    k = np.float32(SHARPNESS)
    return np.asarray(np.maximum(u, 0) + np.log(1 + np.exp(-np.abs(k * u))) / k, dtype=np.float32)
