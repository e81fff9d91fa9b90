"""``dgam.train_many``: run folders like those of ``dgam.train``, several at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import dgam
import tiny_data
from dgam.core.config import Config
from dgam.core.errors import InputError, InputProblems, Problem
from dgam.core.run import Run
from dgam.core.types import VideoLabels
from dgam.features.source import ArrayFeatures
from dgam.training.checkpoint import load_tensors

QUICK = ("train.epochs=2", "train.checkpoint_every=1")


def features() -> ArrayFeatures:
    return ArrayFeatures(tiny_data.arrays())


def settings(*overrides: str) -> Config:
    return tiny_data.settings(*QUICK, *overrides)


def assert_same(one: Run, other: Run) -> None:
    assert (one.seed, one.classes, one.streams, one.config) == (
        other.seed,
        other.classes,
        other.streams,
        other.config,
    )
    assert (one.selection, one.videos) == (other.selection, other.videos)
    for stream in one.streams:
        a, b = (load_tensors(run.folder(stream) / "model.safetensors")[0] for run in (one, other))
        for name in a:
            torch.testing.assert_close(a[name], b[name], rtol=1e-4, atol=2e-5)


def test_seeds_and_settings_become_runs(tmp_path: Path) -> None:
    configs = [settings("loss.beta=0.1"), settings("loss.beta=20"), settings("loss.gamma1=0")]
    outs = [tmp_path / f"many{n}" for n in range(3)]
    told: list[tuple[int, str, int]] = []
    runs = dgam.train_many(
        features(),
        tiny_data.labels(),
        outs,
        configs,
        [5, 6, 7],
        labels_from="labels.csv",
        on_epoch=lambda number, stream, epoch, losses: told.append((number, stream, epoch)),
    )
    assert [run.path for run in runs] == outs
    assert sorted(told) == [
        (n, stream, epoch) for n in range(3) for stream in ("flow", "rgb") for epoch in (1, 2)
    ]
    for number, run in enumerate(runs):
        assert dgam.load_run(run.path) == run
        assert run.labels == "labels.csv"
        alone = dgam.train(
            features(),
            tiny_data.labels(),
            tmp_path / f"alone{number}",
            config=configs[number],
            seed=5 + number,
        )
        assert_same(run, alone)
        assert dgam.localize(run, features()).videos.keys() == dgam.localize(alone, features()).videos.keys()


def test_one_config_and_one_seed_serve_all(tmp_path: Path) -> None:
    """Other data for each: the same config and seed, noise in place of the features."""
    rng = np.random.default_rng(0)
    noise = {
        video: {s: rng.random(x.shape, dtype=np.float32) for s, x in streams.items()}
        for video, streams in tiny_data.arrays().items()
    }
    one, other = dgam.train_many(
        [features(), ArrayFeatures(noise)],
        tiny_data.labels(),
        [tmp_path / "a", tmp_path / "b"],
        settings(),
        3,
        streams=["rgb"],
    )
    assert (one.seed, other.seed, list(one.streams)) == (3, 3, ["rgb"])
    a, b = (load_tensors(run.folder("rgb") / "model.safetensors")[0] for run in (one, other))
    assert not torch.equal(a["classifier.output.weight"], b["classifier.output.weight"])


def test_held_out_videos_are_drawn_by_each_seed(tmp_path: Path) -> None:
    looks = settings("train.select=held-out", "train.held_out=0.4", "train.select_every=1")
    runs = dgam.train_many(features(), tiny_data.labels(), [tmp_path / "0", tmp_path / "1"], looks, [0, 1])
    for seed, run in enumerate(runs):
        alone = dgam.train(features(), tiny_data.labels(), tmp_path / f"alone{seed}", config=looks, seed=seed)
        assert "held-out" in run.selection
        assert_same(run, alone)


def test_finished_runs_are_kept_and_restart_trains_anew(tmp_path: Path) -> None:
    def go(*seeds: int, restart: bool = False) -> list[str]:
        told: list[str] = []
        dgam.train_many(
            features(),
            tiny_data.labels(),
            [tmp_path / str(seed) for seed in seeds],
            settings(),
            seeds,
            streams=["rgb"],
            restart=restart,
            on_epoch=lambda number, *_: told.append(str(seeds[number])),
        )
        return told

    assert go(0, 1) == ["0", "1", "0", "1"]
    assert go(0, 1, 2) == ["2", "2"]
    assert go(0, 1, restart=True) == ["0", "1", "0", "1"]


def test_a_defective_video_is_told_once_and_left_out_of_all(tmp_path: Path) -> None:
    arrays = tiny_data.arrays()
    bad = next(iter(arrays))
    arrays[bad]["rgb"] = np.full_like(arrays[bad]["rgb"], np.nan)
    outs = [tmp_path / "0", tmp_path / "1"]
    with pytest.raises(InputProblems, match="NaN"):
        dgam.train_many(ArrayFeatures(arrays), tiny_data.labels(), outs, settings(), [0, 1])
    assert not any(out.exists() for out in outs)
    told: list[Problem] = []
    runs = dgam.train_many(
        ArrayFeatures(arrays), tiny_data.labels(), outs, settings(), [0, 1], on_problem=told.append
    )
    assert [problem.video for problem in told] == [bad]
    assert [run.videos for run in runs] == [len(tiny_data.labels()) - 1] * 2


def test_refusals(tmp_path: Path) -> None:
    outs = [tmp_path / "0", tmp_path / "1"]

    def go(**changes: object) -> None:
        call: dict[str, object] = {
            "features": features(),
            "labels": tiny_data.labels(),
            "outs": outs,
            "configs": settings(),
            "seeds": [0, 1],
        }
        # A dict of arguments of several types has the values' common type, object.
        dgam.train_many(**{**call, **changes})  # type: ignore[arg-type]  # options of several types

    with pytest.raises(InputError, match="seeds: got 3 for 2 run folders"):
        go(seeds=[0, 1, 2])
    with pytest.raises(InputError, match="configs: got 1 for 2"):
        go(configs=[settings()])
    with pytest.raises(InputError, match="whole number from 0 on, got -1"):
        go(seeds=[0, -1])
    with pytest.raises(InputError, match="has no stream 'depth'"):
        go(streams=["depth"])
    with pytest.raises(InputError, match=r"test-map: .* one run at a time"):
        go(configs=settings("train.select=test-map"))
    with pytest.raises(InputError, match="Each needs its own"):
        go(outs=[tmp_path / "0", tmp_path / "0"])
    (tmp_path / "1").write_text("")
    with pytest.raises(InputError, match="is a file"):
        go()
    assert {path.name for path in tmp_path.iterdir()} == {"1"}
    assert dgam.train_many(features(), VideoLabels({"x": ("a",)}), [], [], []) == []
