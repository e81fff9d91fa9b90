"""Localising with several runs of the same data: the mean of what they say, and who is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import dgam
import tiny_data
from data_helpers import write_streams
from dgam.cli import main
from dgam.core.errors import InputError
from dgam.core.run import Run
from tiny_data import features, train


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """Three seeds of both streams."""
    folder, config = tmp_path_factory.mktemp("members"), tiny_data.settings(base=tiny_data.LEARNS)
    return [train(folder / str(seed), config=config, seed=seed) for seed in range(3)]


def curves(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "v0.npz") as file:
        return dict(file)


def test_curves_are_means_over_the_members(runs: list[Run], tmp_path: Path) -> None:
    for number, run in enumerate(runs):
        dgam.localize(run, features(), curves=tmp_path / str(number))
    dgam.localize(runs[0], features(), members=runs[1:], curves=tmp_path / "all")
    alone, together = [curves(tmp_path / str(number)) for number in range(3)], curves(tmp_path / "all")
    for name in ("rgb.attention", "rgb.tcam", "flow.logits", "flow.probabilities"):
        assert np.ptp([own[name] for own in alone], axis=0).max() > 1e-3, "seeds differ"
        np.testing.assert_allclose(together[name], np.mean([own[name] for own in alone], axis=0), atol=1e-12)
    np.testing.assert_array_equal(together["rgb.positions"], alone[0]["rgb.positions"])


def test_the_same_run_again_changes_nothing(runs: list[Run]) -> None:
    once, thrice = (dgam.localize(runs[0], features(), members=more) for more in ([], [runs[0].path] * 2))
    for video, found in once.videos.items():
        assert [d.label for d in found] == [d.label for d in thrice.videos[video]]
        values = [[(d.start, d.end, d.score) for d in own] for own in (found, thrice.videos[video])]
        np.testing.assert_allclose(*values, atol=1e-9)


def test_the_order_of_members_does_not_matter_beyond_rounding(runs: list[Run]) -> None:
    one, other = (
        dgam.localize(runs[0], features(), members=more) for more in (runs[1:], list(reversed(runs[1:])))
    )
    assert {v: len(found) for v, found in one.videos.items()} == {v: len(f) for v, f in other.videos.items()}


def test_results_name_the_members_and_what_was_chosen_on_the_test_set(runs: list[Run]) -> None:
    chosen = replace(runs[2], selection="CHOSEN ON THE TEST SET")
    about = dgam.localize(runs[0], features(), members=[runs[1], chosen]).about
    assert [one["seed"] for one in about["dgam"]["members"]] == [1, 2]  # type: ignore[index]  # free JSON
    told = dict.fromkeys([runs[0].selection, runs[1].selection, "CHOSEN ON THE TEST SET"])
    assert about["selection"] == "; ".join(told)
    # For mypy: a mapping there.
    assert "members" not in dgam.localize(runs[0], features()).about["dgam"]  # type: ignore[operator]


@pytest.mark.parametrize("what", ["classes", "streams"])
def test_members_of_another_kind_are_refused(runs: list[Run], what: str) -> None:
    other = replace(runs[1], **{"classes": ("dive",)} if what == "classes" else {"streams": {"rgb": 5}})
    with pytest.raises(InputError, match=f"{runs[1].path}: has other {what} than {runs[0].path}"):
        dgam.localize(runs[0], features(), members=[other])


def test_the_command(runs: list[Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store, out = tmp_path / "features", tmp_path / "found.json"
    write_streams(store, tiny_data.arrays())
    more = [f"--members={run.path}" for run in runs[1:]]
    assert main(["localize", str(runs[0].path), str(store), "--out", str(out), *more]) == 0
    expected = dgam.localize(runs[0], features(), members=runs[1:])
    found = json.loads(out.read_text())["results"]
    assert {video: len(own) for video, own in found.items()} == {
        video: len(own) for video, own in expected.videos.items()
    }
    (tmp_path / "clip.mp4").write_bytes(b"x")
    assert main(["localize", str(runs[0].path), str(tmp_path / "clip.mp4"), *more]) == 2
    assert "--members is for snippet features" in capsys.readouterr().err
