"""I3D's weights from a file: DeepMind's TensorFlow checkpoint, pytorch-i3d's ``.pt``, or safetensors."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from dgam.core.errors import InputError, InputProblems, Problem
from dgam.core.files import atomic_write
from dgam.encoders.i3d import FEATURES, I3D, KINETICS_CLASSES
from dgam.encoders.i3d_names import pytorch_names, tensorflow_names
from dgam.encoders.tensor_bundle import TensorBundle

CHANNELS = {"rgb": 3, "flow": 2}
_MAX_CLASSES = 100_000


def load_i3d(path: str | os.PathLike[str], stream: str) -> I3D:
    """The network of ``stream`` ("rgb" or "flow") with the weights of a file, ready for inference.

    ``path`` is a ``.pt`` or ``.safetensors`` file, or a TensorFlow checkpoint's prefix (``…/model.ckpt``),
    its index file or its folder. Raises InputError for a file that cannot be read, and InputProblems that
    lists every variable that is missing, unknown, of the wrong shape or not finite.
    """
    where = os.fspath(path)
    if stream not in CHANNELS:
        raise InputError(f"I3D has the streams rgb and flow, not {stream!r}.")
    tensors = _read(Path(path))
    classes = len(tensors["Logits.bias"]) if tensors["Logits.bias"].ndim == 1 else KINETICS_CLASSES
    first = tensors["Conv3d_1a_7x7.conv.weight"]
    if first.ndim == 5 and first.shape[1] != CHANNELS[stream] and first.shape[1] in CHANNELS.values():
        other = next(name for name, channels in CHANNELS.items() if channels == first.shape[1])
        raise InputError(
            f"{where}: these are weights for the stream {other!r}, not {stream!r}. Swap the two files."
        )
    network = _skeleton(CHANNELS[stream], min(max(classes, 1), _MAX_CLASSES))
    _check(tensors, network, where)
    network.load_state_dict(tensors, assign=True)
    return network.eval().requires_grad_(False)


def save_i3d(network: I3D, path: str | os.PathLike[str]) -> None:
    """Write the weights as safetensors, atomically. ValueError once a unit's batch norm was folded."""
    if any(unit.norm is None for _, unit in network.units()):
        raise ValueError("weights are saved before batch norms are folded")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    with atomic_write(path) as file:
        file.write(save(tensors, metadata={"network": "inception-i3d", "channels": str(network.channels)}))


