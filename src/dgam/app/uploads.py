"""Take a file out of a multipart request straight onto the disk, with a hard cap on every part of it.

Nothing is kept in memory but one chunk, no client's word is believed: not the length, not the type, and the
file name is only ever shown.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

import anyio
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from dgam.app.probe import Refused
from dgam.app.settings import shown_size

FIELD = "file"
MOST_FIELDS = 8
LONGEST_NAME = 120
SLACK = 64 << 10
"""Bytes that a request may have beside the file."""
_BATCH = 1 << 20


class FileReceiver:
    """Feeds a multipart body through a parser; the part named "file" is written to ``path``, others dropped.

    ``size`` counts the file's bytes, ``name`` is what the client calls it. :class:`Refused` for anything that
    is not such a request, and for a file above ``most`` bytes.
    """

    def __init__(self, content_type: str | None, path: Path, most: int) -> None:
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        if kind != b"multipart/form-data" or not 1 <= len(boundary) <= 200:
            raise Refused(
                "Expected a form (multipart/form-data with a boundary) with the video as its field "
                f"{FIELD!r}.",
                415,
            )
        self.size = 0
        self.name = ""
        self._path, self._most = path, most
        self._file: BinaryIO | None = None
        self._parts, self._others, self._found, self._ended = 0, 0, False, False
        self._field, self._value, self._disposition = b"", b"", b""
        self._waiting: list[bytes] = []
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._header_field,
                "on_header_value": self._header_value,
                "on_header_end": self._header_end,
                "on_headers_finished": self._headers_finished,
                "on_part_data": self._data,
                "on_part_end": self._end,
                "on_end": self._finish,
            },
        )

    async def receive(self, chunks: AsyncIterator[bytes], silence: float) -> None:
        """Read the whole body. :class:`Refused` also where nothing comes for ``silence`` seconds, or the
        client goes away."""
        try:
            while True:
                with anyio.fail_after(silence):
                    chunk = await anext(chunks, None)
                if chunk is None:
                    break
                self._parse(chunk)
                if sum(map(len, self._waiting)) >= _BATCH:
                    await anyio.to_thread.run_sync(self._write)
            if not self._ended:
                raise Refused("The upload broke off before its end. Send it again.", 400)
            if not self._found:
                raise Refused(f"The form has no file in its field {FIELD!r}.")
            if self.size == 0:
                raise Refused("The file is empty (0 bytes).")
            await anyio.to_thread.run_sync(self._write)
            await anyio.to_thread.run_sync(self._flush)
        except TimeoutError:
            raise Refused(f"Nothing of the upload came for {silence:g} s; it was given up.", 408) from None
        except ClientDisconnect:
            raise Refused("The upload broke off.", 400) from None
        finally:
            if self._file is not None:
                self._file.close()

    def _parse(self, chunk: bytes) -> None:
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise Refused(f"The form is malformed: {str(error)[:200]}.", 400) from None

    def _write(self) -> None:
        if self._file is None:
            self._file = self._path.open("xb")
        self._file.writelines(self._waiting)
        self._waiting.clear()

    def _flush(self) -> None:
        assert self._file is not None
        self._file.flush()
        os.fsync(self._file.fileno())

    def _begin(self) -> None:
        self._parts += 1
        self._field = self._value = self._disposition = b""
        if self._parts > MOST_FIELDS:
            raise Refused(f"The form has more than {MOST_FIELDS} fields.")

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._field.lower() == b"content-disposition":
            self._disposition = self._value
        self._field = self._value = b""

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition.decode("latin-1"))
        self._is_file = options.get(b"name") == FIELD.encode()
        if not self._is_file:
            return
        if self._found:
            raise Refused(f"The form has more than one {FIELD!r}. Send one video at a time.")
        if b"filename" not in options:
            raise Refused(f"The field {FIELD!r} is no file: it has no file name.")
        self._found = True
        self.name = options[b"filename"].decode("utf-8", "replace")

    def _data(self, data: bytes, start: int, end: int) -> None:
        if not self._is_file:
            self._others += end - start
            if self._others > SLACK:
                raise Refused("The form's other fields are too large.", 413)
            return
        self.size += end - start
        if self.size > self._most:
            raise too_large(self._most)
        self._waiting.append(data[start:end])

    def _end(self) -> None:
        self._is_file = False

    def _finish(self) -> None:
        self._ended = True


def too_large(most: int) -> Refused:
    """The refusal of a file that is above ``most`` bytes."""
    return Refused(f"The file is larger than {shown_size(most)}, the most that is taken.", 413)


def display_name(name: str) -> str:
    """A client's file name made fit to be shown and to be a download's name: no path, no control characters,
    nothing that turns text around, not too long; "video" where nothing is left."""
    last = re.split(r"[/\\]", unicodedata.normalize("NFC", name))[-1]
    kept = "".join(" " if unicodedata.category(char)[0] in "CZ" else char for char in last)
    kept = " ".join(re.sub(r'[<>:"|?*\ufffd]', "_", kept).split()).lstrip(".=+-@ ")
    if len(kept) > LONGEST_NAME:
        stem, dot, ending = kept.rpartition(".")
        kept = kept[:LONGEST_NAME] if not dot or len(ending) > 8 else stem[: LONGEST_NAME - 9] + dot + ending
    return kept if kept.strip("._ ") else "video"
