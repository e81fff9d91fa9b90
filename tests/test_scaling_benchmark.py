"""The benchmark of how cost grows measures what it says, at sizes of no account; docs/many.md runs."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import scaling
from dgam.detection import localize
from scaling import Cost, Sizes

ROOT = Path(__file__).resolve().parents[1]
CPU = torch.device("cpu")


@pytest.mark.parametrize("what", ["training", "localising"])
def test_what_is_measured_runs_again_and_again(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, ...]] = []
    step, curves = scaling.EnsembleEngine.step, localize.stream_curves

    def watched(self: object, batch: Any, epoch: int) -> object:
        seen.append(tuple(batch.x.shape))
        return step(self, batch, epoch)

    def looked(model: object, x: np.ndarray, settings: object) -> object:
        seen.append(x.shape)
        return curves(model, x, settings)

    monkeypatch.setattr(scaling.EnsembleEngine, "step", watched)
    monkeypatch.setattr("dgam.detection.localize.stream_curves", looked)
    with scaling.WORK[what](Sizes(20, 24, 6, 3, 2), CPU, tmp_path) as run:
        run()
        once = list(seen)
        run()
    if what == "training":
        assert once == [(2, 16, 24, 6), (2, 4, 24, 6)]
    else:
        assert once == [(24, 6)] * 40, "two streams of 20 videos"
    assert seen == once * 2


def test_slope_is_the_power() -> None:
    x = [1.0, 2.0, 5.0, 10.0]
    assert scaling.slope(x, [3 * value**1.5 for value in x]) == pytest.approx(1.5)
    assert scaling.slope(x, [4.0] * 4) == pytest.approx(0)


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    x = [1.0, 2.0, 5.0, 10.0]
    curves = {
        (what, size): (x, [Cost(value, 1e6 * value) for value in x])
        for what in ("training", "localising")
        for size in ("videos", "models")
    }
    scaling.draw(curves, tmp_path / "picture.png", "title")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not say")
def test_memory_of_the_process() -> None:
    now, most = scaling.memory(CPU, "VmRSS"), scaling.memory(CPU, "VmHWM")
    assert 1e7 < now <= most < 1e12


def test_the_example_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "docs" / "many.md").read_text(encoding="utf-8")
    code = re.findall(r"```python\n(.+?)```", text, re.DOTALL)
    assert len(code) == 1
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(code[0], names)
    # For mypy: names of a script that ran.
    assert [run.config.model.r for run in names["runs"]] == [0, 1, 3]  # type: ignore[attr-defined]
    assert len(names["found"]) == 3  # type: ignore[arg-type]  # names of a script that ran
