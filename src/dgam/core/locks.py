"""Locks between processes, on files that are locked and never read; a killed process lets go of its own."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: the user has to see to it
    # Windows has no fcntl; None stands for it, and the lock does without.
    fcntl = None  # type: ignore[assignment]  # not on Windows

_PAUSE = 0.02


@contextmanager
def file_lock(path: Path, *, shared: bool = False, patience: float = 0.0) -> Iterator[bool]:
    """Hold a lock on the file for the length of the block; it is made where it is not there.

    Yields whether the lock was had within ``patience`` seconds (infinite: wait as long as it takes). Several
    processes can hold a ``shared`` one together; an exclusive one removes the file when it ends. OSError
    where the file cannot be made. Where the system has no such locks (Windows) it is always had.
    """
    if fcntl is None:
        yield True
        return
    handle = _obtain(path, fcntl.LOCK_SH if shared else fcntl.LOCK_EX, time.monotonic() + patience)
    try:
        yield handle is not None
    finally:
        if handle is not None:
            if not shared:
                path.unlink(missing_ok=True)  # while it is held: see _is_at
            os.close(handle)


def _obtain(path: Path, kind: int, until: float) -> int | None:
    """The open and locked file, or None where another process held it until then."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            if time.monotonic() >= until:
                return None
            time.sleep(_PAUSE)
            continue
        if _is_at(path, handle):
            return handle
        os.close(handle)


def _is_at(path: Path, handle: int) -> bool:
    """Whether the open file is still the one of that name: its last holder may have removed it between the
    opening and the locking, and a lock on a file without a name keeps nobody out."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False
