"""What ``train.precision=auto`` means where."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import dgam
import tiny_data
from dgam.core.config import load_config
from dgam.data.dataset import SnippetDataset
from dgam.training.checkpoint import load_tensors
from dgam.training.many import Member, train_many
from dgam.training.precision import settled
from dgam.training.trainer import train_stream


def test_a_cpu_trains_in_float32_and_the_run_says_so(tmp_path: Path) -> None:
    run = tiny_data.train(tmp_path / "run", "train.precision=auto")
    assert dgam.load_run(run.path).config.train.precision == "float32"


def test_below_the_runs_too_it_is_settled_before_anything_is_written(tmp_path: Path) -> None:
    """A checkpoint must not be gone on with in another arithmetic, so it holds what was meant."""
    own = tiny_data.settings("train.precision=auto").for_stream("rgb")
    data = SnippetDataset(tiny_data.features(), tiny_data.labels(), "rgb", snippets=12, seed=0)
    train_stream(data, own, tmp_path / "alone", seed=0)
    train_many([Member(data, own, tmp_path / "many", 0)])
    for name in ("alone", "many"):
        _, facts = load_tensors(tmp_path / name / "checkpoint.safetensors")
        assert facts["identity"]["train"]["precision"] == "float32"


@pytest.mark.parametrize(
    ("capability", "found"), [((7, 5), "float32"), ((8, 0), "bfloat16"), ((9, 0), "bfloat16")]
)
def test_a_gpu_trains_in_bfloat16_where_it_has_it(
    capability: tuple[int, int], found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert settled(load_config("default"), "cuda:1").train.precision == found


def test_what_is_said_is_kept() -> None:
    for precision in ("float32", "bfloat16"):
        own = load_config("default", overrides=[f"train.precision={precision}"])
        assert settled(own, "cuda") is own
