"""I3D as a snippet encoder, with the published weights or with random ones."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dgam.core.errors import InputError
from dgam.encoders.clip_tensor import ClipGeometry
from dgam.encoders.encoder import Clips, EncoderOptions, Setting, Vectors, check_clips
from dgam.encoders.fast_i3d import FastI3D, choose_device
from dgam.encoders.i3d import FEATURES, I3D, randomise
from dgam.encoders.published import find_weights
from dgam.encoders.weights import CHANNELS, load_i3d, weights_digest


class I3DEncoder:
    """Pooled Mixed_5c features, 1024 a stream, of snippets of any length.

    ``networks`` maps a stream to its network. :attr:`settings` identifies the weights by their content.
    """

    def __init__(self, name: str, networks: Mapping[str, I3D], options: EncoderOptions) -> None:
        self.name = name
        self.streams: Mapping[str, int] = dict.fromkeys(networks, FEATURES)
        self._geometry = ClipGeometry.of(options)
        self.short_side: int | None = self._geometry.short_side
        self.device = choose_device(options.device)
        self._networks = {
            stream: FastI3D(network, self.device, options.precision, options.batch)
            for stream, network in networks.items()
        }
        self.settings: Mapping[str, Setting] = {
            "encoder": name,
            "layer": "Mixed_5c, average-pooled",
            "short_side": self._geometry.short_side,
            "crop": self._geometry.crop,
            "flow_bound": self._geometry.flow_bound,
            "quantise_flow": self._geometry.quantise_flow,
            "precision": options.precision,
            **{f"weights.{stream}": weights_digest(network) for stream, network in networks.items()},
        }

    def encode(self, stream: str, clips: Clips) -> Vectors:
        """See :meth:`dgam.encoders.encoder.SnippetEncoder.encode`."""
        check_clips(stream, clips, self.streams)
        network = self._networks[stream]
        rows = np.zeros((len(clips), FEATURES), dtype=np.float32)
        for start in range(0, len(clips), network.batch):
            part = clips[start : start + network.batch]
            prepared = self._geometry.prepare(stream, part, self.device)  # (n, C, L, crop, crop)
            rows[start : start + len(part)] = network.features(prepared).numpy()
        return rows


def published_i3d(options: EncoderOptions) -> I3DEncoder:
    """The encoder ``i3d``: weights from ``options.weights``, or where ``dgam weights get`` puts them."""
    _refuse_other_streams(options)
    paths = {stream: options.weights.get(stream) or find_weights(stream) for stream in options.streams}
    return I3DEncoder("i3d", {stream: load_i3d(path, stream) for stream, path in paths.items()}, options)


def random_i3d_encoder(options: EncoderOptions) -> I3DEncoder:
    """The encoder ``i3d-random``: weights drawn from ``options.seed``. Its features mean nothing."""
    _refuse_other_streams(options)
    networks = {stream: randomise(I3D(CHANNELS[stream]), options.seed) for stream in options.streams}
    return I3DEncoder("i3d-random", networks, options)


def _refuse_other_streams(options: EncoderOptions) -> None:
    for stream in options.streams:
        if stream not in CHANNELS:
            raise InputError(f"--streams: I3D has the streams rgb and flow, not {stream!r}.")
