"""The fast step of several members at once: noise, both stages, and the steps of their optimisers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dgam.core.config import Config
from dgam.training.buffers import Buffers
from dgam.training.means import Means
from dgam.training.parameters import Parameters
from dgam.training.prepared import prepare
from dgam.training.recorded import Recorded
from dgam.training.schedule import warmup
from dgam.training.steps import step_for


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
        like = parameters.models[0].shift
        self.parameters = parameters
        self.generators = tuple(generators)
        self._losses = [config.loss for config in configs]
        self._buffers = buffers
        r = [model.cvae.r for model in parameters.models]
        means = Means.of(like, buffers)
        self._precision = torch.bfloat16 if configs[0].train.precision == "bfloat16" else like.dtype
        shape = parameters.models[0].shape
        self._step, self._beside = (
            step_for(self._losses, r, means, shape, self._precision, like),
            means.beside,
        )
        self._epoch: int | None = None
        self._share = torch.zeros(len(r), 1, dtype=like.dtype, device=like.device)  # (E, 1)
        drawn_at = generators[0].device
        self._noise = buffers if drawn_at == like.device else Buffers(drawn_at)
        self._recorded: Recorded | None = None
        if like.is_cuda and all(generator.device.type == "cuda" for generator in generators):
            self._recorded = Recorded(self._run, generators, (buffers, self._noise))

    @torch.no_grad()
    def step(self, x: Tensor, labels: Tensor, epoch: int, *, scaled: bool = False) -> dict[str, Tensor]:
        """Both stages on x (E, B, T, d) and labels (E, B, C), and the moving averages; the losses, each
        (E,)."""
        # Kernels in Triton start on the GPU that PyTorch is at, whichever their tensors are on.
        with torch.cuda.device(self._share.get_device()):
            if epoch != self._epoch:
                self.parameters.begin(epoch)
                self._share.copy_(torch.tensor([[warmup(epoch, own)] for own in self._losses]))
                self._epoch = epoch
            if scaled and self._recorded is not None:
                return self._recorded(x, labels)
            return self._run(x, labels, scaled=scaled)

    def forget(self) -> None:
        """Have the next steps take nothing from earlier ones: parameters or generators were set anew."""
        self._epoch = None
        if self._recorded is not None:
            self._recorded.forget()

    def _run(self, x: Tensor, labels: Tensor, *, scaled: bool = True) -> dict[str, Tensor]:
        models, parameters, share = self.parameters.models, self.parameters, self._share
        shape = (len(models), self._losses[0].samples, *x.shape[1:3], models[0].cvae.latent)
        labels, generative = labels.to(share.dtype), self._losses[0].gamma1 > 0
        prepared = prepare(models, x, self._precision, self._buffers, scaled=scaled)
        if not generative:
            terms = self._step.attention(parameters, prepared, labels, share, None)
            parameters.move("attention")
        else:
            with self._beside():
                noise = self._drawn("prior", shape)
            terms = self._step.attention(parameters, prepared, labels, share, noise)
            with self._beside():
                noise = self._drawn("posterior", shape)
            parameters.move("attention")
            terms |= self._step.cvae(parameters, share, noise)
            parameters.move("cvae")
        parameters.average()
        self._beside.join()
        return terms

    def _drawn(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """Standard normal numbers (E, L, B, T, latent) for a stage, of each member by its own generator, on
        the models' device."""
        kept = self._share
        drawn_in = self._step.drawn_in if self.generators[0].device.type == "cuda" else torch.float32
        out = self._noise.get(f"noise.{name}", shape, drawn_in)
        for own, generator in zip(out, self.generators, strict=True):
            torch.randn(own.shape, generator=generator, out=own)
        return out.to(kept.device, kept.dtype if drawn_in == torch.float32 else drawn_in)
