"""model.attention_kernel from training to detections, and what was trained before it was a setting."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

import dgam
import tiny_data
from dgam.api import load_models
from dgam.core.config import LocalizeSettings, load_config
from dgam.core.errors import InputError
from dgam.core.run import Run
from dgam.core.timeline import SnippetGrid
from dgam.detection.localize import stream_curves
from dgam.experiments.tasks import exchange
from dgam.features.source import ArrayFeatures
from dgam.live.watch import Watcher
from dgam.model.networks import DGAM, ModelShape
from dgam.training.checkpoint import load_model, load_tensors, save_tensors

FILES = ("model.safetensors", "checkpoint.safetensors", "metrics.jsonl")
OLD = "model.attention_kernel=1"


def short() -> dict[str, dict[str, np.ndarray]]:
    """The tiny videos, cut to 1, 2, 3, … snippets."""
    return {
        video: {stream: x[:length] for stream, x in own.items()}
        for length, (video, own) in enumerate(tiny_data.arrays().items(), start=1)
    }


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with a kernel of 3 in rgb and 5 in flow, which learned."""
    config = tiny_data.settings(
        "model.attention_kernel=3", "streams.flow.model.attention_kernel=5", base=tiny_data.LEARNS
    )
    return tiny_data.train(tmp_path_factory.mktemp("kernel") / "run", config=config)


def test_a_kernel_of_each_stream_is_trained_and_localises(trained: Run) -> None:
    models = load_models(trained, "cpu")
    assert {stream: own.model.attention.kernel for stream, own in models.items()} == {"rgb": 3, "flow": 5}
    assert models["rgb"].model.attention.hidden.weight.shape == (8, 3 * 5)
    found = dgam.localize(trained, tiny_data.features(), device="cpu")
    result = dgam.evaluate(found, tiny_data.truth(), tiou=(0.3,))
    assert result.map[0] > 0.6  # seen: 0.73, and 0.74 with a kernel of 1


def test_videos_of_any_length_are_localised(trained: Run) -> None:
    """One snippet, two, and more: each by itself, and each what its own model says of it."""
    videos = short()
    found = dgam.localize(trained, ArrayFeatures(videos), device="cpu")
    assert set(found.videos) == set(videos)
    own = load_models(trained, "cpu")["flow"].model
    for video in videos.values():
        x = video["flow"]
        curves = stream_curves(own, x, LocalizeSettings())
        with torch.no_grad():
            expected = own.attention(own.scaled(torch.from_numpy(x)[None]))[0]  # (T,)
        np.testing.assert_allclose(curves.attention, expected.numpy(), rtol=1e-6)


@pytest.mark.parametrize("step", ["fast", "plain"])
def test_training_on_videos_shorter_than_the_kernel(step: str, tmp_path: Path) -> None:
    """Also of samples shorter than it, down to one snippet."""
    for snippets in (1, 2, 12):
        overrides = ("model.attention_kernel=5", f"train.snippets={snippets}", f"train.step={step}")
        run = tiny_data.train(tmp_path / str(snippets), *overrides, source=ArrayFeatures(short()))
        assert dgam.localize(run, ArrayFeatures(short()), device="cpu").videos.keys() == short().keys()


def test_stopped_and_gone_on_equals_never_stopped(tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(stream: str, epoch: int, losses: dict[str, float]) -> None:
        if epoch == 2:
            raise Stop

    kernel = "model.attention_kernel=3"
    whole = tiny_data.train(tmp_path / "whole", kernel)
    with pytest.raises(Stop):
        tiny_data.train(tmp_path / "cut", kernel, on_epoch=stop)
    cut = tiny_data.train(tmp_path / "cut", kernel)
    for name in FILES:
        assert (cut.folder("rgb") / name).read_bytes() == (whole.folder("rgb") / name).read_bytes()


def test_a_model_from_before_the_setting_is_one_with_a_kernel_of_one(tmp_path: Path) -> None:
    run = tiny_data.train(tmp_path / "run")
    file = run.folder("rgb") / "model.safetensors"
    tensors, facts = load_tensors(file)
    assert facts["shape"].pop("attention_kernel") == 1
    save_tensors(file, tensors, facts)
    assert load_model(file).attention.kernel == 1
    assert dgam.localize(run, tiny_data.features(), device="cpu").videos


def test_a_checkpoint_from_before_the_setting_is_gone_on_from(tmp_path: Path) -> None:
    """With a kernel of 1 to the same bytes, with another not at all."""
    whole = tiny_data.train(tmp_path / "whole", "train.epochs=6")
    tiny_data.train(tmp_path / "cut", "train.epochs=6", "train.checkpoint_every=4")
    cut = tmp_path / "cut"
    for stream in ("rgb", "flow"):
        file = cut / stream / "checkpoint.safetensors"
        tensors, facts = load_tensors(file)
        assert facts["identity"]["model"].pop("attention_kernel") == 1
        save_tensors(file, tensors, facts)
    with pytest.raises(
        InputError, match=r"belongs to another training \(its model.attention_kernel differ\)"
    ):
        tiny_data.train(cut, "train.epochs=6", "model.attention_kernel=3")
    again = tiny_data.train(cut, "train.epochs=6")
    assert tiny_data.weights(again) == tiny_data.weights(whole)


def test_a_kernel_that_the_weights_do_not_have_is_told(tmp_path: Path) -> None:
    run = tiny_data.train(tmp_path / "run")
    file = run.folder("rgb") / "model.safetensors"
    tensors, facts = load_tensors(file)
    facts["shape"]["attention_kernel"] = 3
    save_tensors(file, tensors, facts)
    with pytest.raises(InputError, match="its weights do not fit its own shape"):
        load_model(file)


def test_modules_of_models_with_different_kernels_can_be_exchanged() -> None:
    wide, narrow = (
        DGAM(ModelShape(5, 2, attention_kernel=kernel), torch.Generator().manual_seed(kernel))
        for kernel in (3, 1)
    )
    mixed, x = exchange(wide, narrow), torch.rand(2, 7, 5)
    assert torch.equal(mixed.attention(x), wide.attention(x))
    assert torch.equal(mixed.classifier(x), narrow.classifier(x))


def test_a_stream_is_decided_with_the_neighbours_that_are_in_the_window(trained: Run) -> None:
    """Features one by one, in a window as long as the video, end as the video localised at once."""
    grid = SnippetGrid(Fraction(25), 16, 16)
    x = tiny_data.arrays()["v2"]
    count = len(x["rgb"])
    watcher = Watcher(load_models(trained, "cpu"), trained.classes, grid, window=count + 1, delay=count)
    for place in range(count):
        assert watcher.add({stream: own[place] for stream, own in x.items()}) == []
    told = {
        (event.label, round(event.start / tiny_data.SECONDS), round(event.end / tiny_data.SECONDS))
        for event in watcher.finish()
        if event.end is not None
    }
    found = dgam.localize(trained, ArrayFeatures({"v2": x}), device="cpu").videos["v2"]
    on = {
        (detection.label, cell)
        for detection in found
        for cell in range(count)
        if detection.start <= (cell + 0.5) * tiny_data.SECONDS < detection.end and detection.score >= 0
    }
    assert {(label, cell) for label, start, end in told for cell in range(start, end)} == on
    assert on


def test_settings_of_a_run_from_before_the_setting_have_the_default(tmp_path: Path) -> None:
    values = load_config().model_dump()
    del values["model"]["attention_kernel"]
    assert type(load_config()).model_validate(values) == load_config()
