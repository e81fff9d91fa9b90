"""Two published layouts that number their videos: the DGAM authors' release and W-TALC's one joint file.

The release (bfshi/DGAM-Weakly-Supervised-Action-Localization, ``lib/dataset/dataset.py``) keeps
``train_data/rgb_features/1.npy``, 2.npy, …, likewise ``flow_features`` and ``test_data``; line n of
``test_data/*_test_vid_list.txt`` names test video n. Its training videos have no names; here they are
"train_1", …. W-TALC (sujoyp/wtalc-pytorch, ``video_dataset.py``) pickles one list of (T, 2048) arrays, RGB in
the first 1024 columns, in the order of ``videoname.npy``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from dgam.core.errors import InputError
from dgam.features.arrays import MemoryPlace
from dgam.features.folders import Places, by_video, files, rgb_first, split_columns, subfolders
from dgam.features.names import read_names
from dgam.features.npy import read_objects

_PARTS = ("train", "test")


def release_parts(path: Path) -> dict[str, Path]:
    """The parts, "train" and "test", that lie in the release's layout under ``path``, or are ``path``
    itself."""
    candidates = {part: path / f"{part}_data" for part in _PARTS}
    candidates |= {part: path for part in _PARTS if path.name == f"{part}_data"}
    return {
        part: folder for part, folder in candidates.items() if folder.is_dir() and _stream_folders(folder)
    }


def release_places(path: Path, names: str | os.PathLike[str] | None) -> tuple[Places, list[str]]:
    """Where the release's features lie, and the streams. InputError for files that are not numbered."""
    places: Places = {}
    streams: set[str] = set()
    parts = release_parts(path)
    if not parts:
        raise InputError(f"{path}: holds no train_data or test_data with folders such as rgb_features.")
    if names is not None and len(parts) > 1:
        raise InputError(
            f"{path}: a list of names is for one part; open train_data and test_data one by one."
        )
    for part, folder in parts.items():
        numbered = {
            name.removesuffix("_features"): files(folder / name, ".npy") for name in _stream_folders(folder)
        }
        streams.update(numbered)
        known = release_names(folder, names)
        for number, at in by_video(numbered).items():
            if not (number.isascii() and number.isdecimal()):
                raise InputError(
                    f"{folder}: {number}.npy: the release's layout numbers its files (1.npy, 2.npy, …)."
                )
            places[release_id(part, int(number), known)] = at
    return places, rgb_first(streams)


def release_names(folder: Path, names: str | os.PathLike[str] | None = None) -> list[str] | None:
    """The names of a part's videos, from ``names`` or the list that lies in the folder; None where there is
    none."""
    listed = sorted(folder.glob("*_vid_list.txt"))
    if names is None and not listed:
        return None
    return read_names(names if names is not None else listed[0])


def release_id(part: str, number: int, names: Sequence[str] | None = None) -> str:
    """The id of a video that the release numbers, from 1: its name where they are listed, otherwise
    "train_1"."""
    if names is None:
        return f"{part}_{number}"
    if not 1 <= number <= len(names):
        raise InputError(
            f"{part}_data: there is a video {number}, but the list of names has {len(names)}, from 1."
        )
    return names[number - 1]


def wtalc_places(
    path: Path, names: str | os.PathLike[str] | None, joint: Mapping[str, int] | None, trusted: bool
) -> tuple[Places, list[str]]:
    """W-TALC's arrays, all in memory, and the streams. InputError without names or, for a pickle, without
    trust."""
    if names is None:
        beside = path.parent / f"{path.name.split('-')[0]}-Annotations" / "videoname.npy"
        names = next((file for file in (beside, path.parent / "videoname.npy") if file.is_file()), None)
    if names is None:
        raise InputError(
            f"{path}: numbers its videos and does not name them. Give their names with --names: "
            "videoname.npy of Thumos14reduced-Annotations, or a text file with one id a line."
        )
    arrays = read_objects(path, trusted=trusted)
    videos = read_names(names)
    if len(arrays) != len(videos):
        raise InputError(f"{path}: holds {len(arrays)} videos, but {names} lists {len(videos)}.")
    widths = [array.shape[1] for array in arrays if getattr(array, "ndim", 0) == 2]
    if not widths:
        raise InputError(f"{path}: holds no (T, d) arrays, expected one for each of {len(videos)} videos.")
    columns = split_columns(joint, max(widths, key=widths.count), str(path))
    places: Places = {
        video: {stream: MemoryPlace(f"{path}[{index}]", array, part) for stream, part in columns.items()}
        for index, (video, array) in enumerate(zip(videos, arrays, strict=True))
    }
    return places, list(columns)


def _stream_folders(folder: Path) -> list[str]:
    return [
        name for name in subfolders(folder) if name.endswith("_features") and files(folder / name, ".npy")
    ]
