"""A model folder that reads videos, trained within a second: its encoder sees how bright a snippet is."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

import av
import numpy as np

import dgam
from dgam.core.config import load_config
from dgam.core.files import write_json
from dgam.core.types import VideoLabels
from dgam.encoders.encoder import Clips, EncoderOptions, Setting, Vectors, check_clips
from dgam.extraction.extract import extract
from dgam.extraction.worker import ExtractSettings
from dgam.fitting.identity import EncoderIdentity

SETTINGS = (
    *("model.attention_hidden=8", "model.cvae_hidden=8", "model.latent=4"),
    *("train.epochs=40", "train.snippets=12", "train.batch=4", "train.lr=0.02", "loss.warmup_epochs=1"),
    *("localize.thresholds=[0.3]", "localize.threshold_scale=relative", "localize.upsample=1"),
    *(
        "localize.margin=0.25",
        "localize.mask_tcam=0",
        "localize.video_weight=0",
        "localize.class_threshold=0.1",
    ),
)


class Brightness:
    """Mean and deviation of red, green and blue.

    In the environment TINY_MODEL_SECONDS makes each snippet take that long, TINY_MODEL_TOUCHES names a file
    to make at the first one, and TINY_MODEL_DIES_AT kills the process at a call with so many snippets.
    """

    name = "brightness"
    streams: Mapping[str, int] = {"rgb": 6}
    short_side: int | None = 16
    settings: Mapping[str, Setting] = {"encoder": "brightness"}

    def encode(self, stream: str, clips: Clips) -> Vectors:
        check_clips(stream, clips, self.streams)
        if "TINY_MODEL_TOUCHES" in os.environ:
            Path(os.environ["TINY_MODEL_TOUCHES"]).touch()
        if len(clips) == int(os.environ.get("TINY_MODEL_DIES_AT", "0")):
            os.kill(os.getpid(), 9)
        time.sleep(len(clips) * float(os.environ.get("TINY_MODEL_SECONDS", "0")))
        pixels = clips.reshape(len(clips), -1, 3) / np.float32(255)  # (N, L·H·W, 3)
        return np.concatenate([pixels.mean(axis=1), pixels.std(axis=1)], axis=1).astype(np.float32)  # (N, 6)


def brightness(options: EncoderOptions) -> Brightness:
    return Brightness()


def write_clip(
    path: Path, seconds: float = 4.0, colour: str = "red", *, codec: str = "libx264", size: int = 32
) -> Path:
    """A dark video with its middle third in a colour, 25 frames a second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count = round(25 * seconds)
    with av.open(f"file:{path}", "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p"
        for number in range(count):
            picture = np.full((size, size, 3), 20, np.uint8)
            if count <= 3 * number < 2 * count:
                picture[..., {"red": 0, "blue": 2}[colour]] = 220
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def make_model(folder: Path) -> Path:
    """``folder``/model, which finds "red" and "blue"; its training videos are in ``folder``/videos."""
    labels = {}
    for index in range(6):
        colour = ("red", "blue")[index % 2]
        write_clip(folder / "videos" / f"v{index}.mp4", 6 + index, colour)
        labels[f"v{index}"] = (colour,)
    settings = ExtractSettings(streams=("rgb",), encoder=f"{Path(__file__).resolve()}:brightness")
    report = extract([folder / "videos"], folder / "features", settings)
    features = dgam.open_features(folder / "features")
    run = dgam.train(
        features, VideoLabels(labels), folder / "model", config=load_config(overrides=SETTINGS), device="cpu"
    )
    write_json(run.path / "encoder.json", EncoderIdentity(settings, report.settings).to_json())
    (run.path / "card.md").write_text("# A model for tests\n")
    return run.path
