"""What lies in a folder of features: the streams' folders, the videos' files, and how joined columns
split."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from dgam.core.errors import InputError
from dgam.features.arrays import Columns, NpyPlace, Place

Places = dict[str, dict[str, Place]]
_STREAM = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_SHOWN = 8


def files(folder: Path, ending: str) -> dict[str, str]:
    """Visible files with this ending: name without the ending (the video id) to path, sorted."""
    with os.scandir(folder) as entries:
        found = [
            entry.name for entry in entries if entry.name.endswith(ending) and not entry.name.startswith(".")
        ]
    return {name[: -len(ending)]: os.path.join(folder, name) for name in sorted(found)}


def subfolders(folder: Path) -> list[str]:
    """Names of the visible folders in a folder, sorted."""
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def stream_folders(folder: Path) -> list[str]:
    """Names of the folders that hold ``.npy`` files, RGB first. InputError for a name no stream can have."""
    names = [name for name in subfolders(folder) if files(folder / name, ".npy")]
    for name in names:
        check_stream_name(name, str(folder))
    return rgb_first(names)


def check_stream_name(name: str, where: str) -> None:
    """InputError unless a stream can have this name: it is also a folder's, and '+' joins streams."""
    if not _STREAM.fullmatch(name) or name == "videos":
        raise InputError(
            f"{where}: {name!r} cannot be the name of a stream. Use letters, digits, '_', '-' and '.', "
            "but not 'videos'."
        )


def rgb_first(names: Iterable[str]) -> list[str]:
    """Stream names in alphabetical order, "rgb" before the others."""
    return sorted(names, key=lambda name: (name != "rgb", name))


def by_video(by_stream: Mapping[str, Mapping[str, str]]) -> Places:
    """``{stream: {video: .npy file}}`` turned into places by video."""
    places: Places = {}
    for stream, paths in by_stream.items():
        for video, path in paths.items():
            places.setdefault(video, {})[stream] = NpyPlace(path)
    return places


def split_columns(joint: Mapping[str, int] | None, width: int, where: str) -> dict[str, Columns]:
    """Which of ``width`` joined columns are whose: as ``joint`` says, or RGB the first half and flow the
    second."""
    if joint is None:
        if width % 2:
            raise InputError(
                f"{where}: has {width} columns, which cannot be halved into RGB and flow. Say how they "
                "split, such as --joint rgb=1024,flow=512."
            )
        joint = {"rgb": width // 2, "flow": width // 2}
    if sum(joint.values()) != width or min(joint.values(), default=0) < 1:
        given = " + ".join(f"{name} {size}" for name, size in joint.items()) or "none"
        raise InputError(f"{where}: has {width} columns, but the streams' dimensions are {given}.")
    columns: dict[str, Columns] = {}
    start = 0
    for name, size in joint.items():
        check_stream_name(name, "--joint")
        columns[name] = Columns(start, start + size, width)
        start += size
    return columns


def describe(path: Path) -> str:
    """What lies in a folder, for a message: how many files of which ending, and which folders."""
    if not path.is_dir():
        return ""
    with os.scandir(path) as entries:
        kinds = [(entry.name, entry.is_dir()) for entry in entries if not entry.name.startswith(".")]
    folders = sorted(name for name, is_folder in kinds if is_folder)
    endings = [os.path.splitext(name)[1] or "no ending" for name, is_folder in kinds if not is_folder]
    parts = [f"{endings.count(ending)} files ({ending})" for ending in sorted(set(endings))]
    if folders:
        shown = ", ".join(folders[:_SHOWN]) + (", …" if len(folders) > _SHOWN else "")
        parts.append(f"folders {shown}")
    return f"It holds {'; '.join(parts) if parts else 'nothing'}."
