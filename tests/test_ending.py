"""A stream's training ends once its labels are explained: the share left, when it ends, and that nothing else
changes by it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dgam.core.config import Config, load_config
from dgam.core.types import VideoLabels
from dgam.data.dataset import SnippetDataset
from dgam.features.source import ArrayFeatures
from dgam.model.losses import foreground_loss, label_targets
from dgam.training.checkpoint import load_tensors
from dgam.training.ending import EPOCHS, Ending
from dgam.training.many import Member, train_many
from dgam.training.trainer import train_stream

SMALL = (
    "train.snippets=8",
    "train.batch=4",
    "train.epochs=40",
    "train.checkpoint_every=3",
    "train.lr=0.05",
    "train.until=0.5",
    "train.least_steps=0",
    "loss.warmup_epochs=2",
    "model.attention_hidden=8",
    "model.cvae_hidden=8",
    "model.latent=4",
)
FILES = ("model.safetensors", "checkpoint.safetensors", "metrics.jsonl")


def config(*overrides: str) -> Config:
    return load_config("thumos14", overrides=(*SMALL, *overrides)).for_stream("rgb")


def dataset(seed: int = 0, contrast: float = 1.0) -> SnippetDataset:
    """Twelve videos of two actions that can be told apart, the more so the higher the contrast."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for i in range(12):
        x = rng.random((12, 5), dtype=np.float32)
        x[3:9, i % 2] += contrast
        arrays[f"v{i:02}"] = {"rgb": x}
    labels = VideoLabels({f"v{i:02}": ("ab"[i % 2],) for i in range(12)})
    return SnippetDataset(ArrayFeatures(arrays), labels, "rgb", snippets=8, seed=seed)


def ending(labels: NDArray[np.float32], *overrides: str) -> Ending:
    own = config(*overrides)
    return Ending(labels, own.loss, own.train)


label_rows = st.integers(1, 5).flatmap(
    lambda classes: st.lists(
        st.lists(st.sampled_from([0.0, 1.0]), min_size=classes, max_size=classes), min_size=1, max_size=6
    )
)


@given(rows=label_rows, multilabel=st.sampled_from(["mean", "sum"]))
def test_the_best_possible_classifier_leaves_nothing_and_an_ignorant_one_everything(
    rows: list[list[float]], multilabel: str
) -> None:
    labels = torch.tensor(rows)
    own = ending(labels.numpy(), f"loss.multilabel={multilabel}")
    targets = label_targets(labels, multilabel)  # (N, C + 1)
    best = foreground_loss((targets / targets.sum(1, keepdim=True)).clamp_min(1e-30).log(), targets)
    ignorant = foreground_loss(torch.zeros_like(targets), targets)
    assert own.unexplained([float(best)]) == pytest.approx(0, abs=1e-5)
    assert own.unexplained([float(ignorant)]) == pytest.approx(1, abs=1e-5)


def test_the_last_epochs_count_and_neither_warm_up_nor_the_last_epoch_is_passed() -> None:
    own = ending(np.eye(2, dtype=np.float32), "loss.warmup_epochs=5", "train.epochs=9")
    half = 0.5 * math.log(3)  # what until=0.5 allows
    assert own.unexplained([9.0] * 4 + [half] * EPOCHS) == pytest.approx(0.5)
    assert not own.reached(4, [0.0] * EPOCHS), "still warming up"
    assert own.reached(5, [0.0] * EPOCHS)
    assert not own.reached(5, [half + 0.01] * EPOCHS)
    assert not own.reached(8, [half * 3, 0.4 * half, 0.4 * half]), "one high epoch of three"
    assert own.reached(9, [9.0] * EPOCHS), "no epoch is left"
    alone = ending(np.eye(2, dtype=np.float32), "loss.warmup_epochs=5", "loss.gamma1=0")
    assert not alone.reached(4, [0.0] * EPOCHS), "an ablation differs in nothing else"
    assert alone.reached(5, [0.0] * EPOCHS)
    assert not ending(np.eye(2, dtype=np.float32), "train.until=0").reached(39, [0.0] * EPOCHS)


