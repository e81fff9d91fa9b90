"""What the README tells a reader to type is executed as it stands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

import dgam
from dgam.cli import main
from dgam.cli.app import COMMANDS

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the files that the README speaks of; simulated data."""
    dgam.simulate(tmp_path, train=6, test=4, classes=2, max_snippets=60, instances=4.0, dimension=8)
    (tmp_path / "train").rename(tmp_path / "features")
    (tmp_path / "test").rename(tmp_path / "new_features")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_python_example_runs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    exec(compile(code, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert re.fullmatch(r"\([\d.e-]+, [\d.e-]+, [\d.e-]+\)\n|\[[\d.e, -]+\]\n", printed)
    assert dgam.read_detections(folder / "detections.json").videos


def test_the_commands_for_features_run(folder: Path) -> None:
    """check, train, localize, evaluate and report; extract and weights need videos and the network, and have
    tests of their own."""
    del folder
    blocks = re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL)
    lines = [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]
    commands = [words[1:] for words in lines if words and words[0] == "dgam"]
    # Those of the steps with features of one's own; fit and serve need videos, THUMOS14 its own features.
    first = next(place for place, words in enumerate(commands) if words[0] == "check")
    ran = commands[first : first + 5]
    assert [words[0] for words in ran] == ["check", "train", "localize", "evaluate", "report"]
    for words in ran:
        # The README localises the folder it trained on; here the test videos lie apart.
        words = [
            "new_features" if words[0] in ("localize", "report") and word == "features" else word
            for word in words
        ]
        assert main(words) == 0, words


def test_every_command_that_the_readme_names_exists() -> None:
    named = set(re.findall(r"(?:^|`)dgam ([a-z]+)", README, flags=re.MULTILINE))
    assert {"extract", "weights", "train", "info"} <= named
    assert named <= set(COMMANDS)
