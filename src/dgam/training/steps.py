"""Which of the steps that compute the same does it."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from dgam.core.config import LossSettings
from dgam.model.networks import ModelShape
from dgam.training.fast_step import FastStep
from dgam.training.means import Means
from dgam.training.parameters import Parameters
from dgam.training.prepared import Prepared

_MAJORS = (9, 10)  # compute capabilities whose processors have the shared memory that the kernels take
_WIDEST = 128  # of the CVAE's layers: a block of snippets with two of them fits into a GPU's registers


class Step(Protocol):
    """Both stages, see :class:`FastStep`. Noise is to be drawn in ``drawn_in``, on a GPU."""

    drawn_in: torch.dtype

    def attention(
        self,
        parameters: Parameters,
        prepared: Prepared,
        labels: Tensor,
        share: Tensor,
        noise: Tensor | None,
    ) -> dict[str, Tensor]: ...

    def cvae(self, parameters: Parameters, share: Tensor, noise: Tensor) -> dict[str, Tensor]: ...


def step_for(
    settings: Sequence[LossSettings],
    r: Sequence[float],
    means: Means,
    shape: ModelShape,
    precision: torch.dtype,
    like: Tensor,
) -> Step:
    """The kernels' where they have it: on NVIDIA's GPUs like an H100 in bfloat16, with one sample and a
    generative part, in layers no wider than the paper's. ``like`` is a parameter."""
    form = settings[0]
    if (
        like.is_cuda
        and torch.version.hip is None
        and torch.cuda.get_device_capability(like.device)[0] in _MAJORS
        and like.dtype == torch.float32
        and precision == torch.bfloat16
        and form.samples == 1
        and form.gamma1 > 0
        and shape.attention_kernel == 1
        and max(shape.cvae_hidden, shape.latent) <= _WIDEST
        and importlib.util.find_spec("triton") is not None
    ):
        from dgam.training.gpu_step import GpuStep

        return GpuStep(settings, r, means)
    return FastStep(settings, r, means)
