"""What changes over the epochs: the generative losses' share and the learning rate."""

from __future__ import annotations

import math

from dgam.core.config import LossSettings, TrainSettings


def warmup(epoch: int, settings: LossSettings) -> float:
    """Share of the generative losses' weight in ``epoch`` (counted from 0), from 0 to 1."""
    if settings.warmup_epochs == 0:
        return 1.0
    step = epoch // settings.warmup_step * settings.warmup_step
    return min(step, settings.warmup_epochs) / settings.warmup_epochs


def learning_rate(epoch: int, base: float, settings: TrainSettings) -> float:
    """Learning rate in ``epoch``: constant, or a half cosine from ``base`` to a hundredth of it, over all
    epochs or over the last third."""
    if settings.schedule == "constant":
        return base
    begin = 2 * settings.epochs / 3 if settings.schedule == "late-cosine" else 0
    fall = 0.5 * (1 + math.cos(math.pi * max(0, epoch - begin) / (settings.epochs - begin)))
    return base * (0.01 + 0.99 * fall)
