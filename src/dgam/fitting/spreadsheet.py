"""Video labels as spreadsheets save them: commas, semicolons or tabs, with or without a byte order mark.

    video,labels            Video;Labels               file<TAB>label
    clip_01.mp4,pour;stir   clip_01.mp4;pour, stir     clip_01<TAB>pour
    clip_02,                clip_02;                   clip_01<TAB>stir

Whatever ``dgam.read_labels`` reads is read the same here. Beyond it: other names of the columns, one row for
each label, empty columns and rows at the end, UTF-16 and Windows-1252. What was taken for granted is told.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from dgam.core.errors import InputError, Problem
from dgam.core.problems import Report
from dgam.core.types import VideoLabels
from dgam.data.annotations import read_labels
from dgam.data.fields import brief, name_of

ENDINGS = frozenset({".csv", ".tsv", ".tab", ".txt"})
COLUMNS = {
    "video": ("video", "videos", "video_id", "file", "filename", "file_name", "name", "clip", "id", "path"),
    "labels": ("labels", "label", "classes", "class", "actions", "action", "tags", "tag", "category"),
    "subset": ("subset", "split"),
}
_MARKS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


def read_label_sheet(path: Path, report: Report, note: Report) -> VideoLabels:
    """The labels of each video; names of videos are as the file has them.

    Defects go to ``report`` and the row is left out; assumptions go to ``note``. A file that is no
    spreadsheet is read by ``dgam.read_labels``. InputError for a file that cannot be read as labels at all.
    """
    if path.suffix.lower() not in ENDINGS or not path.is_file():
        return read_labels(path, on_problem=report)
    text, encoding = _decode(path)
    if encoding not in ("utf-8", "utf-8-sig"):
        meant = {"cp1252": "Windows-1252, since it is not UTF-8; look at letters with accents"}
        note(Problem(str(path), f"was read as {meant.get(encoding, encoding.upper())}."))
    separator = _separator(text)
    rows = _rows(path, text, separator)
    line, header = next(rows, (0, []))
    at = _columns(path, header)
    found: dict[str, list[str]] = {}
    subsets: dict[str, str] = {}
    repeated: list[str] = []
    for line, row in rows:
        if not any(cell.strip() for cell in row):
            continue
        try:
            video = name_of(_cell(row, at["video"]), "the video")
            beyond = [cell for cell in row[len(header) :] if cell.strip()]
            if beyond:
                raise ValueError(
                    f"{len(row)} fields, the first line has {len(header)}. Separate labels with ';', or put "
                    "them in quotes."
                )
            labels = [name_of(piece, "a label") for piece in _split(_cell(row, at["labels"]), separator)]
        except ValueError as error:
            report(Problem(str(path), f"line {line}: {error}"))
            continue
        if video in found:
            repeated.append(video)
        found[video] = [*found.get(video, []), *labels]
        if at.get("subset") is not None and _cell(row, at["subset"]).strip():
            subsets[video] = _cell(row, at["subset"]).strip()
    if repeated:
        shown = ", ".join(dict.fromkeys(repeated[:3])) + (", …" if len(set(repeated)) > 3 else "")
        what = f"lists {len(set(repeated))} videos in several rows ({shown}); their labels are put together."
        note(Problem(str(path), what))
    if not found:
        raise InputError(f"{path}: holds no usable video. Expected a line for each below 'video,labels'.")
    return VideoLabels({video: tuple(names) for video, names in found.items()}, (), subsets)


def _decode(path: Path) -> tuple[str, str]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}.") from error
    if data[:4] == b"PK\x03\x04":
        raise InputError(f"{path}: is a spreadsheet program's own file. Save the table as CSV and give that.")
    encodings = [name for mark, name in _MARKS if data.startswith(mark)] or ["utf-8", "cp1252"]
    for encoding in encodings:
        try:
            return data.decode(encoding), encoding
        except UnicodeDecodeError:
            continue
    raise InputError(f"{path}: is no text in UTF-8, UTF-16 or Windows-1252. Save the table as CSV, UTF-8.")


def _separator(text: str) -> str:
    """What parts the columns: the sign that the first line has outside of quotes."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("sep=")]
    first = lines[0] if lines else ""
    known = {name for names in COLUMNS.values() for name in names}

    def fitting(sign: str) -> int:
        return sum(_plain(cell) in known for cell in next(csv.reader([first], delimiter=sign), []))

    return max(",;\t", key=fitting)


def _rows(path: Path, text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise InputError(f"{path}: line {reader.line_num}: is not valid CSV: {error}.") from error
        if row and row[0].startswith("sep=") and reader.line_num == 1:
            continue  # a line that spreadsheet programs write for each other
        yield reader.line_num, row


def _columns(path: Path, header: list[str]) -> dict[str, int]:
    """Where the columns are; InputError where that cannot be told."""
    names = [_plain(cell) for cell in header]
    at: dict[str, int] = {}
    for column, known in COLUMNS.items():
        places = [(known.index(name), place) for place, name in enumerate(names) if name in known]
        if places:
            at[column] = min(places)[1]
        if len(places) > 1 and len({rank for rank, _ in places}) < len(places):
            raise InputError(f"{path}: its first line names the column {names[at[column]]!r} more than once.")
    missing = [column for column in ("video", "labels") if column not in at]
    if missing:
        shown = brief(",".join(cell.strip() for cell in header)) if header else "empty"
        raise InputError(
            f"{path}: its first line names no column {' and no column '.join(map(repr, missing))}; it is "
            f"{shown}. Expected 'video,labels' and below it a line for each video, as in 'clip_01,pour;stir'."
        )
    return at


def _plain(cell: str) -> str:
    """A column's name without case, spaces and an optional plural, as in "Label(s)"."""
    return cell.strip().strip("\"'").lower().replace("(s)", "s").replace(" ", "_").replace("-", "_")


def _cell(row: list[str], place: int) -> str:
    return row[place] if place < len(row) else ""


def _split(text: str, separator: str) -> list[str]:
    """The labels in a cell: parted by ``;``, and by ``,`` or ``|`` where commas do not part the columns."""
    for sign in "" if separator == "," else "|,":
        text = text.replace(sign, ";")
    return [piece for piece in text.split(";") if piece.strip()]
