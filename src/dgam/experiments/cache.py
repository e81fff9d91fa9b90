"""What finished runs and measurements are kept in, and found in again, by what they are made of.

    CACHE/runs/KEY/       a run folder of one stream; finished once done.json is there, which is written last
    CACHE/results/KEY.json  what was measured of a set of runs
    CACHE/locks/KEY.lock    locked, never read: who holds it is at work on KEY
    CACHE/simulated/…       data of --data sim

A key is a digest of the data's content, the settings, the stream, the seed, dgam's version and its source
(``source``); names and places of files are no part of it, so moved data and other experiments find the same
runs.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dgam.core.errors import InputError
from dgam.core.files import write_json
from dgam.core.locks import file_lock

DONE = "done.json"


class RunCache:
    """Finished runs and measurements below one folder, shared by any number of processes."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root).absolute()
        if self.root.exists() and not self.root.is_dir():
            raise InputError(f"--cache {root}: is a file; expected a folder.")

    def run_folder(self, key: str) -> Path:
        """The run folder of a training."""
        return self.root / "runs" / key

    def run_facts(self, key: str) -> dict[str, Any] | None:
        """What ``finish_run`` noted of a finished training; None where it is not finished."""
        return _read(self.run_folder(key) / DONE)

    def finish_run(self, key: str, facts: dict[str, Any]) -> None:
        """Mark a training as finished."""
        write_json(self.run_folder(key) / DONE, facts)

    def result(self, key: str) -> dict[str, Any] | None:
        """A measurement; None where it was not made yet."""
        return _read(self.root / "results" / f"{key}.json")

    def keep_result(self, key: str, value: dict[str, Any]) -> None:
        """Keep a measurement."""
        write_json(self.root / "results" / f"{key}.json", value, indent=None)

    @contextmanager
    def claim(self, key: str, *, wait: bool) -> Iterator[bool]:
        """Whether the work on ``key`` is this process's for the length of the block.

        With ``wait`` it always becomes so, once another process has finished or died.
        """
        path = self.root / "locks" / f"{key}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        with file_lock(path, patience=math.inf if wait else 0.0) as mine:
            yield mine


def digest_of(value: Any, more: Iterable[bytes] = ()) -> str:
    """Hex digest of a JSON value and of byte strings, 24 characters."""
    digest = hashlib.blake2b(digest_size=12)
    digest.update(json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False).encode())
    for part in more:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


def _read(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: damaged ({error}). Remove it, and it is made again.") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: damaged, it holds no object. Remove it, and it is made again.")
    return value
