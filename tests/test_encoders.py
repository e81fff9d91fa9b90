"""Snippet encoders: how they are found, their preprocessing, and the ones for other runtimes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from dgam.core.errors import InputError
from dgam.encoders.clip_tensor import ClipGeometry
from dgam.encoders.encoder import EncoderOptions, build_encoder, encoder_names
from dgam.encoders.i3d import I3D, randomise
from dgam.encoders.tflite import centre_square, resize_area
from dgam.encoders.weights import save_i3d

CPU = torch.device("cpu")
REAL = Path(__file__).resolve().parents[1].parent / "shared" / "real"
SMALL = EncoderOptions(streams=("rgb", "flow"), device="cpu", short_side=36, crop=32)

OWN_BACKBONE = """
import numpy as np

class MeanColour:
    name = "mean-colour"
    streams = {"rgb": 3}
    short_side = None
    settings = {"version": 1}

    def encode(self, stream, clips):
        return clips.mean((1, 2, 3)).astype(np.float32)

def build(options):
    return MeanColour()
"""


def clips_of(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


# --- the registry
# -----------------------------------------------------------------------------------------------


def test_a_backbone_of_ones_own_in_a_dozen_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_backbone.py").write_text(OWN_BACKBONE)
    monkeypatch.syspath_prepend(tmp_path)
    clips = clips_of(2, 4, 5, 6, 3)
    for name in (f"{tmp_path}/own_backbone.py:build", "own_backbone:build"):
        encoder = build_encoder(name, EncoderOptions(streams=("rgb",)))
        np.testing.assert_allclose(encoder.encode("rgb", clips), clips.mean((1, 2, 3)), rtol=1e-6)


def test_an_installed_package_can_bring_an_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_backbone2.py").write_text(OWN_BACKBONE)
    info = tmp_path / "own-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: own\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[dgam.encoders]\nmean-colour = own_backbone2:build\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert "mean-colour" in encoder_names()
    assert build_encoder("mean-colour").name == "mean-colour"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("i3d-randon", "unknown encoder 'i3d-randon'. Did you mean 'i3d-random'?"),
        ("resnet", "Known ones: i3d, i3d-random, tflite"),
        ("nowhere.module:build", "no 'build' to be had from nowhere.module"),
        ("missing.py:build", "no 'build' to be had from missing.py"),
        ("dgam.encoders.i3d:nothing", "no 'nothing' to be had"),
        ("dgam.encoders.i3d:FEATURES", "is no function that builds an encoder"),
        ("tflite", "needs a .tflite file: --weights rgb=PATH"),
        ("onnx", "needs a file for each stream: --weights rgb=PATH"),
    ],
)
def test_names_that_lead_nowhere_are_explained(name: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        build_encoder(name)
    assert message in str(caught.value)


def test_a_stream_the_encoder_lacks_is_refused(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN_BACKBONE)
    with pytest.raises(InputError, match="no stream 'flow', only rgb"):
        build_encoder(f"{tmp_path}/own.py:build", EncoderOptions(streams=("rgb", "flow")))
    with pytest.raises(InputError, match="streams rgb and flow, not 'audio'"):
        build_encoder("i3d-random", EncoderOptions(streams=("audio",)))


# --- preprocessing
# ----------------------------------------------------------------------------------------------


def test_rgb_is_cropped_in_the_middle_and_scaled() -> None:
    clips = clips_of(2, 3, 256, 340, 3)
    x = ClipGeometry().prepare("rgb", clips, CPU)
    assert x.shape == (2, 3, 3, 224, 224)
    wanted = clips[:, :, 16:240, 58:282].astype(np.float64) / 127.5 - 1
    np.testing.assert_allclose(x.permute(0, 2, 3, 4, 1).numpy(), wanted, atol=1e-6)
    black_white = np.array([0, 255], dtype=np.uint8).reshape(1, 1, 1, 2, 1).repeat(3, 4).repeat(2, 2)
    assert ClipGeometry(2, 2).prepare("rgb", black_white, CPU)[0, 0, 0].tolist() == [[-1.0, 1.0], [-1.0, 1.0]]


def test_rgb_of_another_size_is_resized_as_pillow_does() -> None:
    image = pytest.importorskip("PIL.Image")
    clips = clips_of(1, 2, 90, 121, 3)
    x = ClipGeometry(60, 50).prepare("rgb", clips, CPU)
    for frame in range(2):
        small = image.fromarray(clips[0, frame]).resize((81, 60), image.Resampling.BILINEAR)
        wanted = np.asarray(small)[5:55, 15:65].astype(np.float64)
        got = (x[0, :, frame].permute(1, 2, 0).numpy() + 1) * 127.5
        assert np.abs(got - wanted).max() <= 1.001  # both round to whole levels


def test_frames_of_the_crops_size_are_taken_as_they_are() -> None:
    clips = clips_of(1, 2, 224, 224, 3)
    x = ClipGeometry().prepare("rgb", clips, CPU)
    np.testing.assert_allclose(x[0].permute(1, 2, 3, 0).numpy(), clips[0] / 127.5 - 1, atol=1e-6)


def test_flow_is_clipped_and_quantised() -> None:
    values = np.array([-30.0, -20.0, -0.1, 0.0, 0.07, 3.0, 20.0, 25.0], dtype=np.float32)
    clips = values.reshape(1, 8, 1, 1, 1).repeat(4, 2).repeat(4, 3).repeat(2, 4)
    geometry = ClipGeometry(4, 4)
    x = geometry.prepare("flow", clips, CPU)[0, 0, :, 0, 0].numpy()
    levels = np.rint((np.clip(values, -20, 20) + 20) * 255 / 40)
    np.testing.assert_allclose(x, levels / 127.5 - 1, atol=1e-6)
    quantised = levels.astype(np.uint8).reshape(1, 8, 1, 1, 1).repeat(4, 2).repeat(4, 3).repeat(2, 4)
    assert torch.equal(geometry.prepare("flow", quantised, CPU), geometry.prepare("flow", clips, CPU))
    exact = (
        dataclasses.replace(geometry, quantise_flow=False).prepare("flow", clips, CPU)[0, 0, :, 0, 0].numpy()
    )
    np.testing.assert_allclose(exact, np.clip(values, -20, 20) / 20, atol=1e-6)


def test_geometry_that_cannot_be_is_refused() -> None:
    with pytest.raises(InputError, match="crop 300, short side 256"):
        ClipGeometry(crop=300)
    with pytest.raises(InputError, match="flow bound must be positive, got 0"):
        ClipGeometry(flow_bound=0)
    with pytest.raises(InputError, match=r"flow has frames of 50×40, expected a short side of 256"):
        ClipGeometry().prepare("flow", np.zeros((1, 2, 40, 50, 2), dtype=np.float32), CPU)


# --- I3D
# --------------------------------------------------------------------------------------------------------


def test_random_i3d_says_so_and_depends_on_its_seed() -> None:
    encoder = build_encoder("i3d-random", SMALL)
    assert encoder.name == encoder.settings["encoder"] == "i3d-random"
    assert encoder.streams == {"rgb": 1024, "flow": 1024}
    assert encoder.short_side == 36
    assert json.loads(json.dumps(dict(encoder.settings))) == dict(encoder.settings)
    other = build_encoder("i3d-random", dataclasses.replace(SMALL, seed=1))
    assert encoder.settings["weights.rgb"] != other.settings["weights.rgb"]
    assert encoder.settings["weights.rgb"] != encoder.settings["weights.flow"]


@pytest.mark.parametrize("batch", [None, 2, 3])
def test_i3d_encodes_a_snippet_the_same_in_any_company(batch: int | None) -> None:
    encoder = build_encoder("i3d-random", dataclasses.replace(SMALL, batch=batch))
    rgb = clips_of(4, 8, 36, 45, 3)
    flow = np.random.default_rng(1).normal(0, 6, (3, 8, 36, 36, 2)).astype(np.float32)
    for stream, clips in (("rgb", rgb), ("flow", flow)):
        together = encoder.encode(stream, clips)
        assert together.shape == (len(clips), 1024)
        assert together.dtype == np.float32
        alone = np.concatenate([encoder.encode(stream, clip[None]) for clip in clips[::-1]])[::-1]
        np.testing.assert_array_equal(together, alone)
        assert not np.array_equal(together[0], together[1])
    assert encoder.encode("rgb", rgb[:0]).shape == (0, 1024)


def test_i3d_with_weights_of_a_file_or_of_the_cache_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = randomise(I3D(3), seed=0)
    path = tmp_path / "dgam" / "weights" / "rgb_imagenet.safetensors"
    save_i3d(network, path)
    options = dataclasses.replace(SMALL, streams=("rgb",))
    clips = clips_of(1, 8, 36, 36, 3)
    wanted = build_encoder("i3d-random", options).encode("rgb", clips)
    named = build_encoder("i3d", dataclasses.replace(options, weights={"rgb": str(path)}))
    np.testing.assert_array_equal(named.encode("rgb", clips), wanted)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = build_encoder("i3d", options)
    assert found.settings == named.settings
    with pytest.raises(InputError, match=r"(?s)no I3D weights .*dgam weights get\n.*dgam weights check"):
        build_encoder("i3d", SMALL)  # no flow there


@pytest.mark.parametrize(
    ("stream", "clips", "message"),
    [
        (
            "rgb",
            clips_of(1, 8, 36, 36, 2),
            r"clips of stream 'rgb' must be uint8 of shape \(N, L, H, W, 3\), got",
        ),
        ("rgb", np.zeros((1, 8, 36, 36, 3)), "got float64"),
        ("flow", clips_of(1, 8, 36, 36, 3), r"uint8 or float32 of shape \(N, L, H, W, 2\)"),
        ("rgb", clips_of(8, 36, 36, 3), r"of shape \(8, 36, 36, 3\)"),
        ("rgb", clips_of(1, 0, 36, 36, 3), r"of shape \(1, 0, 36, 36, 3\)"),
        ("depth", clips_of(1, 8, 36, 36, 3), "no stream 'depth', only rgb, flow"),
    ],
)
def test_clips_that_do_not_fit_are_refused(stream: str, clips: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_encoder("i3d-random", SMALL).encode(stream, clips)


# --- exported networks
# ------------------------------------------------------------------------------------------


class Tiny(torch.nn.Module):
    """(N, 3, L, H, W) to (N, 5, H', W'): a convolution, the mean over time."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = torch.nn.Conv3d(3, 5, 3, stride=4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.convolution(x)
        return y.mean(2)


