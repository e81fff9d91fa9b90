"""The three modules of DGAM, figure 3 of the paper: attention, classification, and the conditional VAE.

Shapes: B videos, T snippets, d feature dimension, C action classes. The background class is column C, the
last. (The paper numbers it 0 and the release puts it last; nothing but the numbering depends on it.)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from dgam.model.convolution import at_middle, by_tap, gather


def linear(inputs: int, outputs: int, generator: torch.Generator, *, bias: bool = True) -> nn.Linear:
    """A linear layer with PyTorch's usual initial values, U(−1/√inputs, 1/√inputs), drawn from
    ``generator``."""
    layer = nn.Linear(inputs, outputs, bias=bias, device="meta").to_empty(device="cpu")
    bound = inputs**-0.5
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.uniform_(-bound, bound, generator=generator)
    return layer


def with_attention(layer: nn.Linear, x: Tensor, attention: Tensor) -> Tensor:
    """``layer`` applied to ``x`` (…, n) with ``attention`` (…) appended as its last input, shape (…,
    outputs).

    The same as concatenating, without writing a copy of ``x``: λ enters as a rank-one term.
    """
    hidden = functional.linear(x, layer.weight[:, :-1], layer.bias)
    return hidden + attention.unsqueeze(-1) * layer.weight[:, -1]  # (…, 1) * (outputs,) -> (…, outputs)


def full_precision(x: Tensor) -> Tensor:
    """bfloat16, as the networks may compute in, to float32, as losses are computed in; the rest stays as it
    is."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class Attention(nn.Module):
    """Bottom-up, class-agnostic attention: Linear-ReLU-Linear-sigmoid on each snippet.

    The first layer sees ``kernel`` (odd) snippets around the one in question, as one input from the earliest
    to the latest, with zeros beyond the ends of the sequence: h_t = ReLU(Σ_k W_k x_{t + k} + b). The paper
    has 1.
    """

    def __init__(self, dimension: int, hidden: int, generator: torch.Generator, *, kernel: int = 1) -> None:
        super().__init__()
        self.kernel = kernel
        self.hidden = linear(kernel * dimension, hidden, generator)
        self.output = linear(hidden, 1, generator)

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, T, d) to attention λ (B, T) in [0, 1]."""
        weight = by_tap(self.hidden.weight, self.hidden.in_features // self.kernel)  # (kernel·hidden, d)
        taps = functional.linear(x, weight, at_middle(self.hidden.bias, self.kernel))  # (B, T, kernel·hidden)
        taps = taps.view(*x.shape[:-1], self.kernel, self.hidden.out_features)  # (B, T, kernel, hidden)
        score = self.output(functional.relu(gather(taps)))  # (B, T, 1)
        return torch.sigmoid(full_precision(score).squeeze(-1))  # (B, T)

    def level(self) -> None:
        """Make λ 1/2 for all snippets, by zeros in the last layer."""
        for parameter in self.output.parameters():
            nn.init.zeros_(parameter)


class Classifier(nn.Module):
    """The classification module p(y|x): one linear layer over C actions and, last, background."""

    def __init__(
        self, dimension: int, classes: int, generator: torch.Generator, *, bias: bool = True
    ) -> None:
        super().__init__()
        self.output = linear(dimension, classes + 1, generator, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Features (…, d) to logits (…, C + 1)."""
        return full_precision(self.output(x))

    def tcam(self, x: Tensor) -> Tensor:
        """Temporal class activation map wᵀx without bias, (…, d) to (…, C + 1), equations 13 and 14."""
        return full_precision(functional.linear(x, self.output.weight))


class CVAE(nn.Module):
    """The generative model of snippets given their attention: p(z|λ) = N(rλ·1, I), p(x|λ, z), q(z|x, λ)."""

    def __init__(
        self, dimension: int, latent: int, hidden: int, r: float, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.r = r
        self.encode_x = linear(dimension + 1, hidden, generator)
        self.encode_hidden = linear(hidden, hidden, generator)
        self.encode_z = linear(hidden, 2 * latent, generator)
        self.decode_z = linear(latent + 1, hidden, generator)
        self.decode_hidden = linear(hidden, hidden, generator)
        self.decode_x = linear(hidden, dimension, generator)

    @property
    def latent(self) -> int:
        """Dimension of z."""
        return self.encode_z.out_features // 2

    def prior_mean(self, attention: Tensor) -> Tensor:
        """Mean of p(z|λ), the same in every latent dimension: λ (B, T) to (B, T, 1)."""
        return self.r * attention.unsqueeze(-1)

    def encode(self, x: Tensor, attention: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of q(z|x, λ), each (B, T, latent), from features (B, T, d) and λ (B, T)."""
        hidden = functional.relu(with_attention(self.encode_x, x, attention))
        hidden = functional.relu(self.encode_hidden(hidden))
        both = full_precision(self.encode_z(hidden))  # (B, T, 2·latent)
        mean, log_variance = both.chunk(2, dim=-1)  # 2 × (B, T, latent)
        return mean, log_variance

    def decode(self, z: Tensor, attention: Tensor) -> Tensor:
        """f_ψ(λ, z), the mean of p(x|λ, z): z (…, B, T, latent) and λ (B, T) to (…, B, T, d)."""
        hidden = functional.relu(with_attention(self.decode_z, z, attention))
        hidden = functional.relu(self.decode_hidden(hidden))
        return full_precision(self.decode_x(hidden))


@dataclass(frozen=True)
class ModelShape:
    """The numbers that a DGAM is built from: everything needed to rebuild it around saved weights."""

    dimension: int
    classes: int
    attention_hidden: int = 256
    attention_kernel: int = 1
    cvae_hidden: int = 128
    latent: int = 128
    r: float = 1.0
    classifier_bias: bool = True
    normalise: str = "none"


class DGAM(nn.Module):
    """Attention, classifier and CVAE of one stream, and the scaling of its features."""

    shift: Tensor
    scale: Tensor

    def __init__(self, shape: ModelShape, generator: torch.Generator) -> None:
        super().__init__()
        d = shape.dimension
        self.shape = shape
        self.attention = Attention(d, shape.attention_hidden, generator, kernel=shape.attention_kernel)
        self.classifier = Classifier(d, shape.classes, generator, bias=shape.classifier_bias)
        self.cvae = CVAE(d, shape.latent, shape.cvae_hidden, shape.r, generator)
        self.register_buffer("shift", torch.zeros(d))
        self.register_buffer("scale", torch.ones(d))

    def scaled(self, x: Tensor) -> Tensor:
        """Raw features (B, T, d) as the modules take them, by ``shape.normalise``."""
        if self.shape.normalise == "l2":
            return functional.normalize(x, dim=-1)
        if self.shape.normalise == "root":
            x = x.sign() * x.abs().sqrt()
        if self.shape.normalise in ("scale", "root", "standard"):
            return (x - self.shift) * self.scale
        return x

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Raw features (B, T, d) to λ (B, T), per-snippet logits (B, T, C + 1) and TCAM (B, T, C + 1)."""
        x = self.scaled(x)
        return self.attention(x), self.classifier(x), self.classifier.tcam(x)
