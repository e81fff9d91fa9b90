"""Training: same seed same bits, killed and resumed same bits, and what it refuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from dgam.core.config import Config, load_config
from dgam.core.errors import InputError, InputProblems
from dgam.core.types import VideoLabels
from dgam.data.dataset import SnippetDataset
from dgam.features.source import ArrayFeatures
from dgam.model.networks import DGAM
from dgam.training.checkpoint import load_model, load_tensors, save_tensors
from dgam.training.trainer import new_model, stream_seed, train_stream

SMALL = (
    "train.snippets=8",
    "train.batch=4",
    "train.epochs=6",
    "train.checkpoint_every=2",
    "train.ema=0.9",
    "loss.warmup_epochs=2",
    "model.attention_hidden=8",
    "model.cvae_hidden=8",
    "model.latent=4",
)


def config(*overrides: str) -> Config:
    return load_config("thumos14", overrides=(*SMALL, *overrides)).for_stream("rgb")


def features(seed: int = 0, videos: int = 10) -> ArrayFeatures:
    rng = np.random.default_rng(seed)
    arrays = {f"v{i}": {"rgb": rng.random((rng.integers(1, 20), 5), dtype=np.float32)} for i in range(videos)}
    return ArrayFeatures(arrays)


def labels(videos: int = 10) -> VideoLabels:
    return VideoLabels({f"v{i}": ("a", "b")[: 1 + i % 2] if i % 3 else ("b",) for i in range(videos)})


def dataset(seed: int = 0, **changes: object) -> SnippetDataset:
    return SnippetDataset(features(), labels(), "rgb", snippets=8, seed=seed)


def run(out: Path, *overrides: str, seed: int = 0) -> dict[str, torch.Tensor]:
    train_stream(dataset(seed), config(*overrides), out, seed=seed)
    return load_tensors(out / "model.safetensors")[0]


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    run(tmp_path / "a")
    run(tmp_path / "b")
    for name in ("model.safetensors", "checkpoint.safetensors", "metrics.jsonl"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_another_seed_gives_other_weights(tmp_path: Path) -> None:
    first, second = run(tmp_path / "a", seed=0), run(tmp_path / "b", seed=1)
    assert not torch.equal(first["attention.hidden.weight"], second["attention.hidden.weight"])


def test_a_level_start_attends_to_all_alike_and_draws_the_rest_as_before() -> None:
    random, level = (
        new_model(dataset(), config(f"model.attention_start={start}"), seed=3)
        for start in ("random", "level")
    )
    x = torch.rand(2, 5, dataset().dimension)
    assert torch.equal(level.attention(x), torch.full((2, 5), 0.5))
    drawn = random.state_dict()
    for name, value in level.state_dict().items():
        assert torch.equal(value, drawn[name]) != name.startswith("attention.output"), name
    assert all(parameter.requires_grad for parameter in level.parameters())


def test_streams_have_seeds_of_their_own() -> None:
    assert len({stream_seed(seed, name) for seed in range(5) for name in ("rgb", "flow", "rgb+flow")}) == 15


@pytest.mark.parametrize("stop_after", [1, 2, 3, 5])
def test_interrupted_and_resumed_equals_uninterrupted(tmp_path: Path, stop_after: int) -> None:
    run(tmp_path / "whole")

    class Stop(Exception):
        pass

    def stop(epoch: int, _: dict[str, float]) -> None:
        if epoch == stop_after:
            raise Stop

    with pytest.raises(Stop):
        train_stream(dataset(), config(), tmp_path / "cut", seed=0, on_epoch=stop)
    run(tmp_path / "cut")
    for name in ("model.safetensors", "checkpoint.safetensors", "metrics.jsonl"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


LONG = ("train.epochs=40", "train.checkpoint_every=5")

_CHILD = """
import sys, time
sys.path.insert(0, {tests!r})
from pathlib import Path
from test_trainer import LONG, config, dataset
from dgam.training.trainer import train_stream
train_stream(dataset(), config(*LONG), Path({out!r}), seed=0)
"""


def test_killed_at_random_moments_and_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    """kill -9, several times, wherever it hits: in the middle of a step, of a checkpoint, of a line of
    metrics."""
    train_stream(dataset(), config(*LONG), tmp_path / "whole", seed=0)
    out, rng = tmp_path / "killed", np.random.default_rng(0)
    code = _CHILD.format(tests=str(Path(__file__).parent), out=str(out))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    kills = 0
    for _ in range(3):
        child = subprocess.Popen([sys.executable, "-c", code], env=environment)
        deadline = time.monotonic() + 60
        while not (out / "metrics.jsonl").exists() and child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(float(rng.random()) * 0.25)
        child.send_signal(signal.SIGKILL)
        kills += child.wait() == -signal.SIGKILL
    assert kills >= 1
    train_stream(dataset(), config(*LONG), out, seed=0)
    for name in ("model.safetensors", "checkpoint.safetensors", "metrics.jsonl"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_line_of_metrics_cut_in_half_is_dropped(tmp_path: Path) -> None:
    run(tmp_path / "whole")
    run(tmp_path / "cut")
    file = tmp_path / "cut" / "metrics.jsonl"
    file.write_bytes(file.read_bytes() + b'{"epoch": 7, "to')
    run(tmp_path / "cut")
    assert file.read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()


def test_metrics_are_one_json_object_per_epoch(tmp_path: Path) -> None:
    run(tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert {"fg", "bg", "guide", "re", "cvae", "kl", "total", "attention"} <= lines[0].keys()


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    run(tmp_path)
    with pytest.raises(
        InputError, match=r"belongs to another training \(its loss.gamma1 differ\).*--restart"
    ):
        train_stream(dataset(), config("loss.gamma1=2"), tmp_path, seed=0)
    changes = ("loss.gamma1=2", "loss.beta=2", "model.r=3", "train.lr=0.5", "train.batch=2")
    with pytest.raises(InputError, match=r"its loss.beta, loss.gamma1, model.r, seed and 2 more differ\)"):
        train_stream(dataset(), config(*changes), tmp_path, seed=1)
    with pytest.raises(InputError, match="its seed differ"):
        train_stream(dataset(1), config(), tmp_path, seed=1)


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    run(tmp_path)
    file = tmp_path / "checkpoint.safetensors"
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(InputError, match="not a readable safetensors file"):
        run(tmp_path)


def test_a_checkpoint_that_lacks_a_tensor_is_refused(tmp_path: Path) -> None:
    run(tmp_path)
    tensors, facts = load_tensors(tmp_path / "checkpoint.safetensors")
    tensors.pop("generator")
    save_tensors(tmp_path / "checkpoint.safetensors", tensors, facts)
    with pytest.raises(InputError, match="does not fit the model"):
        run(tmp_path)


def test_a_foreign_safetensors_file_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match="not one that dgam wrote"):
        load_model(tmp_path / "model.safetensors")
    with pytest.raises(InputError, match="there is no such file"):
        load_model(tmp_path / "absent.safetensors")


def test_a_loss_that_explodes_is_told_with_advice(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the loss '\w+' became (nan|inf).*smaller train.lr"):
        run(tmp_path, "train.lr=1e30", "train.optimiser=sgd")


def test_weights_are_those_of_the_best_validated_epoch(tmp_path: Path) -> None:
    scores, seen = iter([0.2, 0.9, 0.1]), []

    def validate(model: DGAM) -> float:
        seen.append(model.attention.hidden.weight.detach().clone())
        return next(scores)

    trained = train_stream(dataset(), config("train.select_every=2"), tmp_path, seed=0, validate=validate)
    assert trained.epoch == 4
    kept = load_tensors(tmp_path / "model.safetensors")[0]
    assert torch.equal(kept["attention.hidden.weight"], seen[1])
    plain = run(tmp_path / "plain")
    state = load_tensors(tmp_path / "checkpoint.safetensors")[0]
    assert torch.equal(state["average.attention.hidden.weight"], plain["attention.hidden.weight"]), (
        "validating must not disturb training"
    )


@pytest.mark.parametrize("normalise", ["none", "l2", "scale", "root", "standard"])
def test_scaling_of_features_is_part_of_the_model(tmp_path: Path, normalise: str) -> None:
    run(tmp_path, f"model.normalise={normalise}", "train.ema=0")
    model = load_model(tmp_path / "model.safetensors")
    source = features()
    x = np.concatenate([source.read(video, "rgb") for video in source.videos]).astype(np.float64)
    scaled = model.scaled(torch.from_numpy(x).float()).numpy()
    match normalise:
        case "none":
            np.testing.assert_allclose(scaled, x, atol=1e-6)
        case "l2":
            np.testing.assert_allclose(np.linalg.norm(scaled, axis=1), 1, atol=1e-5)
        case "scale":
            np.testing.assert_allclose(scaled, x / np.sqrt(x.var(axis=0).mean()), atol=1e-4)
        case "root":
            root = np.sqrt(x)
            np.testing.assert_allclose(scaled, root / np.sqrt(root.var(axis=0).mean()), atol=1e-4)
        case "standard":
            np.testing.assert_allclose(scaled, (x - x.mean(0)) / x.std(0), atol=1e-4)


def test_missing_and_empty_videos_are_named(tmp_path: Path) -> None:
    known = labels(12)
    with pytest.raises(InputProblems, match="'v10': has labels but no features in stream 'rgb'") as caught:
        SnippetDataset(features(), known, "rgb", snippets=8, seed=0)
    assert [p.video for p in caught.value.problems] == ["v10", "v11"]
    empty = ArrayFeatures({"v0": {"rgb": np.zeros((0, 5), np.float32)}})
    with pytest.raises(InputProblems, match=r"no snippets \(T = 0\)"):
        SnippetDataset(empty, labels(1), "rgb", snippets=8, seed=0)
    with pytest.raises(InputProblems, match="no labelled video is left"):
        SnippetDataset(features(), labels().only([]), "rgb", snippets=8, seed=0)


@pytest.mark.parametrize("drop_last", [False, True])
def test_an_epoch_visits_every_video_once(drop_last: bool) -> None:
    data = dataset()
    parts = data.batches(3, 4, drop_last=drop_last)
    assert [len(part) for part in parts] == ([4, 4] if drop_last else [4, 4, 2])
    seen = np.concatenate(parts)
    assert len(set(seen.tolist())) == len(seen)
    assert data.batches(3, 4)[0].tolist() != data.batches(4, 4)[0].tolist()
    assert len(data.batches(0, 64, drop_last=True)) == 1, "the only batch is kept"


def test_samples_depend_on_draw_and_video_alone() -> None:
    data = dataset()
    x, y = data.sample([3, 1, 3], 5)
    assert np.array_equal(x[0], x[2])
    assert np.array_equal(x[1], data.sample([1], 5)[0][0])
    assert not np.array_equal(x[0], data.sample([3], 6)[0][0])
    assert y.dtype == x.dtype == np.float32
    assert y[1].tolist() == [1.0, 1.0]


def test_joint_streams_are_one_input(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {
        f"v{i}": {"rgb": rng.random((6, 5), np.float32), "flow": rng.random((6, 3), np.float32)}
        for i in range(10)
    }
    data = SnippetDataset(ArrayFeatures(arrays), labels(), "rgb+flow", snippets=8, seed=0)
    train_stream(data, config("train.epochs=1"), tmp_path, seed=0)
    assert load_model(tmp_path / "model.safetensors").shape.dimension == 8


def test_the_order_of_label_rows_changes_nothing(tmp_path: Path) -> None:
    known = labels()
    turned = known.only(reversed(known.videos))
    for name, order in (("a", known), ("b", turned)):
        data = SnippetDataset(features(), order, "rgb", snippets=8, seed=0)
        train_stream(data, config(), tmp_path / name, seed=0)
    assert (tmp_path / "a" / "model.safetensors").read_bytes() == (
        tmp_path / "b" / "model.safetensors"
    ).read_bytes()
