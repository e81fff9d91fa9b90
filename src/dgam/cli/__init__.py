"""The command line: ``dgam COMMAND …``, one thin module per command, loaded when the command is called."""

from __future__ import annotations

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (by default that of the process) and return its exit code.

    0: done; 1: our fault; 2: bad usage or bad input; 130: interrupted by Ctrl-C.
    """
    from dgam.cli.run import run

    return run(argv)
