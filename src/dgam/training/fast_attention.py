"""The discriminative losses of stage (a) with their gradients written out, equations 4 to 6 and 13 to 15.

Foreground and background are pooled after the classifier instead of before it: both are linear, and the
classifier's outputs are some fifty times narrower than the features.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from dgam.core.config import LossSettings
from dgam.model import losses
from dgam.model.convolution import at_middle, by_tap
from dgam.training.members import Numbers, Weights


@dataclass(frozen=True)
class Attended:
    """λ (E, B, T) and its losses: each term (E,), and the gradient of their weighted sum."""

    terms: dict[str, Tensor]
    by_attention: Tensor  # (E, B, T)
    by_tcam: Tensor  # (E, B, T, C + 1)
    by_bias: Tensor  # (E, C + 1)


def first_layer(weights: Weights, dimension: int) -> tuple[Tensor, Tensor]:
    """The attention's first layer as one product with x that gives every tap: weight (E, kernel·hidden, d)
    and bias (E, kernel·hidden)."""
    weight, bias = weights["attention.hidden.weight"], weights["attention.hidden.bias"]
    return by_tap(weight, dimension), at_middle(bias, weight.shape[2] // dimension)


@dataclass(frozen=True)
class TopDown:
    """What the TCAM says of attention without knowing it: class probabilities (E, B, T, C + 1), those of the
    labelled classes (E, B, T, C) and the greatest of these (E, B, T), and λ̂_fg and λ̂_bg (2, E, B, T)."""

    p: Tensor
    of_labels: Tensor
    most: Tensor
    guides: Tensor


def aims_of(labels: Tensor, form: LossSettings) -> Tensor:
    """Targets (E, B, 2, C + 1) of foreground and background from labels (E, B, C)."""
    members, videos, actions = labels.shape
    foreground = losses.label_targets(labels.flatten(0, 1), form.multilabel)  # (E·B, C + 1)
    background = torch.zeros_like(foreground)
    background[:, -1] = 1
    return torch.stack([foreground, background], dim=1).view(members, videos, 2, actions + 1)


def top_down(tcam: Tensor, labels: Tensor, smoothing: Tensor) -> TopDown:
    """Equations 13 and 14 for ``tcam`` (E, B, T, C + 1) and ``labels`` (E, B, C)."""
    p = functional.softmax(tcam, dim=3)
    of_labels = p[..., :-1] * labels.unsqueeze(2)  # (E, B, T, C)
    most = of_labels.amax(dim=3)  # (E, B, T)
    guides = torch.stack([most, 1 - p[..., -1]])  # (2, E, B, T)
    return TopDown(p, of_labels, most, guides @ smoothing.mT)


def discriminate(
    attention: Tensor,
    tcam: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    aims: Tensor,
    above: TopDown,
    smoothing: Tensor,
    numbers: Numbers,
    form: LossSettings,
) -> Attended:
    """Equations 4 to 6 and 15 with their gradients.

    ``attention`` (E, B, T), ``tcam`` (E, B, T, C + 1) without ``bias`` (E, C + 1), ``labels`` (E, B, C),
    ``aims`` as :func:`aims_of` and ``above`` as :func:`top_down` give them.
    """
    videos = attention.shape[1]
    shares = torch.stack([attention, 1 - attention], dim=2)  # (E, B, 2, T)
    sums = shares.sum(dim=3) + numbers.offsets  # (E, B, 2)
    tiny = torch.finfo(sums.dtype).tiny
    below, divisor = sums < tiny, sums.clamp_min(tiny).unsqueeze(3)  # (E, B, 2), (E, B, 2, 1)
    pooled = shares @ tcam / divisor  # (E, B, 2, C + 1)
    logits = pooled if bias is None else pooled + bias[:, None, None]
    log_p = functional.log_softmax(logits, dim=3)
    found = -(aims * log_p).sum(dim=3).mean(dim=1)  # (E, 2)
    by_logits = log_p.exp() * aims.sum(dim=3, keepdim=True) - aims  # (E, B, 2, C + 1)
    by_logits *= numbers.weights.unsqueeze(3) / videos
    by_pooled = by_logits / divisor  # by the sum before its division
    # λ enters foreground with one sign and background with the other, in the sum above and in the one below.
    moved = (by_pooled * pooled).sum(dim=3).masked_fill(below, 0)  # (E, B, 2)
    slopes = tcam @ by_pooled.mT - moved.unsqueeze(2)  # (E, B, T, 2)
    by_attention = slopes[..., 0] - slopes[..., 1]  # (E, B, T)
    by_tcam = shares.mT @ by_pooled  # (E, B, T, C + 1)
    guide, by_guided = _guide(attention, labels, above, smoothing, numbers, form, by_tcam)
    terms = {"fg": found[:, 0], "bg": found[:, 1], "guide": guide}
    return Attended(terms, by_attention + by_guided, by_tcam, by_logits.sum(dim=(1, 2)))


def _guide(
    attention: Tensor,
    labels: Tensor,
    above: TopDown,
    smoothing: Tensor,
    numbers: Numbers,
    form: LossSettings,
    by_tcam: Tensor,
) -> tuple[Tensor, Tensor]:
    """L_guide (E,) and its weighted gradient by λ (E, B, T); that by the TCAM is added to ``by_tcam``."""
    gaps = attention - above.guides
    loss = gaps.abs().sum(dim=0).mean(dim=(1, 2))
    by_gaps = gaps.sign() * (numbers.gamma2 / math.prod(attention.shape[1:])).unsqueeze(2)  # (2, E, B, T)
    if not form.guide_detach:
        p, most = above.p, above.most
        by_most, by_action = -by_gaps @ smoothing
        chosen = (above.of_labels == most.unsqueeze(3)).to(p.dtype)  # ties share, as amax has it
        chosen *= (by_most / chosen.sum(dim=3)).unsqueeze(3)
        by_p = torch.empty_like(p)
        by_p[..., :-1] = chosen * labels.unsqueeze(2)
        by_p[..., -1] = -by_action
        by_tcam += p * (by_p - (by_p * p).sum(dim=3, keepdim=True))
    return loss, by_gaps.sum(dim=0)
