"""A fit on tiny videos whose frames carry their number: its encoders, settings and table of labels."""

from __future__ import annotations

from pathlib import Path

from dgam.encoders.encoder import EncoderOptions
from dgam.extraction.worker import ExtractSettings
from dgam.fitting.fit import FitOptions
from tiny_data import settings

TINY = ExtractSettings(streams=("rgb",), encoder="tiny_encoder:frame_numbers")
I3D = ExtractSettings(("rgb",), "i3d-random", EncoderOptions(short_side=32, crop=32))
OPTIONS = FitOptions(config=settings("train.epochs=2", "train.snippets=4"), hold_out="none")
LENGTHS = (100, 132, 116, 148, 164)
ROWS = ["clip 0.mp4;pour", "clip 1;stir", "clip 2;pour|stir", "clip 3;", "clip 4;stir"]


def write_labels(path: Path, rows: list[str]) -> Path:
    path.write_text("\n".join(["Video;Labels", *rows]))
    return path
