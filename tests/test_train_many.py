"""Trainings side by side: each as it would have been alone, in its own folder, killed and resumed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dgam.core.config import Config, load_config
from dgam.core.errors import InputError
from dgam.core.types import VideoLabels
from dgam.data.dataset import SnippetDataset
from dgam.features.source import ArrayFeatures
from dgam.model.networks import DGAM
from dgam.training.checkpoint import load_tensors
from dgam.training.many import Member, alike, train_many
from dgam.training.trainer import train_stream

SMALL = (
    "train.snippets=6",
    "train.batch=4",
    "train.epochs=6",
    "train.checkpoint_every=2",
    "train.ema=0.9",
    "loss.warmup_epochs=2",
    "model.attention_hidden=8",
    "model.cvae_hidden=8",
    "model.latent=4",
)
FILES = ("model.safetensors", "checkpoint.safetensors", "metrics.jsonl")
# What weights of order 0.1 to 1 may differ by after a dozen Adam steps that differ in float32 rounding alone.
CLOSE = {"rtol": 1e-4, "atol": 2e-5}


def features(seed: int = 0, dimension: int = 5) -> ArrayFeatures:
    rng = np.random.default_rng(seed)
    return ArrayFeatures(
        {
            f"v{i}": {"rgb": rng.random((int(rng.integers(1, 20)), dimension), dtype=np.float32)}
            for i in range(10)
        }
    )


SOURCE = features()


def labels() -> VideoLabels:
    return VideoLabels({f"v{i}": ("a", "b")[: 1 + i % 2] if i % 3 else ("b",) for i in range(10)})


def config(*overrides: str) -> Config:
    return load_config("thumos14", overrides=(*SMALL, *overrides)).for_stream("rgb")


def member(out: Path, seed: int, *overrides: str, source: ArrayFeatures | None = None) -> Member:
    own = config(*overrides)
    data = SnippetDataset(source or SOURCE, labels(), "rgb", snippets=own.train.snippets, seed=seed)
    return Member(data, own, out, seed)


def alone(of: Member, out: Path) -> None:
    train_stream(of.dataset, of.config, out, seed=of.seed, validate=of.validate)


def assert_same(one: Path, other: Path) -> None:
    """Two folders of the same training, up to float32 rounding."""
    for name in FILES[:2]:
        (a, facts), (b, other_facts) = load_tensors(one / name), load_tensors(other / name)
        assert facts == other_facts
        assert list(a) == list(b)
        for key in a:
            torch.testing.assert_close(a[key], b[key], **CLOSE, msg=lambda text, key=key: f"{key}: {text}")
    lines = [
        [json.loads(line) for line in (path / FILES[2]).read_text().splitlines()] for path in (one, other)
    ]
    assert [list(line) for line in lines[0]] == [list(line) for line in lines[1]]
    for mine, others in zip(*lines, strict=True):
        assert mine == pytest.approx(others, rel=1e-4, abs=1e-6)


VARIED = (
    ("loss.gamma1=0.2",),
    ("model.r=3", "loss.beta=5"),
    ("train.lr=0.003", "loss.alpha=0.2", "loss.gamma2=1", "loss.warmup_epochs=4"),
    ("loss.foreground_offset=2", "train.resample_every=3", "train.cvae_lr=0.01"),
)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("normalise", ["none", "root"])
def test_each_member_is_as_it_would_have_been_alone(tmp_path: Path, normalise: str, precision: str) -> None:
    common = (f"model.normalise={normalise}", f"train.precision={precision}")
    members = [
        member(tmp_path / f"many{seed}", seed, *common, *own) for seed, own in enumerate(VARIED, start=1)
    ]
    assert alike(members) == [[0, 1, 2, 3]], "they are one model"
    found = train_many(members)
    for seed, one in enumerate(members, start=1):
        alone(one, tmp_path / f"alone{seed}")
        if precision == "float32":
            assert_same(one.out, tmp_path / f"alone{seed}")
    assert [trained.epoch for trained in found] == [6, 6, 6, 6]
    first, second = (load_tensors(one.out / FILES[0])[0]["attention.hidden.weight"] for one in members[:2])
    assert (first - second).abs().max() > 1e-2, "members differ by far more than the tolerance"


def test_equal_seeds_and_different_settings(tmp_path: Path) -> None:
    """Ablations share their draws; what they do not share shows."""
    members = [member(tmp_path / f"many{n}", 3, f"loss.beta={beta}") for n, beta in enumerate((0.1, 30))]
    train_many(members)
    for number, one in enumerate(members):
        alone(one, tmp_path / f"alone{number}")
        assert_same(one.out, tmp_path / f"alone{number}")


def test_members_may_start_in_different_ways(tmp_path: Path) -> None:
    own = {"many0": (), "many1": ("model.attention_start=level",)}
    members = [member(tmp_path / name, 0, *settings) for name, settings in own.items()]
    assert alike(members) == [[0, 1]]
    train_many(members)
    for number, one in enumerate(members):
        alone(one, tmp_path / f"alone{number}")
        assert_same(one.out, tmp_path / f"alone{number}")


def test_members_may_have_data_of_their_own(tmp_path: Path) -> None:
    members = [member(tmp_path / f"many{seed}", seed, source=features(seed)) for seed in (1, 2)]
    assert alike(members) == [[0, 1]]
    train_many(members)
    for seed, one in enumerate(members, start=1):
        alone(one, tmp_path / f"alone{seed}")
        assert_same(one.out, tmp_path / f"alone{seed}")


DIFFERENT = (
    ("model.latent=3",),
    ("model.attention_hidden=9",),
    ("model.normalise=l2",),
    ("model.classifier_bias=false",),
    ("train.epochs=3",),
    ("train.batch=5",),
    ("train.snippets=5",),
    ("train.precision=bfloat16",),
    ("train.optimiser=sgd",),
    ("loss.gamma1=0",),
    ("loss.samples=2",),
    ("loss.reduction=snippet",),
    ("model.attention_kernel=3",),
)


def test_members_of_other_shapes_are_trained_apart(tmp_path: Path) -> None:
    members = [member(tmp_path / f"many{n}", n, *own) for n, own in enumerate(((), *DIFFERENT, ()))]
    members.append(member(tmp_path / "wide", 0, source=features(dimension=6)))
    last = len(DIFFERENT) + 1
    groups = alike(members)
    assert groups == [[0, last], *([n] for n in range(1, last)), [last + 1]]
    few = [members[n] for n in (0, 1, 5, 10, last, last + 1)]
    found = train_many(few)
    assert [trained.epoch for trained in found] == [6, 6, 3, 6, 6, 6]
    for number, one in enumerate(few):
        alone(one, tmp_path / f"alone{number}")
        assert_same(one.out, tmp_path / f"alone{number}")


def test_more_members_than_fit_take_turns(tmp_path: Path) -> None:
    told = []
    members = [member(tmp_path / f"many{n}", n, "train.epochs=2") for n in range(5)]
    train_many(members, at_once=2, on_epoch=lambda number, epoch, _: told.append((number, epoch)))
    assert told == [(0, 1), (1, 1), (0, 2), (1, 2), (2, 1), (3, 1), (2, 2), (3, 2), (4, 1), (4, 2)]
    alone(members[3], tmp_path / "alone")
    assert_same(members[3].out, tmp_path / "alone")


def test_streamed_features_give_the_same_bytes(tmp_path: Path) -> None:
    for name, gib in (("kept", 1), ("read", 0)):
        train_many([member(tmp_path / name / str(n), n, f"train.resident_gib={gib}") for n in range(3)])
    for n in range(3):
        for file in (FILES[0], FILES[2]):
            one, other = tmp_path / "kept" / str(n) / file, tmp_path / "read" / str(n) / file
            assert one.read_bytes() == other.read_bytes()


# Stopped and gone on with.


class Stop(Exception):
    pass


def stop_after(epochs: int, number: int = 0) -> object:
    def stop(at: int, epoch: int, _: dict[str, float]) -> None:
        if (at, epoch) == (number, epochs):
            raise Stop

    return stop


@pytest.mark.parametrize("stopped", [1, 2, 5])
def test_stopped_and_resumed_equals_uninterrupted(tmp_path: Path, stopped: int) -> None:
    def three(folder: str) -> list[Member]:
        return [member(tmp_path / folder / str(n), n) for n in range(3)]

    train_many(three("whole"))
    with pytest.raises(Stop):
        # For mypy: the same for either kind of training.
        train_many(three("cut"), on_epoch=stop_after(stopped, 1))  # type: ignore[arg-type]
    train_many(three("cut"))
    for n in range(3):
        for file in FILES:
            whole, cut = tmp_path / "whole" / str(n) / file, tmp_path / "cut" / str(n) / file
            assert whole.read_bytes() == cut.read_bytes()


def test_members_stopped_at_different_epochs_are_brought_level(tmp_path: Path) -> None:
    """Also across train_stream, whose checkpoint is the same."""
    members = [member(tmp_path / str(n), n) for n in range(4)]

    def stop_one(epoch: int, _: dict[str, float]) -> None:
        if epoch == 4:
            raise Stop

    with pytest.raises(Stop):
        train_stream(members[1].dataset, members[1].config, members[1].out, seed=1, on_epoch=stop_one)
    alone(members[3], members[3].out)
    told: list[tuple[int, int]] = []
    train_many(members, on_epoch=lambda number, epoch, _: told.append((number, epoch)))
    both = [(n, epoch) for epoch in range(1, 5) for n in (0, 2)]
    assert told[:8] == both, "0 and 2 go first, to epoch 4"
    assert told[8:] == [(n, epoch) for epoch in (5, 6) for n in (0, 1, 2)], "then with 1; 3 was finished"
    for n, one in enumerate(members):
        alone(one, tmp_path / f"alone{n}")
        assert_same(one.out, tmp_path / f"alone{n}")
    with pytest.raises(Stop):
        # For mypy: the same for either kind of training.
        train_many([member(tmp_path / "x", 7)], on_epoch=stop_after(4))  # type: ignore[arg-type]
    one = member(tmp_path / "x", 7)
    alone(one, one.out)
    alone(one, tmp_path / "y")
    assert_same(one.out, tmp_path / "y")


_CHILD = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from test_train_many import long
from dgam.training.many import train_many
train_many(long(Path({out!r})))
"""


