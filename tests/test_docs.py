"""What the pages in docs/ tell a reader to type is run, or at least understood, by the real program."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

import dgam
from coded_videos import write_video
from dgam.cli import main
from dgam.cli.app import COMMANDS, build_app
from dgam.core.config import load_config, preset_names

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if "runs" not in path.parts)
BACKBONE = DOCS / "backbone.md"

# Examples that need what a test machine lacks; their imports and names are checked all the same.
NOT_RUN = {
    "extract.md 1": "I3D's published weights",
    "fit.md 1": "I3D's published weights; test_fit_videos.py and test_localizer.py take another encoder",
    "i3d.md 2": "OpenVINO and I3D's published weights",
    "localize.md 1": "FiftyOne",
}


class Block(NamedTuple):
    """A fenced block: its page and number among those of its language, the language, and the text."""

    name: str
    language: str
    text: str


def blocks(page: Path) -> Iterator[Block]:
    counts: dict[str, int] = {}
    fences = re.finditer(r"^( *)```(\w+)\n(.*?)^\1```$", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    for indent, language, text in (fence.groups() for fence in fences):
        counts[language] = counts.get(language, 0) + 1
        lines = text.splitlines(keepends=True)
        name = f"{page.relative_to(DOCS)} {counts[language]}"
        yield Block(name, language, "".join(line.removeprefix(indent) for line in lines))


def commands(text: str) -> list[list[str]]:
    """The words of each command line; a backslash at the end joins lines."""
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def shown_commands(page: Path) -> list[list[str]]:
    """The words after ``dgam`` of every line that is shown as a command, in fenced and in indented blocks."""
    fenced = [
        command for block in blocks(page) if block.language == "bash" for command in commands(block.text)
    ]
    plain = re.sub(r"\\\n\s*", " ", page.read_text("utf-8"))
    indented = re.findall(r"^(?: {4}|\t)(dgam .*)$", plain, re.MULTILINE)
    found = fenced + [shlex.split(line, comments=True) for line in indented]
    return [words[1:] for words in found if words[0] == "dgam"]


COMMAND_LINES = sorted({shlex.join(words) for page in PAGES for words in shown_commands(page)})
PYTHON = {block.name: block.text for page in PAGES for block in blocks(page) if block.language == "python"}


def alike(shown: str, printed: str) -> bool:
    """Whether a line is the other, but for rounding of what has decimals (processors differ)."""
    number = re.compile(r"\d+(?:\.\d+)?")
    if number.sub("#", shown).split() != number.sub("#", printed).split():
        return False
    pairs = zip(number.findall(shown), number.findall(printed), strict=True)
    return all(abs(float(a) - float(b)) < 3 if "." in a else a == b for a, b in pairs)


def test_the_tutorial_runs_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    printed = ""
    for block in blocks(DOCS / "tutorial.md"):
        if block.language == "bash":
            printed = ""
            for words in commands(block.text):
                if words[0] == "dgam":
                    assert main(words[1:]) == 0, words
                    printed += capsys.readouterr().out
                else:
                    printed += subprocess.run(words, check=True, capture_output=True, text=True).stdout
        else:
            assert block.language == "text"
            missing = [
                line
                for line in block.text.splitlines()
                if not any(alike(line, other) for other in printed.splitlines())
            ]
            assert missing == []
    table = Path("moments/detections.csv").read_text().splitlines()
    assert len(table) == 1 + 12 * 5
    assert len(list(Path("moments").glob("*.vtt"))) == 12
    assert "<html" in Path("report.html").read_text("utf-8")[:500]
    assert Path("why.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("line", COMMAND_LINES)
def test_the_program_understands_every_command_shown(line: str) -> None:
    words = shlex.split(line)
    assert words[0] in COMMANDS
    build_app(words[0]).parse_args(words, exit_on_error=False, print_error=False)


def test_a_wrong_command_would_be_noticed() -> None:
    assert len(COMMAND_LINES) > 40
    for line in ("train features --labels l.csv --out run --epoch 3", "localize"):
        with pytest.raises(Exception, match=r"Unknown option|requires an argument|MODEL"):
            build_app(line.split()[0]).parse_args(line, exit_on_error=False, print_error=False)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_and_settings_named_in_passing_exist(page: Path) -> None:
    text = page.read_text("utf-8")
    assert set(re.findall(r"`dgam ([a-z]+)", text)) <= set(COMMANDS)
    named = re.findall(r"`(?:streams\.\w+\.)?(model|loss|train|localize)\.(\w+)(?:=[^`]*)?`", text)
    for section, setting in set(named) - {("model", "features")}:  # which is a folder of `dgam fit`
        assert setting in type(getattr(load_config(), section)).model_fields, f"{section}.{setting}"
    for module in re.findall(r"`(dgam(?:\.\w+)+)`", text):
        _find(module)
    assert set(re.findall(r"--preset ([\w-]+)", text)) <= {*preset_names(), "easy", "hard"}


def _find(dotted: str) -> object:
    """The module, or the thing in one, of a dotted name."""
    words = dotted.split(".")
    for count in range(len(words), 0, -1):
        try:
            found: object = import_module(".".join(words[:count]))
        except ModuleNotFoundError:
            continue
        for word in words[count:]:
            found = getattr(found, word)
        return found
    raise AssertionError(dotted)


@pytest.mark.parametrize("name", PYTHON)
def test_python_examples(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = ast.parse(PYTHON[name])
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dgam"):
            for alias in node.names:
                _find(f"{node.module}.{alias.name}")
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "dgam":
            assert hasattr(dgam, node.attr)
    if name not in NOT_RUN:
        monkeypatch.chdir(tmp_path)
        exec(compile(tree, name, "exec"), {"__name__": "__main__"})


def test_what_is_not_run_is_there() -> None:
    assert set(NOT_RUN) <= set(PYTHON)


@pytest.mark.parametrize(
    ("page", "number", "file", "weights"),
    [("backbone.md", 1, "backbone.py", "backbone.pt"), ("i3d.md", 1, "mean_colour.py", None)],
)
def test_the_encoders_shown_extract(
    page: str, number: int, file: str, weights: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code = PYTHON[f"{page} {number}"]
    Path(file).write_text(code)
    write_video(tmp_path / "videos" / "a.mp4", range(48))
    words = ["extract", "videos", "--out", "features", "--streams", "rgb", "--encoder", f"{file}:build"]
    if weights:
        words += ["--weights", f"rgb={weights}"]
        (shown,) = (words for words in shown_commands(BACKBONE) if words[0] == "extract")
        assert [word.rstrip("/") for word in shown] == words
        torch.manual_seed(0)
        layers: dict[str, object] = {}
        exec(code.replace("self.network.load_state_dict", "return #"), layers)
        # For mypy: found in what the page runs.
        network = layers["Backbone"](None, "cpu").network  # type: ignore[operator]
        torch.save(network.state_dict(), weights)
    assert main(words) == 0
    features = dgam.open_features("features")
    rows = features.read("a", "rgb")
    assert rows.shape == (3, 64 if weights else 3)
    assert np.isfinite(rows).all()
    assert np.ptp(rows, axis=0).max() > 0
