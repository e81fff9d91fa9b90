"""Video labels as a practitioner writes them: a CSV with the columns ``video`` and ``labels``.

    video,subset,labels
    kitchen_01,train,pour;stir
    kitchen_02,train,
    kitchen_03,test,stir

Labels of a video are separated by ``;``. Space around names and empty pieces between semicolons mean nothing;
a video without any label is one that holds none of the actions. The column ``subset`` is taken where there is
one, other columns are not looked at.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from dgam.core.errors import InputError
from dgam.core.problems import Report
from dgam.data.fields import brief, name_of, read_text
from dgam.data.labelled import LabelTable

_COLUMNS = ("video", "labels")


def read_csv_labels(path: Path, report: Report) -> LabelTable:
    """Video labels of a CSV. Defective rows go to ``report``; InputError for a file that has no such
    columns."""
    rows = _rows(path)
    header = [name.strip().lower() for name in next(rows, (0, []))[1]]
    _check_header(path, header)
    video_at, labels_at = (header.index(column) for column in _COLUMNS)
    subset_at = header.index("subset") if "subset" in header else None
    table = LabelTable(str(path), report)
    for line, row in rows:
        if not any(cell.strip() for cell in row):
            continue
        video = None
        try:
            video = name_of(row[video_at] if video_at < len(row) else "", "the video id")
            if len(row) != len(header):
                what = f"{len(row)} fields, the first line has {len(header)}."
                hint = " Separate labels with ';'." if len(row) > len(header) else ""
                raise ValueError(what + hint)
            labels = [name_of(piece, "a label") for piece in row[labels_at].split(";") if piece.strip()]
        except ValueError as error:
            table.refuse(video, f"line {line}: {error}")
            continue
        subset = row[subset_at].strip() if subset_at is not None else ""
        table.add(video, labels, subset, f"line {line}: ")
    return table


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The file's rows with the number of the line each ends on."""
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise InputError(f"{path}: line {reader.line_num}: is not valid CSV: {error}.") from error
        yield reader.line_num, row


def _check_header(path: Path, header: list[str]) -> None:
    if not header:
        raise InputError(f"{path}: is empty. Expected a first line 'video,labels' and a line for each video.")
    missing = [column for column in _COLUMNS if column not in header]
    if missing:
        hint = ""
        if len(header) == 1 and any(sign in header[0] for sign in ";\t|"):
            hint = " Separate columns with commas, and labels with semicolons."
        elif missing == ["labels"] and "label" in header:
            hint = " Rename the column 'label' to 'labels'."
        raise InputError(
            f"{path}: its first line has no column {' and no column '.join(map(repr, missing))}; it is "
            f"{brief(','.join(header))}. Expected 'video,labels', other columns allowed.{hint}"
        )
    repeated = [column for column in (*_COLUMNS, "subset") if header.count(column) > 1]
    if repeated:
        raise InputError(f"{path}: its first line names the column {repeated[0]!r} more than once.")