def weights_digest(network: I3D) -> str:
    """SHA-256, in hex, of all weights by name; the same whichever kind of file they came from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _read(path: Path) -> dict[str, Tensor]:
    if path.is_dir():
        path = path / "model.ckpt"
    prefix = path.with_suffix("") if path.suffix == ".index" else path
    if ".data-" in path.name:
        prefix = path.with_name(path.name.partition(".data-")[0])
    if Path(f"{prefix}.index").exists():
        return _from_tensorflow(prefix)
    if not path.exists():
        raise InputError(
            f"{path}: no such file, and no {prefix}.index either. Weights are a .pt or .safetensors file, "
            f"or the prefix of a TensorFlow checkpoint."
        )
    if path.suffix == ".safetensors":
        return _from_safetensors(path)
    if path.suffix in (".pt", ".pth"):
        return _from_pytorch(path)
    raise InputError(
        f"{path}: weights are a .pt or .safetensors file, or the prefix of a TensorFlow checkpoint."
    )


def _from_tensorflow(prefix: Path) -> dict[str, Tensor]:
    bundle = TensorBundle(prefix)
    where = f"{prefix}.index"
    names = tensorflow_names(_skeleton(3))
    mark = names["Conv3d_1a_7x7.conv.weight"]
    scopes = [name.removesuffix(mark) for name in bundle.entries if name.endswith(mark)]
    if len(scopes) != 1:
        raise InputError(
            f"{where}: expected one variable called …{mark}, found {len(scopes)}. It is no I3D checkpoint."
        )
    wanted = {ours: scopes[0] + theirs for ours, theirs in names.items()}
    # An optimiser's variables are called after the weights they belong to.
    known = (*wanted.values(), "global_step")
    unknown = [
        name for name in bundle.entries if not any(name == k or name.startswith(f"{k}/") for k in known)
    ]
    _refuse_names(where, [name for name in wanted.values() if name not in bundle.entries], unknown)
    tensors = {}
    for ours, theirs in wanted.items():
        tensor = torch.from_numpy(bundle.read(theirs))
        if ours.endswith("conv.weight"):
            if tensor.ndim == 5:
                tensor = tensor.permute(4, 3, 0, 1, 2)  # (kt, kh, kw, in, out) -> (out, in, kt, kh, kw)
        else:  # some checkpoints have (1, 1, 1, 1, n) for (n,); the classifier is a 1×1×1 convolution
            tensor = _squeeze(tensor, 2 if ours == "Logits.weight" else 1)
            if ours == "Logits.weight" and tensor.ndim == 2:
                tensor = tensor.T  # (in, out) -> (out, in)
        tensors[ours] = tensor
    return tensors


def _from_pytorch(path: Path) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged or hostile file
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path}: cannot be read as PyTorch weights: {reason}") from error
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise InputError(f"{path}: expected a state dict, names to tensors, as pytorch-i3d's files hold.")
    theirs = {str(name).removeprefix("module."): tensor for name, tensor in content.items()}
    names = pytorch_names(_skeleton(3))
    scales = {name for name in theirs if name.endswith(".bn.weight")}
    counters = {name for name in theirs if name.endswith(".bn.num_batches_tracked")}
    unknown = set(theirs) - set(names.values()) - scales - counters
    _refuse_names(str(path), [name for name in names.values() if name not in theirs], sorted(unknown))
    tensors = {ours: theirs[name] for ours, name in names.items()}
    for name in scales:
        # Published ones are all 1. Any other scale s goes into the weights: s·(w·x − m) = (s·w)·x − s·m.
        unit, scale = name.removesuffix(".bn.weight"), theirs[name]
        weight, mean = f"{unit}.conv.weight", f"{unit}.norm.mean"
        if weight in tensors and scale.shape == tensors[mean].shape and tensors[weight].ndim == 5:
            tensors[weight] = tensors[weight] * scale.view(-1, 1, 1, 1, 1)
            tensors[mean] = tensors[mean] * scale
    if tensors["Logits.weight"].ndim == 5:
        tensors["Logits.weight"] = _squeeze(tensors["Logits.weight"].permute(2, 3, 4, 0, 1), 2)
    return tensors


def _from_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as safetensors: {error}") from error
    names = _skeleton(3).state_dict()
    _refuse_names(
        str(path), [name for name in names if name not in tensors], sorted(set(tensors) - set(names))
    )
    return dict(tensors)


def _refuse_names(where: str, missing: list[str], unknown: list[str]) -> None:
    problems = [Problem(where, f"has no variable {name!r}.") for name in missing]
    problems += [Problem(where, f"has a variable {name!r}, which I3D does not.") for name in unknown]
    if problems:
        raise InputProblems("These are not I3D's weights:", problems)


def _check(tensors: dict[str, Tensor], network: I3D, where: str) -> None:
    problems = []
    for name, wanted in network.state_dict().items():
        got = tensors[name]
        if got.shape != wanted.shape:
            what = f"variable {name!r} has shape {tuple(got.shape)}, expected {tuple(wanted.shape)}."
        elif not got.is_floating_point():
            what = f"variable {name!r} holds {got.dtype}, expected floating-point numbers."
        elif not all(bool(bound.isfinite()) for bound in got.aminmax()):
            what = f"variable {name!r} holds NaN or infinity."
        elif name.endswith("variance") and bool((got < 0).any()):
            what = f"variable {name!r} is negative in places."
        else:
            tensors[name] = got.float().contiguous()
            continue
        problems.append(Problem(where, what))
    if problems:
        raise InputProblems("These weights do not fit I3D:", problems)


def _squeeze(tensor: Tensor, dimensions: int) -> Tensor:
    """Drop leading axes of length 1 down to ``dimensions``; others stay, for the shape check to name."""
    while tensor.ndim > dimensions and tensor.shape[0] == 1:
        tensor = tensor[0]
    return tensor


def _skeleton(channels: int, classes: int = KINETICS_CLASSES) -> I3D:
    """The network with names and shapes but no memory behind them."""
    with torch.device("meta"):
        network = I3D(channels, classes)
    assert network.Logits.in_features == FEATURES
    return network
