"""A model that finds red and blue in grey videos: simulated videos and a model folder trained on them.

So easy that two seconds of training do; everything else is the real thing.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

import dgam
import tiny_data
from dgam.core.files import write_json
from dgam.core.types import VideoLabels
from dgam.extraction.extract import extract
from dgam.extraction.worker import ExtractSettings
from dgam.fitting.folder import ModelFolder, load_model_folder
from dgam.fitting.identity import ENCODER_FILE, EncoderIdentity

ENCODER = f"{Path(__file__).with_name('colour_encoder.py')}:mean_colours"
SNIPPET = 0.64  # seconds
COLOURS = {"grey": (110, 110, 110), "red": (200, 60, 60), "blue": (60, 60, 200)}
GREY, RED, BLUE = "grey", "red", "blue"


def colour_video(path: Path, stretches: Sequence[tuple[int, str]], size: tuple[int, int] = (64, 32)) -> Path:
    """A video at 25 frames a second; ``stretches`` are numbers of snippets and their colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(f"file:{path}", "w") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(25))
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.bit_rate = 1_000_000
        for snippets, colour in stretches:
            picture = np.full((size[1], size[0], 3), COLOURS[colour], np.uint8)
            for _ in range(16 * snippets):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def train_colours(folder: Path, streams: tuple[str, ...] = ("rgb",)) -> ModelFolder:
    """A model folder, trained on the labels of six videos that go through the encoder of mean colours."""
    labels = {}
    for index in range(6):
        colour = RED if index % 2 else BLUE
        name = f"train_{index}"
        before, after = 2 + index, 9 - index
        colour_video(folder / "videos" / f"{name}.mp4", [(before, GREY), (4, colour), (after, GREY)])
        labels[name] = (colour,)
    settings = ExtractSettings(streams=streams, encoder=ENCODER, threads=1)
    report = extract([folder / "videos"], folder / "features", settings)
    dgam.train(
        dgam.open_features(folder / "features"),
        VideoLabels(labels),
        folder / "model",
        config=tiny_data.settings(
            *("localize.thresholds=[0.5]", "localize.class_threshold=0.1", "localize.upsample=1"),
            *("localize.margin=0.25", "localize.mask_tcam=0", "localize.video_weight=0"),
            base=tiny_data.LEARNS,
        ),
    )
    write_json(folder / "model" / ENCODER_FILE, EncoderIdentity(settings, report.settings).to_json())
    return load_model_folder(folder / "model")


def colours(folder: Path) -> Path:
    """``folder`` with model/, trained on simulated videos, new/one.mp4 and new/sub/two.mp4 to try it on."""
    train_colours(folder)
    colour_video(folder / "new" / "one.mp4", [(5, GREY), (3, RED), (6, GREY), (4, BLUE), (3, GREY)])
    colour_video(folder / "new" / "sub" / "two.mp4", [(4, GREY), (5, BLUE), (4, GREY)])
    (folder / "new" / "notes.odt").write_text("no video by its name")
    return folder
