"""Where detections go: files, folders of several formats, clips, and a table on the terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from dgam.core.errors import InputError
from dgam.core.types import Detection
from dgam.exports.content import Content
from dgam.exports.formats import FORMATS, PER_VIDEO, format_of, known_format, write_file, write_folder
from dgam.exports.text import one_line
from dgam.exports.times import short_clock

SHOWN = 20
"""Segments of a video that the terminal shows unless --top asks for more."""


@Parameter(name="*", group="What is kept")
@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which detections are shown and written."""

    min_score: float | None = None
    """Leave out detections that score less."""
    top: Annotated[int | None, Parameter(name="--top")] = None
    """Keep only this many of each video, the best."""

    def __post_init__(self) -> None:
        if self.top is not None and self.top < 1:
            raise InputError(f"--top must be at least 1, got {self.top}.")

    def __call__(self, detections: Sequence[Detection]) -> tuple[Detection, ...]:
        """Those kept of one video's, in their order."""
        least = self.min_score
        kept = [at for at, one in enumerate(detections) if least is None or one.score >= least]
        best = sorted(kept, key=lambda at: -detections[at].score)[: self.top]
        return tuple(detections[at] for at in sorted(best))


@dataclass(frozen=True)
class Target:
    """One file of one format, or a folder of files of several."""

    path: Path
    formats: tuple[str, ...]
    folder: bool

    @classmethod
    def of(cls, out: Path, to: str | None) -> Target:
        """What ``--out`` and ``--to`` ask for. InputError where they cannot be followed."""
        if to is None:
            if out.is_dir():
                raise InputError(
                    f"--out {out}: is a folder; expected the file to write, such as "
                    f"{out / 'detections.json'}. For files in a folder say which, with --to vtt,srt."
                )
            return cls(out, (format_of(out),), folder=False)
        names = tuple(dict.fromkeys(name.strip() for name in to.split(",") if name.strip()))
        if not names:
            raise InputError(f"--to: names no format. Known ones: {', '.join(FORMATS)}.")
        known = [known_format(name) for name in names]
        if len(names) == 1 and out.suffix.lower() == known[0].suffix and not out.is_dir():
            return cls(out, names, folder=False)
        if out.exists() and not out.is_dir():
            raise InputError(f"--out {out}: is a file; expected the folder that --to {to} writes into.")
        return cls(out, names, folder=True)

    def refuse(self, videos: Collection[str]) -> None:
        """InputError, before any work, where these videos' detections could not be written here."""
        (name,) = self.formats if not self.folder else ("",)
        if name in PER_VIDEO and len(videos) > 1:
            raise InputError(
                f"--out {self.path}: {name} has one file for each video, and there are {len(videos)}. Name a "
                f"folder, and the format with --to {name}."
            )
        refuse_unwritable("--out", self.path if self.folder else self.path.parent)

    def write(self, content: Content) -> list[Path]:
        """Write the files, each atomically; their paths."""
        if self.folder:
            return write_folder(self.path, self.formats, content)
        return [write_file(self.path, self.formats[0], content)]


def refuse_unwritable(option: str, folder: Path) -> None:
    """InputError where files could not be made in ``folder``, which need not exist yet."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    if not place.is_dir():
        raise InputError(f"{option} {folder}: {place} is a file; expected a folder.")
    if not os.access(place, os.W_OK | os.X_OK):
        raise InputError(f"{option} {folder}: {place} may not be written to.")


def told_of(paths: Sequence[Path], detections: int, videos: int) -> str:
    """What was written, in a line."""
    where = str(paths[0]) if len(paths) == 1 else f"{len(paths)} files in {paths[0].parent}"
    return f"{where}: {detections} detections in {videos} videos."


def show(video: str, duration: float | None, detections: Sequence[Detection], top: int | None) -> None:
    """Print one video's segments, best kept and in order of time: in colour on a terminal, else plain."""
    limit = top if top is not None else SHOWN
    shown = sorted(detections[:limit], key=lambda one: (one.start, one.end, -one.score))
    length = "" if duration is None else f", {short_clock(duration)}"
    count = f"{len(detections)} segment{'' if len(detections) == 1 else 's'}"
    rest = len(detections) - len(shown)
    note = f"… and {rest} of lower score; --top shows more, --out writes all." if rest else ""
    rows = [
        (short_clock(one.start), short_clock(one.end), one_line(one.label), f"{one.score:.3f}")
        for one in shown
    ]
    title = f"{one_line(video)}{length}: {count}"
    if sys.stdout.isatty():
        _show_rich(title, rows, note)
    else:
        print("\n".join([title, *_plain(rows), *([f"  {note}"] if note else [])]))


_COLUMNS = ("start", "end", "label", "score")


def _plain(rows: Sequence[tuple[str, ...]]) -> list[str]:
    if not rows:
        return []
    table = [_COLUMNS, *rows]
    start, end, label, score = (max(len(row[column]) for row in table) for column in range(4))
    return [f"  {a:>{start}}  {b:>{end}}  {c:<{label}}  {d:>{score}}" for a, b, c, d in table]


def _show_rich(title: str, rows: Sequence[tuple[str, ...]], note: str) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    console.print(Text(title, style="bold"))
    if rows:
        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        for name, justify in zip(_COLUMNS, ("right", "right", "left", "right"), strict=True):
            # A tuple of literals is annotated as one of str; rich wants the literals.
            # For mypy: one of the names that rich knows.
            table.add_column(name, justify=justify, no_wrap=name != "label")  # type: ignore[arg-type]
        for row in rows:
            table.add_row(*map(Text, row))  # not as markup: a class may be called "[red]"
        console.print(table)
    if note:
        console.print(Text(note, style="dim"))
