"""Video ids: as file names and back, and lists of them.

Ids made of letters, digits and ``_ - . ( ) + = , @ ! ~ #`` and inner spaces are their own file names.
Anything that some file system forbids, hides or rewrites (``/``, ``:``, a leading dot, an accent written as
its own character, …) is written as ``%XX`` for each byte of its UTF-8 form, so no two ids share a file.
"""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path

from dgam.core.errors import InputError
from dgam.features.npy import read_objects

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.()+=,@!~# ")
_LONGEST = 200  # bytes; file systems allow 255, and a temporary name beside the file needs some
_ESCAPED = re.compile(r"(?:%[0-9A-F]{2})+")


def file_stem(video: str) -> str:
    """The file name, without its ending, of a video id. InputError for an id that cannot be a file name."""
    if not video:
        raise InputError("A video id must not be empty.")
    try:
        composed = unicodedata.normalize("NFC", video) == video
        last = len(video) - 1
        pieces = [
            char if _is_plain(char, composed) and not (char in ". " and index in (0, last)) else _escape(char)
            for index, char in enumerate(video)
        ]
    except UnicodeEncodeError:
        raise InputError(f"video id {video!r} holds half a surrogate pair, which is no text.") from None
    stem = "".join(pieces)
    if len(stem.encode()) > _LONGEST:
        raise InputError(
            f"video id {video[:40]!r}… is too long: {len(stem.encode())} bytes as a file name, at most "
            f"{_LONGEST} are possible."
        )
    return stem


def video_id(stem: str) -> str:
    """The video id of a file stem that :func:`file_stem` made; InputError for any other."""
    try:
        video = _ESCAPED.sub(lambda found: bytes.fromhex(found[0].replace("%", "")).decode(), stem)
        if file_stem(video) == stem:
            return video
    except (UnicodeDecodeError, InputError):
        pass
    raise InputError(f"file name {stem!r} was not made by dgam: it is not the name of any video id.")


def _is_plain(char: str, composed: bool) -> bool:
    return char in _PLAIN or (composed and not char.isascii() and char.isalnum())


def _escape(char: str) -> str:
    return "".join(f"%{byte:02X}" for byte in char.encode())


def read_names(path: str | os.PathLike[str]) -> list[str]:
    """Video ids from a text file, one a line, or a ``.npy`` array of strings. InputError for a repeated or
    empty one."""
    file = Path(path)
    if file.suffix == ".npy":
        found = read_objects(file, trusted=False)
        if not all(isinstance(name, str | bytes) for name in found):
            raise InputError(f"{file}: expected an array of video names.")
    else:
        found = [*_read_lines(file)]
    try:
        names = [name.decode() if isinstance(name, bytes) else str(name) for name in found]
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: a name is not UTF-8 text: {error}.") from error
    seen: set[str] = set()
    for number, name in enumerate(names, start=1):
        if not name or name in seen:
            raise InputError(f"{file}: name {number} is {'repeated: ' + repr(name) if name else 'empty'}.")
        seen.add(name)
    return names


def _read_lines(file: Path) -> list[str]:
    try:
        return [line.strip() for line in file.read_text(encoding="utf-8-sig").strip().splitlines()]
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: is not UTF-8 text: {error}.") from error
