"""The losses of DGAM, equations 4 to 16 of the paper, as functions of tensors.

Shapes: B videos, T snippets, d feature dimension, C action classes with background as column C, L latent
samples. Every function returns a scalar averaged over videos unless it says otherwise.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

REDUCTIONS = ("sum", "snippet", "element")


def pool(x: Tensor, weights: Tensor, offset: float = 0.0) -> Tensor:
    """Weighted temporal average pooling, equations 4 and 5: x (B, T, d), weights (B, T) >= 0, to (B, d).

    ``offset`` is added to the sum of weights. Where all weights are 0 the result is 0, the limit being
    undefined.
    """
    total = weights.sum(dim=1, keepdim=True) + offset  # (B, 1)
    pooled = torch.einsum("bt,btd->bd", weights, x)
    return pooled.to(total.dtype) / total.clamp_min(torch.finfo(total.dtype).tiny)


def label_targets(labels: Tensor, multilabel: str = "mean") -> Tensor:
    """Targets of L_fg, (B, C + 1), from 0/1 labels (B, C).

    ``mean`` gives each of a video's k labels 1/k, ``sum`` gives each 1. A video without labels is background.
    """
    count = labels.sum(dim=1, keepdim=True)  # (B, 1)
    actions = labels / count.clamp_min(1.0) if multilabel == "mean" else labels
    return torch.cat([actions, (count == 0).to(labels.dtype)], dim=1)  # (B, C + 1)


def foreground_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """L_fg = −log p(y|x_fg), equation 6: logits and targets (B, C + 1)."""
    return -(targets * functional.log_softmax(logits, dim=1)).sum(dim=1).mean()


def background_loss(logits: Tensor) -> Tensor:
    """L_bg = −log p(0|x_bg), equation 6: logits (B, C + 1), background last."""
    return -functional.log_softmax(logits, dim=1)[:, -1].mean()


def log_likelihood(x: Tensor, reconstruction: Tensor, sigma2: float, reduction: str) -> Tensor:
    """log N(x | x̂, σ²I) up to a constant, per snippet: x (B, T, d), x̂ (…, B, T, d), to (…, B, T).

    ``element`` averages over d, which is the same as a variance of σ²·d.
    """
    squared = functional.mse_loss(reconstruction, x.expand_as(reconstruction), reduction="none")
    distance = squared.mean(dim=-1) if reduction == "element" else squared.sum(dim=-1)  # (…, B, T)
    return -distance / (2 * sigma2)


def over_time(per_snippet: Tensor, reduction: str) -> Tensor:
    """A loss per snippet (B, T) to a scalar: summed over T under ``sum``, else averaged; averaged over
    videos."""
    per_video = per_snippet.sum(dim=1) if reduction == "sum" else per_snippet.mean(dim=1)  # (B,)
    return per_video.mean()


def kl_to_prior(mean: Tensor, log_variance: Tensor, prior_mean: Tensor, reduction: str) -> Tensor:
    """KL(N(μ, Σ) || N(rλ·1, I)) per snippet: all (B, T, latent) but prior_mean (B, T, 1), to (B, T).

    ``element`` averages over the latent dimensions, else they are summed.
    """
    terms = 0.5 * ((mean - prior_mean).square() + log_variance.exp() - log_variance - 1)
    return terms.mean(dim=-1) if reduction == "element" else terms.sum(dim=-1)


def cvae_loss(log_p: Tensor, kl: Tensor, beta: float, reduction: str) -> Tensor:
    """L_CVAE, equation 10: log p(x|λ, z) of the L posterior samples (L, B, T) and KL (B, T)."""
    return over_time(-log_p.mean(dim=0) + beta * kl, reduction)


def reconstruction_loss(log_p: Tensor, reduction: str) -> Tensor:
    """L_re, equation 11 (12 for L = 1): log p(x|λ, z) of the L prior samples, (L, B, T)."""
    likelihood = torch.logsumexp(log_p, dim=0) - math.log(log_p.shape[0])  # (B, T)
    return over_time(-likelihood, reduction)


def gaussian_taps(sigma: float) -> Tensor:
    """A Gaussian's weights (2·radius + 1,) in float64, cut off at 4σ; 0 gives the one weight 1."""
    radius = int(4 * sigma + 0.5)
    offsets = torch.arange(-radius, radius + 1).double()
    kernel = torch.exp(-0.5 * (offsets / (sigma or 1.0)).square())
    return kernel / kernel.sum()


def gaussian_matrix(
    length: int, sigma: float, device: torch.device | None = None, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Gaussian smoothing along time as a matrix (length, length): ``matrix @ curve`` is the smoothed curve.

    Cut off at 4σ; beyond the ends the curve is mirrored (… c b a | a b c …), as ``scipy.ndimage`` does by
    default. ``sigma`` is in snippets; 0 gives the identity. Rows sum to 1.
    """
    kernel = gaussian_taps(sigma)
    radius = len(kernel) // 2
    offsets = torch.arange(-radius, radius + 1)
    reach = (torch.arange(length)[:, None] + offsets[None, :]) % (2 * length)  # (length, 2·radius + 1)
    reach = torch.minimum(reach, 2 * length - 1 - reach)  # mirrored, period 2·length
    matrix = torch.zeros(length, length, dtype=torch.float64).scatter_add_(
        1, reach, kernel.expand(length, -1)
    )
    return matrix.to(device, dtype)


def guide_attention(tcam: Tensor, labels: Tensor, smoothing: Tensor) -> tuple[Tensor, Tensor]:
    """Top-down attention λ̂_fg and λ̂_bg, equations 13 and 14, each (B, T).

    ``tcam`` (B, T, C + 1) are wᵀx without bias, ``labels`` (B, C) are 0/1, ``smoothing`` (T, T) is
    :func:`gaussian_matrix`. Of several labels the one most active at a snippet counts; without labels λ̂_fg
    is 0.
    """
    probabilities = functional.softmax(tcam, dim=-1)
    of_labels = probabilities[..., :-1] * labels.unsqueeze(1)  # (B, T, C) * (B, 1, C)
    foreground = of_labels.amax(dim=-1)  # (B, T)
    background = 1 - probabilities[..., -1]  # (B, T)
    return foreground @ smoothing.T, background @ smoothing.T


def guide_loss(attention: Tensor, foreground: Tensor, background: Tensor) -> Tensor:
    """L_guide, equation 15: λ, λ̂_fg and λ̂_bg, each (B, T)."""
    return ((attention - foreground).abs() + (attention - background).abs()).mean(dim=1).mean()
