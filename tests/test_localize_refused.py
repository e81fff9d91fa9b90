"""What `dgam localize` on videos refuses before any work, and in which words."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from colour_model import colours
from dgam.cli import main


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with model/, trained on simulated videos, its features/, and the videos of new/."""
    return colours(tmp_path_factory.mktemp("colours"))


# MODEL, PLAIN (a model that reads no videos), NEW, ONE, OUT, FOLDER, FILE stand for paths.

REFUSED = [
    ("MODEL", "FEATURES is missing. Name videos or folders of them, or snippet features."),
    (
        "MODEL nowhere.mp4",
        "These videos cannot be extracted:\n  nowhere.mp4: there is no such file or folder.",
    ),
    ("MODEL ONE --to vtt", "--to needs --out: the folder to write into."),
    (
        "MODEL ONE --out OUT --to vtt,vvt",
        "--to: unknown format 'vvt'. Did you mean 'vtt'? Known ones: json, csv, vtt, srt, elan, labelstudio, "
        "fiftyone.",
    ),
    (
        "MODEL ONE --out OUT --to ,",
        "--to: names no format. Known ones: json, csv, vtt, srt, elan, labelstudio, fiftyone.",
    ),
    (
        "MODEL ONE --out FILE --to vtt",
        "--out FILE: is a file; expected the folder that --to vtt writes into.",
    ),
    (
        "MODEL ONE --out FOLDER",
        "--out FOLDER: is a folder; expected the file to write, such as FOLDER/detections.json. For files in "
        "a folder say which, with --to vtt,srt.",
    ),
    (
        "MODEL NEW --out OUT.vtt",
        "--out OUT.vtt: vtt has one file for each video, and there are 2. Name a folder, and the format with "
        "--to vtt.",
    ),
    ("MODEL ONE --out FILE/a.json", "--out FILE: FILE is a file; expected a folder."),
    ("MODEL ONE --clips FILE", "--clips FILE: FILE is a file; expected a folder."),
    ("MODEL ONE --store FILE/x", "--store FILE/x: FILE is a file; expected a folder."),
    ("MODEL ONE --top 0", "--top must be at least 1, got 0."),
    ("MODEL ONE --layout npz", "the options on how features are read do not apply to videos."),
    ("MODEL ONE --weights x.pt", "--weights x.pt: expected a stream and its file, as rgb=rgb_imagenet.pt."),
    ("MODEL NEW --videos FILE", "--videos FILE: there is no video 'three' (1 such in all)."),
    (
        "MODEL MIXED",
        "MIXED: holds both videos (.mp4) and features (.npy). Name the folder of those that are meant.",
    ),
    ("MODEL STORE", "--out is missing. Expected the file to write, such as detections.json."),
    ("MODEL STORE --clips OUT", "--clips is for videos; STORE is taken as snippet features."),
    (
        "PLAIN ONE",
        "PLAIN: this model was trained on features of unknown origin (it has no encoder.json), so it cannot "
        "read videos. Give it features made as those were, or fit it again on the videos themselves.",
    ),
    ("NEW ONE", "NEW: not a run folder, it has no run.json. Expected what 'dgam train --out RUN' made."),
]


@pytest.mark.parametrize(("line", "message"), REFUSED)
def test_bad_calls_are_refused_before_any_work(
    line: str, message: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {
        "MODEL": place / "model",
        "NEW": place / "new",
        "ONE": place / "new" / "one.mp4",
        "STORE": place / "features",
        **{name: tmp_path / name for name in ("PLAIN", "FOLDER", "FILE", "MIXED", "OUT")},
    }
    shutil.copytree(place / "model", tmp_path / "PLAIN")
    (tmp_path / "PLAIN" / "encoder.json").unlink()
    (tmp_path / "FOLDER").mkdir()
    (tmp_path / "FILE").write_text("three\n")
    (tmp_path / "MIXED" / "rgb").mkdir(parents=True)
    (tmp_path / "MIXED" / "rgb" / "v.npy").touch()
    (tmp_path / "MIXED" / "v.mp4").touch()
    before = sorted(tmp_path.rglob("*"))

    def put(text: str) -> str:
        return re.sub(
            r"\b(MODEL|NEW|ONE|STORE|PLAIN|FOLDER|FILE|MIXED|OUT)\b", lambda m: str(places[m[0]]), text
        )

    capsys.readouterr()
    assert main(["localize", *map(put, line.split())]) == 2
    out, said = capsys.readouterr()
    assert said == f"dgam localize: {put(message)}\n"
    assert out == ""
    assert sorted(tmp_path.rglob("*")) == before, "nothing was written"


def test_a_store_of_other_features_is_refused_also_with_skip_bad(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(place / "features", tmp_path / "store")
    head = json.loads((tmp_path / "store" / "store.json").read_text())
    head["settings"]["encoder"]["seed"] = 7
    (tmp_path / "store" / "store.json").write_text(json.dumps(head))
    call = [
        "localize",
        str(place / "model"),
        str(place / "new"),
        "--store",
        str(tmp_path / "store"),
        "--skip-bad",
    ]
    assert main(call) == 2
    out, said = capsys.readouterr()
    assert "seed" in said
    assert "left out" not in said
    assert out == ""
