"""Which videos are meant: files, folders that are walked, and lists of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dgam.core.errors import InputError, InputProblems, Problem

# fmt: off
VIDEO_ENDINGS = frozenset({
    ".3g2", ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".gif", ".h264", ".h265", ".hevc", ".ivf",
    ".m2ts", ".m2v", ".m4v", ".mjpeg", ".mjpg", ".mkv", ".mov", ".mp4", ".mpe", ".mpeg", ".mpg", ".mts",
    ".mxf", ".nut", ".ogm", ".ogv", ".rm", ".rmvb", ".swf", ".ts", ".vob", ".webm", ".wmv", ".y4m",
})
# fmt: on
LIST_ENDINGS = frozenset({".txt", ".lst"})


@dataclass(frozen=True)
class VideoFile:
    """A video to extract: its id in the store, where it lies, and its size in bytes (0 where unknown)."""

    video: str
    path: str
    size: int = 0


@dataclass(frozen=True)
class VideoList:
    """The videos, sorted by id, and the files in walked folders that were left aside for their names."""

    videos: tuple[VideoFile, ...]
    ignored: tuple[str, ...] = ()


def find_videos(paths: Sequence[str | os.PathLike[str]], ids: Literal["name", "path"] = "name") -> VideoList:
    """Collect videos from files, from folders (walked, symbolic links followed, hidden names left out), and
    from ``.txt`` or ``.lst`` files with a path a line, relative to the list's folder.

    A video's id is its file name without the ending; with ``ids="path"``, in a walked folder, its path below
    that folder without the ending. InputProblems lists missing paths and videos that share an id; InputError
    where there is no video at all.
    """
    problems: list[Problem] = []
    ignored: list[str] = []
    found: dict[str, list[str]] = {}
    for path, base in _named(paths, problems):
        if path.is_dir():
            members = [*_walk(path)]
            ignored += [str(member) for member in members if member.suffix.lower() not in VIDEO_ENDINGS]
            files = [member for member in members if member.suffix.lower() in VIDEO_ENDINGS]
            base = path
        else:
            files = [path]
        for file in files:
            below = file.relative_to(base) if ids == "path" and base in file.parents else Path(file.name)
            stem = below.with_suffix("") if below.suffix.lower() in VIDEO_ENDINGS else below
            places = found.setdefault(stem.as_posix(), [])
            if os.path.realpath(file) not in map(os.path.realpath, places):
                places.append(str(file))
    for video, places in found.items():
        if len(places) > 1:
            remedy = "Rename one, or use --ids path." if ids == "name" else "Rename one."
            problems.append(Problem(places[0], f"has the same id as {', '.join(places[1:])}.", video, remedy))
    if problems:
        raise InputProblems("These videos cannot be extracted:", problems)
    if not found:
        raise InputError(
            f"no video found in {', '.join(map(str, paths))}. Known endings: "
            f"{' '.join(sorted(VIDEO_ENDINGS))}; a file with another ending can be named itself."
        )
    videos = (
        VideoFile(video, places[0], os.path.getsize(places[0])) for video, places in sorted(found.items())
    )
    return VideoList(tuple(videos), tuple(ignored))


def _named(paths: Iterable[str | os.PathLike[str]], problems: list[Problem]) -> Iterator[tuple[Path, Path]]:
    """The paths given, and those in lists, that exist; each with the folder that ids are relative to."""
    for given in paths:
        path = Path(given)
        if not path.exists():
            problems.append(Problem(str(path), "there is no such file or folder."))
        elif path.suffix.lower() in LIST_ENDINGS and path.is_file():
            yield from _listed(path, problems)
        else:
            yield path, path.parent


def _listed(file: Path, problems: list[Problem]) -> Iterator[tuple[Path, Path]]:
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        problems.append(Problem(str(file), f"cannot be read as a list of videos: {error}."))
        return
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        path = file.parent / line.strip()
        if path.exists():
            yield path, file.parent
        else:
            problems.append(Problem(f"{file}, line {number}", f"there is no {str(path)!r}."))


def _walk(folder: Path) -> Iterator[Path]:
    seen: set[str] = set()
    for root, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(root)
        if real in seen:  # a link back up would never end
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(root, name) for name in sorted(files) if not name.startswith("."))
