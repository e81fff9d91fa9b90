"""One training step: attention and classifier against a fixed CVAE, then the CVAE against fixed attention."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dgam.core.config import Config, LossSettings, TrainSettings
from dgam.model import losses
from dgam.model.networks import DGAM


@dataclass(frozen=True)
class Batch:
    """Raw features (B, T, d) and 0/1 labels (B, C), float32, on the model's device."""

    x: Tensor
    labels: Tensor


def warmup(epoch: int, settings: LossSettings) -> float:
    """Share of the generative losses' weight in ``epoch`` (counted from 0), from 0 to 1."""
    if settings.warmup_epochs == 0:
        return 1.0
    step = epoch // settings.warmup_step * settings.warmup_step
    return min(step, settings.warmup_epochs) / settings.warmup_epochs


def learning_rate(epoch: int, base: float, settings: TrainSettings) -> float:
    """Learning rate in ``epoch``: constant, or a half cosine from ``base`` to a hundredth of it."""
    if settings.schedule == "constant":
        return base
    fall = 0.5 * (1 + math.cos(math.pi * epoch / settings.epochs))
    return base * (0.01 + 0.99 * fall)


def attention_losses(
    model: DGAM, batch: Batch, settings: LossSettings, share: float, generator: torch.Generator
) -> dict[str, Tensor]:
    """The terms of equation 16 for stage (a), unweighted, and their weighted sum under ``total``.

    ``share`` is the warm-up's. With gamma1 = 0 the CVAE is not evaluated.
    """
    x = model.scaled(batch.x)  # (B, T, d)
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
        x = model.scaled(batch.x)  # (B, T, d)
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
        self.steps = 0
        self.average = (
            {name: p.detach().clone() for name, p in model.named_parameters()} if self.train.ema else {}
        )
        self._attention = [*model.attention.parameters(), *model.classifier.parameters()]
        self._cvae = list(model.cvae.parameters())
        self._optimisers = {
            "attention": _optimiser(self._attention, self.train.lr, self.train),
            "cvae": _optimiser(self._cvae, self.train.cvae_lr or self.train.lr, self.train),
        }

    def step(self, batch: Batch, epoch: int) -> dict[str, Tensor]:
        """Both stages on one batch; returns the losses as detached scalars (not yet waited for on a GPU)."""
        share = warmup(epoch, self.settings)
        with self._precision(batch.x.device):
            terms = attention_losses(self.model, batch, self.settings, share, self.generator)
        self._update("attention", terms["total"], self._attention, epoch)
        if self.settings.gamma1 > 0:
            with self._precision(batch.x.device):
                generative = cvae_losses(self.model, batch, self.settings, share, self.generator)
            self._update("cvae", generative["cvae"], self._cvae, epoch)
            terms.update(generative)
        self.steps += 1
        self._move_average()
        return {name: value.detach() for name, value in terms.items()}

    def weights(self) -> dict[str, Tensor]:
        """The weights to localise with, parameters and buffers: the moving average where there is one."""
        return {**self.model.state_dict(), **self.average}

    def state(self) -> dict[str, Tensor]:
        """Everything that changes during training, as named tensors."""
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors.update({f"average.{name}": value for name, value in self.average.items()})
        for stage, optimiser in self._optimisers.items():
            for index, slots in optimiser.state_dict()["state"].items():
                for slot, value in slots.items():
                    if value is not None:
                        tensors[f"optimiser.{stage}.{index}.{slot}"] = torch.as_tensor(value)
        tensors["generator"] = self.generator.get_state()
        tensors["steps"] = torch.tensor(self.steps)
        return tensors

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take up a state that :meth:`state` gave. KeyError or RuntimeError where it does not fit the
        model."""
        self.model.load_state_dict(_below(tensors, "model."))
        for name, value in _below(tensors, "average.").items():
            self.average[name].copy_(value)
        for stage, optimiser in self._optimisers.items():
            slots: dict[int, dict[str, Tensor]] = {}
            for key, value in _below(tensors, f"optimiser.{stage}.").items():
                index, slot = key.split(".", 1)
                slots.setdefault(int(index), {})[slot] = value.clone()
            optimiser.load_state_dict(
                {"state": slots, "param_groups": optimiser.state_dict()["param_groups"]}
            )
        self.generator.set_state(tensors["generator"].cpu())
        self.steps = int(tensors["steps"])

    def _precision(self, device: torch.device) -> torch.autocast:
        return torch.autocast(device.type, torch.bfloat16, enabled=self.train.precision == "bfloat16")

    def _update(self, stage: str, loss: Tensor, parameters: list[nn.Parameter], epoch: int) -> None:
        optimiser = self._optimisers[stage]
        # Only this stage's parameters get a gradient: the other stage's cannot move, whatever the loss holds.
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        if self.train.clip > 0:
            nn.utils.clip_grad_norm_(parameters, self.train.clip)
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(epoch, group["initial_lr"], self.train)
        optimiser.step()
        for parameter in parameters:
            parameter.grad = None

    def _move_average(self) -> None:
        # The decay starts low and rises to its setting, so the random initial weights are soon forgotten.
        decay = min(self.train.ema, self.steps / (self.steps + 9))
        with torch.no_grad():
            for name, parameter in self.model.named_parameters() if self.average else ():
                self.average[name].lerp_(parameter, 1 - decay)


def _noise(shape: tuple[int, ...], generator: torch.Generator, like: Tensor) -> Tensor:
    return torch.randn(shape, generator=generator, device=generator.device).to(like.device)


def _optimiser(
    parameters: Iterable[nn.Parameter], lr: float, settings: TrainSettings
) -> torch.optim.Optimizer:
    groups = [{"params": list(parameters), "lr": lr, "initial_lr": lr}]
    if settings.optimiser == "sgd":
        return torch.optim.SGD(groups, momentum=settings.betas[0], weight_decay=settings.weight_decay)
    make = torch.optim.AdamW if settings.optimiser == "adamw" else torch.optim.Adam
    return make(groups, betas=settings.betas, weight_decay=settings.weight_decay)


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
