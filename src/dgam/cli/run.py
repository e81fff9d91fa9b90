"""Run a command line and turn whatever happens into a message and an exit code."""

from __future__ import annotations

import difflib
import os
import sys
import traceback
from collections.abc import Sequence

from cyclopts import CycloptsError
from cyclopts.exceptions import MissingArgumentError, UnknownCommandError, UnusedCliTokensError

from dgam.cli.app import COMMANDS, build_app
from dgam.core.errors import InputError

DONE, OUR_FAULT, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


def run(argv: Sequence[str] | None = None) -> int:
    """Run ``argv`` (by default that of the process). Results go to stdout, messages to stderr.

    Tracebacks appear only with ``--debug`` anywhere among the arguments, or DGAM_DEBUG=1 in the environment.
    """
    tokens, debug = _take_debug(sys.argv[1:] if argv is None else argv)
    command = tokens[0] if tokens and tokens[0] in COMMANDS else ""
    name = f"dgam {command}".rstrip()
    try:
        build_app(command)(tokens, exit_on_error=False, print_error=False, result_action="return_value")
        sys.stdout.flush()
    except CycloptsError as error:
        _say(f"{name}: {_usage_message(error)}\nSee: {name} --help", debug)
        return BAD_INPUT
    except InputError as error:
        _say(f"{name}: {error}", debug)
        return BAD_INPUT
    except KeyboardInterrupt:
        _say(f"{name}: interrupted.", debug)
        return INTERRUPTED
    except BrokenPipeError:
        _forget_output()  # whoever read it has enough, as in `dgam info settings | head`
        return DONE
    except OSError as error:
        # A full disk, a folder without permission: neither bad input nor a defect, so the system's words do.
        _forget_output()
        file = f" ({error.filename})" if error.filename is not None else ""
        _say(f"{name}: the system refused: {error.strerror or error}{file}", debug)
        return OUR_FAULT
    except Exception as error:
        told = f"{name}: a fault of dgam itself, not of your input: {type(error).__name__}: {error}"
        if not debug:
            told += (
                "\nCall it again with --debug (or DGAM_DEBUG=1) for the traceback, and please report that."
            )
        _say(told, debug)
        return OUR_FAULT
    return DONE


def _take_debug(argv: Sequence[str]) -> tuple[list[str], bool]:
    """The arguments without ``--debug``, and whether it (or DGAM_DEBUG) was there; after ``--`` all stay."""
    end = argv.index("--") if "--" in argv else len(argv)
    tokens = [token for token in argv[:end] if token != "--debug"]
    debug = len(tokens) < end or os.environ.get("DGAM_DEBUG", "") not in ("", "0")
    return tokens + list(argv[end:]), debug


def _forget_output() -> None:
    """Let what stdout has not taken go, if it takes no more; Python's own flush at exit would complain."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(message: str, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    print(message, file=sys.stderr)


def _usage_message(error: CycloptsError) -> str:
    """cyclopts' message, in plainer words where its own could mislead."""
    if isinstance(error, UnknownCommandError):
        # cyclopts would import every command to word its own message.
        unknown = (error.unused_tokens or [""])[0]
        if unknown.startswith("-"):
            return f"unknown option {unknown}."
        close = difflib.get_close_matches(unknown, COMMANDS, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else f" Commands: {', '.join(COMMANDS)}."
        return f"unknown command {unknown!r}.{hint}"
    error.verbose = False
    text = str(error)
    if isinstance(error, MissingArgumentError) and error.argument is not None:
        option = error.keyword or error.argument.name
        given = bool(error.argument.tokens) or error.keyword is not None
        hint = text[text.index(" Did you mean") :] if " Did you mean" in text else ""
        return f"{option} needs a value.{hint}" if given else f"{option} is missing.{hint}"
    if isinstance(error, UnusedCliTokensError):
        return f"did not expect {' '.join(map(repr, error.unused_tokens or ()))}."
    return text[:1].lower() + text[1:]