def long(folder: Path) -> list[Member]:
    return [member(folder / str(n), n, "train.epochs=40", "train.checkpoint_every=5") for n in range(3)]


def test_killed_at_random_moments_and_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    train_many(long(tmp_path / "whole"))
    out, rng = tmp_path / "killed", np.random.default_rng(0)
    code = _CHILD.format(tests=str(Path(__file__).parent), out=str(out))
    kills = 0
    for _ in range(2):
        child = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "OMP_NUM_THREADS": "1"})
        deadline = time.monotonic() + 60
        log = out / "2" / "metrics.jsonl"
        while not log.exists() and child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(float(rng.random()) * 0.3)
        child.send_signal(signal.SIGKILL)
        kills += child.wait() == -signal.SIGKILL
    assert kills >= 1
    train_many(long(out))
    for n in range(3):
        assert_same(out / str(n), tmp_path / "whole" / str(n))


# Selection and refusals.


def test_each_member_keeps_its_own_best_weights(tmp_path: Path) -> None:
    scores = {0: iter([0.2, 0.9, 0.1]), 1: iter([0.9, 0.1, 0.3])}
    seen: dict[int, list[torch.Tensor]] = {0: [], 1: []}

    def validating(number: int) -> Member:
        def validate(model: DGAM) -> float:
            seen[number].append(model.attention.hidden.weight.detach().clone())
            return next(scores[number])

        return replace(member(tmp_path / str(number), number, "train.select_every=2"), validate=validate)

    members = [validating(0), member(tmp_path / "plain", 5, "train.select_every=2"), validating(1)]
    found = train_many(members)
    assert [trained.epoch for trained in found] == [4, 6, 2]
    for number, best in ((0, 1), (1, 0)):
        kept = load_tensors(tmp_path / str(number) / "model.safetensors")[0]["attention.hidden.weight"]
        assert torch.equal(kept, seen[number][best])
    assert not (tmp_path / "plain" / "best.safetensors").exists()
    assert json.loads((tmp_path / "0" / FILES[2]).read_text().splitlines()[3])["selection"] == 0.9


