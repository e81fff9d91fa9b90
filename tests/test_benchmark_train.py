"""The training benchmark runs, its eager step is the same training step, and its figures hang together."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "train.py"
SMALL = ["--videos=2", "--snippets=12", "--dimension=16", "--classes=3", "--large=64", "--members=2"]


def test_the_benchmark_of_training_at_a_small_size(tmp_path: Path) -> None:
    pytest.importorskip("scipy")
    out = tmp_path / "result.json"
    command = [sys.executable, str(SCRIPT), *SMALL, "--seconds=0.1", "--threads=1", f"--json={out}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=250)
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text())
    assert 0 < result["agreement"] < 1e-4, "eager and ours: the same losses, but not the same code"
    snippets, d, hidden, c, latent = 24, 16, 256, 128, 128
    # By hand: what multiplies features in the model as it is written, forward and by weights, in both stages.
    features = 2 * snippets * d * (2 * hidden + hidden + 4 + c + c + c + c + 3 * c)
    small = 2 * snippets * (7 * latent * c)
    assert result["flops"]["plain"] > features
    assert result["flops"]["fast"] > features * 0.7 + small
    for figures in result["seconds"].values():
        assert 0 < figures["best"] <= figures["median"]
    for line in ("eager", "plain", "ours float32", "ours bfloat16, kept", "together bfloat16, kept (2)"):
        assert f"| {line} |" in done.stdout
