"""One extraction at a time writes a store; what a killed one left half-written is cleared away.

Two empty files in the store are locked, never read: ``.extract.lock`` by the command, ``.workers.lock`` by
its worker processes, which may outlive a killed command by a moment.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dgam.core.errors import InputError

try:
    import fcntl
except ImportError:  # Windows: the user has to see to it
    # Windows has no fcntl; None stands for it, and the lock does without.
    fcntl = None  # type: ignore[assignment]

PATIENCE = 60.0
"""Seconds to wait for a killed command's workers to end."""


@contextmanager
def sole_writer(store: Path) -> Iterator[None]:
    """Hold the store for this command. InputError where another extraction is at work on it."""
    store.mkdir(parents=True, exist_ok=True)
    with _locked(store / ".extract.lock", shared=False, patience=0.0, who="another dgam extract"):
        with _locked(
            store / ".workers.lock", shared=False, patience=PATIENCE, who="a worker of a killed extraction"
        ):
            _clear(store)
        yield
        _clear(store)  # a worker or a node may have been killed in this run


def _clear(store: Path) -> None:
    """Remove the temporary files of writers that are no more."""
    for left in store.rglob(".*.part"):
        left.unlink(missing_ok=True)


@contextmanager
def worker(store: Path) -> Iterator[None]:
    """Show that a worker process is at work on the store."""
    with _locked(store / ".workers.lock", shared=True, patience=PATIENCE, who="another dgam extract"):
        yield


@contextmanager
def _locked(path: Path, *, shared: bool, patience: float, who: str) -> Iterator[None]:
    if fcntl is None:
        yield
        return
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        until = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= until:
                    raise InputError(
                        f"{path.parent}: {who} is writing to this store. Wait for it to end."
                    ) from None
                time.sleep(0.05)
        yield
    finally:
        os.close(handle)
