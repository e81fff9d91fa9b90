"""Which file each row of the labels speaks of."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PureWindowsPath

from dgam.core.types import VideoLabels
from dgam.fitting.findings import Findings, counted, listed
from dgam.video.listing import VIDEO_ENDINGS, VideoFile, find_videos


def list_videos(path: Path) -> list[VideoFile]:
    """The videos of a folder and its subfolders, or of a ``.txt`` list, sorted by path; ids may repeat.

    Hidden names are left out. InputError, as from ``find_videos``, for a list that names missing files.
    """
    if not path.is_dir():
        return list(find_videos([path]).videos)
    found = []
    for root, folders, files in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            file = Path(root, name)
            if file.suffix.lower() in VIDEO_ENDINGS and not name.startswith("."):
                found.append(VideoFile(file.stem, str(file), file.stat().st_size))
    return found


def match_labels(
    labels: VideoLabels, media: Sequence[VideoFile], where: str, source: str, findings: Findings
) -> tuple[VideoLabels, dict[str, VideoFile]]:
    """The labels under the ids of the files they speak of, and those files by id.

    A row may name a video by its id (the file name without the ending), its file name, or its path or the end
    of one, also as Windows writes it. ``where`` names the labels, ``source`` the videos, for messages.
    """
    matched: dict[str, tuple[str, ...]] = {}
    subsets: dict[str, str] = {}
    files: dict[str, VideoFile] = {}
    names: dict[str, str] = {}
    index = _index(media)
    for name, labelled in labels.labels.items():
        candidates = _candidates(name, index)
        if not candidates:
            findings.error(
                where, f"has labels, but there is no such video in {source}.", name, _near(name, media)
            )
        elif len(candidates) > 1:
            places = listed([file.path for file in candidates])
            findings.error(
                where,
                f"could be any of {places}.",
                name,
                "Rename all but one, or name its path in the labels.",
            )
        elif (file := candidates[0]).video in matched:
            first = names[file.video]
            if files[file.video].path != file.path:
                what = f"has the same name, without its ending, as {files[file.video].path}: {file.path}."
                findings.error(where, what, name, "Rename one.")
            else:
                findings.error(where, f"is the same video as {first!r}.", name, "Keep one row.")
        else:
            matched[file.video], files[file.video], names[file.video] = labelled, file, name
            if name in labels.subset_of:
                subsets[file.video] = labels.subset_of[name]
    _tell_unlabelled(media, files, where, source, findings)
    return VideoLabels(matched, labels.classes, subsets), files


def _tell_unlabelled(
    media: Sequence[VideoFile], files: Mapping[str, VideoFile], where: str, source: str, findings: Findings
) -> None:
    used = {file.path or file.video for file in files.values()}
    left = [file for file in media if (file.path or file.video) not in used]
    left = [file for file in left if file.video not in files]
    if left:
        names = listed(sorted({file.video for file in left}))
        findings.warn(
            source,
            f"{counted(len(left), 'video')} without a row in {where}: {names}. Not used.",
            remedy="If none of the actions happens in them, give each a row without labels: that helps.",
        )


def _index(media: Sequence[VideoFile]) -> dict[str, list[VideoFile]]:
    """Every way to name each file: id, file name, and all ends of its path, with and without the ending."""
    index: dict[str, list[VideoFile]] = {}
    for file in media:
        parts = Path(file.path).parts if file.path else ()
        ends = {"/".join(parts[start:]) for start in range(1, len(parts))}
        keys = {file.video, *ends, *(str(Path(end).with_suffix("")) for end in ends)}
        for key in keys:
            index.setdefault(key, []).append(file)
    return index


def _candidates(name: str, index: Mapping[str, list[VideoFile]]) -> list[VideoFile]:
    """Files that a row may mean: by the name as it stands, else by ever shorter ends of it."""
    parts = [part for part in PureWindowsPath(name).parts if part.strip("/\\.")]
    for start in range(len(parts)):
        end = "/".join(parts[start:])
        for key in dict.fromkeys([end, _without_ending(end)]):
            if key in index:
                return index[key]
    return index.get(name, [])


def _without_ending(name: str) -> str:
    path = Path(name)
    return str(path.with_suffix("")) if path.suffix.lower() in VIDEO_ENDINGS else name


def _near(name: str, media: Sequence[VideoFile]) -> str:
    known = {file.video for file in media}
    plain = _without_ending(PureWindowsPath(name).name)
    if near := difflib.get_close_matches(plain, known, 1, cutoff=0.5):
        return f"The nearest name is {near[0]!r}."
    return "No name is near to it."
