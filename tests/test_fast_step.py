"""The fast step against the plain one: losses and gradients in float64, over settings and shapes."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dgam.core.config import LossSettings, TrainSettings, load_config
from dgam.model.networks import DGAM, ModelShape
from dgam.training.buffers import Buffers
from dgam.training.engine import Batch, Engine, attention_losses, cvae_losses
from dgam.training.fast_step import FastStep
from dgam.training.means import Means
from dgam.training.parameters import Parameters
from dgam.training.prepared import prepare

D, C, LATENT = 6, 3, 4
CPU = torch.device("cpu")
NEAR = 1e-9  # of float64; what is seen is below 1e-13
LABELS = torch.tensor([[1.0, 0, 0], [0, 1, 1], [0, 0, 1], [0, 0, 0]], dtype=torch.float64)


@dataclass(frozen=True)
class Stage:
    """What a stage gives: its terms, and the gradient of its total by every parameter it moves."""

    terms: dict[str, Tensor]
    gradients: dict[str, Tensor]


def network(
    seed: int = 0, *, bias: bool = True, normalise: str = "none", r: float = 1.7, kernel: int = 1
) -> DGAM:
    shape = ModelShape(D, C, attention_hidden=8, cvae_hidden=5, latent=LATENT, r=r)
    more = {"classifier_bias": bias, "normalise": normalise, "attention_kernel": kernel}
    shape = ModelShape(**{**vars(shape), **more})
    model = DGAM(shape, torch.Generator().manual_seed(seed)).double()
    generator = torch.Generator().manual_seed(seed + 50)
    model.shift.copy_(torch.rand(D, generator=generator))
    model.scale.copy_(0.5 + torch.rand(D, generator=generator))
    return model


def batch(videos: int = 4, snippets: int = 10, seed: int = 9) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(videos, snippets, D, generator=generator, dtype=torch.float64)
    return Batch(x, LABELS[torch.randint(0, 4, (videos,), generator=generator)])


def plain(model: DGAM, b: Batch, loss: LossSettings, share: float, seed: int) -> dict[str, Stage]:
    """Both stages by autograd, in the fast step's form but without the leading axis."""
    generator, stages = torch.Generator().manual_seed(seed), {}
    for name, compute in (("total", attention_losses), ("cvae", cvae_losses)):
        if name == "cvae" and loss.gamma1 == 0:
            continue
        terms = compute(model, b, loss, share, generator)
        moved = {n: p for n, p in model.named_parameters() if n.startswith("cvae.") == (name == "cvae")}
        gradients = torch.autograd.grad(terms[name], list(moved.values()))
        stages[name] = Stage(
            {n: value.detach() for n, value in terms.items()}, dict(zip(moved, gradients, strict=True))
        )
    return stages


def fast(
    models: Sequence[DGAM],
    batches: Sequence[Batch],
    losses: Sequence[LossSettings],
    share: float,
    seeds: Sequence[int],
    buffers: Buffers | None = None,
) -> dict[str, Stage]:
    """Both stages of E members at once."""
    buffers = buffers or Buffers(CPU)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    shape = (losses[0].samples, *batches[0].x.shape[:2], LATENT)

    def noise() -> Tensor:
        return torch.stack([torch.randn(shape, generator=g).double() for g in generators])

    x, labels = torch.stack([b.x for b in batches]), torch.stack([b.labels for b in batches])
    parameters = Parameters(models, [TrainSettings()] * len(models))
    means = Means.of(x, buffers)
    step = FastStep(losses, [model.cvae.r for model in models], means)
    shares = torch.full((len(models), 1), share, dtype=torch.float64)
    generative = losses[0].gamma1 > 0
    prepared = prepare(models, x, torch.float64, buffers)
    terms = {"total": step.attention(parameters, prepared, labels, shares, noise() if generative else None)}
    if generative:
        terms["cvae"] = step.cvae(parameters, shares, noise())
    return stages_of(parameters, terms)


def stages_of(parameters: Parameters, terms: dict[str, dict[str, Tensor]]) -> dict[str, Stage]:
    """Both stages' terms, with the gradients that they left in the parameters."""
    return {
        stage: Stage(
            own,
            {n: g for n, g in parameters.gradients.items() if n.startswith("cvae.") == (stage == "cvae")},
        )
        for stage, own in terms.items()
    }


