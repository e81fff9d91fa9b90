"""Every deviation of the authors' release from the paper does what it says; test_presets.py has the values.

The numbered deviations are those of the release at commit 752bd45 (facts read from it; no code).
"""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

import tiny_data
from dgam import api
from dgam.core.config import Config, LocalizeSettings, load_config
from dgam.core.types import VideoLabels
from dgam.data.dataset import SnippetDataset
from dgam.detection.localize import stream_curves
from dgam.features.source import ArrayFeatures
from dgam.model import losses
from dgam.model.networks import DGAM, ModelShape
from dgam.training.checkpoint import load_model, load_tensors
from dgam.training.engine import Batch, Engine, attention_losses, cvae_losses, learning_rate, warmup
from dgam.training.trainer import train_stream

B, T, D, C, Z = 3, 7, 5, 3, 4
RELEASES = ("release-thumos14", "release-activitynet12")
LABELS = np.array([[1, 0, 0], [0, 1, 1], [0, 0, 1]], dtype=np.float32)


def release(*overrides: str, preset: str = "release-thumos14", stream: str = "rgb") -> Config:
    return load_config(preset, overrides=overrides).for_stream(stream)


def small_model(seed: int = 0, config: Config | None = None) -> DGAM:
    r = (config or release()).model.r
    shape = ModelShape(dimension=D, classes=C, attention_hidden=8, cvae_hidden=8, latent=Z, r=r)
    return DGAM(shape, torch.Generator().manual_seed(seed))


def batch() -> Batch:
    x = torch.rand(B, T, D, generator=torch.Generator().manual_seed(4))
    return Batch(x, torch.from_numpy(LABELS))


def noise() -> torch.Generator:
    return torch.Generator().manual_seed(11)


def number(value: torch.Tensor) -> float:
    return value.detach().item()


def softmax(x: NDArray[Any]) -> NDArray[Any]:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True))


def attention_of(model: DGAM, x: torch.Tensor) -> NDArray[Any]:
    """λ (B, T) by hand."""
    a = {
        name: value.detach().numpy().astype(np.float64) for name, value in model.attention.named_parameters()
    }
    hidden = np.maximum(x.numpy() @ a["hidden.weight"].T + a["hidden.bias"], 0)
    return np.asarray(1 / (1 + np.exp(-(hidden @ a["output.weight"].T + a["output.bias"])[..., 0])))


def log_p(model: DGAM, pooled: NDArray[Any]) -> NDArray[Any]:
    """log p(y|x) (B, C + 1) by hand."""
    w, b = (p.detach().numpy().astype(np.float64) for p in model.classifier.output.parameters())
    return np.asarray(np.log(softmax(pooled @ w.T + b)))


# 2. Foreground pooling divides by Σλ + 1 in training and Σλ at test; background adds 1e-6.


@pytest.mark.parametrize("preset", RELEASES)
def test_2_pooling_is_offset_in_training(preset: str) -> None:
    model, b = small_model(), batch()
    x, attention = b.x.numpy().astype(np.float64), attention_of(model, b.x)
    pooled = (attention[..., None] * x).sum(1) / (attention.sum(1) + 1)[:, None]
    expected = -np.mean((log_p(model, pooled)[:, :C] * LABELS / LABELS.sum(1)[:, None]).sum(1))
    terms = attention_losses(model, b, release(preset=preset).loss, 1.0, noise())
    assert number(terms["fg"]) == pytest.approx(expected, abs=1e-5)
    plain = attention_losses(model, b, release("loss.foreground_offset=0", preset=preset).loss, 1.0, noise())
    assert abs(number(plain["fg"]) - expected) > 1e-3


def test_2_background_pooling_adds_a_millionth_in_training() -> None:
    model, b = small_model(), batch()
    with torch.no_grad():  # 1 − λ sums to less than a millionth
        model.attention.output.weight.zero_()
        model.attention.output.bias.fill_(16.0)
        attention = model.attention(b.x).numpy().astype(np.float64)
    rest, x = 1 - attention, b.x.numpy().astype(np.float64)
    assert 1e-7 < rest.sum(1).max() < 1e-6
    pooled = (rest[..., None] * x).sum(1) / (rest.sum(1) + 1e-6)[:, None]
    terms = attention_losses(model, b, release().loss, 1.0, noise())
    assert number(terms["bg"]) == pytest.approx(-np.mean(log_p(model, pooled)[:, C]), abs=1e-5)
    assert number(terms["bg"]) != pytest.approx(-np.mean(log_p(model, x.mean(1))[:, C]), abs=1e-3)


