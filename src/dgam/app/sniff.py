"""What a file's first bytes say it is. Only containers that hold everything themselves are taken.

FFmpeg also reads playlists and lists of other files (HLS, DASH, concat, image sequences), which would make it
open whatever an uploaded file names; and a browser would run what an SVG or HTML file holds. Neither begins
like any of these.
"""

from __future__ import annotations

from typing import NamedTuple

HEAD = 8192
"""Bytes that are looked at."""


class Kind(NamedTuple):
    """A kind of file: the ending it is stored under, and the FFmpeg demuxers that may read it."""

    ending: str
    demuxers: str


MP4 = Kind(".mp4", "mov,mp4,m4a,3gp,3g2,mj2")
MATROSKA = Kind(".mkv", "matroska,webm")
WEBM = Kind(".webm", "matroska,webm")
AVI = Kind(".avi", "avi")
TRANSPORT = Kind(".ts", "mpegts")
PROGRAM = Kind(".mpg", "mpeg,mpegvideo")
FLASH = Kind(".flv", "flv")
OGG = Kind(".ogv", "ogg")
ASF = Kind(".wmv", "asf,asf_o")
KINDS = (MP4, MATROSKA, WEBM, AVI, TRANSPORT, PROGRAM, FLASH, OGG, ASF)
SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".3gp", ".mkv", ".webm", ".avi", ".ts", ".mts", ".m2ts"),
    *(".mpg", ".mpeg", ".flv", ".ogv", ".wmv", ".asf"),
)
"""Endings that such files usually have, for a page's file picker."""

_ATOMS = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot")
_ASF_GUID = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")


def sniff(head: bytes) -> Kind | None:
    """The kind of file that begins with ``head``; None for one that is not taken."""
    if head[4:8] in _ATOMS:
        return MP4
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return WEBM if b"webm" in head[:64] else MATROSKA
    if head.startswith(b"RIFF") and head[8:12] == b"AVI ":
        return AVI
    if _has_sync(head, 0, 188) or _has_sync(head, 4, 192):
        return TRANSPORT
    if head.startswith((b"\x00\x00\x01\xba", b"\x00\x00\x01\xb3")):
        return PROGRAM
    if head.startswith(b"FLV\x01"):
        return FLASH
    if head.startswith(b"OggS\x00"):
        return OGG
    if head.startswith(_ASF_GUID):
        return ASF
    return None


def _has_sync(head: bytes, first: int, step: int) -> bool:
    """Whether every packet of a transport stream in ``head`` begins with its sync byte; two at least."""
    found = head[first::step]
    return len(found) >= 2 and set(found) == {0x47}
