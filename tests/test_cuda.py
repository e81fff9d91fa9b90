"""On a GPU: a recorded step is the step itself, training resumes to the bit, and a CPU says the same.

Skipped where there is no GPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import dgam
from dgam.core.config import Config, load_config
from dgam.core.types import VideoLabels
from dgam.data.dataset import SnippetDataset
from dgam.features.source import ArrayFeatures
from dgam.model.networks import DGAM, ModelShape
from dgam.training.checkpoint import load_tensors
from dgam.training.engine import Batch, Engine
from dgam.training.ensemble_engine import EnsembleEngine
from dgam.training.many import Member, train_many
from dgam.training.trainer import train_stream

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")

SHAPE = ModelShape(dimension=64, classes=5, attention_hidden=32, cvae_hidden=24, latent=16)
FORMS = [
    ["train.ema=0.9", "train.clip=0.5", "train.schedule=cosine", "train.epochs=9"],
    ["train.precision=bfloat16"],
    ["loss.samples=2", "train.optimiser=adamw", "train.weight_decay=0.1"],
    ["loss.gamma1=0", "train.optimiser=sgd"],
]


def config(*overrides: str) -> Config:
    return load_config("thumos14", overrides=("loss.warmup_epochs=3", *overrides)).for_stream("rgb")


def model(seed: int, device: str = "cuda") -> DGAM:
    return DGAM(SHAPE, torch.Generator().manual_seed(seed)).to(device)


def batches(members: int, precision: torch.dtype, device: str = "cuda") -> Iterator[tuple[int, Batch]]:
    """Epochs of three batches, of which the last is smaller."""
    generator = torch.Generator().manual_seed(3)
    for epoch in range(4):
        for videos in (4, 4, 2):
            x = torch.rand(members, videos, 30, SHAPE.dimension, generator=generator)
            picked = torch.randint(0, SHAPE.classes, (members, videos), generator=generator)
            labels = torch.eye(SHAPE.classes)[picked]
            yield epoch, Batch(x.to(device, precision), labels.to(device), scaled=True)


def ensemble(own: list[Config], drawn_at: str, device: str = "cuda") -> EnsembleEngine:
    return EnsembleEngine(
        [model(seed, device) for seed in range(len(own))],
        own,
        [torch.Generator(drawn_at).manual_seed(seed) for seed in range(len(own))],
        together=True,
    )


def precision_of(own: Config) -> torch.dtype:
    return torch.bfloat16 if own.train.precision == "bfloat16" else torch.float32


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_a_recorded_step_is_the_step_itself(
    form: list[str], members: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = [config(*form, f"loss.beta={1 + member}") for member in range(members)]
    results: list[tuple[list[dict[str, Tensor]], dict[str, Tensor]]] = []
    for recorded in (True, False):
        engine = ensemble(own, "cuda")
        for _, group in engine._groups:
            assert group._recorded is not None
            if not recorded:
                group._recorded = None
        losses = [engine.step(b, epoch) for epoch, b in batches(members, precision_of(own[0]))]
        if recorded:
            # For mypy: recorded on a GPU.
            shapes = len(engine._groups[0][1]._recorded._recordings)  # type: ignore[union-attr]
            assert shapes == 2
        results.append((losses, engine.state()))
    for found, expected in zip(results[0][0], results[1][0], strict=True):
        assert {n: v.tolist() for n, v in found.items()} == {n: v.tolist() for n, v in expected.items()}
    left, right = results[0][1], results[1][1]
    assert [name for name in right if not torch.equal(left[name], right[name])] == []


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_a_gpu_comes_to_what_a_cpu_comes_to(form: list[str]) -> None:
    """Noise from the same generators; weights differ by rounding alone."""
    own = [config(*form, f"loss.beta={1 + member}") for member in range(2)]
    kept = []
    for device in ("cuda", "cpu"):
        engine = ensemble(own, "cpu", device)
        for epoch, b in batches(2, precision_of(own[0]), device):
            losses = engine.step(b, epoch)
        kept.append(
            ({n: v.cpu() for n, v in losses.items()}, {n: v.cpu() for n, v in engine.state().items()})
        )
    tolerance = {"rtol": 0.02, "atol": 0.02} if "bfloat16" in str(form) else {"rtol": 1e-4, "atol": 1e-4}
    for name, value in kept[1][0].items():
        torch.testing.assert_close(kept[0][0][name], value, msg=name, **tolerance)
    for name, value in kept[1][1].items():
        if ".model." in name:
            torch.testing.assert_close(kept[0][1][name], value, msg=name, **tolerance)


@pytest.mark.parametrize("form", [*FORMS, ["train.precision=bfloat16", "loss.samples=2"]], ids=str)
def test_which_step_it_is(form: list[str]) -> None:
    """Kernels of whole stages have what the paper trains, in bfloat16, on GPUs of their size."""
    own = config(*form)
    engine = ensemble([own], "cuda")
    engine.step(next(b for _, b in batches(1, precision_of(own))), 0)
    large = torch.cuda.get_device_capability()[0] in (9, 10)
    kernels = own.train.precision == "bfloat16" and own.loss.samples == 1 and large
    assert type(engine._groups[0][1]._step).__name__ == ("GpuStep" if kernels else "FastStep")


def test_members_together_are_what_each_is_alone() -> None:
    own = [config(f"loss.beta={1 + member}", "train.ema=0.9") for member in range(3)]
    many = ensemble(own, "cuda")
    alone = [Engine(model(n), own[n], torch.Generator("cuda").manual_seed(n)) for n in range(3)]
    for epoch, b in batches(3, torch.float32):
        many.step(b, epoch)
        for n, engine in enumerate(alone):
            engine.step(Batch(b.x[n], b.labels[n], scaled=True), epoch)
    for n, engine in enumerate(alone):
        for name, value in engine.weights().items():
            torch.testing.assert_close(many.weights(n)[name], value, rtol=0, atol=1e-4, msg=name)


def source(dimension: int = 24) -> ArrayFeatures:
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 40, 10)
    return ArrayFeatures(
        {
            f"v{i}": {stream: rng.random((length, dimension), dtype=np.float32) for stream in STREAMS}
            for i, length in enumerate(lengths)
        }
    )


STREAMS = ("flow", "rgb")
LABELS = VideoLabels({f"v{i}": ("a", "b")[: 1 + i % 2] if i % 3 else ("b",) for i in range(10)})
SMALL = (
    "train.snippets=16",
    "train.batch=4",
    "train.checkpoint_every=3",
    "loss.warmup_epochs=2",
    "train.ema=0.9",
    "model.normalise=root",
)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_stopped_training_goes_on_to_the_same_bytes(tmp_path: Path, precision: str) -> None:
    features = source()

    def run(out: Path, epochs: int, *, resident: str = "1") -> None:
        settings = config(
            *SMALL, "train.epochs=9", f"train.precision={precision}", f"train.resident_gib={resident}"
        )
        data = SnippetDataset(features, LABELS, "rgb", snippets=16, seed=5)

        def stop(epoch: int, losses: dict[str, float]) -> None:
            if epoch == epochs:
                raise KeyboardInterrupt

        with suppress(KeyboardInterrupt):
            train_stream(data, settings, out, seed=5, device="cuda", on_epoch=stop)

    run(tmp_path / "whole", 99)
    run(tmp_path / "stopped", 4)
    run(tmp_path / "stopped", 99)
    run(tmp_path / "streamed", 99, resident="0")
    whole = {file.name: file.read_bytes() for file in (tmp_path / "whole").iterdir()}
    for other in ("stopped", "streamed"):
        for name, content in whole.items():
            if other != "streamed" or name == "model.safetensors":
                assert (tmp_path / other / name).read_bytes() == content, (other, name)


def test_streams_are_trained_as_one_model_and_found_as_on_a_cpu(tmp_path: Path) -> None:
    features = source()
    settings = load_config(overrides=[*SMALL, "train.epochs=6", "train.precision=float32"])
    run = dgam.train(features, LABELS, tmp_path / "run", config=settings, seed=1, device="cuda")
    for stream in STREAMS:
        data = SnippetDataset(features, LABELS, stream, snippets=16, seed=1)
        own = settings.for_stream(stream)
        train_many([Member(data, own, tmp_path / stream, 1)], device="cuda")
        both, alone = (
            weights_in(folder / "model.safetensors")
            for folder in (tmp_path / "run" / stream, tmp_path / stream)
        )
        for name, value in alone.items():
            torch.testing.assert_close(both[name], value, rtol=1e-3, atol=2e-4, msg=name)
    found, expected = (dgam.localize(run, features, device=device) for device in ("cuda", "cpu"))
    gaps = []
    for video, detections in expected.videos.items():
        own = {(d.label, round(d.start, 3), round(d.end, 3)): d.score for d in found.videos[video]}
        gaps += [own.get((d.label, round(d.start, 3), round(d.end, 3)), np.nan) - d.score for d in detections]
    assert np.nanmax(np.abs(gaps)) < 1e-3
    assert np.isnan(gaps).mean() < 0.1


def weights_in(path: Path) -> dict[str, Tensor]:
    return load_tensors(path)[0]
