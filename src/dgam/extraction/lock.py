"""One extraction at a time writes a store; what a killed one left half-written is cleared away.

Two empty files in the store are locked, never read: ``.extract.lock`` by the command, ``.workers.lock`` by
its worker processes, which may outlive a killed command by a moment.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dgam.core.errors import InputError
from dgam.core.locks import file_lock

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
        with file_lock(store / ".workers.lock"):  # which removes the file
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
    with file_lock(path, shared=shared, patience=patience) as mine:
        if not mine:
            raise InputError(f"{path.parent}: {who} is writing to this store. Wait for it to end.")
        yield
