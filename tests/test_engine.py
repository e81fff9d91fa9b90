"""The alternating step: what each stage may touch, warm-up, schedule, moving average, and numbers kept."""

from __future__ import annotations

import pytest
import torch

from dgam.core.config import Config, load_config
from dgam.model.networks import DGAM, ModelShape
from dgam.training.engine import Batch, Engine, attention_losses, cvae_losses, learning_rate, warmup


def engine(*overrides: str, seed: int = 0) -> Engine:
    config = load_config("thumos14", overrides=("loss.warmup_epochs=0", *overrides)).for_stream("rgb")
    shape = ModelShape(dimension=6, classes=3, attention_hidden=8, cvae_hidden=8, latent=4, r=config.model.r)
    model = DGAM(shape, torch.Generator().manual_seed(seed))
    return Engine(model, config, torch.Generator().manual_seed(seed + 1))


def batch() -> Batch:
    generator = torch.Generator().manual_seed(9)
    labels = torch.tensor([[1.0, 0, 0], [0, 1, 1], [0, 0, 1], [0, 0, 0]])
    return Batch(torch.rand(4, 10, 6, generator=generator), labels)


def copy(model: DGAM) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def moved(before: dict[str, torch.Tensor], model: DGAM) -> set[str]:
    return {n.split(".")[0] for n, v in model.state_dict().items() if not torch.equal(before[n], v)}


def test_stage_a_leaves_the_cvae_alone_and_stage_b_leaves_the_rest_alone() -> None:
    for stage in ("attention", "cvae"):
        e, b = engine("loss.gamma1=1"), batch()
        before = copy(e.model)
        compute = attention_losses if stage == "attention" else cvae_losses
        terms = compute(e.model, b, e.settings, 1.0, e.generator)
        parameters = e._attention if stage == "attention" else e._cvae
        e._update(stage, terms["total" if stage == "attention" else "cvae"], parameters)
        assert moved(before, e.model) == ({"attention", "classifier"} if stage == "attention" else {"cvae"})
        assert all(p.grad is None for p in e.model.parameters())


def test_a_step_moves_all_three_modules() -> None:
    e = engine("loss.gamma1=1")
    before = copy(e.model)
    e.step(batch(), 0)
    assert moved(before, e.model) == {"attention", "classifier", "cvae"}


def test_without_the_generative_part_the_cvae_never_moves_and_no_noise_is_drawn() -> None:
    e = engine("loss.gamma1=0")
    before, state = copy(e.model), e.generator.get_state()
    terms = e.step(batch(), 0)
    assert moved(before, e.model) == {"attention", "classifier"}
    assert torch.equal(state, e.generator.get_state())
    assert "re" not in terms


def test_reconstruction_moves_the_attention() -> None:
    """L_re must reach λ both through the decoder's input and through the prior's mean."""
    e, b = engine("loss.gamma1=1"), batch()
    terms = attention_losses(e.model, b, e.settings, 1.0, e.generator)
    gradient = torch.autograd.grad(terms["re"], e.model.attention.hidden.weight)[0]
    assert gradient.abs().sum() > 0
    # With the decoder blind to λ itself, what is left comes through z = rλ + ε alone.
    with torch.no_grad():
        e.model.cvae.decode_z.weight[:, -1] = 0
    terms = attention_losses(e.model, b, e.settings, 1.0, e.generator)
    through_prior = torch.autograd.grad(terms["re"], e.model.attention.hidden.weight)[0]
    assert through_prior.abs().sum() > 0
    e.model.cvae.r = 0.0
    terms = attention_losses(e.model, b, e.settings, 1.0, e.generator)
    (none,) = torch.autograd.grad(terms["re"], [e.model.attention.hidden.weight], allow_unused=True)
    assert none is None or none.abs().sum() == 0


def test_the_total_is_equation_16() -> None:
    e, b = engine("loss.gamma1=0.5", "loss.gamma2=0.2", "loss.alpha=0.03", "loss.foreground=0.7"), batch()
    t = attention_losses(e.model, b, e.settings, 0.25, e.generator)
    expected = 0.7 * t["fg"] + 0.03 * t["bg"] + 0.2 * t["guide"] + 0.5 * 0.25 * t["re"]
    torch.testing.assert_close(t["total"], expected)


@pytest.mark.parametrize(
    ("epoch", "length", "step", "share"),
    [
        *[(0, 300, 1, 0.0), (150, 300, 1, 0.5), (300, 300, 1, 1.0), (900, 300, 1, 1.0), (0, 0, 1, 1.0)],
        *[(9, 300, 10, 0.0), (10, 300, 10, 10 / 300), (19, 300, 10, 10 / 300), (299, 300, 10, 290 / 300)],
    ],
)
def test_warmup(epoch: int, length: int, step: int, share: float) -> None:
    settings = load_config(overrides=[f"loss.warmup_epochs={length}", f"loss.warmup_step={step}"]).loss
    assert warmup(epoch, settings) == pytest.approx(share)


