"""I3D's published outputs for kinetics-i3d's sample clip, a cricket shot of 79 frames, and ours beside them.

The numbers are those of the repository's README and ``out/`` folder (google-deepmind/kinetics-i3d at
0667e88), made with its ImageNet-initialised checkpoints.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from dgam.core.errors import InputError
from dgam.encoders.i3d import I3D
from dgam.encoders.weights import CHANNELS

TOLERANCE = 0.02
"""How far a score may lie from the published one, which another library computed on another machine."""

Scores = NDArray[np.float32]


@dataclass(frozen=True)
class PublishedScores:
    """The norm of the 400 scores before the softmax; the two best: class number, name and score; the best's
    probability."""

    norm: float
    first: tuple[int, str, float]
    second: tuple[int, str, float]
    probability: float


PUBLISHED = {
    "rgb": PublishedScores(
        87.108871, (227, "playing cricket", 25.856646), (237, "playing kickball", 12.330335), 0.9999968
    ),
    "flow": PublishedScores(
        63.252754, (227, "playing cricket", 15.957031), (161, "hurling (sport)", 12.808723), 0.9477566
    ),
    "joint": PublishedScores(
        138.468658, (227, "playing cricket", 41.813675), (161, "hurling (sport)", 21.493977), 1.0
    ),
}


@dataclass(frozen=True)
class ComparedNumber:
    """One published number and ours."""

    what: str
    published: float
    ours: float

    @property
    def agrees(self) -> bool:
        """Whether the two differ by no more than the tolerance."""
        return abs(self.published - self.ours) <= TOLERANCE


def read_sample(path: str | os.PathLike[str], stream: str) -> torch.Tensor:
    """The sample, ``(1, T, H, W, C)`` in [−1, 1], as ``(1, C, T, H, W)`` float32. InputError if unfit."""
    where = os.fspath(path)
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{where}: cannot be read as a .npy array: {error}") from error
    channels = CHANNELS[stream]
    if array.ndim != 5 or array.shape[0] != 1 or array.shape[-1] != channels or array.dtype.kind != "f":
        raise InputError(
            f"{where}: expected floats of shape (1, frames, 224, 224, {channels}) for the stream {stream!r}, "
            f"got {array.dtype} of shape {array.shape}."
        )
    if not array.size or not (float(np.abs(array).max()) <= 1.001):
        raise InputError(f"{where}: expected values in [−1, 1], as kinetics-i3d's samples have.")
    return torch.from_numpy(np.ascontiguousarray(array.astype(np.float32))).permute(0, 4, 1, 2, 3)


def score(network: I3D, sample: torch.Tensor) -> Scores:
    """The scores of the sample before the softmax, shape ``(400,)``."""
    with torch.inference_mode():
        scores: Scores = network(sample)[0].numpy()
    return scores


def compare(which: str, scores: Scores) -> list[ComparedNumber]:
    """Our scores beside the published ones of ``rgb``, ``flow`` or ``joint`` (the sum of both)."""
    published = PUBLISHED[which]
    if scores.shape != (400,):
        raise InputError(
            f"the sample's scores are for Kinetics-400; these weights have {scores.size} classes."
        )
    rows = [ComparedNumber(f"{which}: norm of scores", published.norm, float(np.linalg.norm(scores)))]
    for number, name, value in (published.first, published.second):
        rows.append(ComparedNumber(f"{which}: {name} ({number})", value, float(scores[number])))
    shifted = np.exp(scores.astype(np.float64) - scores.max())
    probability = float(shifted[published.first[0]] / shifted.sum())
    rows.append(
        ComparedNumber(f"{which}: probability of {published.first[1]}", published.probability, probability)
    )
    return rows
