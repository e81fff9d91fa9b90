"""Downloads that go on where they were cut, and are accepted only with the right content."""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from dgam.core.errors import InputError

Report = Callable[[int, int | None], None]
"""Called with the bytes so far and the bytes in all, None where the server does not say."""

_CHUNK = 1 << 18
_MAX_BYTES = 1 << 30
_TIMEOUT = 30.0


def blob_id(path: str | os.PathLike[str]) -> str:
    """The git blob id of a file: SHA-1, in hex, of ``blob <size>``, a zero byte, and the content."""
    with open(path, "rb") as file:
        digest = hashlib.sha1(f"blob {os.fstat(file.fileno()).st_size}\0".encode(), usedforsecurity=False)
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def download(
    url: str,
    target: Path,
    blob: str,
    *,
    report: Report | None = None,
    attempts: int = 5,
    pause: float = 2.0,
) -> bool:
    """Bring ``url`` to ``target`` unless the file with this git blob id is already there.

    True if anything was fetched. Bytes collect in ``target``'s name with ``.part`` behind it, where a later
    call finds them and asks the server for the rest. ``target`` appears only once the content is right. Cut
    connections are tried again up to ``attempts`` times, ``pause`` seconds apart. InputError where the
    server cannot be reached or refuses, and where the content is not the one asked for.
    """
    if not url.startswith(("https://", "http://")):
        raise InputError(f"{url}: only http and https addresses can be fetched.")
    if target.is_file() and blob_id(target) == blob:
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    resumed = part.exists()
    _collect(url, part, report, attempts, pause)
    found = blob_id(part)
    if found != blob and resumed:  # what lay there from earlier may have been of another file
        part.unlink()
        _collect(url, part, report, attempts, pause)
        found = blob_id(part)
    if found != blob:
        part.unlink()
        raise InputError(
            f"{url}: the content is not the published file (git blob id {found}, expected {blob}); "
            f"it was thrown away. Try again later, or from another network or mirror."
        )
    with open(part, "rb") as file:
        os.fsync(file.fileno())
    os.replace(part, target)
    return True


def _collect(url: str, part: Path, report: Report | None, attempts: int, pause: float) -> None:
    for attempt in range(1, attempts + 1):
        try:
            _continue(url, part, report)
            return
        except urllib.error.HTTPError as error:
            error.close()
            if error.code < 500 or attempt == attempts:
                raise InputError(f"{url}: the server answers {error.code} {error.reason}.") from error
        except (OSError, http.client.HTTPException) as error:
            if attempt == attempts:
                kept = part.stat().st_size if part.exists() else 0
                raise InputError(
                    f"{url}: the download broke off ({error}). Type the command again to go on; "
                    f"{kept:,} bytes are kept."
                ) from error
        time.sleep(pause)


def _continue(url: str, part: Path, report: Report | None) -> None:
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "dgam", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        # Nothing lies beyond what is here: it is whole, or it is something else. The blob id will tell.
        error.close()
        return
    with response:
        content_range = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range") or "")
        if response.status != 206 or content_range is None or int(content_range[1]) != have:
            have = 0  # the server sends the file from its start
        length = response.headers.get("Content-Length")
        total = have + int(length) if length is not None and length.isdigit() else None
        if total is not None and total > _MAX_BYTES:
            raise InputError(f"{url}: the server wants to send {total:,} bytes, which cannot be the file.")
        with open(part, "ab" if have else "wb") as file:
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                have += len(chunk)
                if have > _MAX_BYTES:
                    raise InputError(f"{url}: the server sends more than {_MAX_BYTES:,} bytes; given up.")
                if report is not None:
                    report(have, total)
    if total is not None and have < total:
        raise http.client.IncompleteRead(b"", total - have)
