"""The labels of the DGAM authors' data: ``train_data/train_labels.npy``, a 0/1 table (videos × classes).

Videos are numbered as in the release's features (see ``features.numbered``), and columns are in alphabetical
order of classes; the file names neither. The classes come from ``classes``, or from ``classes.txt``, one name
a line, beside the file or one folder up.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dgam.core.errors import InputError
from dgam.core.problems import Report
from dgam.data.fields import read_text
from dgam.data.labelled import LabelTable
from dgam.features.npy import map_array
from dgam.features.numbered import release_id, release_names

_PARTS = ("train", "test")


def label_files(path: Path) -> dict[str, Path]:
    """The label tables at or under a path: part ("train", "test") to file; empty where there are none."""
    if path.is_file():
        return {part: path for part in _PARTS if path.name == f"{part}_labels.npy"}
    found: dict[str, Path] = {}
    for part in _PARTS:
        for file in (path / f"{part}_labels.npy", path / f"{part}_data" / f"{part}_labels.npy"):
            if file.is_file():
                found.setdefault(part, file)
    return found


def read_multihot_labels(
    path: Path, classes: Sequence[str] | None, report: Report
) -> tuple[LabelTable, tuple[str, ...]]:
    """Labels of the release's videos, and the classes. InputError where the table or the classes do not
    fit."""
    table = LabelTable(str(path), report)
    names: tuple[str, ...] = ()
    for part, file in label_files(path).items():
        values = np.asarray(map_array(file))
        if values.ndim != 2 or not np.isin(values, (0, 1)).all():
            raise InputError(
                f"{file}: expected a table (videos × classes) of 0 and 1, got shape {values.shape}."
            )
        names = tuple(classes) if classes is not None else _classes_beside(file, values.shape[1])
        if len(names) != values.shape[1]:
            raise InputError(f"{file}: has {values.shape[1]} columns, but there are {len(names)} classes.")
        known = release_names(file.parent)
        for index, row in enumerate(values):
            labels = [names[column] for column in np.flatnonzero(row)]
            table.add(release_id(part, index + 1, known), labels, part, f"row {index}: ")
    return table, names


def _classes_beside(file: Path, columns: int) -> tuple[str, ...]:
    for listed in (file.parent / "classes.txt", file.parent.parent / "classes.txt"):
        if listed.is_file():
            return tuple(line.strip() for line in read_text(listed).splitlines() if line.strip())
    raise InputError(
        f"{file}: does not name its {columns} classes. Put their names, in the order of its columns "
        "(alphabetical in the DGAM authors' data), one a line, into classes.txt beside it."
    )
