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
from dgam.training.members import Numbers, Weights, product


@dataclass(frozen=True)
class Attended:
    """λ (E, B, T) and its losses: each term (E,), and the gradient of their weighted sum."""

    terms: dict[str, Tensor]
    by_attention: Tensor  # (E, B, T)
    by_tcam: Tensor  # (E, B, T, C + 1)
    by_bias: Tensor  # (E, C + 1)


def attention_score(hidden: Tensor, weights: Weights, dtype: torch.dtype) -> Tensor:
    """The attention's hidden units, after ReLU (E, n, hidden), to λ (E, n)."""
    weight, bias = weights["attention.output.weight"], weights["attention.output.bias"]
    score = product(hidden, weight.to(hidden.dtype).mT).squeeze(2)  # (E, n)
    return torch.sigmoid_(score.to(dtype).add_(bias))


def discriminate(
    attention: Tensor,
    tcam: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    smoothing: Tensor,
    numbers: Numbers,
    form: LossSettings,
) -> Attended:
    """Equations 4 to 6 and 13 to 15 with their gradients.

    ``attention`` (E, B, T), ``tcam`` (E, B, T, C + 1) without ``bias`` (E, C + 1), ``labels`` (E, B, C).
    """
    members, videos, _ = attention.shape
    classes = tcam.shape[3]
    shares = torch.stack([attention, 1 - attention], dim=2)  # (E, B, 2, T)
    offsets = torch.stack([numbers.foreground_offset, numbers.background_offset], dim=2)  # (E, 1, 2)
    sums = shares.sum(dim=3) + offsets  # (E, B, 2)
    tiny = torch.finfo(sums.dtype).tiny
    below, divisor = sums < tiny, sums.clamp_min(tiny).unsqueeze(3)  # (E, B, 2), (E, B, 2, 1)
    pooled = shares @ tcam / divisor  # (E, B, 2, C + 1)
    logits = pooled if bias is None else pooled + bias[:, None, None]
    log_p = functional.log_softmax(logits, dim=3)
    targets = losses.label_targets(labels.flatten(0, 1), form.multilabel).view(members, videos, classes)
    fg = -(targets * log_p[:, :, 0]).sum(dim=2).mean(dim=1)  # (E,)
    bg = -log_p[:, :, 1, -1].mean(dim=1)
    p = log_p.exp()
    by_logits = torch.empty_like(p)  # (E, B, 2, C + 1)
    by_logits[:, :, 0] = p[:, :, 0] * targets.sum(dim=2, keepdim=True) - targets
    by_logits[:, :, 1] = p[:, :, 1]
    by_logits[:, :, 1, -1] -= 1
    weights = torch.stack([numbers.foreground, numbers.alpha], dim=2).unsqueeze(3) / videos  # (E, 1, 2, 1)
    by_logits *= weights
    by_pooled = by_logits / divisor  # by the sum before its division
    # λ enters foreground with one sign and background with the other, in the sum above and in the one below.
    moved = (by_pooled * pooled).sum(dim=3).masked_fill(below, 0)  # (E, B, 2)
    slopes = tcam @ by_pooled.mT - moved.unsqueeze(2)  # (E, B, T, 2)
    by_attention = slopes[..., 0] - slopes[..., 1]  # (E, B, T)
    by_tcam = shares.mT @ by_pooled  # (E, B, T, C + 1)
    guide, by_guided = _guide(attention, tcam, labels, smoothing, numbers, form, by_tcam)
    terms = {"fg": fg, "bg": bg, "guide": guide}
    return Attended(terms, by_attention + by_guided, by_tcam, by_logits.sum(dim=(1, 2)))


def _guide(
    attention: Tensor,
    tcam: Tensor,
    labels: Tensor,
    smoothing: Tensor,
    numbers: Numbers,
    form: LossSettings,
    by_tcam: Tensor,
) -> tuple[Tensor, Tensor]:
    """L_guide (E,) and its weighted gradient by λ (E, B, T); that by the TCAM is added to ``by_tcam``."""
    p = functional.softmax(tcam, dim=3)
    of_labels = p[..., :-1] * labels.unsqueeze(2)  # (E, B, T, C)
    most = of_labels.amax(dim=3)  # (E, B, T)
    guides = torch.stack([most, 1 - p[..., -1]])  # (2, E, B, T)
    gaps = attention - guides @ smoothing.mT
    loss = gaps.abs().sum(dim=0).mean(dim=(1, 2))
    by_gaps = gaps.sign() * (numbers.gamma2 / math.prod(attention.shape[1:])).unsqueeze(2)  # (2, E, B, T)
    if not form.guide_detach:
        by_most, by_action = -by_gaps @ smoothing
        chosen = (of_labels == most.unsqueeze(3)).to(p.dtype)  # ties share, as amax has it
        chosen *= (by_most / chosen.sum(dim=3)).unsqueeze(3)
        by_p = torch.empty_like(p)
        by_p[..., :-1] = chosen * labels.unsqueeze(2)
        by_p[..., -1] = -by_action
        by_tcam += p * (by_p - (by_p * p).sum(dim=3, keepdim=True))
    return loss, by_gaps.sum(dim=0)
