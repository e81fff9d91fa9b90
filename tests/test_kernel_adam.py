"""Adam by a kernel moves parameters as PyTorch's does, and either goes on from the other's state.

On a GPU, or anywhere with Triton's interpreter:

    TRITON_INTERPRET=1 python -m pytest tests/test_kernel_adam.py
"""

from __future__ import annotations

import pytest
import torch

from dgam.core.config import load_config
from dgam.training.optimisers import ByKernel, ByTorch
from dgam.training.stacked import STAGES, Stacked
from triton_kernels import device_or_skip

ON = device_or_skip()

SHAPES = {"attention.weight": (7, 30), "attention.bias": (7,), "cvae.weight": (40, 40), "cvae.bias": (40,)}
SETTINGS = [
    ["train.optimiser=adam"],
    ["train.optimiser=adam", "train.weight_decay=0.1", "train.cvae_lr=0.02"],
    ["train.optimiser=adamw", "train.weight_decay=0.1", "train.betas=[0.8,0.99]"],
    ["train.schedule=cosine", "train.epochs=6"],
]


@pytest.mark.parametrize("overrides", SETTINGS, ids=" ".join)
@pytest.mark.parametrize("stage", STAGES)
def test_as_pytorch_has_it_and_the_state_goes_either_way(stage: str, overrides: list[str]) -> None:
    trains = [
        load_config("thumos14", overrides=[*overrides, f"train.lr={rate}"]).for_stream("rgb").train
        for rate in (0.01, 0.003)
    ]
    generator = torch.Generator().manual_seed(0)
    start = Stacked(SHAPES, 2, torch.float32, torch.device(ON))
    gradients = start.like()
    draw(start, generator, 1.0)
    sides = []
    for kind in (ByKernel, ByTorch):
        values = start.like()
        values.all.copy_(start.all)
        sides.append((values, kind(stage, trains, values, gradients)))
    assert sides[0][1].slots("attention.bias" if stage == "attention" else "cvae.bias", 0) == {}
    for epoch in range(6):
        draw(gradients, generator, 10.0 ** (epoch - 4))
        if epoch == 3:  # each goes on from what the other kept
            kept = [
                {
                    (name, m): {k: v.clone() for k, v in one.slots(name, m).items()}
                    for name, m in places(stage)
                }
                for _, one in sides
            ]
            for (_, one), other in zip(sides, reversed(kept), strict=True):
                for (name, member), slots in other.items():
                    one.restore(name, member, slots)
        for _, one in sides:
            one.begin(epoch)
            one.step()
        torch.testing.assert_close(sides[0][0].all, sides[1][0].all, rtol=1e-5, atol=1e-6)
    for name, member in places(stage):
        for slot, value in sides[1][1].slots(name, member).items():
            # PyTorch's kernel for GPUs takes 1 − β2 in float32, which is 1.3e-5 off for 0.999.
            torch.testing.assert_close(sides[0][1].slots(name, member)[slot], value, rtol=3e-5, atol=1e-6)
    other = STAGES[1 - STAGES.index(stage)]
    assert torch.equal(sides[0][0].stage(other), start.stage(other))
    assert not torch.equal(sides[0][0].stage(stage), start.stage(stage))


def draw(values: Stacked, generator: torch.Generator, size: float) -> None:
    for value in values.named.values():
        value.copy_(torch.randn(value.shape, generator=generator) * size)


def places(stage: str) -> list[tuple[str, int]]:
    return [(name, member) for name in SHAPES if name.startswith(stage) for member in range(2)]


def test_it_moves_all_of_a_stage_or_nothing() -> None:
    train = load_config("thumos14").for_stream("rgb").train
    values = Stacked(SHAPES, 1, torch.float32, torch.device(ON))
    one = ByKernel("cvae", [train], values, values.like())
    one.use(["cvae.weight", "cvae.bias"])
    with pytest.raises(AssertionError, match="all parameters of a stage or none"):
        one.use(["cvae.weight"])
