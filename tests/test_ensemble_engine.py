"""Several models trained side by side: each is what it would have been alone."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from dgam.core.config import Config, load_config
from dgam.model.networks import DGAM, ModelShape
from dgam.training.engine import Batch, Engine
from dgam.training.ensemble_engine import EnsembleEngine

D, C = 6, 3
ALONE = 2e-5
"""By how much a weight may differ from the member's own run after five steps at 1e-3: float32 sums of several
members are taken in another order. Seen: below 2e-6."""

NUMBERS = [
    ["loss.beta=0.1", "loss.gamma1=0.3", "train.lr=0.001", "train.clip=0.05"],
    ["loss.beta=3", "loss.gamma2=1", "loss.sigma2=0.2", "train.lr=0.003", "loss.warmup_epochs=4"],
    ["loss.alpha=0.5", "model.r=2.5", "train.cvae_lr=0.01", "train.ema=0.5", "train.schedule=cosine"],
]


def config(overrides: Sequence[str]) -> Config:
    base = ("loss.warmup_epochs=0", "train.epochs=9")
    return load_config("thumos14", overrides=(*base, *overrides)).for_stream("rgb")


def model(settings: Config, seed: int) -> DGAM:
    kernel, r = settings.model.attention_kernel, settings.model.r
    shape = ModelShape(D, C, attention_hidden=8, attention_kernel=kernel, cvae_hidden=5, latent=4, r=r)
    return DGAM(shape, torch.Generator().manual_seed(seed))


def ensemble(settings: Sequence[Config], *, together: bool) -> EnsembleEngine:
    return EnsembleEngine(
        [model(own, seed) for seed, own in enumerate(settings)],
        settings,
        [torch.Generator().manual_seed(70 + seed) for seed in range(len(settings))],
        together=together,
    )


def alone(settings: Sequence[Config]) -> list[Engine]:
    return [
        Engine(model(own, seed), own, torch.Generator().manual_seed(70 + seed))
        for seed, own in enumerate(settings)
    ]


def batch(members: int, step: int) -> Batch:
    generator = torch.Generator().manual_seed(step)
    x = torch.rand(members, 4, 10, D, generator=generator)
    return Batch(x, torch.eye(C)[torch.randint(0, C, (members, 4), generator=generator)])


def assert_near(found: dict[str, Tensor], expected: dict[str, Tensor], atol: float) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=atol, msg=name)


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize(
    "shared",
    [
        [],
        ["train.optimiser=adamw", "train.weight_decay=0.1"],
        ["train.optimiser=sgd", "loss.samples=2", "loss.reduction=snippet"],
        ["model.attention_kernel=3"],
    ],
    ids=str,
)
def test_each_member_is_what_it_would_have_been_alone(together: bool, shared: list[str]) -> None:
    settings = [config([*shared, *own]) for own in NUMBERS]
    many, single = ensemble(settings, together=together), alone(settings)
    for step in range(5):
        b = batch(3, step)
        found = many.step(b, step)
        for member, engine in enumerate(single):
            terms = engine.step(Batch(b.x[member], b.labels[member]), step)
            assert found.keys() == terms.keys()
            for name, value in terms.items():
                torch.testing.assert_close(found[name][member], value, rtol=1e-5, atol=ALONE)
    for member, engine in enumerate(single):
        assert_near(many.weights(member), engine.weights(), ALONE)
        state, expected = many.member_state(member), engine.state()
        assert torch.equal(state.pop("generator"), expected.pop("generator"))
        assert_near(state, expected, ALONE)
        if not together:
            assert all(torch.equal(state[name], value) for name, value in expected.items())


def test_members_of_several_forms_share_an_ensemble() -> None:
    """Without the generative part, with two samples, and plain: groups of their own."""
    without = ["loss.gamma1=0", "loss.gamma2=1"]
    forms: list[list[str]] = [["loss.gamma1=0"], ["loss.samples=2"], ["train.step=plain"], without, []]
    settings = [config(own) for own in forms]
    many, single = ensemble(settings, together=True), alone(settings)
    for step in range(3):
        b = batch(5, step)
        found = many.step(b, step)
        assert found["re"].isnan().tolist() == [True, False, False, True, False]
        for member, engine in enumerate(single):
            for name, value in engine.step(Batch(b.x[member], b.labels[member]), step).items():
                torch.testing.assert_close(found[name][member], value, rtol=1e-5, atol=ALONE)
    for member, engine in enumerate(single):
        assert_near(many.weights(member), engine.weights(), ALONE)


@pytest.mark.parametrize("together", [True, False])
def test_a_restored_ensemble_goes_on_bit_for_bit(together: bool) -> None:
    settings = [config(own) for own in NUMBERS]
    whole = ensemble(settings, together=together)
    for step in range(6):
        whole.step(batch(3, step), step)
        if step == 2:
            saved = {name: value.clone() for name, value in whole.state().items()}
    resumed = ensemble(settings, together=together)
    resumed.restore(saved)
    for step in range(3, 6):
        resumed.step(batch(3, step), step)
    left, right = whole.state(), resumed.state()
    assert left.keys() == right.keys()
    assert [name for name in left if not torch.equal(left[name], right[name])] == []


@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
def test_a_member_goes_on_alone_and_comes_back(optimiser: str) -> None:
    settings = [config([*own, f"train.optimiser={optimiser}"]) for own in NUMBERS]
    whole, many = ensemble(settings, together=True), ensemble(settings, together=True)
    for step in range(2):
        whole.step(batch(3, step), step)
        many.step(batch(3, step), step)
    engine = Engine(model(settings[1], 9), settings[1], torch.Generator())
    engine.restore(many.member_state(1))
    b = batch(3, 2)
    whole.step(b, 2)
    engine.step(Batch(b.x[1], b.labels[1]), 2)
    many.restore_member(1, engine.state())
    assert_near(many.member_state(1), whole.member_state(1), ALONE)
    assert many.member_state(0)["steps"] == 2


def test_one_member_does_not_feel_another() -> None:
    """A member whose loss is no longer finite leaves the others finite and as they were."""
    settings = [config(own) for own in NUMBERS]
    sound, broken = ensemble(settings, together=True), ensemble(settings, together=True)
    for step in range(2):
        b = batch(3, step)
        sound.step(b, step)
        x = b.x.clone()
        x[1] = torch.nan
        found = broken.step(Batch(x, b.labels), step)
        assert found["total"].isnan().tolist() == [False, True, False]
    for member in (0, 2):
        assert_near(broken.weights(member), sound.weights(member), 0.0)
    assert broken.weights(1)["attention.hidden.weight"].isnan().any()


def test_models_given_are_the_models_trained() -> None:
    settings = [config(own) for own in NUMBERS]
    many = ensemble(settings, together=True)
    before = [p.detach().clone() for p in many.models[0].parameters()]
    many.step(batch(3, 0), 0)
    assert not any(
        torch.equal(old, new) for old, new in zip(before, many.models[0].parameters(), strict=True)
    )
    assert torch.equal(many.models[0].cvae.encode_x.bias, many.weights(0)["cvae.encode_x.bias"])
