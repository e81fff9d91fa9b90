"""A DGAM training step as one would write it first: the other side of benchmarks/train.py.

Written for the benchmark from the paper's equations, and from what is known of the authors' release about its
structure: λ is concatenated to copies of the features, each use of the attention or the classifier is a
forward pass of its own, the guide's smoothing goes through SciPy on the host, and nothing is fused, compiled
or kept. It is not slowed on purpose: modules that a stage holds fixed get no gradients.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import torch
from scipy.ndimage import gaussian_filter1d
from torch import Tensor, nn
from torch.nn import functional

from dgam.core.config import Config
from dgam.model.networks import ModelShape


def perceptron(*widths: int) -> nn.Sequential:
    """Linear layers with ReLU between them."""
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


# Parameters of this module and what dgam calls them.
NAMES = {
    "attention.0": "attention.hidden",
    "attention.2": "attention.output",
    "classifier": "classifier.output",
    "encoder.0": "cvae.encode_x",
    "encoder.2": "cvae.encode_hidden",
    "encoder.4": "cvae.encode_z",
    "decoder.0": "cvae.decode_z",
    "decoder.2": "cvae.decode_hidden",
    "decoder.4": "cvae.decode_x",
}


class EagerStep(nn.Module):
    """Networks, optimisers and the step of one stream, with the paper's losses as element means."""

    def __init__(self, shape: ModelShape, config: Config, generator: torch.Generator) -> None:
        super().__init__()
        d, hidden, latent = shape.dimension, shape.cvae_hidden, shape.latent
        self.attention = perceptron(d, shape.attention_hidden, 1)
        self.classifier = nn.Linear(d, shape.classes + 1)
        self.encoder = perceptron(d + 1, hidden, hidden, 2 * latent)
        self.decoder = perceptron(latent + 1, hidden, hidden, d)
        self.loss, self.latent, self.r, self.generator = config.loss, latent, shape.r, generator
        first = [*self.attention.parameters(), *self.classifier.parameters()]
        self.stages = first, [*self.encoder.parameters(), *self.decoder.parameters()]
        rate, betas = config.train.lr, config.train.betas
        self.optimisers = [torch.optim.Adam(stage, lr=rate, betas=betas) for stage in self.stages]

    def take(self, weights: Mapping[str, Tensor]) -> None:
        """Start from these weights of a DGAM."""
        named = {
            f"{mine}.{kind}": weights[f"{theirs}.{kind}"].detach().clone()
            for mine, theirs in NAMES.items()
            for kind in ("weight", "bias")
        }
        self.load_state_dict(named)

    def step(self, x: Tensor, labels: Tensor) -> dict[str, float]:
        """Both stages on features (B, T, d) and labels (B, C), with their full weights; the losses."""
        settings = self.loss
        self._only(0)
        attention = torch.sigmoid(self.attention(x))  # (B, T, 1)
        foreground = (attention * x).sum(dim=1) / attention.sum(dim=1)  # (B, d)
        background = ((1 - attention) * x).sum(dim=1) / (1 - attention).sum(dim=1)
        targets = labels / labels.sum(dim=1, keepdim=True)  # every video here has a label
        log_p = functional.log_softmax(self.classifier(foreground), dim=1)
        fg = -(targets * log_p[:, :-1]).sum(dim=1).mean()
        bg = -functional.log_softmax(self.classifier(background), dim=1)[:, -1].mean()
        guide = sum((attention.squeeze(2) - target).abs().mean() for target in self._guides(x, labels))
        z = self.r * attention + self._noise(x)  # (B, T, latent)
        made = self.decoder(torch.cat([z, attention], dim=2))  # (B, T, d)
        re = functional.mse_loss(made, x)
        total = (
            settings.foreground * fg + settings.alpha * bg + settings.gamma2 * guide + settings.gamma1 * re
        )
        self._update(0, total)

        self._only(1)
        with torch.no_grad():
            attention = torch.sigmoid(self.attention(x))  # (B, T, 1)
        mean, log_variance = self.encoder(torch.cat([x, attention], dim=2)).chunk(2, dim=2)
        z = mean + self._noise(x) * torch.exp(0.5 * log_variance)
        made = self.decoder(torch.cat([z, attention], dim=2))
        gap = mean - self.r * attention
        kl = 0.5 * (gap.square() + log_variance.exp() - log_variance - 1).mean()
        cvae = settings.cvae_weight * (functional.mse_loss(made, x) + settings.beta * kl)
        self._update(1, cvae)
        found = {"fg": fg, "bg": bg, "guide": guide, "re": re, "total": total, "cvae": cvae, "kl": kl}
        return {name: value.item() for name, value in found.items()}

    def _guides(self, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Top-down attention (B, T) of foreground and background."""
        with torch.no_grad():
            p = torch.softmax(x @ self.classifier.weight.T, dim=2)  # (B, T, C + 1)
        curves = (p[..., :-1] * labels[:, None]).amax(dim=2), 1 - p[..., -1]
        sigma = self.loss.guide_sigma
        smooth = [torch.from_numpy(gaussian_filter1d(curve.cpu().numpy(), sigma, axis=1)) for curve in curves]
        return smooth[0].to(x.device), smooth[1].to(x.device)

    def _noise(self, x: Tensor) -> Tensor:
        shape = (1, *x.shape[:2], self.latent)
        return torch.randn(shape, generator=self.generator, device=self.generator.device)[0].to(x.device)

    def _only(self, stage: int) -> None:
        for number, parameters in enumerate(self.stages):
            for parameter in parameters:
                parameter.requires_grad_(number == stage)

    def _update(self, stage: int, loss: Tensor) -> None:
        self.optimisers[stage].zero_grad()
        torch.autograd.backward(loss)
        self.optimisers[stage].step()