def test_one_that_diverges_does_not_take_the_others_along(tmp_path: Path) -> None:
    members = [
        member(tmp_path / "good", 0, "train.optimiser=sgd"),
        member(tmp_path / "bad", 1, "train.optimiser=sgd", "train.lr=1e30"),
        member(tmp_path / "fine", 2, "train.optimiser=sgd"),
    ]
    assert alike(members) == [[0, 1, 2]]
    with pytest.raises(
        InputError, match=r"1 of 3 trainings(.|\n)*bad: (.|\n)*the loss '\w+' became (nan|inf)"
    ):
        train_many(members)
    assert not (tmp_path / "bad" / "model.safetensors").exists()
    for n in (0, 2):
        alone(members[n], tmp_path / f"alone{n}")
        assert_same(members[n].out, tmp_path / f"alone{n}")


def test_what_cannot_be_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    twice = [member(tmp_path / "a", 0), member(tmp_path / "b", 1), member(tmp_path / "c/../a", 2)]
    with pytest.raises(InputError, match="the folder of trainings 0 and 2"):
        train_many(twice)
    assert not list(tmp_path.iterdir())
    assert train_many([]) == []
    train_many([member(tmp_path / "a", 0)])
    with pytest.raises(InputError, match="belongs to another training"):
        train_many([member(tmp_path / "b", 1, "model.latent=3"), member(tmp_path / "a", 5)])
    assert not (tmp_path / "b").exists()
