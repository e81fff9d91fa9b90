"""A model's encoder: known again, told apart from others, and not run when it came with the model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import dgam
from dgam.core.errors import InputError
from dgam.encoders.encoder import EncoderOptions
from dgam.extraction.extract import extract
from dgam.extraction.worker import ExtractSettings
from dgam.features.store import FeatureStore
from dgam.fitting.identity import (
    differences,
    identity_of_store,
    restricted,
    settings_from_json,
    settings_to_json,
)
from dgam.fitting.localizer import Localizer
from tiny_video_fit import I3D, OPTIONS, ROWS, TINY, write_labels

pytest_plugins = ["fit_fixtures"]


def change_encoder(model: Path, out: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """A copy of a model folder with another encoder.json."""
    shutil.copytree(model, out)
    value = json.loads((out / "encoder.json").read_text())
    change(value)
    (out / "encoder.json").write_text(json.dumps(value))
    return out


def test_another_encoder_is_refused(video_model: Path, videos: Path, tmp_path: Path) -> None:
    out = change_encoder(
        video_model, tmp_path / "m", lambda value: value["settings"]["options"].update(seed=3)
    )
    with pytest.raises(InputError) as error:
        Localizer(out).localize_file(videos / "clip 0.mp4", tmp_path / "store")
    assert str(error.value) == (
        f"{out}: the encoder 'tiny_encoder:frame_numbers' here would make other features than those the "
        "model was trained on, and its detections would mean nothing. encoder.seed: trained with 0, here 3. "
        "Bring the same weights and settings (weights in another place: --weights STREAM=PATH), or fit the "
        "model again."
    )
    assert not (tmp_path / "store").exists()


def test_an_encoder_that_is_not_here(video_model: Path, videos: Path, tmp_path: Path) -> None:
    out = change_encoder(
        video_model, tmp_path / "m", lambda value: value["settings"].update(encoder="/gone.py:x")
    )
    with pytest.raises(
        InputError, match=r"went through the encoder '/gone.py:x', which cannot be had here: "
    ):
        Localizer(out).localize_file(videos / "clip 0.mp4")


@pytest.mark.parametrize("place", ["evil.py", "{model}/evil.py", "{model}/../m/rgb/../evil.py"])
def test_a_program_that_came_with_the_model_is_not_run(
    video_model: Path, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    program = place.format(model=tmp_path / "m")
    out = change_encoder(
        video_model, tmp_path / "m", lambda value: value["settings"].update(encoder=f"{program}:build")
    )
    (out / "evil.py").write_text("open('was-run', 'w').close()\ndef build(options): ...\n")
    monkeypatch.chdir(out)
    with pytest.raises(
        InputError, match=r"in the model's own folder, so it may be a stranger's, and it is not"
    ):
        Localizer(out).localize_file(videos / "clip 0.mp4")
    assert not (out / "was-run").exists()


def test_an_exported_program_that_came_with_the_model_is_not_loaded(
    video_model: Path, videos: Path, tmp_path: Path
) -> None:
    def change(value: dict[str, Any]) -> None:
        value["settings"]["encoder"] = "torch-export"
        value["settings"]["options"]["weights"] = {"rgb": str(tmp_path / "m" / "net.pt2")}

    out = change_encoder(video_model, tmp_path / "m", change)
    with pytest.raises(InputError, match=r"net.pt2', a program that is a relative path or lies in the"):
        Localizer(out).localize_file(videos / "clip 0.mp4")


def test_settings_survive_json() -> None:
    odd = ExtractSettings(
        ("rgb", "flow"),
        "i3d-random",
        EncoderOptions(short_side=40, crop=32, seed=4, batch=3, quantise_flow=False),
        replace(TINY.frames, size=(340, 256), interpolation="area"),
        length=8,
        stride=4,
        flow="torch",
        flow_parameters={"warps": 2, "epsilon": 0.05},
        dtype="float16",
    )
    for settings_ in (TINY, I3D, odd):
        assert settings_from_json(json.loads(json.dumps(settings_to_json(settings_)))) == settings_
    own = settings_to_json(replace(TINY, encoder="mine.py:make"))
    assert own["encoder"] == f"{Path('mine.py').resolve()}:make"
    weighted = replace(TINY, options=EncoderOptions(weights={"rgb": "w.pt"}, device="cuda", threads=3))
    back = settings_from_json(settings_to_json(weighted))
    assert back.options.weights == {"rgb": str(Path("w.pt").resolve())}
    assert (back.options.device, back.options.threads) == ("auto", None)  # these decide the speed only


def test_differences_are_named() -> None:
    one = {"encoder": {"name": "i3d", "weights.rgb": "a" * 64, "crop": 224}, "frames": {"fps": "25"}}
    two = {"encoder": {"name": "i3d", "weights.rgb": "b" * 64}, "frames": {"fps": "30"}}
    assert differences(one, one) == []
    assert differences(one, two) == [
        "encoder.weights.rgb: trained with aaaaaaaaaaaa…, here bbbbbbbbbbbb…",
        "encoder.crop: trained with 224, here nothing",
        "frames.fps: trained with 25, here 30",
    ]
    both = {"encoder": {"name": "i3d", "weights.rgb": "a", "weights.flow": "b"}, "flow": {"method": "llvm"}}
    assert restricted(both, ("rgb",)) == {"encoder": {"name": "i3d", "weights.rgb": "a"}}
    assert restricted(both, ("rgb", "flow")) == both


# --- ready features that tell, or are told, their encoder


def test_a_store_of_i3d_features_makes_a_model_that_reads_videos(videos: Path, tmp_path: Path) -> None:
    extract([videos], tmp_path / "store", I3D)
    labels = write_labels(tmp_path / "labels.csv", ROWS)
    model = dgam.fit(tmp_path / "store", labels, tmp_path / "m", options=OPTIONS)
    assert model.encoder is not None
    assert model.encoder.encoder == "i3d-random"
    assert model.encoder.recorded == FeatureStore(tmp_path / "store").head.settings
    assert model.encoder.settings.options == I3D.options
    found = Localizer(model, device="cpu").localize_file(videos / "clip 1.mp4")
    assert (
        found.detections == Localizer(model).localize(FeatureStore(tmp_path / "store"), "clip 1").detections
    )
    head = FeatureStore(tmp_path / "store").head.settings
    assert identity_of_store({**head, "encoder": {"name": "mine"}}, ("rgb",)) is None
    assert identity_of_store({}, ("rgb",)) is None


def test_features_with_their_encoder_named(videos: Path, tmp_path: Path) -> None:
    extract([videos], tmp_path / "store", TINY)
    labels = write_labels(tmp_path / "labels.csv", ROWS)
    unnamed = dgam.fit(tmp_path / "store", labels, tmp_path / "m0", options=OPTIONS)
    assert unnamed.encoder is None  # the store says "frame-numbers", which no encoder here is called
    named = dgam.fit(tmp_path / "store", labels, tmp_path / "m1", extraction=TINY, options=OPTIONS)
    assert Localizer(named).localize_file(videos / "clip 0.mp4").detections
    other = replace(TINY, options=EncoderOptions(seed=9))
    with pytest.raises(InputError, match=r"encoder\.seed: trained with 0, here 9"):
        dgam.fit(tmp_path / "store", labels, tmp_path / "m2", extraction=other, options=OPTIONS)
    bare = tmp_path / "bare" / "rgb"
    shutil.copytree(tmp_path / "store" / "rgb", bare)
    model = dgam.fit(bare.parent, labels, tmp_path / "m3", extraction=TINY, options=OPTIONS)
    assert model.encoder is not None
    with pytest.raises(InputError, match=r"its stream 'rgb' has 1024 numbers a snippet, .* has 4"):
        dgam.fit(bare.parent, labels, tmp_path / "m4", extraction=I3D, options=OPTIONS)