@pytest.mark.parametrize(
    ("videos", "batch", "drop_last", "epochs"),
    [
        (10, 4, "false", 7),
        (10, 4, "true", 10),
        (10, 32, "false", 20),
        (3, 4, "true", 20),
        (400, 4, "false", 3),
    ],
)
def test_few_videos_need_more_epochs_for_as_many_steps(
    videos: int, batch: int, drop_last: str, epochs: int
) -> None:
    own = ending(
        np.eye(2, dtype=np.float32)[np.arange(videos) % 2],
        "train.least_steps=20",
        "loss.warmup_epochs=3",
        f"train.batch={batch}",
        f"train.drop_last={drop_last}",
    )
    assert [own.reached(epoch, [0.0] * EPOCHS) for epoch in (epochs - 1, epochs)] == [False, True]


def test_training_ends_early_with_the_weights_of_a_training_of_that_length(tmp_path: Path) -> None:
    found = train_stream(dataset(), config(), tmp_path / "early", seed=0)
    assert 2 < found.epoch < 40
    own = ending(dataset().labels)
    lines = [json.loads(line)["fg"] for line in (tmp_path / "early/metrics.jsonl").read_text().splitlines()]
    assert len(lines) == found.epoch
    assert own.unexplained(lines) <= 0.5 < own.unexplained(lines[:-1])
    train_stream(
        dataset(), config("train.until=0", f"train.epochs={found.epoch}"), tmp_path / "short", seed=0
    )
    for name in ("model.safetensors", "metrics.jsonl"):
        assert (tmp_path / "early" / name).read_bytes() == (tmp_path / "short" / name).read_bytes()
    again = train_stream(dataset(), config(), tmp_path / "early", seed=0)
    assert again.epoch == found.epoch, "a finished training is not gone on with"


def test_interrupted_and_resumed_ends_at_the_same_epoch_with_the_same_bytes(tmp_path: Path) -> None:
    length = train_stream(dataset(), config(), tmp_path / "whole", seed=0).epoch

    class Stop(Exception):
        pass

    for stop_after in range(1, length):

        def stop(epoch: int, _: dict[str, float], last: int = stop_after) -> None:
            if epoch == last:
                raise Stop

        out = tmp_path / f"cut{stop_after}"
        with pytest.raises(Stop):
            train_stream(dataset(), config(), out, seed=0, on_epoch=stop)
        train_stream(dataset(), config(), out, seed=0)
        for name in FILES:
            assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), stop_after


def test_members_end_each_at_its_own_epoch_as_they_would_alone(tmp_path: Path) -> None:
    members = [
        Member(dataset(seed, contrast), config(), tmp_path / f"many{seed}", seed)
        for seed, contrast in enumerate((0.6, 0.3, 2.0))
    ]
    found = train_many(members)
    assert len({trained.epoch for trained in found}) == 3
    for member, trained in zip(members, found, strict=True):
        alone = tmp_path / f"alone{member.seed}"
        assert train_stream(member.dataset, member.config, alone, seed=member.seed).epoch == trained.epoch
        mine, other = (load_tensors(folder / "model.safetensors")[0] for folder in (member.out, alone))
        for name, value in mine.items():
            torch.testing.assert_close(value, other[name], rtol=1e-4, atol=2e-5)


def test_weights_are_chosen_from_the_epochs_there_were(tmp_path: Path) -> None:
    own = config("train.select=held-out", "train.select_every=1")
    asked = []

    def validate(model: object) -> float:
        asked.append(model)
        return float(len(asked) == 3)

    found = train_stream(dataset(), own, tmp_path, seed=0, validate=validate)
    length = len((tmp_path / "metrics.jsonl").read_text().splitlines())
    assert len(asked) == length < 40
    assert found.epoch == 3
