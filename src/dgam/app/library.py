"""The videos of the folder given with ``--videos``, under ids that are no paths."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from dgam.video.listing import VIDEO_ENDINGS

MOST = 10000


@dataclass(frozen=True)
class LibraryVideo:
    """A video of the folder: an opaque id, its path, its name below the folder, and its size in bytes."""

    id: str
    path: Path
    name: str
    size: int


def videos_in(folder: Path | None) -> list[LibraryVideo]:
    """Files with a video's ending below the folder, sorted by name; no hidden ones, none through linked
    folders, at most 10000. Empty where there is no folder."""
    found: list[LibraryVideo] = []
    if folder is None:
        return found
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(root, name)
            if name.startswith(".") or path.suffix.lower() not in VIDEO_ENDINGS or not path.is_file():
                continue
            below = path.relative_to(folder).as_posix()
            # "surrogateescape" is how Python keeps a file name that is no UTF-8; no JSON can hold that.
            shown = below.encode("utf-8", "replace").decode()
            key = hashlib.sha256(below.encode("utf-8", "surrogateescape")).hexdigest()[:24]
            found.append(LibraryVideo(key, path.absolute(), shown, path.stat().st_size))
            if len(found) == MOST:
                return found
    return sorted(found, key=lambda one: one.name)


def video_with(folder: Path | None, key: str) -> LibraryVideo | None:
    """The folder's video of this id, or None."""
    return next((one for one in videos_in(folder) if one.id == key), None)
