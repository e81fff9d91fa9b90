"""The step by kernels gives the losses and gradients of the one without.

On a GPU, or anywhere with Triton's interpreter:

    TRITON_INTERPRET=1 python -m pytest tests/test_gpu_step.py
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from dgam.core.config import load_config
from dgam.model.networks import DGAM, ModelShape
from dgam.training.beside import Beside
from dgam.training.buffers import Buffers
from dgam.training.fast_step import FastStep
from dgam.training.means import Means
from dgam.training.parameters import Parameters
from dgam.training.passes import Plain
from dgam.training.prepared import Prepared
from triton_kernels import device_or_skip

ON = device_or_skip()

from dgam.training.gpu_step import GpuStep  # noqa: E402 - only where there is Triton

SHAPE = ModelShape(dimension=40, classes=5, attention_hidden=24, cvae_hidden=24, latent=16)
PAPERS = ModelShape(dimension=64, classes=20)
BOTH = (GpuStep, FastStep)
SIZES = [(1, 1, 1), (1, 2, 9), (3, 2, 40), (2, 4, 70)]  # members, videos, snippets


def models(shape: ModelShape, count: int) -> list[DGAM]:
    """With biases that are not zero, as training has them."""
    found = []
    for seed in range(count):
        generator = torch.Generator().manual_seed(seed)
        model = DGAM(shape, generator)
        for parameter in model.parameters():
            parameter.data += 0.03 * torch.randn(parameter.shape, generator=generator)
        found.append(model.to(ON))
    return found


def results(
    kinds: Sequence[type[GpuStep] | type[FastStep]],
    shape: ModelShape,
    size: tuple[int, int, int],
    dtype: torch.dtype,
    overrides: Sequence[str] = (),
) -> list[dict[str, Tensor]]:
    """Terms and gradients of two steps in a row by these ways, from the same numbers."""
    members, videos, length = size
    generator = torch.Generator().manual_seed(5)
    x = torch.rand(*size, shape.dimension, generator=generator).to(ON, dtype)
    many = (torch.rand(members, videos + 3, shape.classes, generator=generator) < 0.4).float().to(ON)
    labels = many[:, 1 : 1 + videos]  # as batches are cut from an epoch's, without end-to-end rows
    labels[0, 0] = 0
    noise = torch.randn(2, members, 1, videos, length, shape.latent, generator=generator).to(ON)
    share = torch.linspace(0.5, 1, members, device=ON).unsqueeze(1)
    common = [*overrides, "train.optimiser=sgd", "train.lr=0.1"]
    configs = [
        load_config("thumos14", overrides=[*common, f"loss.beta={0.1 * (1 + n)}"]).for_stream("rgb")
        for n in range(members)
    ]
    loss = [config.loss for config in configs]
    came_to = []
    for kind in kinds:
        parameters = Parameters(models(shape, members), [config.train for config in configs])
        means = Means(Buffers(torch.device(ON)), Plain(), Beside(torch.device(ON)))
        step, found = kind(loss, [0.5 + n for n in range(members)], means), {}
        for number in range(2):
            with torch.no_grad():
                prepared, prior = Prepared(x, torch.float32), noise[number].clone()  # may be written over
                terms = step.attention(parameters, prepared, labels, share, prior)
                parameters.move("attention")
                terms |= step.cvae(parameters, share, noise[1 - number].clone())
                parameters.move("cvae")
                means.beside.join()
            found |= {f"{number} {name}": value.clone() for name, value in terms.items()}
            found |= {f"{number} by {name}": value.clone() for name, value in parameters.gradients.items()}
        came_to.append(found)
    return came_to


def near(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """To rounding, which is that of numbers of 1 where a gradient nearly cancels."""
    assert set(found) == set(expected)
    for name, value in expected.items():
        allowed = (2e-5 if ON == "cpu" else 2e-4) * (value.norm() + 1e-2)
        assert (found[name] - value).norm() <= allowed, name


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_losses_and_gradients(size: tuple[int, int, int]) -> None:
    near(*results(BOTH, SHAPE, size, torch.float32))


@pytest.mark.skipif(
    ON == "cuda", reason="in float32, which no training asks of them, they compile for minutes"
)
def test_in_the_papers_widths() -> None:
    near(*results(BOTH, PAPERS, (2, 3, 25), torch.float32))


FORMS = [
    ["loss.guide_detach=false", "loss.guide_sigma=2"],
    ["loss.guide_detach=false", "loss.guide_sigma=0"],
    ["loss.guide_sigma=9"],
    ["loss.reduction=sum"],
    ["loss.reduction=snippet", "loss.multilabel=sum"],
    ["loss.foreground_offset=1", "loss.background_offset=2", "loss.sigma2=0.3"],
]


@pytest.mark.parametrize("overrides", FORMS, ids=" ".join)
def test_every_form_of_the_losses(overrides: list[str]) -> None:
    near(*results(BOTH, SHAPE, (2, 3, 20), torch.float32, overrides))


def test_without_a_bias_of_the_classifier() -> None:
    found, expected = results(BOTH, replace(SHAPE, classifier_bias=False), (2, 3, 20), torch.float32)
    assert not any("classifier.output.bias" in name for name in found)
    near(found, expected)


@pytest.mark.skipif(ON == "cpu", reason="Triton's interpreter takes bfloat16 for integers in products")
def test_in_bfloat16_up_to_rounding() -> None:
    """Both against float32: the kernels, which round less often, are no further from it."""
    found, expected = results(BOTH, PAPERS, (2, 4, 70), torch.bfloat16)
    (exact,) = results([FastStep], PAPERS, (2, 4, 70), torch.float32)
    for name, value in exact.items():
        allowed = (expected[name] - value).norm() * 1.5 + 0.01 * value.norm()
        assert (found[name] - value).norm() <= allowed, name