def test_2_nothing_is_added_at_test() -> None:
    model, x = small_model(), batch().x[:1]
    curves = stream_curves(model, x[0].numpy(), release("localize.t_min=1").localize)
    attention = attention_of(model, x)
    pooled = (attention[..., None] * x.numpy()).sum(1) / attention.sum(1)[:, None]
    np.testing.assert_allclose(curves.probabilities, np.exp(log_p(model, pooled))[0, :C], atol=1e-6)


# 3. Loss weights, element means, the CVAE's factor of ten, and a warm-up in tens.


@pytest.mark.parametrize(
    ("preset", "stream", "epoch", "weights"),
    [
        ("release-thumos14", "rgb", 450, (1.0, 0.03, 0.1, 0.5)),
        ("release-thumos14", "rgb", 159, (1.0, 0.03, 0.1, 0.25)),
        ("release-thumos14", "rgb", 9, (1.0, 0.03, 0.1, 0.0)),
        ("release-thumos14", "flow", 300, (1.0, 0.03, 0.1, 0.3)),
        ("release-thumos14", "flow", 20, (1.0, 0.03, 0.1, 0.02)),
        ("release-activitynet12", "rgb", 0, (1.0, 1.0, 0.1, 0.1)),
        ("release-activitynet12", "flow", 500, (0.3, 1.0, 0.1, 0.1)),
    ],
)
def test_3_weights_of_the_losses(preset: str, stream: str, epoch: int, weights: tuple[float, ...]) -> None:
    settings = release(preset=preset, stream=stream).loss
    terms = attention_losses(small_model(), batch(), settings, warmup(epoch, settings), noise())
    by_hand = sum(w * number(terms[n]) for w, n in zip(weights, ("fg", "bg", "guide", "re"), strict=True))
    assert number(terms["total"]) == pytest.approx(by_hand, abs=1e-6)


@pytest.mark.parametrize("preset", RELEASES)
def test_3_reconstruction_and_kl_are_means_over_elements(preset: str) -> None:
    model, b, settings = small_model(), batch(), release(preset=preset).loss
    attention = model.attention(b.x).detach()
    drawn = torch.randn((1, B, T, Z), generator=noise())
    made = model.cvae.decode(attention[..., None] + drawn, attention).detach()[0]
    re = attention_losses(model, b, settings, 1.0, noise())["re"]
    assert number(re) == pytest.approx(float((made - b.x).square().mean()), abs=1e-6)

    mean, log_variance = (value.detach() for value in model.cvae.encode(b.x, attention))
    made = model.cvae.decode(mean + drawn * (log_variance / 2).exp(), attention).detach()[0]
    mse = float((made - b.x).square().mean())
    gap = mean - attention[..., None]  # the prior's mean is λ in every dimension
    kl = float(0.5 * (log_variance.exp() + gap.square() - 1 - log_variance).mean())
    for share in (0.5, 1.0):
        found = cvae_losses(model, b, settings, share, noise())
        assert number(found["kl"]) == pytest.approx(kl, abs=1e-6)
        assert number(found["cvae"]) == pytest.approx(10 * share * (mse + 0.1 * kl), abs=1e-5)


def test_3_the_cvae_learns_nothing_in_the_first_ten_epochs() -> None:
    engine = Engine(small_model(), release(), noise())
    before = copy.deepcopy(engine.model.cvae.state_dict())

    def same() -> bool:
        return all(torch.equal(before[name], value) for name, value in engine.model.cvae.state_dict().items())

    for epoch in range(10):
        engine.step(batch(), epoch)
    assert same()
    engine.step(batch(), 10)
    assert not same()


# 4. Adam with betas (.8, .999), constant rate, batch 32, drop_last, samples once per ten epochs.


@pytest.mark.parametrize(("betas", "equal"), [((0.8, 0.999), True), ((0.9, 0.999), False)])
def test_4_betas_of_adam(betas: tuple[float, float], equal: bool) -> None:
    config = release("loss.gamma1=0")
    engine, plain = Engine(small_model(), config, noise()), small_model()
    parameters = [*plain.attention.parameters(), *plain.classifier.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=1e-3, betas=betas)
    for seed in range(4):
        x = torch.rand(B, T, D, generator=torch.Generator().manual_seed(seed))
        b = Batch(x, batch().labels)
        engine.step(b, 3000)
        optimiser.zero_grad()
        attention_losses(plain, b, config.loss, 1.0, noise())["total"].backward()
        optimiser.step()
    pairs = zip(engine.model.parameters(), plain.parameters(), strict=True)
    assert all(torch.allclose(mine, other, rtol=0, atol=1e-7) for mine, other in pairs) == equal


