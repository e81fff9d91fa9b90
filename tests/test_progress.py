"""The progress bar: seen on a terminal, silent elsewhere."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

CODE = """
import sys
from dgam.core.progress import track
with track("counting", total=3) as advance:
    for number in range(3):
        advance(1, loss=0.5, epoch=number)
print("rich" in sys.modules)
"""


def test_nothing_is_shown_and_nothing_loaded_where_nobody_watches() -> None:
    command = [sys.executable, "-c", CODE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_a_terminal_sees_how_far_it_is() -> None:
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    command = [sys.executable, "-c", CODE]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, env=environment, text=True)
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 4096):
            shown += part
    except OSError:  # how Linux says that the other end is closed
        pass
    finally:
        os.close(ours)
    assert process.communicate(timeout=60)[0] == "True\n"
    text = shown.decode()
    assert "counting" in text
    assert "3/3" in text
    assert "loss 0.5  epoch 2" in text


def test_what_goes_wrong_inside_comes_out() -> None:
    code = CODE.replace("advance(1, loss=0.5, epoch=number)", "1 / 0")
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
