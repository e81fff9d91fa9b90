"""When a stream has been trained enough: once little of its labels is left to be explained."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dgam.core.config import LossSettings, TrainSettings

EPOCHS = 3
"""Epochs over which L_fg is averaged: one epoch's is of as many random snippets as the last one's, but of
others."""


class Ending:
    """Whether a stream's training ends before ``train.epochs``, by its labels (N, C), 0/1, alone.

    L_fg is at best the entropy of its targets, as a video with two labels can be sure of neither; a
    classifier that knows nothing makes it log(C + 1). What is between the two is still to be explained, a
    share from 0 to 1, and training ends when that has fallen to ``train.until``, but not before
    ``train.least_steps`` are done and ``loss.warmup_epochs`` are over.
    """

    def __init__(self, labels: NDArray[np.float32], loss: LossSettings, train: TrainSettings) -> None:
        self._train = train
        videos = len(labels)
        steps = videos // train.batch if train.drop_last else math.ceil(videos / train.batch)
        # Without the generative part too: an ablation is to differ in nothing else.
        self._least = max(loss.warmup_epochs, math.ceil(train.least_steps / max(1, steps)))
        count = np.maximum(labels.sum(axis=1), 1)  # a video without actions has the background's label
        weight = count if loss.multilabel == "sum" else np.ones_like(count)
        self._best = float(np.mean(weight * np.log(count)))
        self._worst = float(np.mean(weight)) * math.log(labels.shape[1] + 1)

    def unexplained(self, foreground: Sequence[float]) -> float:
        """The share that the last epochs' L_fg leaves; 1 where there is none."""
        if not foreground:
            return 1.0
        mean = sum(foreground[-EPOCHS:]) / len(foreground[-EPOCHS:])
        return (mean - self._best) / (self._worst - self._best)

    def reached(self, epoch: int, foreground: Sequence[float]) -> bool:
        """Whether training ends after so many epochs, of which the last ones' L_fg is given."""
        if epoch >= self._train.epochs:
            return True
        if self._train.until == 0 or epoch < self._least:
            return False
        return self.unexplained(foreground) <= self._train.until
