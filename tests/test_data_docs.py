"""The examples in docs/data.md are run, and its table of messages holds what dgam says."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import numpy as np
import pytest

from data_helpers import Arrays, write_streams
from dgam.core.types import AnnotatedVideo, Segment, SegmentAnnotations, VideoLabels
from dgam.data.checks import check
from dgam.features.layouts import open_features

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "data.md"


def test_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = doctest.testfile(str(DOCUMENT), module_relative=False)
    assert result.failed == 0
    assert result.attempted > 15


def told_in_the_table() -> list[str]:
    table = DOCUMENT.read_text(encoding="utf-8").split("| defect | message |")[1]
    return [re.sub(r"^features: ", "", row) for row in re.findall(r"\| `(.+)` \|", table)]


def test_messages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each row of the table, said about a data set made for it; the paths are relative as in the table."""
    monkeypatch.chdir(tmp_path)

    # For mypy: as the page writes it.
    def ones(snippets: int, dimension: int = 8) -> np.ndarray:  # type: ignore[type-arg]
        return np.ones((snippets, dimension), np.float32)

    def say(
        changed: Arrays, truth: AnnotatedVideo | None = None, *, labelled: str = "a", cut: int = 0
    ) -> str:
        folder = tmp_path / f"set{len(list(tmp_path.iterdir()))}"
        write_streams(folder / "features", {"b": {"rgb": ones(3), "flow": ones(3)}} | changed)
        write_streams(folder / "features", {"c": {"rgb": ones(3), "flow": ones(3)}})
        if cut:
            file = folder / "features" / "rgb" / "a.npy"
            file.write_bytes(file.read_bytes()[:-cut])
        monkeypatch.chdir(folder)
        labels = VideoLabels(dict.fromkeys(("b", "c", *labelled), ("stir",)))
        segments = SegmentAnnotations({"a": truth}, source="gt.json") if truth else None
        return "\n".join(map(str, check(open_features("features"), labels, segments)))

    nan = ones(118)
    nan[5, 7] = nan[9, 0] = nan[10, 1] = np.nan
    both: Arrays = {"a": {"rgb": ones(95), "flow": ones(95)}}
    stir = Segment(0.0, 70.0, "stir")
    said = "\n".join(
        [
            say({"a": {"rgb": ones(118)}}),
            say({"a": {"rgb": ones(118), "flow": ones(117)}}),
            say({"a": {"rgb": nan, "flow": ones(118)}}),
            say({"a": {"rgb": ones(3, 4), "flow": ones(3)}}),
            say({"a": {"rgb": ones(0), "flow": ones(0)}}),
            say({"a": {"rgb": ones(3), "flow": ones(3)}}, cut=20),
            say({}),
            say(both, labelled=""),
            say(both, AnnotatedVideo((Segment(0, 1, "sitr"), Segment(1, 2, "sitr")))),
            say(both, AnnotatedVideo((stir, Segment(3, 3, "stir")), duration=61.4)),
            say({"a": {"rgb": ones(115), "flow": ones(115)}}, AnnotatedVideo((), duration=61.4)),
        ]
    )

    def bare(text: str) -> str:
        return re.sub(r"\d+ bytes|promises \d+|\(\d+, \d+\)|\d+ features a|expected \d+", "#", text)

    rows = told_in_the_table()
    assert len(rows) == 12
    missing = [row for row in rows if bare(row) not in bare(said)]
    assert missing == []
