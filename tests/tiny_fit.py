"""A fit on tiny ready features: the data's files, the call, and what it leaves, byte for byte."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import dgam
from dgam.fitting.fit import FitOptions
from tiny_data import arrays, settings

ACTIONS = {f"v{i:02}": (("dive",), ("jump",), ("dive", "jump"), ())[i % 4] for i in range(12)}
SHORT = settings("train.epochs=4", "train.batch=12")
OPTIONS = FitOptions(config=SHORT, streams=("rgb",))


def write_features(folder: Path, actions: Mapping[str, Any] = ACTIONS, **changes: np.ndarray) -> Path:
    """A folder per stream with a .npy for each video."""
    for video, streams in arrays(actions).items():
        for stream, x in streams.items():
            (folder / stream).mkdir(parents=True, exist_ok=True)
            np.save(folder / stream / f"{video}.npy", changes.get(video, x) if stream == "rgb" else x)
    return folder


def write_labels(path: Path, actions: Mapping[str, Any] = ACTIONS) -> Path:
    rows = "".join(f"{video},{';'.join(names)}\n" for video, names in actions.items())
    path.write_text(f"video,labels\n{rows}")
    return path


def fit(data: Path, out: Path, options: FitOptions = OPTIONS, **more: Any) -> Any:
    return dgam.fit(data / "features", data / "labels.csv", out, options=options, **more)


def tree(folder: Path) -> dict[str, bytes]:
    """All files but the times, by name."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "times.json")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}
