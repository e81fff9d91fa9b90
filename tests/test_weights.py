"""I3D's weights from three kinds of file, and ``dgam weights``."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from checkpoint_writer import write_checkpoint
from dgam.cli.weights import weights
from dgam.core.errors import InputError, InputProblems
from dgam.encoders import kinetics_sample
from dgam.encoders.crc32c import masked_crc32c
from dgam.encoders.download import blob_id
from dgam.encoders.i3d import I3D, randomise
from dgam.encoders.i3d_names import pytorch_names
from dgam.encoders.published import SAMPLES, WEIGHTS, PublishedFile, find_weights, weights_folder
from dgam.encoders.weights import load_i3d, save_i3d, weights_digest
from file_server import Server
from test_i3d import random_clip, tensorflow_arrays


@pytest.fixture(scope="module")
def network() -> I3D:
    return randomise(I3D(2, classes=7), seed=11).eval()


@pytest.fixture(scope="module")
def checkpoint(network: I3D, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint in TensorFlow's format, with an optimiser's variables and a step counter as well."""
    arrays = {f"Flow/inception_i3d/{name}": array for name, array in tensorflow_arrays(network).items()}
    first = "Flow/inception_i3d/Conv3d_1a_7x7/conv_3d/w"
    extra = {f"{first}/Momentum": np.zeros_like(arrays[first]), "global_step": np.array(9, dtype=np.int64)}
    prefix = tmp_path_factory.mktemp("tf") / "flow_imagenet" / "model.ckpt"
    write_checkpoint(prefix, arrays | extra, crc_of=masked_crc32c)
    return prefix


def pytorch_state(network: I3D) -> dict[str, torch.Tensor]:
    """The weights as pytorch-i3d's files hold them."""
    state = {theirs: network.state_dict()[ours].clone() for ours, theirs in pytorch_names(network).items()}
    state["logits.conv3d.weight"] = state["logits.conv3d.weight"][:, :, None, None, None]
    for name, unit in network.units():
        state[f"{name}.bn.weight"] = torch.ones(unit.conv.out_channels)
    return state


def same(loaded: I3D, network: I3D) -> bool:
    ours, theirs = loaded.state_dict(), network.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_tensorflow_checkpoint_gives_the_same_network(network: I3D, checkpoint: Path) -> None:
    for path in (checkpoint, checkpoint.parent, Path(f"{checkpoint}.data-00000-of-00001")):
        loaded = load_i3d(path, "flow")
        assert same(loaded, network)
    clip = random_clip(1, 2, 8, 32, 32)
    with torch.inference_mode():
        assert torch.equal(loaded(clip), network(clip))
    assert not loaded.training
    assert weights_digest(loaded) == weights_digest(network)


def test_a_checkpoint_without_scope_and_with_broadcast_shapes_is_read(network: I3D, tmp_path: Path) -> None:
    arrays = tensorflow_arrays(network)
    for name, array in arrays.items():
        if "batch_norm" in name:  # as in kinetics-i3d's Kinetics-600 checkpoint
            arrays[name] = array[None, None, None, None]
    write_checkpoint(tmp_path / "model.ckpt", arrays, crc_of=masked_crc32c)
    assert same(load_i3d(tmp_path / "model.ckpt.index", "flow"), network)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pytorch_i3d_file_gives_the_same_network(network: I3D, tmp_path: Path, legacy: bool) -> None:
    path = tmp_path / "flow_imagenet.pt"
    torch.save(pytorch_state(network), path, _use_new_zipfile_serialization=not legacy)
    assert same(load_i3d(path, "flow"), network)
    wrapped = {f"module.{name}": tensor for name, tensor in pytorch_state(network).items()}
    torch.save({"state_dict": wrapped, "epoch": 3}, path)
    assert same(load_i3d(path, "flow"), network)


