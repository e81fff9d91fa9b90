"""Serve a file in whole or in part (RFC 9110, section 14), so that a player can seek."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator
from email.utils import formatdate
from pathlib import Path
from typing import NamedTuple

import anyio
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

CHUNK = 256 << 10


class Part(NamedTuple):
    """Bytes ``first`` to ``last``, both included."""

    first: int
    last: int


class Unsatisfiable(Exception):
    """A range that begins behind the file's end."""


def parse_range(header: str, size: int) -> Part | None:
    """The one range that a Range header asks for, cut to a file of ``size`` bytes.

    None where the whole file is to be sent: another unit, a malformed header, or several ranges, which no
    player asks for and which can be abused. :class:`Unsatisfiable` as its name says.
    """
    found = re.fullmatch(r"\s*bytes\s*=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*", header, re.IGNORECASE | re.ASCII)
    if found is None or found[1] == found[2] == "":
        return None
    if found[1] == "":  # the last so many bytes
        count = int(found[2])
        if count == 0 or size == 0:
            raise Unsatisfiable
        return Part(max(0, size - count), size - 1)
    first, last = int(found[1]), int(found[2]) if found[2] else size - 1
    if found[2] and last < first:
        return None
    if first >= size:
        raise Unsatisfiable
    return Part(first, min(last, size - 1))


def file_response(request: Request, path: Path, media_type: str) -> Response:
    """The file, or the part that the request asks for: 200, 206, 304 or 416. FileNotFoundError where it is
    gone."""
    facts = os.stat(path)
    etag = f'"{facts.st_mtime_ns:x}-{facts.st_size:x}"'
    modified = formatdate(facts.st_mtime, usegmt=True)
    headers = {
        "accept-ranges": "bytes",
        "etag": etag,
        "last-modified": modified,
        "cache-control": "private, no-cache",
        "content-disposition": "inline",
    }
    if etag in [one.strip() for one in request.headers.get("if-none-match", "").split(",")]:
        return Response(status_code=304, headers=headers)
    part = None
    wanted = request.headers.get("range")
    if wanted is not None and request.headers.get("if-range", etag) in (etag, modified):
        try:
            part = parse_range(wanted, facts.st_size)
        except Unsatisfiable:
            headers["content-range"] = f"bytes */{facts.st_size}"
            return Response(status_code=416, headers=headers)
    first, last = part or Part(0, facts.st_size - 1)
    headers["content-length"] = str(last + 1 - first)
    if part is not None:
        headers["content-range"] = f"bytes {first}-{last}/{facts.st_size}"
    status = 200 if part is None else 206
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=media_type)
    return StreamingResponse(_read(path, first, last + 1 - first), status, headers, media_type)


async def _read(path: Path, first: int, count: int) -> AsyncIterator[bytes]:
    async with await anyio.open_file(path, "rb") as file:
        await file.seek(first)
        while count > 0:
            chunk = await file.read(min(CHUNK, count))
            if not chunk:
                return  # the file was cut meanwhile; the client sees that bytes are missing
            count -= len(chunk)
            yield chunk
