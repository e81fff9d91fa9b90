"""The command line: its contract, its exit codes, and what it says to people who mistype."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
from cyclopts import App

import dgam
from dgam.cli import main
from dgam.cli.app import COMMANDS, build_app


def run(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    """The command as a process of its own."""
    command = [sys.executable, "-m", "dgam", *arguments]
    # For mypy: options of several types.
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)  # type: ignore[call-overload, no-any-return]


# Behind a message about the form of the call.
SEE = "\nSee: COMMAND --help"

# OUT, FEATURES, DETECTIONS, GT and LABELS stand for paths.
BAD = [
    (
        "tran FEATURES",
        "unknown command 'tran'. Did you mean 'train'?" + SEE,
    ),
    (
        "xyzzy",
        f"unknown command 'xyzzy'. Commands: {', '.join(COMMANDS)}." + SEE,
    ),
    (
        "--fast",
        "unknown option --fast." + SEE,
    ),
    (
        "simulate",
        "OUT is missing." + SEE,
    ),
    (
        "simulate OUT more",
        "did not expect 'more'." + SEE,
    ),
    (
        "simulate OUT --seed",
        "--seed needs a value." + SEE,
    ),
    (
        "simulate OUT --seed x",
        'invalid value for --seed: unable to convert "x" into int.' + SEE,
    ),
    (
        "simulate OUT --sed 3",
        "unknown option: --sed. Did you mean --seed?" + SEE,
    ),
    (
        "simulate OUT --seed -1",
        "seed: must be a whole number from 0 on, got -1.",
    ),
    (
        "simulate OUT --preset eazy --set trian=3",
        "The simulation's knobs are not usable:\n  preset: unknown preset 'eazy'. Did you mean "
        "'easy'?\n  trian: is no knob of the simulation. Did you mean 'train'?",
    ),
    (
        "simulate OUT --set context",
        "--set: 'context' is not of the form knob=value, such as context=0.4.",
    ),
    (
        "evaluate DETECTIONS",
        "--ground-truth is missing." + SEE,
    ),
    (
        "evaluate nowhere.json --ground-truth GT",
        "nowhere.json: cannot be read: No such file or directory.",
    ),
    (
        "evaluate GT --ground-truth GT",
        "GT: has no object 'results', so it is not an ActivityNet result file; its keys are 'version', "
        "'database'. Expected {'results': {video: [{'label', 'score', 'segment'}, …]}}. Is it the ground "
        "truth?",
    ),
    (
        "evaluate DETECTIONS --ground-truth LABELS",
        "LABELS: holds video labels without times, expected segments: ActivityNet JSON, THUMOS14's text "
        "files, or W-TALC's folder.",
    ),
    (
        "evaluate DETECTIONS --ground-truth GT --tiou 0:1:0.1",
        "--tiou: cannot use '0:1:0.1'; expected numbers in (0, 1], as 0.5 or 0.3,0.5,0.7 or 0.1:0.9:0.1 "
        "(first:last:step).",
    ),
    (
        "evaluate DETECTIONS --ground-truth GT --subset val",
        "GT: has no video of subset val; it has 'train' (4 videos), 'test' (3 videos). See --subset.",
    ),
    (
        "evaluate DETECTIONS --ground-truth GT --protocol thumos",
        "--protocol: unknown protocol 'thumos'",
    ),
    (
        "evaluate DETECTIONS --ground-truth GT --ambiguous skip",
        'invalid value "skip" for --ambiguous. Choose from: "keep", "drop".' + SEE,
    ),
    (
        "import FEATURES",
        "--out is missing." + SEE,
    ),
    (
        "import nowhere --out OUT",
        "nowhere: does not exist. Expected snippet features: a store, or a folder with .npy files.",
    ),
    (
        "import FEATURES --out OUT --fps 0",
        "--fps 0, --snippet 16, --stride None: expected numbers above 0, --fps as 25, 29.97 or "
        "30000/1001, the others whole.",
    ),
    (
        "import FEATURES --out OUT --fps fast",
        "--fps fast, --snippet 16, --stride None: expected numbers above 0, --fps as 25, 29.97 or "
        "30000/1001, the others whole.",
    ),
    (
        "import FEATURES --out OUT --joint rgb",
        "--joint: 'rgb' is not usable; expected streams with their dimensions, as rgb=1024,flow=1024.",
    ),
    (
        "import FEATURES --out OUT --streams rbg",
        "FEATURES: has no stream 'rbg'; it has rgb, flow. Did you mean 'rgb'?",
    ),
    (
        "check FEATURES --labels LABELS --subset val",
        "LABELS: has no video of subset val. Its subsets: test, train.",
    ),
    (
        "info setings",
        "'setings' is no file, folder or topic. Did you mean 'settings'?",
    ),
    (
        "info settings --set train.epoch=3 --set loss.alpha=-1",
        "The settings are not usable:\n  --set loss.alpha: must be greater than or equal to 0, got "
        "-1.\n  --set train.epoch: no such setting. Did you mean 'epochs'?",
    ),
    (
        "info settings --config nowhere.yaml",
        "The settings are not usable:\n  nowhere.yaml: cannot be read: No such file or directory.",
    ),
    (
        "train FEATURES --labels LABELS",
        "--out is missing." + SEE,
    ),
    (
        "train FEATURES --labels LABELS --out OUT --set train.epoch=3",
        "The settings are not usable:\n  --set train.epoch: no such setting. Did you mean 'epochs'?",
    ),
    (
        "train FEATURES --labels LABELS --out OUT --subset val",
        "LABELS: has no video of subset val. Its subsets: test, train.",
    ),
    (
        "train FEATURES --labels nowhere.csv --out OUT",
        "nowhere.csv: does not exist. Expected annotations: a CSV 'video,labels' or ActivityNet JSON.",
    ),
    (
        "localize FEATURES FEATURES --out OUT",
        "FEATURES: not a run folder, it has no run.json. Expected what 'dgam train --out RUN' made.",
    ),
]


@pytest.mark.parametrize(("line", "message"), BAD)
def test_bad_command_lines_exit_with_2_and_say_why(
    line: str,
    message: str,
    simulated: Path,
    detections: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    places = {
        "OUT": tmp_path / "out",
        "FEATURES": simulated / "train",
        "DETECTIONS": detections,
        "GT": simulated / "gt.json",
        "LABELS": simulated / "labels.csv",
    }
    capsys.readouterr()
    assert main([str(places.get(word, word)) for word in line.split()]) == 2
    out, said = capsys.readouterr()
    assert out == "" or line.startswith("check")  # which tells of what it has read so far
    command = line.split()[0]
    name = f"dgam {command}" if command in COMMANDS else "dgam"
    expected = re.sub(r"\b(GT|LABELS|FEATURES)\b(?=:)", lambda found: str(places[found[0]]), message)
    assert said.startswith(f"{name}: " + expected.replace("COMMAND", name))
    assert said.count("\n") == message.count("\n") + 1
    assert "Traceback" not in said


def divide() -> None:
    """A command with a fault in it."""
    _ = 1 / 0


def test_a_fault_of_ours_exits_with_1_and_tells_how_to_see_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(COMMANDS, "divide", (f"{__name__}:divide", "Divide."))
    monkeypatch.delenv("DGAM_DEBUG", raising=False)
    assert main(["divide"]) == 1
    said = capsys.readouterr().err
    assert said == (
        "dgam divide: a fault of dgam itself, not of your input: ZeroDivisionError: division by zero\n"
        "Call it again with --debug (or DGAM_DEBUG=1) for the traceback, and please report that.\n"
    )
    assert main(["divide", "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err
    monkeypatch.setenv("DGAM_DEBUG", "1")
    assert main(["divide"]) == 1
    assert "in divide" in capsys.readouterr().err


def test_ctrl_c_exits_with_130_and_no_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dgam", "simulate", str(tmp_path / "sim"), "--set", "train=20000"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        for _ in range(600):
            if (tmp_path / "sim" / "README.txt").exists():
                break
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[1]
    finally:
        process.kill()
    assert process.returncode == 130
    assert said == "dgam simulate: interrupted.\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_full_disk_is_told_in_the_systems_words() -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "dgam", "info", "settings"]
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False
        )
    assert done.returncode == 1
    assert done.stderr == "dgam info: the system refused: No space left on device\n"


def test_a_reader_that_has_enough_is_no_fault() -> None:
    command = f"{sys.executable} -m dgam info settings | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("model:")


def test_the_process_exits_with_the_code_of_main() -> None:
    assert run("simulate").returncode == 2
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"{dgam.__version__}\n")


def test_the_list_of_commands_and_no_command_at_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    told = capsys.readouterr().out
    assert main([]) == 0
    assert capsys.readouterr().out == told
    places = [re.search(rf"│ {name} ", told) for name in COMMANDS]
    assert all(places)
    assert [found.start() for found in places if found] == sorted(found.start() for found in places if found)


@pytest.mark.parametrize("command", [*sorted({*COMMANDS} - {"weights"}), "weights get", "weights check"])
def test_the_help_of_a_command_reads_like_documentation(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = command.split()
    assert main([*words, "--help"]) == 0
    told = capsys.readouterr().out
    assert told.startswith(f"Usage: dgam {command} ")
    explanation = told.split("╭")[0]
    assert len(explanation.split()) > 25
    if len(words) == 1:
        assert f" dgam {command}" in explanation.split("\n", 1)[1]  # an example
    app: App = build_app(words[0])
    for word in words:
        app = app[word]
    arguments = app.assemble_argument_collection(parse_docstring=True)
    silent = [argument.name for argument in arguments if argument.show and not argument.parameter.help]
    assert silent == []


@pytest.mark.parametrize(
    "line",
    [
        "simulate OUT --seed 0",
        "train FEATURES --labels labels.csv --subset train --out RUN --preset default --seed 0 "
        "--set train.epochs=200 --set train.batch=8",
        "localize RUN FEATURES --out detections.json",
        "evaluate detections.json --ground-truth gt.json --subset test --tiou 0.1:0.9:0.1 --json",
        "import SOURCE --out STORE --fps 25 --snippet 16",
    ],
)
def test_the_calls_that_others_rely_on_are_understood(line: str) -> None:
    command, *_ = tokens = line.split()
    function, bound, unused = build_app(command).parse_args(tokens, exit_on_error=False, print_error=False)
    assert function.__module__ == COMMANDS[command][0].split(":")[0]
    understood = repr(bound.arguments)
    assert all(token in understood for token in tokens[1:] if not token.startswith("--"))
    assert bound.arguments.get("json", True)
    assert not unused


def test_the_version_is_that_of_the_project() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    assert dgam.__version__ == project["version"]


def test_the_package_offers_what_the_api_does() -> None:
    from dgam import api

    assert set(dgam.__all__) == {"__version__", *api.__all__}
    for name in api.__all__:
        assert getattr(dgam, name) is getattr(api, name)
        assert getattr(dgam, name).__doc__
    with pytest.raises(AttributeError, match="module 'dgam' has no attribute 'trian'"):
        dgam.trian  # noqa: B018 - read for its error
