"""Any network exported to a file as a snippet encoder: torch.export (``.pt2``), ONNX, OpenVINO.

The network takes one float32 tensor ``(N, C, L, H, W)`` in [−1, 1], RGB or flow, and gives ``(N, d)``, or
``(N, d, …)`` with axes behind that are averaged over. Its preprocessing is I3D's, with the size from the
options.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dgam.core.errors import InputError
from dgam.core.files import sha256_of
from dgam.encoders.clip_tensor import ClipGeometry
from dgam.encoders.encoder import Clips, EncoderOptions, Setting, Vectors, check_clips

Forward = Callable[[NDArray[np.float32]], NDArray[Any]]

SNIPPET_FRAMES = 16


class ExportedEncoder:
    """Networks called through a runtime, one snippet at a time.

    ``forwards`` maps a stream to a function from ``(1, C, L, H, W)`` to ``(1, d, …)``. The length of the
    vectors is found by a trial with snippets of 16 frames.
    """

    def __init__(self, name: str, forwards: Mapping[str, Forward], options: EncoderOptions) -> None:
        self.name = name
        self._forwards = dict(forwards)
        self._geometry = ClipGeometry.of(options)
        self.short_side: int | None = self._geometry.short_side
        crop = self._geometry.crop
        self.streams: Mapping[str, int] = {
            stream: self._vector(
                stream,
                np.zeros((1, 2 if stream == "flow" else 3, SNIPPET_FRAMES, crop, crop), dtype=np.float32),
            ).size
            for stream in forwards
        }
        self.settings: Mapping[str, Setting] = {
            "encoder": name,
            "short_side": self._geometry.short_side,
            "crop": crop,
            "flow_bound": self._geometry.flow_bound,
            "quantise_flow": self._geometry.quantise_flow,
            **{f"weights.{stream}": sha256_of(options.weights[stream]) for stream in forwards},
        }

    def encode(self, stream: str, clips: Clips) -> Vectors:
        """See :meth:`dgam.encoders.encoder.SnippetEncoder.encode`."""
        check_clips(stream, clips, self.streams)
        rows = np.zeros((len(clips), self.streams[stream]), dtype=np.float32)
        for index, row in enumerate(rows):
            prepared = self._geometry.prepare(stream, clips[index : index + 1], torch.device("cpu"))
            row[:] = self._vector(stream, np.ascontiguousarray(prepared.numpy()))
        return rows

    def _vector(self, stream: str, clip: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            output = np.asarray(self._forwards[stream](clip), dtype=np.float32)
        except Exception as error:  # each runtime has exceptions of its own
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise InputError(
                f"--encoder {self.name}: the network for {stream!r} takes no clip of shape "
                f"{clip.shape}: {reason}"
            ) from error
        if output.ndim < 2 or output.shape[0] != 1:
            raise InputError(
                f"--encoder {self.name}: expected an output (1, d, …), got shape {output.shape}."
            )
        vector: NDArray[np.float32] = output.reshape(output.shape[1], -1).mean(1)  # (d, …) -> (d,)
        return vector


def torch_export(options: EncoderOptions) -> ExportedEncoder:
    """The encoder ``torch-export``: programs saved with ``torch.export.save``. Open files you trust only."""

    def load(path: Path) -> Forward:
        module = torch.export.load(path).module()

        def forward(clip: NDArray[np.float32]) -> NDArray[Any]:
            with torch.inference_mode():
                output: torch.Tensor = module(torch.from_numpy(clip))
                return output.float().numpy()

        return forward

    return ExportedEncoder("torch-export", _load_all("torch-export", options, load), options)


def onnx(options: EncoderOptions) -> ExportedEncoder:
    """The encoder ``onnx``, by ONNX Runtime (extra: onnxruntime)."""

    def load(path: Path) -> Forward:
        try:
            onnxruntime = importlib.import_module("onnxruntime")
        except ImportError as error:
            raise InputError("--encoder onnx needs the extra 'onnx': pip install 'dgam[onnx]'.") from error
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = options.threads or 0
        cuda = options.device.startswith("cuda") or options.device == "auto"
        wanted = ["CUDAExecutionProvider"] if cuda else []
        have = onnxruntime.get_available_providers()
        providers = [*(name for name in wanted if name in have), "CPUExecutionProvider"]
        session = onnxruntime.InferenceSession(str(path), settings, providers=providers)
        name = session.get_inputs()[0].name
        return lambda clip: np.asarray(session.run(None, {name: clip})[0])

    return ExportedEncoder("onnx", _load_all("onnx", options, load), options)


def openvino(options: EncoderOptions) -> ExportedEncoder:
    """The encoder ``openvino``, from its own ``.xml`` files or from ONNX (extra: openvino)."""

    def load(path: Path) -> Forward:
        try:
            runtime = importlib.import_module("openvino")
        except ImportError as error:
            raise InputError(
                "--encoder openvino needs the extra 'openvino': pip install 'dgam[openvino]'."
            ) from error
        settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": "bf16" if options.precision == "bfloat16" else "f32"
        }
        if options.threads:
            settings["INFERENCE_NUM_THREADS"] = options.threads
        network = runtime.Core().compile_model(str(path), "CPU", settings)
        return lambda clip: np.asarray(network([clip])[0])

    return ExportedEncoder("openvino", _load_all("openvino", options, load), options)


def _load_all(name: str, options: EncoderOptions, load: Callable[[Path], Forward]) -> dict[str, Forward]:
    forwards = {}
    for stream in options.streams:
        if stream not in options.weights:
            raise InputError(f"--encoder {name} needs a file for each stream: --weights {stream}=PATH.")
        path = Path(options.weights[stream])
        if not path.is_file():
            raise InputError(f"{path}: no such file. --encoder {name} needs --weights {stream}=PATH.")
        try:
            forwards[stream] = load(path)
        except InputError:
            raise
        except Exception as error:  # each runtime has exceptions of its own
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise InputError(f"{path}: cannot be opened by the encoder {name!r}: {reason}") from error
    return forwards