def assert_equal(member: int, found: dict[str, Stage], expected: dict[str, Stage]) -> None:
    assert found.keys() == expected.keys()
    for stage, one in expected.items():
        assert found[stage].terms.keys() == one.terms.keys()
        assert found[stage].gradients.keys() == one.gradients.keys()
        for kind in ("terms", "gradients"):
            for name, value in getattr(one, kind).items():
                own = getattr(found[stage], kind)[name][member]
                torch.testing.assert_close(own, value, rtol=NEAR, atol=NEAR, msg=name)


EDGES = [
    {},
    {"samples": 3},
    {"samples": 2, "reduction": "sum", "sigma2": 3.0},
    {"reduction": "sum"},
    {"reduction": "snippet"},
    {"guide_detach": False, "gamma2": 2.0},
    {"guide_detach": False, "guide_sigma": 0.0},
    {"guide_sigma": 40.0},
    {"multilabel": "sum", "foreground": 0.3, "alpha": 0.7},
    {"foreground_offset": 3.0, "background_offset": 0.1},
    {"gamma1": 0.0},
    {"gamma1": 0.0, "guide_detach": False},
    {"gamma2": 0.0, "alpha": 0.0},
    {"beta": 0.0},
    {"sigma2": 0.1, "beta": 3.0, "cvae_weight": 10.0},
]


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("edge", EDGES, ids=str)
def test_losses_and_gradients_equal_the_plain_ones(edge: dict[str, object], kernel: int) -> None:
    loss = LossSettings.model_validate(edge)
    model, b = network(kernel=kernel), batch()
    assert_equal(0, fast([model], [b], [loss], 0.3, [5]), plain(model, b, loss, 0.3, 5))


