"""Fixtures of the fit's tests: tiny features and tiny videos, and a model of each, made once a process."""

from __future__ import annotations

from pathlib import Path

import pytest

import dgam
import tiny_fit
import tiny_video_fit
from coded_videos import write_video


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny features and their labels.csv."""
    root = tmp_path_factory.mktemp("fit")
    tiny_fit.write_features(root / "features")
    tiny_fit.write_labels(root / "labels.csv")
    return root


@pytest.fixture(scope="session")
def model(data: Path) -> Path:
    """A model of the tiny features."""
    # tiny_fit.fit passes on what it is given, so it is annotated with Any.
    return tiny_fit.fit(data, data / "model").path  # type: ignore[no-any-return]  # the folder of the model


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of five tiny videos."""
    root = tmp_path_factory.mktemp("videos")
    for number, length in enumerate(tiny_video_fit.LENGTHS):
        write_video(root / f"clip {number}.mp4", range(length))
    return root


@pytest.fixture(scope="session")
def video_model(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the tiny videos, through the tiny encoder."""
    root = tmp_path_factory.mktemp("models")
    labels = tiny_video_fit.write_labels(root / "labels.csv", tiny_video_fit.ROWS)
    how = {"extraction": tiny_video_fit.TINY, "options": tiny_video_fit.OPTIONS}
    return dgam.fit(videos, labels, root / "model", **how).path
