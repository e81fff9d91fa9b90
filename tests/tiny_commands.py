"""The tiny simulated data set and a tiny training of it, made by the commands."""

from __future__ import annotations

from pathlib import Path

from dgam.cli import main
from tiny_data import NETWORKS

SMALL = ("--set=train.batch=4", "--set=train.snippets=16", *(f"--set={text}" for text in NETWORKS))


def simulate(out: Path) -> Path:
    """Simulated data: 6 training and 4 test videos of 2 classes."""
    knobs = [f"--set={knob}" for knob in ("train=6", "test=4", "classes=2", "dimension=6", "instances=4")]
    assert main(["simulate", str(out), "--seed", "0", *knobs]) == 0
    return out


def train(sim: Path, out: Path, *more: str, features: Path | None = None, epochs: int = 2) -> int:
    """`dgam train` of tiny networks on the simulated training videos."""
    labels = () if "--labels" in more else ("--labels", str(sim / "labels.csv"))
    head = ["train", str(features or sim / "train"), *labels, "--subset", "train", "--out", str(out)]
    return main([*head, *SMALL, f"--set=train.epochs={epochs}", *more])