@pytest.mark.parametrize("kernel", [3, 5, 9])
@pytest.mark.parametrize("snippets", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("videos", [1, 3])
def test_videos_of_one_snippet_and_shorter_than_the_kernel(kernel: int, snippets: int, videos: int) -> None:
    model, b, loss = network(kernel=kernel), batch(videos, snippets), LossSettings()
    assert_equal(0, fast([model], [b], [loss], 1.0, [5]), plain(model, b, loss, 1.0, 5))


@pytest.mark.parametrize("normalise", ["none", "l2", "scale", "root", "standard"])
@pytest.mark.parametrize("bias", [True, False])
def test_every_scaling_with_and_without_bias(normalise: str, bias: bool) -> None:
    model, b, loss = network(bias=bias, normalise=normalise), batch(), LossSettings()
    assert_equal(0, fast([model], [b], [loss], 1.0, [5]), plain(model, b, loss, 1.0, 5))


numbers = st.floats(0.0, 3.0, width=32)


@settings(max_examples=40)
@given(
    loss=st.builds(
        LossSettings,
        foreground=numbers,
        alpha=numbers,
        beta=numbers,
        gamma1=st.sampled_from([0.0, 0.5, 2.0]),
        gamma2=numbers,
        samples=st.integers(1, 3),
        sigma2=st.floats(0.05, 3.0),
        reduction=st.sampled_from(["sum", "snippet", "element"]),
        cvae_weight=st.floats(0.1, 10.0),
        foreground_offset=numbers,
        background_offset=numbers,
        guide_sigma=st.floats(0.0, 5.0),
        guide_detach=st.booleans(),
        multilabel=st.sampled_from(["mean", "sum"]),
    ),
    r=st.floats(-3.0, 3.0),
    share=st.floats(0.0, 1.0),
    size=st.tuples(st.integers(1, 5), st.integers(1, 12)),
    seed=st.integers(0, 1000),
    kernel=st.sampled_from([1, 3, 5]),
)
def test_any_settings(
    loss: LossSettings, r: float, share: float, size: tuple[int, int], seed: int, kernel: int
) -> None:
    model, b = network(seed, r=r, kernel=kernel), batch(*size, seed=seed)
    assert_equal(0, fast([model], [b], [loss], share, [seed]), plain(model, b, loss, share, seed))


@pytest.mark.parametrize("snippets", [10, 2, 1])
@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("form", [{}, {"samples": 2, "guide_detach": False}, {"reduction": "sum"}], ids=str)
def test_each_of_several_members_equals_the_member_alone(
    form: dict[str, object], kernel: int, snippets: int
) -> None:
    """Three members that differ in every number that may differ."""
    own = [
        {"beta": 0.1 * i, "gamma1": 0.5 * i, "gamma2": 0.3 * i, "alpha": 0.02 * i, "sigma2": 0.4 * i}
        | {"foreground": 1 / i, "cvae_weight": float(i), "foreground_offset": i - 1.0}
        for i in (1, 2, 3)
    ]
    losses = [LossSettings.model_validate({**form, **one}) for one in own]
    models = [network(seed, r=0.5 * seed, normalise="standard", kernel=kernel) for seed in range(3)]
    batches = [batch(snippets=snippets, seed=20 + seed) for seed in range(3)]
    found = fast(models, batches, losses, 0.7, [1, 2, 3])
    for member in range(3):
        expected = plain(models[member], batches[member], losses[member], 0.7, 1 + member)
        assert_equal(member, found, expected)


def test_attention_of_nought_or_one_everywhere_is_as_in_the_plain_step() -> None:
    """Where Σλ or Σ(1 − λ) vanishes, pooling has no gradient by its sum."""
    for value in (-800.0, 800.0):
        model, b, loss = network(), batch(), LossSettings()
        with torch.no_grad():
            model.attention.output.weight.zero_()
            model.attention.output.bias.fill_(value)
        assert_equal(0, fast([model], [b], [loss], 1.0, [5]), plain(model, b, loss, 1.0, 5))


@pytest.mark.parametrize("kernel", [1, 5])
def test_memory_of_an_earlier_larger_batch_changes_nothing(kernel: int) -> None:
    model, loss, buffers = network(kernel=kernel), LossSettings(), Buffers(CPU)
    for b in (batch(5, 12), batch(2, 7), batch(1, 1), batch(5, 12)):
        found = fast([model], [b], [loss], 1.0, [5], buffers)
        assert_equal(0, found, plain(model, b, loss, 1.0, 5))


def engine(*overrides: str, step: str = "fast") -> Engine:
    config = load_config("thumos14", overrides=("loss.warmup_epochs=2", f"train.step={step}", *overrides))
    shape = ModelShape(
        D,
        C,
        attention_hidden=8,
        attention_kernel=config.model.attention_kernel,
        cvae_hidden=5,
        latent=LATENT,
        normalise=config.model.normalise,
    )
    model = DGAM(shape, torch.Generator().manual_seed(0))
    return Engine(model, config.for_stream("rgb"), torch.Generator().manual_seed(1))


def small(b: Batch) -> Batch:
    return Batch(b.x.float(), b.labels.float())


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["train.optimiser=adamw", "train.weight_decay=0.1", "train.betas=[0.8,0.99]"],
        ["train.optimiser=sgd", "train.lr=0.05", "train.clip=0.5"],
        ["train.clip=0.01", "train.cvae_lr=0.01", "train.schedule=cosine", "train.epochs=4"],
        ["model.normalise=root", "train.ema=0.9", "loss.samples=2"],
        ["model.attention_kernel=3", "train.ema=0.9"],
        ["model.attention_kernel=5", "train.optimiser=sgd", "train.lr=0.05"],
    ],
    ids=str,
)
def test_an_engine_moves_as_with_the_plain_step(overrides: list[str]) -> None:
    """Six float32 steps, noise and all; SGD, whose steps are proportional to gradients, is the sharpest."""
    quick, slow = engine(*overrides), engine(*overrides, step="plain")
    for epoch in range(6):
        b = small(batch(seed=epoch))
        found, expected = quick.step(b, epoch), slow.step(b, epoch)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=2e-4, atol=2e-5)
    for name, value in slow.weights().items():
        torch.testing.assert_close(quick.weights()[name], value, rtol=0, atol=3e-4)
    assert torch.equal(quick.generator.get_state(), slow.generator.get_state())


def test_the_cvae_has_a_rate_of_its_own() -> None:
    """One step of SGD: tenfold the rate, tenfold the way, for the CVAE alone."""
    ways = []
    for own in ([], ["train.cvae_lr=0.01"]):
        one = engine("train.optimiser=sgd", "train.lr=0.001", *own)
        before = {name: p.detach().clone() for name, p in one.model.named_parameters()}
        one.step(small(batch()), 5)
        ways.append({name: p.detach() - before[name] for name, p in one.model.named_parameters()})
    for name, way in ways[0].items():
        factor = 10 if name.startswith("cvae.") else 1
        torch.testing.assert_close(ways[1][name], factor * way, rtol=1e-2, atol=2e-7)


def test_the_same_steps_give_the_same_bits() -> None:
    runs = [engine("train.ema=0.5") for _ in range(2)]
    for one in runs:
        for epoch in range(4):
            one.step(small(batch(seed=epoch)), epoch)
    left, right = (one.state() for one in runs)
    assert [name for name in left if not torch.equal(left[name], right[name])] == []


