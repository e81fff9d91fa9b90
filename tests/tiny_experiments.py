"""Experiments on simulated data so small that a model is trained in a tenth of a second."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dgam
from dgam.cli import main

SETTINGS = (
    "model.attention_hidden=8",
    "model.cvae_hidden=8",
    "train.epochs=3",
    "train.snippets=12",
    "train.batch=4",
    "train.checkpoint_every=1",
    "loss.warmup_epochs=1",
    "train.lr=0.02",
)
SET = tuple(f"--set={text}" for text in SETTINGS)
SEEDS = (0, 1)


def simulate(folder: Path, seeds: tuple[int, ...] = SEEDS) -> str:
    """Simulated data for each seed, 6 training and 6 test videos of 2 classes; the path with {seed}."""
    for seed in seeds:
        dgam.simulate(folder / f"sim-{seed}", seed=seed, train=6, test=6, classes=2, dimension=6, instances=3)
    return str(folder / "sim-{seed}")


def reproduce(name: str, data: str, out: Path, *more: str) -> int:
    """`dgam reproduce` of an experiment on tiny data, two seeds unless ``more`` says otherwise."""
    seeds = () if "--seeds" in more else ("--seeds", "2")
    return main(["reproduce", name, "--data", data, "--out", str(out), *seeds, *SET, *more])


def read(out: Path, name: str) -> dict[str, Any]:
    """An experiment's JSON."""
    value: dict[str, Any] = json.loads((out / f"{name}.json").read_text(encoding="utf-8"))
    return value


def row_of(report: dict[str, Any], name: str, table: int = 0) -> dict[str, Any]:
    """One row of one table of an experiment's JSON."""
    (row,) = [row for row in report["tables"][table]["rows"] if row["row"] == name]
    found: dict[str, Any] = row
    return found
