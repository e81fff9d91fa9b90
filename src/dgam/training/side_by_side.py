"""The fast step of several members at once: noise, both stages, and the steps of their optimisers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dgam.core.config import Config
from dgam.training.buffers import Buffers
from dgam.training.fast_step import FastStep
from dgam.training.parameters import Parameters
from dgam.training.prepared import prepare
from dgam.training.schedule import warmup


class SideBySide:
    """Members that are trained in the same operations, each with its own numbers, noise and batch.

    The configs agree in all that :data:`members.FORM` names, in whether gamma1 is 0, in precision and
    optimiser. ``buffers`` is memory to work in, which those that take turns may share.
    """

    def __init__(
        self,
        parameters: Parameters,
        configs: Sequence[Config],
        generators: Sequence[torch.Generator],
        buffers: Buffers,
    ) -> None:
        self.parameters = parameters
        self.generators = tuple(generators)
        self._losses = [config.loss for config in configs]
        self._fast = FastStep(self._losses, [model.cvae.r for model in parameters.models], buffers)
        self._buffers = buffers
        self._shared: tuple[int, Tensor] | None = None
        self._noise = Buffers(generators[0].device)
        kept = parameters.models[0].shift.dtype
        self._precision = torch.bfloat16 if configs[0].train.precision == "bfloat16" else kept

    @torch.no_grad()
    def step(self, x: Tensor, labels: Tensor, epoch: int, *, scaled: bool = False) -> dict[str, Tensor]:
        """Both stages on x (E, B, T, d) and labels (E, B, C); the losses, each (E,)."""
        models, weights = self.parameters.models, self.parameters.weights
        prepared = prepare(models, x, self._precision, self._buffers, scaled=scaled)
        kept, generative = prepared.squares.dtype, self._losses[0].gamma1 > 0
        share = self._share(epoch, prepared.squares)
        shape = (len(models), self._losses[0].samples, *x.shape[1:3], models[0].cvae.latent)
        noise = self._drawn(shape).to(x.device, kept) if generative else None
        found = self._fast.attention(weights, prepared, labels.to(kept), share, noise)
        self.parameters.move("attention", found.gradients, epoch)
        terms = found.terms
        if generative:
            found = self._fast.cvae(weights, share, self._drawn(shape).to(x.device, kept))
            self.parameters.move("cvae", found.gradients, epoch)
            terms |= found.terms
        return terms

    def _share(self, epoch: int, like: Tensor) -> Tensor:
        """The warm-up's share (E, 1), put on the device once an epoch."""
        if self._shared is None or self._shared[0] != epoch:
            values = [[warmup(epoch, own)] for own in self._losses]
            self._shared = epoch, torch.tensor(values, dtype=like.dtype, device=like.device)
        return self._shared[1]

    def _drawn(self, shape: tuple[int, ...]) -> Tensor:
        """Standard normal numbers (E, L, B, T, latent), of each member by its own generator."""
        out = self._noise.get("noise", shape, torch.float32)
        for own, generator in zip(out, self.generators, strict=True):
            torch.randn(own.shape, generator=generator, out=own)
        return out