def test_a_batch_that_is_scaled_already_is_not_scaled_again() -> None:
    raw, ready = engine("model.normalise=standard"), engine("model.normalise=standard")
    for one in (raw, ready):
        one.model.shift.fill_(0.3)
        one.model.scale.fill_(2.0)
    b = small(batch())
    found = raw.step(b, 5), ready.step(Batch((b.x - 0.3) * 2.0, b.labels, scaled=True), 5)
    for name in found[0]:
        torch.testing.assert_close(*(terms[name] for terms in found))


WIDE = ModelShape(dimension=256, classes=5, attention_hidden=64, cvae_hidden=32, latent=16)


def wide(*overrides: str) -> Engine:
    config = load_config("thumos14", overrides=("loss.warmup_epochs=0", "train.lr=0.001", *overrides))
    model = DGAM(WIDE, torch.Generator().manual_seed(0))
    return Engine(model, config.for_stream("rgb"), torch.Generator().manual_seed(1))


def wide_batch(seed: int) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.eye(5)[torch.randint(0, 5, (8,), generator=generator)]
    x = torch.relu(torch.randn(8, 50, 256, generator=generator) + 0.3)  # none negative, as pooled features
    return Batch(x * (1 + labels.sum(1))[:, None, None] / 2, labels)


def gradients(model: DGAM, b: Batch, precision: torch.dtype) -> dict[str, Stage]:
    """Both stages of a float32 model with its products in ``precision``."""
    buffers, generator = Buffers(CPU), torch.Generator().manual_seed(3)
    parameters = Parameters([copy.deepcopy(model)], [TrainSettings()])
    means = Means.of(b.x, buffers)
    step = FastStep([LossSettings()], [model.cvae.r], means)
    share = torch.ones(1, 1)
    prepared = prepare([model], b.x.unsqueeze(0), precision, buffers)
    first, second = (torch.randn(1, 1, *b.x.shape[:2], WIDE.latent, generator=generator) for _ in range(2))
    total = step.attention(parameters, prepared, b.labels.unsqueeze(0), share, first)
    return stages_of(parameters, {"total": total, "cvae": step.cvae(parameters, share, second)})


def test_bfloat16_gradients_are_near_the_exact_ones() -> None:
    """Also after 60 steps, when the last layer's gradient is a small difference of large sums: cosines above
    0.99, losses within 1 %."""
    one = wide()
    for step in range(61):
        one.step(wide_batch(step), step)
        if step not in (0, 60):
            continue
        exact, rough = (gradients(one.model, wide_batch(99), p) for p in (torch.float32, torch.bfloat16))
        for stage, expected in exact.items():
            for name, value in expected.terms.items():
                torch.testing.assert_close(rough[stage].terms[name], value, rtol=0.01, atol=1e-3)
            for name, value in expected.gradients.items():
                own = rough[stage].gradients[name]
                cosine = torch.nn.functional.cosine_similarity(value.flatten(), own.flatten(), dim=0)
                assert cosine > 0.99, (step, name, float(cosine))


@pytest.mark.parametrize(
    ("size", "kernel"), [((1, 5), 1), ((3, 7), 1), ((2, 403), 1), ((2, 403), 3), ((2, 403), 5)]
)
def test_bfloat16_at_sizes_that_do_not_divide(size: tuple[int, int], kernel: int) -> None:
    """Sums are taken in parts and features turned in pieces, where the number of snippets allows."""
    model = DGAM(replace(WIDE, attention_kernel=kernel), torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    b = Batch(torch.rand(*size, 256, generator=generator), torch.eye(5)[: size[0]])
    exact, rough = (gradients(model, b, p) for p in (torch.float32, torch.bfloat16))
    for stage, expected in exact.items():
        for name, value in expected.gradients.items():
            own = rough[stage].gradients[name]
            assert (own - value).norm() <= 0.1 * value.norm() + 1e-5, name


def test_bfloat16_learns_as_well_as_float32() -> None:
    """60 steps: the generative losses end within half a percent of float32's."""
    ends = []
    for precision in ("float32", "bfloat16"):
        one = wide(f"train.precision={precision}")
        for step in range(60):
            terms = one.step(wide_batch(step % 10), step)
        ends.append({name: float(value) for name, value in terms.items()})
    for name in ("re", "cvae"):
        assert ends[1][name] == pytest.approx(ends[0][name], rel=0.005), name


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_features_in_bfloat16_are_taken_as_they_are(precision: str) -> None:
    b = wide_batch(3)
    rounded = Batch(b.x.bfloat16(), b.labels, scaled=True)
    found = wide(f"train.precision={precision}").step(rounded, 0)
    expected = wide(f"train.precision={precision}").step(Batch(rounded.x.float(), b.labels), 0)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-4)