@pytest.fixture(scope="module")
def tiny() -> Tiny:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Tiny().eval()


def tiny_features(tiny: Tiny, clips: np.ndarray) -> np.ndarray:
    x = torch.from_numpy(clips[:, :, 2:34, 2:34]).permute(0, 4, 1, 2, 3).float() / 127.5 - 1
    with torch.inference_mode():
        return tiny(x).mean((2, 3)).numpy()


def options_for(path: Path) -> EncoderOptions:
    return dataclasses.replace(SMALL, streams=("rgb",), weights={"rgb": str(path)}, threads=1)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_torch_export_program_encodes(tiny: Tiny, tmp_path: Path) -> None:
    program = torch.export.export(tiny, (torch.zeros(1, 3, 16, 32, 32),))
    torch.export.save(program, tmp_path / "tiny.pt2")
    encoder = build_encoder("torch-export", options_for(tmp_path / "tiny.pt2"))
    clips = clips_of(2, 16, 36, 36, 3)
    assert encoder.streams == {"rgb": 5}
    np.testing.assert_allclose(encoder.encode("rgb", clips), tiny_features(tiny, clips), atol=1e-5)
    (tmp_path / "other.pt2").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"other.pt2: cannot be opened by the encoder 'torch-export'"):
        build_encoder("torch-export", options_for(tmp_path / "other.pt2"))
    wrong = dataclasses.replace(options_for(tmp_path / "tiny.pt2"), short_side=40, crop=40)
    with pytest.raises(InputError, match=r"takes no clip of shape \(1, 3, 16, 40, 40\)"):
        build_encoder("torch-export", wrong)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize(("name", "package"), [("onnx", "onnxruntime"), ("openvino", "openvino")])