def test_cosine_schedule_falls_from_the_rate_to_a_hundredth() -> None:
    settings = load_config(overrides=["train.schedule=cosine", "train.epochs=100"]).train
    rates = [learning_rate(epoch, 1e-3, settings) for epoch in range(101)]
    assert rates[0] == pytest.approx(1e-3)
    assert rates[50] == pytest.approx(0.505e-3)
    assert rates[100] == pytest.approx(1e-5)
    assert rates == sorted(rates, reverse=True)


def test_late_cosine_is_constant_for_two_thirds_and_falls_in_the_last() -> None:
    settings = load_config(overrides=["train.schedule=late-cosine", "train.epochs=90"]).train
    rates = [learning_rate(epoch, 1e-3, settings) for epoch in range(91)]
    assert rates[:61] == pytest.approx([1e-3] * 61)
    assert rates[75] == pytest.approx(0.505e-3)
    assert rates[90] == pytest.approx(1e-5)
    assert rates == sorted(rates, reverse=True)


def test_moving_average_follows_the_weights_and_is_what_localising_gets() -> None:
    e, b = engine("train.ema=0.9"), batch()
    expected = {n: p.detach().clone() for n, p in e.model.named_parameters()}
    for step in range(1, 6):
        e.step(b, 0)
        decay = min(0.9, step / (step + 9))
        for name, parameter in e.model.named_parameters():
            expected[name] += (1 - decay) * (parameter.detach() - expected[name])
    for name, value in expected.items():
        torch.testing.assert_close(e.weights()[name], value)
    assert not torch.equal(e.weights()["attention.hidden.weight"], e.model.attention.hidden.weight)


def test_clipping_bounds_the_step_of_sgd() -> None:
    e = engine("train.clip=0.001", "train.optimiser=sgd", "train.lr=1.0", "loss.gamma1=0")
    before = torch.cat([p.detach().flatten().clone() for p in e._attention])
    e.step(batch(), 0)
    after = torch.cat([p.detach().flatten() for p in e._attention])
    assert 0 < (after - before).norm() <= 0.001 + 1e-6


@pytest.mark.parametrize("optimiser", ["adam", "adamw", "sgd"])
def test_a_restored_engine_goes_on_bit_for_bit(optimiser: str) -> None:
    overrides = [f"train.optimiser={optimiser}", "train.ema=0.5", "train.schedule=cosine", "train.epochs=10"]
    b, whole = batch(), engine(*overrides)
    for epoch in range(6):
        whole.step(b, epoch)
        if epoch == 2:
            saved = {name: value.clone() for name, value in whole.state().items()}
    resumed = engine(*overrides, seed=5)
    resumed.restore(saved)
    for epoch in range(3, 6):
        resumed.step(b, epoch)
    left, right = whole.state(), resumed.state()
    assert left.keys() == right.keys()
    assert [name for name in left if not torch.equal(left[name], right[name])] == []


def test_bfloat16_stays_near_float32_and_keeps_float32_weights() -> None:
    b = batch()
    exact, rough = engine("loss.gamma1=1"), engine("loss.gamma1=1", "train.precision=bfloat16")
    a, c = exact.step(b, 0), rough.step(b, 0)
    assert {p.dtype for p in rough.model.parameters()} == {torch.float32}
    assert a["total"].item() == pytest.approx(c["total"].item(), rel=0.02)
    assert a["total"].item() != c["total"].item()


def test_several_latent_samples_are_drawn() -> None:
    one, many = engine("loss.gamma1=1"), engine("loss.gamma1=1", "loss.samples=7")
    first = attention_losses(one.model, batch(), one.settings, 1.0, one.generator)["re"]
    second = attention_losses(many.model, batch(), many.settings, 1.0, many.generator)["re"]
    assert first != second


def test_the_guide_moves_the_classifier_only_where_it_is_not_detached() -> None:
    for detach, reached in (("true", False), ("false", True)):
        e, b = engine(f"loss.guide_detach={detach}", "loss.gamma1=0"), batch()
        guide = attention_losses(e.model, b, e.settings, 1.0, e.generator)["guide"]
        (gradient,) = torch.autograd.grad(guide, [e.model.classifier.output.weight], allow_unused=True)
        assert (gradient is not None and bool(gradient.abs().sum() > 0)) is reached


def test_golden_losses_of_five_steps() -> None:
    """Numbers of this very code (first written 2026-11, torch 2.13 CPU): they guard against unnoticed
    change."""
    e, b = engine("loss.gamma1=0.5"), batch()
    totals = [float(e.step(b, epoch)["total"]) for epoch in range(5)]
    assert totals == pytest.approx(GOLDEN, abs=2e-5)


GOLDEN = [1.849004, 1.846958, 1.854271, 1.833883, 1.836425]


def test_config_never_reaches_the_modules() -> None:
    names = {type(value).__module__ for value in vars(engine().model).values()}
    assert not any(name.startswith(Config.__module__) for name in names)
