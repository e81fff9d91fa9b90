"""What turns the frames of snippets into vectors, and how an encoder is found by name.

An encoder is any object with the attributes of :class:`SnippetEncoder`; nothing has to be inherited. A name
stands for a *factory*, a function that takes :class:`EncoderOptions` and returns the encoder. Four kinds of
name are known:

- the built-in ones, see :func:`encoder_names`;
- those that installed packages declare under the entry point group ``dgam.encoders``;
- ``package.module:factory``;
- ``path/to/file.py:factory``, which runs that file.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from dgam.core.errors import InputError

Clips = NDArray[np.uint8] | NDArray[np.float32]
Vectors = NDArray[np.float32]
Setting = str | int | float | bool | None

ENTRY_POINTS = "dgam.encoders"
_BUILT_IN = {
    "i3d": "dgam.encoders.i3d_encoder:published_i3d",
    "i3d-random": "dgam.encoders.i3d_encoder:random_i3d_encoder",
    "tflite": "dgam.encoders.tflite:movinet_tflite",
    "torch-export": "dgam.encoders.exported:torch_export",
    "onnx": "dgam.encoders.exported:onnx",
    "openvino": "dgam.encoders.exported:openvino",
}


class SnippetEncoder(Protocol):
    """Frames in, one vector per snippet out, with the encoder's own preprocessing.

    A snippet's vector must not depend on which other snippets are encoded in the same call.
    """

    @property
    def name(self) -> str:
        """What the feature store records as the features' origin, such as ``i3d``."""
        ...

    @property
    def streams(self) -> Mapping[str, int]:
        """The streams it can encode, each with the length of its vectors."""
        ...

    @property
    def short_side(self) -> int | None:
        """Pixels that the frames' shorter side should be resized to, bilinearly, before they come here; None:
        no matter. Frames of another size are accepted for RGB and resized here."""
        ...

    @property
    def settings(self) -> Mapping[str, Setting]:
        """Everything that decides the numbers (weights' checksum, geometry, precision, …), fit for JSON.

        Features are comparable, and an interrupted extraction can go on, only where these agree."""
        ...

    def encode(self, stream: str, clips: Clips) -> Vectors:
        """``N`` snippets of ``L`` consecutive frames to vectors, shape ``(N, streams[stream])``, float32.

        For ``rgb`` clips are uint8 RGB, shape ``(N, L, H, W, 3)``. For ``flow`` their shape is
        ``(N, L, H, W, 2)``, the last axis horizontal then vertical, either float32 in pixels a frame or uint8
        in quantised levels (0 to 255 over −20 to +20 pixels). Raises InputError for a stream it does not have
        or a shape that does not fit.
        """
        ...


@dataclass(frozen=True)
class EncoderOptions:
    """What a factory is told. Encoders leave aside what does not apply to them."""

    streams: tuple[str, ...] = ("rgb",)
    """Streams that will be asked for."""
    weights: Mapping[str, str] = field(default_factory=dict)
    """Stream to weight file; a stream left out is looked for where the encoder usually finds it."""
    device: str = "auto"
    """``auto`` (a CUDA device where there is one), or a torch device such as ``cpu`` or ``cuda:1``."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of the network."""
    batch: int | None = None
    """Snippets that go through the network together; None: the encoder's choice for the device."""
    short_side: int | None = None
    """Frames' shorter side in pixels; None: the encoder's convention."""
    crop: int | None = None
    """Side in pixels of the square cut out of the middle; None: the encoder's convention."""
    flow_bound: float = 20.0
    """Flow beyond ± this many pixels is clipped."""
    quantise_flow: bool = True
    """Whether float flow is rounded to 256 levels first, as the standard dumps are."""
    seed: int = 0
    """Seed of encoders with random weights."""
    threads: int | None = None
    """CPU threads for the runtimes that take a number of their own (TFLite, ONNX, OpenVINO); None: theirs."""


EncoderFactory = Callable[[EncoderOptions], SnippetEncoder]


def encoder_names() -> tuple[str, ...]:
    """Names that :func:`build_encoder` knows: the built-in encoders, then those of installed packages."""
    installed = sorted({entry.name for entry in entry_points(group=ENTRY_POINTS)} - set(_BUILT_IN))
    return (*_BUILT_IN, *installed)


def build_encoder(name: str, options: EncoderOptions | None = None) -> SnippetEncoder:
    """The encoder of this name (see the module's text), built with these options.

    Raises InputError for an unknown name, a factory that cannot be imported, a missing extra, missing or
    unfit weights, or a stream that the encoder does not have.
    """
    options = options or EncoderOptions()
    encoder = _factory(name)(options)
    missing = [stream for stream in options.streams if stream not in encoder.streams]
    if missing:
        raise InputError(
            f"--encoder {name}: it has no stream {missing[0]!r}, only {', '.join(encoder.streams)}. "
            f"Leave it out of --streams, or take another encoder."
        )
    return encoder


def check_clips(stream: str, clips: Clips, streams: Mapping[str, int]) -> None:
    """InputError unless ``clips`` fits ``stream`` as :meth:`SnippetEncoder.encode` describes it."""
    if stream not in streams:
        raise InputError(f"this encoder has no stream {stream!r}, only {', '.join(streams)}")
    channels = 2 if stream == "flow" else 3
    dtypes = (np.uint8, np.float32) if stream == "flow" else (np.uint8,)
    if clips.ndim != 5 or clips.shape[-1] != channels or 0 in clips.shape[1:] or clips.dtype not in dtypes:
        wanted = " or ".join(np.dtype(dtype).name for dtype in dtypes)
        raise InputError(
            f"clips of stream {stream!r} must be {wanted} of shape (N, L, H, W, {channels}), "
            f"got {clips.dtype} of shape {clips.shape}"
        )


def _factory(name: str) -> EncoderFactory:
    installed = {entry.name: entry.value for entry in entry_points(group=ENTRY_POINTS)}
    target = _BUILT_IN.get(name) or installed.get(name) or name
    module_name, colon, attribute = target.rpartition(":")
    if not colon or not module_name or not attribute:
        close = difflib.get_close_matches(name, encoder_names(), n=1, cutoff=0.5)
        hint = f"Did you mean {close[0]!r}?" if close else f"Known ones: {', '.join(encoder_names())}."
        raise InputError(f"--encoder: unknown encoder {name!r}. {hint} One of your own: file.py:function.")
    try:
        from_file = module_name.endswith(".py")
        module = _run_file(Path(module_name)) if from_file else importlib.import_module(module_name)
        factory = getattr(module, attribute)
    except (ImportError, OSError, AttributeError, SyntaxError) as error:
        raise InputError(
            f"--encoder {name}: no {attribute!r} to be had from {module_name}: {error}."
        ) from error
    if not callable(factory):
        raise InputError(f"--encoder {name}: {attribute!r} is no function that builds an encoder.")
    return factory  # type: ignore[no-any-return]  # what the user named; its result is used as the protocol says


def _run_file(path: Path) -> object:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
