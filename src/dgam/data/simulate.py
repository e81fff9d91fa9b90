"""A simulated benchmark: snippet features of two streams, video labels, and segments for evaluation.

Scores on it are scores on simulated data; ``docs/simulation.md`` says what they can and cannot show.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from dgam.core.errors import InputError
from dgam.core.files import atomic_write, write_json
from dgam.data.simulate_features import STREAMS, make_features, make_world
from dgam.data.simulate_knobs import PRESETS, Simulation, build
from dgam.data.simulate_timeline import GRID, SUBSETS, Script, class_name, write_script

__all__ = ["PRESETS", "Simulated", "Simulation", "simulate"]

MARK = "SIMULATED DATA"
"""How README.txt begins; a folder with such a file may be overwritten."""


@dataclass(frozen=True)
class Simulated:
    """What :func:`simulate` wrote: where, with which knobs, and how much of it."""

    out: Path
    preset: str
    seed: int
    knobs: Simulation
    videos: int
    instances: int
    snippets: int


def simulate(
    out: str | os.PathLike[str], *, seed: int = 0, preset: str = "default", **knobs: Any
) -> Simulated:
    """Write a simulated data set into the folder ``out``.

    ``out/{train,test}/{rgb,flow}/VIDEO.npy`` ``(T, d)``: snippet features, 25 fps, 16 frames a snippet.
    ``out/labels.csv``: ``video,subset,labels`` with ``;`` between labels, no times.
    ``out/gt.json``: segments in ActivityNet form, subsets train and test, for evaluation.
    ``out/README.txt``: that all of it is simulated, and with which knobs.

    Same seed, preset and knobs: same bytes. A video depends on its subset and number, not on how many others
    there are; the world (scenes, actions, mixing) depends on the seed and is the same in train and test.

    ``preset`` is one of PRESETS, and ``knobs`` are fields of :class:`Simulation` that go on top. An earlier
    simulation in ``out`` is replaced. Raises InputError if ``out`` holds anything else or cannot be made, or
    if preset, seed or knobs are not usable (InputProblems, which lists all of them).
    """
    settings = build(preset, knobs)
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise InputError(f"seed: must be a whole number from 0 on, got {seed!r}.")
    root = Path(out)
    _claim(root)
    _write_text(root / "README.txt", _readme(preset, seed, settings))
    world = make_world(settings, seed)
    labels: list[tuple[str, str, str]] = []
    database: dict[str, Any] = {}
    instances = snippets = 0
    for index, script in _scripts(settings, seed):
        for stream, features in make_features(settings, world, script, index, seed).items():
            with atomic_write(root / script.subset / stream / f"{script.video}.npy") as file:
                np.save(file, features.astype(settings.dtype), allow_pickle=False)
        segments = script.segments()
        instances, snippets = instances + len(segments), snippets + script.timeline.snippets
        labels.append((script.video, script.subset, ";".join(class_name(label) for label in script.labels)))
        database[script.video] = {
            "subset": script.subset,
            "duration": script.duration,
            "fps": float(GRID.fps),
            "annotations": [{"label": s.label, "segment": [s.start, s.end]} for s in segments],
        }
    _drop_stale(root, set(database))
    _write_text(root / "labels.csv", _csv([("video", "subset", "labels"), *labels]))
    version = f"simulated data (dgam simulate, preset {preset}, seed {seed})"
    write_json(root / "gt.json", {"version": version, "database": database})
    return Simulated(root, preset, seed, settings, len(labels), instances, snippets)


def _scripts(knobs: Simulation, seed: int) -> Iterator[tuple[int, Script]]:
    for subset, count in zip(SUBSETS, (knobs.train, knobs.test), strict=True):
        for index in range(count):
            yield index, write_script(knobs, subset, index, seed)


def _claim(root: Path) -> None:
    """Make the folder, or refuse one that holds something other than an earlier simulation."""
    if root.exists() and not root.is_dir():
        raise InputError(f"{root}: is a file; the simulation needs a folder. Name another one.")
    readme = root / "README.txt"
    ours = readme.is_file() and readme.read_bytes().startswith(MARK.encode())
    if root.is_dir() and not ours and any(root.iterdir()):
        raise InputError(
            f"{root}: holds files that are no earlier simulation, and they might be overwritten. "
            "Name a new or an empty folder."
        )
    try:
        for old in ("labels.csv", "gt.json"):  # rather missing than at odds with the new features
            (root / old).unlink(missing_ok=True)
        for subset in SUBSETS:
            for stream in STREAMS:
                (root / subset / stream).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{root}: cannot be made: {error.strerror}. Name another folder.") from error


def _drop_stale(root: Path, videos: set[str]) -> None:
    """Remove the feature files of an earlier, larger simulation."""
    for subset in SUBSETS:
        for stream in STREAMS:
            for file in (root / subset / stream).glob("*.npy"):
                if file.stem not in videos:
                    file.unlink()


def _readme(preset: str, seed: int, knobs: Simulation) -> str:
    values = asdict(knobs)
    lines = [f"  {knob.name} = {values[knob.name]}  # {knob.metadata['help']}" for knob in fields(knobs)]
    return "\n".join(
        [
            f"{MARK}. No video was ever filmed for these features: a random generator drew them.",
            "Call every score on them a score on simulated data.",
            "",
            "train/, test/  snippet features, a folder per stream and a .npy (T, d) per video;",
            "               25 fps, 16 frames a snippet",
            "labels.csv     which actions each video holds, for training",
            "gt.json        when they happen (ActivityNet form), for evaluation only",
            "",
            f"Made by dgam simulate, preset {preset} ({PRESETS[preset][0]}), seed {seed}:",
            *lines,
            "",
        ]
    )


def _csv(rows: list[tuple[str, str, str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _write_text(path: Path, text: str) -> None:
    with atomic_write(path) as file:
        file.write(text.encode())