@pytest.mark.parametrize("preset", RELEASES)
def test_4_the_learning_rate_never_falls(preset: str) -> None:
    settings = release(preset=preset).train
    assert {learning_rate(epoch, settings.lr, settings) for epoch in range(settings.epochs)} == {1e-3}


def two_hundred_videos() -> SnippetDataset:
    rng = np.random.default_rng(0)
    features = ArrayFeatures({f"v{i}": {"rgb": rng.random((2, D), dtype=np.float32)} for i in range(200)})
    videos = VideoLabels({f"v{i}": ("ab"[i % 2],) for i in range(200)})
    return SnippetDataset(features, videos, "rgb", snippets=3, seed=0)


@pytest.mark.parametrize(("overrides", "seen"), [((), 192), (("train.drop_last=false",), 200)])
def test_4_eight_of_two_hundred_videos_are_skipped(
    overrides: tuple[str, ...], seen: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen_at_zero: list[bytes] = []
    step = Engine.step

    def watched(self: Engine, batch: Batch, epoch: int) -> Any:
        # Of a video's two snippets the first sample is always the first, which no other video has.
        seen_at_zero.extend(x[0].numpy().tobytes() for x in batch.x)
        return step(self, batch, epoch)

    monkeypatch.setattr(Engine, "step", watched)
    config = release(*tiny_data.NETWORKS, "train.epochs=1", "train.select=last", *overrides)
    train_stream(two_hundred_videos(), config, tmp_path, seed=0)
    assert (len(seen_at_zero), len(set(seen_at_zero))) == (seen, seen)


def test_4_snippets_are_drawn_once_per_ten_epochs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    epochs: list[frozenset[bytes]] = []
    step = Engine.step

    def watched(self: Engine, batch: Batch, epoch: int) -> Any:
        assert epoch == len(epochs), "an epoch is one batch here"
        epochs.append(frozenset(x.numpy().tobytes() for x in batch.x))  # whatever the videos' order
        return step(self, batch, epoch)

    monkeypatch.setattr(Engine, "step", watched)
    data = SnippetDataset(ArrayFeatures(tiny_data.arrays()), tiny_data.labels(), "rgb", snippets=4, seed=0)
    config = release(*tiny_data.NETWORKS, "train.epochs=21", "train.select=last")
    train_stream(data, config, tmp_path, seed=0)
    assert len(epochs) == 21
    assert epochs[:10] == [epochs[0]] * 10
    assert epochs[10:20] == [epochs[10]] * 10
    assert len(set(epochs)) == 3


# 5. The background class is the last column; the prior's mean is λ. (Layer shapes: test_losses.py.)


def test_5_the_background_is_the_last_column() -> None:
    model, b = small_model(), batch()
    with torch.no_grad():
        model.classifier.output.bias[-1] = 30.0
    terms = attention_losses(model, b, release().loss, 1.0, noise())
    assert number(terms["bg"]) < 1e-6
    assert number(terms["fg"]) > 20
    curves = stream_curves(model, b.x[0].numpy(), release().localize)
    assert curves.probabilities.shape == (C,)
    assert curves.probabilities.max() < 1e-6
    assert curves.logits.max() < 20, "the background has no curve"


def test_5_trained_models_have_the_releases_layers(tmp_path: Path) -> None:
    data = SnippetDataset(ArrayFeatures(tiny_data.arrays()), tiny_data.labels(), "rgb", snippets=4, seed=0)
    train_stream(data, release("train.epochs=1", "train.select=last"), tmp_path, seed=0)
    model = load_model(tmp_path / "model.safetensors")
    assert (model.attention.hidden.out_features, model.cvae.encode_x.out_features) == (256, 128)
    assert (model.cvae.latent, model.cvae.r, model.shape.normalise) == (128, 1.0, "none")


# 6. The guide: softmax of wᵀx without bias, no gradient through it, σ = 1, maximum over the labels.


@pytest.mark.parametrize("preset", RELEASES)
def test_6_guide_loss_of_the_release(preset: str) -> None:
    model, b, settings = small_model(), batch(), release(preset=preset).loss
    with torch.no_grad():  # which the guide must not see
        model.classifier.output.bias.copy_(torch.tensor([9.0, -9.0, 4.0, 1.0]))
    attention = attention_of(model, b.x)
    p = softmax(b.x.numpy().astype(np.float64) @ model.classifier.output.weight.detach().numpy().T)
    expected = 0.0
    for video in range(B):
        own = p[video][:, np.flatnonzero(LABELS[video])].max(axis=1)
        for guide in (own, 1 - p[video][:, C]):
            expected += np.abs(attention[video] - gaussian_filter1d(guide, 1.0)).mean() / B
    guide = attention_losses(model, b, settings, 1.0, noise())["guide"]
    assert number(guide) == pytest.approx(expected, abs=1e-5)
    weights = [model.classifier.output.weight, model.attention.hidden.weight]
    through, to_attention = torch.autograd.grad(guide, weights, allow_unused=True)
    assert through is None
    assert to_attention.abs().sum() > 0


# 7. Several labels: targets are y/Σy.


def test_7_targets_of_several_labels() -> None:
    settings = release().loss
    targets = losses.label_targets(torch.from_numpy(LABELS), settings.multilabel)
    assert targets.tolist() == [[1, 0, 0, 0], [0, 0.5, 0.5, 0], [0, 0, 1, 0]]


# 9. The release drops a stream's proposals when the only class it predicts has index 0. This must not.


@pytest.mark.parametrize("preset", RELEASES)
def test_9_class_0_is_localised(preset: str, tmp_path: Path) -> None:
    """From training to detections, where class 0 is the only one there is."""
    actions = {f"v{i}": ("dive",) for i in range(3)}
    features = ArrayFeatures(tiny_data.arrays(actions))
    config = tiny_data.settings("train.select=last", preset=preset)
    run = api.train(features, tiny_data.labels(actions), tmp_path, config=config)
    assert run.classes == ("dive",)
    for stream in run.streams:  # alone, as another stream's proposals would hide a loss
        found = api.localize(replace(run, streams={stream: run.streams[stream]}), features)
        for detections in found.videos.values():
            assert {d.label for d in detections} == {"dive"}


def test_9_class_0_is_localised_where_it_is_the_only_one_predicted(tmp_path: Path) -> None:
    features = ArrayFeatures(tiny_data.arrays())
    config = tiny_data.settings("train.select=last", preset="release-thumos14", base=tiny_data.LEARNS)
    run = api.train(features, tiny_data.labels(), tmp_path, config=config, streams=["rgb"])
    found = api.localize(run, features, curves=tmp_path / "curves")
    with np.load(tmp_path / "curves" / "v0.npz") as curves:
        assert (curves["rgb.probabilities"] > 0.1).tolist() == [True, False]
    assert {d.label for d in found.videos["v0"]} == {run.classes[0]} == {"dive"}


# 10. T at test: max(min(T, 400), 50) on THUMOS14, min(max(T, 2), 200) on ActivityNet.


@pytest.mark.parametrize(
    ("preset", "length", "seen"),
    [
        *[("release-thumos14", 10, 50), ("release-thumos14", 50, 50), ("release-thumos14", 399, 399)],
        *[("release-thumos14", 900, 400), ("release-activitynet12", 1, 2), ("release-activitynet12", 2, 2)],
        *[("release-activitynet12", 120, 120), ("release-activitynet12", 450, 200)],
        *[("thumos14", 10, 10), ("thumos14", 900, 400), ("activitynet12", 450, 200)],
    ],
)
def test_10_snippets_at_test(preset: str, length: int, seen: int) -> None:
    settings: LocalizeSettings = load_config(preset).for_stream("flow").localize
    x = np.random.default_rng(0).random((length, D), dtype=np.float32)
    curves = stream_curves(small_model(), x, settings)
    assert curves.attention.shape == (seen,)
    assert 0 < curves.positions.min() <= curves.positions.max() < length
    gaps = np.diff(curves.positions)
    assert gaps.max() - gaps.min() <= 1, "spread evenly"


def test_settings_travel_to_the_weights(tmp_path: Path) -> None:
    """What a test of a setting's function cannot show: that the whole run of a preset uses it."""
    features, found = ArrayFeatures(tiny_data.arrays()), {}
    for name, changed in {
        "release": (),
        "offset": ("loss.foreground_offset=0",),
        "betas": ("train.betas=[0.9, 0.999]",),
        "weight": ("loss.alpha=0.3",),
        "resampling": ("train.resample_every=1",),
        "detach": ("loss.guide_detach=false",),
        "labels": ("loss.multilabel=sum",),
    }.items():
        config = tiny_data.settings("train.select=last", "train.batch=5", *changed, preset="release-thumos14")
        run = api.train(features, tiny_data.labels(), tmp_path / name, config=config, streams=["rgb"])
        weights, _ = load_tensors(run.folder("rgb") / "model.safetensors")
        found[name] = b"".join(weights[key].numpy().tobytes() for key in sorted(weights))
    assert len(set(found.values())) == len(found)
