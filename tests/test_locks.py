"""Locks between processes: exclusive, shared, waited for, and let go of by a killed holder."""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dgam.core.locks import file_lock

HOLD = """
import sys, time
from pathlib import Path
from dgam.core.locks import file_lock
with file_lock(Path(sys.argv[1]), shared=sys.argv[2] == "shared") as mine:
    print(mine, flush=True)
    time.sleep(60)
"""


def holder(path: Path, kind: str) -> subprocess.Popen[str]:
    """Another process that holds the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), kind], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "True"
    return process


def test_an_exclusive_lock_is_refused_until_its_holder_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with holder(path, "exclusive") as other:
        with file_lock(path) as mine:
            assert not mine
        began = time.monotonic()
        with file_lock(path, patience=0.3) as mine:
            assert not mine
        assert time.monotonic() - began >= 0.3
        other.kill()
    with file_lock(path, patience=math.inf) as mine:
        assert mine


def test_shared_locks_go_together_and_keep_an_exclusive_one_out(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with holder(path, "shared") as other:
        with file_lock(path, shared=True) as mine:
            assert mine
        with file_lock(path) as mine:
            assert not mine
        other.kill()


def test_a_lock_is_let_go_of_at_the_end_and_after_an_error(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    for _ in range(2):
        try:
            with file_lock(path) as mine:
                assert mine
                raise RuntimeError
        except RuntimeError:
            pass


COUNT = """
import math, sys
from pathlib import Path
from dgam.core.locks import file_lock
lock, number = Path(sys.argv[1]), Path(sys.argv[2])
for _ in range(400):
    with file_lock(lock, patience=math.inf) as mine:
        assert mine
        number.write_text(str(int(number.read_text()) + 1))
"""


def test_no_two_hold_it_though_each_removes_the_file(tmp_path: Path) -> None:
    number = tmp_path / "number"
    number.write_text("0")
    command = [sys.executable, "-c", COUNT, str(tmp_path / "lock"), str(number)]
    with contextlib.ExitStack() as stack:
        others = [stack.enter_context(subprocess.Popen(command)) for _ in range(3)]
        assert [other.wait() for other in others] == [0, 0, 0]
    assert number.read_text() == "1200"
    assert [path.name for path in tmp_path.iterdir()] == ["number"]


def test_a_file_removed_between_opening_and_locking_is_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, flock, seen = tmp_path / "lock", fcntl.flock, list[int]()

    def flock_after_removal(handle: int, kind: int) -> None:
        if not seen:
            path.unlink()  # as the last holder does
        seen.append(os.fstat(handle).st_ino)
        flock(handle, kind)

    monkeypatch.setattr(fcntl, "flock", flock_after_removal)
    with file_lock(path) as mine:
        assert mine
        assert len(seen) == 2
        assert path.stat().st_ino == seen[-1]