def test_an_onnx_network_encodes(tiny: Tiny, tmp_path: Path, name: str, package: str) -> None:
    pytest.importorskip(package)
    pytest.importorskip("onnxscript")
    path = tmp_path / "tiny.onnx"
    torch.onnx.export(tiny, (torch.zeros(1, 3, 16, 32, 32),), path, dynamo=True, verbose=False)
    encoder = build_encoder(name, options_for(path))
    clips = clips_of(2, 16, 36, 36, 3)
    assert encoder.streams == {"rgb": 5}
    np.testing.assert_allclose(encoder.encode("rgb", clips), tiny_features(tiny, clips), atol=1e-4)


@pytest.mark.parametrize(
    ("name", "package"), [("tflite", "ai_edge_litert"), ("onnx", "onnxruntime"), ("openvino", "openvino")]
)
def test_a_missing_extra_is_named(
    name: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, package, None)  # as if it were not installed
    (tmp_path / "x").write_bytes(b"x")
    with pytest.raises(InputError, match=rf"needs the extra '{name}': pip install 'dgam\[{name}\]'"):
        build_encoder(name, options_for(tmp_path / "x"))


# --- TFLite
# -----------------------------------------------------------------------------------------------------


def test_area_resizing_takes_the_mean_of_what_a_pixel_covers() -> None:
    frame = clips_of(6, 9, 3)
    whole = resize_area(frame, (2, 3))
    blocks = frame.reshape(2, 3, 3, 3, 3).astype(np.float64).mean((1, 3))
    np.testing.assert_array_equal(whole, np.rint(blocks))
    np.testing.assert_array_equal(resize_area(frame, (6, 9)), frame)
    ramp = np.arange(0, 250, 50, dtype=np.uint8).reshape(5, 1, 1)  # 0 50 100 150 200 in two halves of 2½ rows
    np.testing.assert_array_equal(resize_area(ramp, (2, 1)).ravel(), [40, 160])
    np.testing.assert_array_equal(centre_square(frame), frame[:, 1:7])


def test_movinet_reproduces_the_features_that_came_with_the_videos() -> None:
    """Features of FIR videos made with the same network and recipe by another program, stored as float16."""
    pytest.importorskip("ai_edge_litert")
    av = pytest.importorskip("av")
    path = REAL / "movinet" / "movinet_a0_stream_int8.tflite"
    if not path.exists():
        pytest.skip("the real videos are not here")
    encoder = build_encoder("tflite", EncoderOptions(weights={"rgb": str(path)}))
    assert encoder.streams == {"rgb": 480}
    video = min((REAL / "fir" / "videos").iterdir())
    with av.open(str(video)) as container:
        frames = [
            frame.to_ndarray(format="rgb24")
            for _, frame in zip(range(48), container.decode(video=0), strict=False)
        ]
    clips = np.stack(frames).reshape(3, 16, *frames[0].shape)
    stored = np.load(REAL / "fir" / "features" / "rgb" / f"{video.stem}.npy")[:3].astype(np.float32)
    got = encoder.encode("rgb", clips)
    assert np.abs(got - stored).max() < 2e-3  # half of float16's last place, around 2
    np.testing.assert_array_equal(encoder.encode("rgb", clips[1:2])[0], got[1])