def test_a_batch_norm_scale_in_a_pytorch_file_is_kept_in_the_weights(network: I3D, tmp_path: Path) -> None:
    state = pytorch_state(network)
    unit = "Mixed_4c.b1b"
    scale = torch.linspace(-2, 2, state[f"{unit}.bn.weight"].numel())
    state[f"{unit}.bn.weight"] = scale
    torch.save(state, tmp_path / "fine-tuned.pt")
    loaded = dict(load_i3d(tmp_path / "fine-tuned.pt", "flow").units())[unit]
    x = torch.randn(1, loaded.conv.in_channels, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    y = torch.nn.functional.conv3d(x, state[f"{unit}.conv3d.weight"], padding=1)
    y = torch.nn.functional.batch_norm(
        y,
        state[f"{unit}.bn.running_mean"],
        state[f"{unit}.bn.running_var"],
        scale,
        state[f"{unit}.bn.bias"],
        eps=1e-3,
    )
    torch.testing.assert_close(loaded(x), y.relu(), rtol=1e-4, atol=1e-4)


def test_safetensors_keep_the_network(network: I3D, tmp_path: Path) -> None:
    save_i3d(network, tmp_path / "flow_imagenet.safetensors")
    assert same(load_i3d(tmp_path / "flow_imagenet.safetensors", "flow"), network)
    folded = randomise(I3D(2), 0)
    next(folded.units())[1].fold()
    with pytest.raises(ValueError, match="before batch norms are folded"):
        save_i3d(folded, tmp_path / "x.safetensors")


Change = Callable[[dict[str, torch.Tensor]], object]
DEFECTS: dict[str, tuple[Change, str]] = {
    "missing": (lambda s: s.pop("Mixed_3b.b0.bn.bias"), "has no variable 'Mixed_3b.b0.bn.bias'"),
    "unknown": (lambda s: s.update(extra=torch.ones(1)), "has a variable 'extra', which I3D does not"),
    "shape": (
        lambda s: s.update({"Mixed_3b.b0.bn.bias": torch.ones(3)}),
        r"'Mixed_3b.b0.norm.beta' has shape \(3,\), expected \(64,\)",
    ),
    "integers": (
        lambda s: s.update({"Mixed_3b.b0.bn.bias": torch.ones(64, dtype=torch.int64)}),
        "holds torch.int64, expected floating-point",
    ),
    "not finite": (
        lambda s: s["Mixed_5c.b2b.conv3d.weight"].view(-1)[5].fill_(torch.nan),
        "holds NaN or infinity",
    ),
    "variance": (
        lambda s: s["Mixed_5c.b2b.bn.running_var"][3].fill_(-1.0),
        "'Mixed_5c.b2b.norm.variance' is negative",
    ),
    "classifier": (
        lambda s: s.update({"logits.conv3d.weight": torch.ones(7, 1024, 2, 1, 1)}),
        "'Logits.weight' has shape",
    ),
}


@pytest.mark.parametrize("name", DEFECTS)
def test_unfit_weights_are_refused_with_the_variables_name(network: I3D, tmp_path: Path, name: str) -> None:
    change, message = DEFECTS[name]
    state = pytorch_state(network)
    change(state)
    torch.save(state, tmp_path / "x.pt")
    with pytest.raises(InputProblems, match=message):
        load_i3d(tmp_path / "x.pt", "flow")


def test_every_defect_is_named_at_once(network: I3D, tmp_path: Path) -> None:
    state = pytorch_state(network)
    for name in ("Mixed_3b.b0.bn.bias", "Mixed_3c.b0.bn.bias"):
        state.pop(name)
    torch.save(state, tmp_path / "x.pt")
    with pytest.raises(InputProblems) as caught:
        load_i3d(tmp_path / "x.pt", "flow")
    assert len(caught.value.problems) == 2


def test_swapped_streams_are_noticed(checkpoint: Path) -> None:
    with pytest.raises(
        InputError, match=r"these are weights for the stream 'flow', not 'rgb'\. Swap the two files"
    ):
        load_i3d(checkpoint, "rgb")
    with pytest.raises(InputError, match="has the streams rgb and flow, not 'audio'"):
        load_i3d(checkpoint, "audio")


class Opens:
    """Unpickling this would create the file it names."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return open, (str(self.path), "w")


def test_files_that_are_no_weights_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(b"not a file of torch")
    (tmp_path / "x.safetensors").write_bytes(b"\xff" * 40)
    (tmp_path / "x.txt").write_text("x")
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"a": Opens(tmp_path / "hacked")}, tmp_path / "hostile.pt")
    for name, message in {
        "x.pt": "cannot be read as PyTorch weights",
        "x.safetensors": "cannot be read as safetensors",
        "x.txt": "weights are a .pt or .safetensors file",
        "list.pt": "expected a state dict",
        "hostile.pt": "cannot be read as PyTorch weights",
        "nothing.pt": "no such file",
        "model.ckpt": "no such file",
    }.items():
        with pytest.raises(InputError, match=re.escape(message)) as caught:
            load_i3d(tmp_path / name, "rgb")
        assert str(tmp_path / name) in str(caught.value)
    assert not (tmp_path / "hacked").exists()


# --- the command
# ------------------------------------------------------------------------------------------------


def dgam_weights(*arguments: object) -> None:
    weights(
        [str(part) for part in arguments],
        exit_on_error=False,
        print_error=False,
        result_action="return_value",
    )


def test_published_files_are_the_ones_on_record() -> None:
    files = [file for streams in WEIGHTS.values() for parts in streams.values() for file in parts]
    blobs = {file.path: file.blob for file in files}
    assert blobs == {
        "rgb_imagenet/model.ckpt.index": "5ab1058b8f4f89a896c01f67c0a4c96a31548af7",
        "rgb_imagenet/model.ckpt.data-00000-of-00001": "2958652e0c9c48a65010c0ebda5c9cfd4edc7c18",
        "flow_imagenet/model.ckpt.index": "8217f9450d851d24782aaf1af01c5c3b35b81a35",
        "flow_imagenet/model.ckpt.data-00000-of-00001": "bf56831f663abc3de0d35f193030b73a3df7fb61",
        "rgb_imagenet.pt": "73a4fd1d87eb3dbd97f33a9779fa1caa3d28111a",
        "flow_imagenet.pt": "ef0e7c282a102f76b14b52643574b80acba4e475",
    }
    for stream in ("rgb", "flow"):
        index = Path(__file__).resolve().parents[1].parent / "shared/reference/kinetics_i3d_index"
        path = index / f"{stream}_imagenet" / "model.ckpt.index"
        if path.exists():
            assert blob_id(path) == blobs[f"{stream}_imagenet/model.ckpt.index"]


def test_get_then_check_on_a_mirror(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = [Path(f"{checkpoint}.index"), Path(f"{checkpoint}.data-00000-of-00001")]
    files = tuple(PublishedFile(f"there/{p.name}", blob_id(p), f"flow_imagenet/{p.name}") for p in parts)
    monkeypatch.setitem(WEIGHTS["kinetics-i3d"], "flow", files)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with Server({f"/there/{p.name}": p.read_bytes() for p in parts}).running() as running:
        running.cut_after = [1 << 30, 10_000_000]
        dgam_weights("get", "--streams", "flow", "--mirror", running.url)
        assert running.ranges == [None, None, "bytes=10000000-"]
        dgam_weights("get", "--streams", "flow", "--mirror", running.url)
        assert len(running.ranges) == 3
    output = capsys.readouterr().out
    assert output.count("fetched") == output.count("already there") == 2
    assert weights_folder() == tmp_path / "cache" / "dgam" / "weights"
    assert find_weights("flow") == weights_folder() / "flow_imagenet" / "model.ckpt"
    dgam_weights("check", "--flow", find_weights("flow"))
    output = capsys.readouterr().out
    assert "7 classes" in output
    assert "no sample clip to compare scores on; 'dgam weights get --samples' brings it" in output


def test_get_refuses_what_is_not_published(tmp_path: Path) -> None:
    addresses = [file.address for file in WEIGHTS["pytorch-i3d"]["rgb"]]
    with (
        Server({f"/{address}": b"something else" for address in addresses}).running() as running,
        pytest.raises(InputError, match="not the published file"),
    ):
        dgam_weights(
            "get", "--streams", "rgb", "--source", "pytorch-i3d", "--mirror", running.url, "--out", tmp_path
        )
    assert list(tmp_path.iterdir()) == []


def test_without_weights_the_two_commands_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(InputError) as caught:
        dgam_weights("check")
    lines = [line.strip() for line in str(caught.value).splitlines()]
    assert "dgam weights get" in lines
    assert "dgam weights check" in lines


def test_check_prints_our_scores_beside_the_published_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = randomise(I3D(3), seed=1)
    save_i3d(network, tmp_path / "rgb_imagenet.safetensors")
    sample = random_clip(1, 3, 9, 32, 32)
    np.save(tmp_path / SAMPLES["rgb"].path, sample.permute(0, 2, 3, 4, 1).numpy())
    with pytest.raises(InputError, match="4 of 4 numbers differ from the published ones"):
        dgam_weights("check", "--rgb", tmp_path / "rgb_imagenet.safetensors", "--folder", tmp_path)
    with torch.inference_mode():
        scores = network.eval()(sample)[0]
    output = capsys.readouterr().out
    assert re.search(rf"norm of scores +87\.108871 +{float(scores.norm()):.3f}", output)
    assert re.search(rf"playing cricket \(227\) +25\.856646 +{float(scores[227]):.3f}", output)


def test_scores_like_the_published_ones_agree() -> None:
    scores = np.zeros(400, dtype=np.float32)
    scores[227], scores[237] = 25.856646, 12.330335
    rest = np.sqrt((87.108871**2 - float(scores @ scores)) / 398)
    scores[scores == 0] = -rest
    assert all(row.agrees for row in kinetics_sample.compare("rgb", scores))
    scores[237] += 0.1
    assert [row.what for row in kinetics_sample.compare("rgb", scores) if not row.agrees] == [
        "rgb: playing kickball (237)"
    ]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((1, 4, 8, 8, 2), dtype=np.float32), r"expected floats of shape \(1, frames, 224, 224, 3\)"),
        (np.full((1, 4, 8, 8, 3), 200.0), r"expected values in \[−1, 1\]"),
        (np.full((1, 4, 8, 8, 3), np.nan), r"expected values in \[−1, 1\]"),
        (np.zeros((1, 4, 8, 8, 3), dtype=np.uint8), "expected floats"),
        (np.array([{}], dtype=object), "cannot be read as a .npy array"),
    ],
)
def test_an_unfit_sample_is_refused(tmp_path: Path, array: np.ndarray, message: str) -> None:
    np.save(tmp_path / "x.npy", array, allow_pickle=True)
    with pytest.raises(InputError, match=message):
        kinetics_sample.read_sample(tmp_path / "x.npy", "rgb")
