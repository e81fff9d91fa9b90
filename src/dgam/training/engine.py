"""One training step: attention and classifier against a fixed CVAE, then the CVAE against fixed attention.

``attention_losses`` and ``cvae_losses`` say in a few lines what is computed; ``fast_step`` computes the same
several times faster, and is what an Engine uses unless ``train.step`` is plain.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dgam.core.config import Config, LossSettings
from dgam.model import losses
from dgam.model.networks import DGAM, full_precision
from dgam.training.buffers import Buffers
from dgam.training.optimisers import Optimiser
from dgam.training.parameters import Parameters
from dgam.training.schedule import learning_rate, warmup
from dgam.training.side_by_side import SideBySide

__all__ = ["Batch", "Engine", "attention_losses", "cvae_losses", "learning_rate", "warmup"]


@dataclass(frozen=True)
class Batch:
    """Raw features (B, T, d) and 0/1 labels (B, C), float32, on the model's device.

    ``scaled`` says that x went through ``DGAM.scaled`` already; it may then be bfloat16 too.
    """

    x: Tensor
    labels: Tensor
    scaled: bool = False


def attention_losses(
    model: DGAM, batch: Batch, settings: LossSettings, share: float, generator: torch.Generator
) -> dict[str, Tensor]:
    """The terms of equation 16 for stage (a), unweighted, and their weighted sum under ``total``.

    ``share`` is the warm-up's. With gamma1 = 0 the CVAE is not evaluated.
    """
    x = _features(model, batch)  # (B, T, d)
    attention = model.attention(x)  # (B, T)
    foreground = losses.pool(x, attention, settings.foreground_offset)  # (B, d)
    background = losses.pool(x, 1 - attention, settings.background_offset)  # (B, d)
    terms = {
        "fg": losses.foreground_loss(
            model.classifier(foreground), losses.label_targets(batch.labels, settings.multilabel)
        ),
        "bg": losses.background_loss(model.classifier(background)),
    }
    tcam = model.classifier.tcam(x)  # (B, T, C + 1)
    smoothing = losses.gaussian_matrix(x.shape[1], settings.guide_sigma, x.device, tcam.dtype)
    guides = losses.guide_attention(tcam.detach() if settings.guide_detach else tcam, batch.labels, smoothing)
    terms["guide"] = losses.guide_loss(attention, *guides)
    total = (
        settings.foreground * terms["fg"] + settings.alpha * terms["bg"] + settings.gamma2 * terms["guide"]
    )
    if settings.gamma1 > 0:
        noise = _noise((settings.samples, *attention.shape, model.cvae.latent), generator, x)
        z = model.cvae.prior_mean(attention) + noise  # (L, B, T, latent)
        log_p = losses.log_likelihood(x, model.cvae.decode(z, attention), settings.sigma2, settings.reduction)
        terms["re"] = losses.reconstruction_loss(log_p, settings.reduction)
        total = total + settings.gamma1 * share * terms["re"]
    return {**terms, "total": total, "attention": attention.detach().mean()}


def cvae_losses(
    model: DGAM, batch: Batch, settings: LossSettings, share: float, generator: torch.Generator
) -> dict[str, Tensor]:
    """L_CVAE for stage (b) with the attention held fixed: its weighted value ``cvae``, and ``kl`` by
    itself."""
    with torch.no_grad():
        x = _features(model, batch)  # (B, T, d)
        attention = model.attention(x)  # (B, T)
    mean, log_variance = model.cvae.encode(x, attention)  # (B, T, latent)
    noise = _noise((settings.samples, *mean.shape), generator, x)
    z = mean + noise * (0.5 * log_variance).exp()  # (L, B, T, latent)
    log_p = losses.log_likelihood(x, model.cvae.decode(z, attention), settings.sigma2, settings.reduction)
    kl = losses.kl_to_prior(mean, log_variance, model.cvae.prior_mean(attention), settings.reduction)
    loss = losses.cvae_loss(log_p, kl, settings.beta, settings.reduction)
    return {"cvae": settings.cvae_weight * share * loss, "kl": kl.detach().mean()}


class Engine:
    """A model of one stream with its optimisers, its moving average and its noise generator.

    ``config`` holds the stream's own settings (``Config.for_stream``). The state that :meth:`state` gives and
    :meth:`restore` takes is all there is: a step after restoring equals the step that would have been.
    """

    def __init__(self, model: DGAM, config: Config, generator: torch.Generator) -> None:
        self.model = model
        self.settings = config.loss
        self.train = config.train
        self.generator = generator
        self._parameters = Parameters([model], [config.train])
        self._attention = [*model.attention.parameters(), *model.classifier.parameters()]
        self._cvae = list(model.cvae.parameters())
        buffers = Buffers(model.shift.device)
        self._fast = SideBySide(self._parameters, [config], [generator], buffers)

    def step(self, batch: Batch, epoch: int) -> dict[str, Tensor]:
        """Both stages on one batch; returns the losses as detached scalars (not yet waited for on a GPU)."""
        if self.train.step == "plain":
            terms = self._plain_stages(batch, epoch)
            self._parameters.average()
        else:
            x, labels = batch.x.unsqueeze(0), batch.labels.unsqueeze(0)
            found = self._fast.step(x, labels, epoch, scaled=batch.scaled)
            terms = {name: value[0] for name, value in found.items()}
        return {name: value.detach() for name, value in terms.items()}

    @property
    def optimisers(self) -> Mapping[str, Optimiser]:
        """By stage, ``attention`` and ``cvae``."""
        return self._parameters.optimisers

    def weights(self) -> dict[str, Tensor]:
        """The weights to localise with, parameters and buffers: the moving average where there is one."""
        return self._parameters.kept(0)

    def state(self) -> dict[str, Tensor]:
        """Everything that changes during training, as named tensors."""
        return {**self._parameters.state(0), "generator": self.generator.get_state()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take up a state that :meth:`state` gave. KeyError or RuntimeError where it does not fit the
        model."""
        self._fast.forget()
        self._parameters.restore(0, tensors)
        self.generator.set_state(tensors["generator"].cpu())

    def _plain_stages(self, batch: Batch, epoch: int) -> dict[str, Tensor]:
        share = warmup(epoch, self.settings)
        with self._precision(batch.x.device):
            terms = attention_losses(self.model, batch, self.settings, share, self.generator)
        self._parameters.begin(epoch)
        self._update("attention", terms["total"], self._attention)
        if self.settings.gamma1 > 0:
            with self._precision(batch.x.device):
                generative = cvae_losses(self.model, batch, self.settings, share, self.generator)
            self._update("cvae", generative["cvae"], self._cvae)
            terms.update(generative)
        return terms

    def _precision(self, device: torch.device) -> torch.autocast:
        return torch.autocast(device.type, torch.bfloat16, enabled=self.train.precision == "bfloat16")

    def _update(self, stage: str, loss: Tensor, parameters: list[nn.Parameter]) -> None:
        # Only this stage's parameters get a gradient: the other stage's cannot move, whatever the loss holds.
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        names = {parameter: name for name, parameter in self.model.named_parameters()}
        named = {names[p]: g for p, g in zip(parameters, gradients, strict=True) if g is not None}
        self._parameters.take(stage, {name: g.unsqueeze(0) for name, g in named.items()})
        self._parameters.move(stage)


def _features(model: DGAM, batch: Batch) -> Tensor:
    return full_precision(batch.x) if batch.scaled else model.scaled(batch.x)


def _noise(shape: tuple[int, ...], generator: torch.Generator, like: Tensor) -> Tensor:
    return torch.randn(shape, generator=generator, device=generator.device).to(like.device)
