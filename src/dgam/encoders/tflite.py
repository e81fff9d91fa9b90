"""MoViNet-Stream as a snippet encoder, from a TFLite file, on the CPU (extra: ai-edge-litert).

Every second frame of a snippet goes through the network, which carries its state from frame to frame and
starts each snippet afresh. The vector is the mean over frames and places of the last convolution's
activations (480 for MoViNet-A0).
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dgam.core.errors import InputError
from dgam.core.files import sha256_of
from dgam.encoders.encoder import Clips, EncoderOptions, Setting, Vectors, check_clips

FRAME_STEP = 2
_HEAD = "head/project"  # part of the name of the last convolution's tensor


class MoViNetEncoder:
    """RGB snippets to the pooled head activations of a streaming MoViNet.

    Frames are cut to the square in their middle and resized to the network's input by area averaging,
    values in [0, 1]. Quantised networks are sensitive to rounding: the same file gives other numbers with
    other kernels, so TFLite's default delegates are left out.
    """

    def __init__(self, path: Path, threads: int | None = None) -> None:
        self.name = "tflite"
        self.short_side: int | None = None
        self._network = _open(path, threads)
        runner = self._network.get_signature_runner()
        inputs = runner.get_input_details()
        image = inputs.get("image")
        if image is None or len(image["shape"]) != 5 or image["shape"][1] != 1:
            raise InputError(
                f"{path}: expected a streaming MoViNet, with an input 'image' (1, 1, H, W, 3) and states."
            )
        self._runner = runner
        self._size = (int(image["shape"][2]), int(image["shape"][3]))
        self._states = {
            name: (tuple(detail["shape"]), detail["dtype"])
            for name, detail in inputs.items()
            if name != "image"
        }
        self._head = _last_convolution(self._network, path)
        self.streams: Mapping[str, int] = {"rgb": int(self._head["shape"][-1])}
        self.settings: Mapping[str, Setting] = {
            "encoder": "tflite",
            "layer": "head activations, mean over frames and places",
            "frame_step": FRAME_STEP,
            "crop": "centre square, area averaging",
            "input": f"{self._size[1]}x{self._size[0]}",
            "weights.rgb": sha256_of(path),
        }

    def encode(self, stream: str, clips: Clips) -> Vectors:
        """See :meth:`dgam.encoders.encoder.SnippetEncoder.encode`."""
        check_clips(stream, clips, self.streams)
        rows = np.zeros((len(clips), self.streams["rgb"]), dtype=np.float32)
        for row, clip in zip(rows, clips, strict=True):
            row[:] = self._one(clip[::FRAME_STEP])
        return rows

    def _one(self, frames: NDArray[Any]) -> NDArray[np.float32]:
        state = {name: np.zeros(shape, dtype) for name, (shape, dtype) in self._states.items()}
        scale, zero = self._head["quantization"]
        total = np.zeros(self.streams["rgb"], dtype=np.float64)
        for frame in frames:
            image = resize_area(centre_square(frame), self._size).astype(np.float32) / 255  # (h, w, 3)
            outputs = self._runner(image=image[None, None], **state)
            state = {name: outputs[name] for name in state}
            head = self._network.get_tensor(self._head["index"]).astype(np.float64)  # (1, h', w', 480)
            total += ((head - zero) * (scale or 1.0)).mean((0, 1, 2))  # a float network has scale 0
        return (total / len(frames)).astype(np.float32)


def movinet_tflite(options: EncoderOptions) -> MoViNetEncoder:
    """The encoder ``tflite``: the network is the file ``options.weights["rgb"]``."""
    if "rgb" not in options.weights:
        raise InputError("--encoder tflite needs a .tflite file: --weights rgb=PATH.")
    return MoViNetEncoder(Path(options.weights["rgb"]), options.threads)


def centre_square(frame: NDArray[Any]) -> NDArray[Any]:
    """The largest square in the middle of an ``(H, W, C)`` frame."""
    height, width = frame.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return frame[top : top + side, left : left + side]


def resize_area(frame: NDArray[Any], size: tuple[int, int]) -> NDArray[np.uint8]:
    """A uint8 ``(H, W, C)`` frame at ``size`` (height, width); a pixel is the mean of what it covers.

    Sums run in float32, along rows first and from left to right, as in OpenCV's INTER_AREA: means such as
    136.5 then round the same way, which a quantised network notices.
    """
    height, width = size
    rows = np.zeros((frame.shape[0], width, frame.shape[2]), dtype=np.float32)
    for places, shares in _covered(frame.shape[1], width):
        rows += frame[:, places].astype(np.float32) * shares[:, None]  # (H, width, C)
    mean = np.zeros((height, width, frame.shape[2]), dtype=np.float32)
    for places, shares in _covered(frame.shape[0], height):
        mean += rows[places] * shares[:, None, None]  # (height, width, C)
    pixels: NDArray[np.uint8] = np.rint(mean).astype(np.uint8)
    return pixels


def _covered(source: int, target: int) -> list[tuple[NDArray[np.intp], NDArray[np.float32]]]:
    """Which source pixels the output pixels of an axis cover, first, second, …, and with what share."""
    scale = source / target
    starts = np.arange(target) * scale
    first = np.floor(starts + 1e-3).astype(np.intp)  # slivers below a thousandth of a pixel do not count
    taps = []
    for step in range(int(np.ceil(scale)) + 1):
        places = np.minimum(first + step, source - 1)
        overlap = np.minimum(starts + scale, first + step + 1) - np.maximum(starts, first + step)
        inside = (overlap > 1e-3) & (first + step < source)
        taps.append((places, np.where(inside, overlap / scale, 0.0).astype(np.float32)))
    return taps


def _open(path: Path, threads: int | None) -> Any:
    try:
        litert = importlib.import_module("ai_edge_litert.interpreter")
    except ImportError as error:
        raise InputError("--encoder tflite needs the extra 'tflite': pip install 'dgam[tflite]'.") from error
    if not path.is_file():
        raise InputError(f"{path}: no such file. --encoder tflite needs a .tflite file: --weights rgb=PATH.")
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", UserWarning
        )  # that keeping inner tensors takes memory, which is meant
        try:
            network = litert.Interpreter(
                model_path=str(path),
                num_threads=threads or 1,
                experimental_preserve_all_tensors=True,
                experimental_op_resolver_type=litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            )
        except (ValueError, RuntimeError) as error:
            raise InputError(f"{path}: cannot be read as a TFLite network: {error}") from error
    if not network.get_signature_list():
        raise InputError(f"{path}: the network has no signature to call it by.")
    return network


def _last_convolution(network: Any, path: Path) -> dict[str, Any]:
    named = [detail for detail in network.get_tensor_details() if _HEAD in detail["name"]]
    heads = [detail for detail in named if "Relu6" in detail["name"] and len(detail["shape"]) == 4]
    if len(heads) != 1:
        raise InputError(
            f"{path}: expected one tensor of the last convolution ({_HEAD}), found {len(heads)}."
        )
    return dict(heads[0])
