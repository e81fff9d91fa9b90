"""What turns a video into the features that a model was trained on, so that a new video gets the same."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from fractions import Fraction
from typing import Any

from dgam.core.errors import InputError
from dgam.core.timeline import SnippetGrid
from dgam.encoders.encoder import EncoderOptions, encoder_names
from dgam.extraction.worker import ExtractSettings
from dgam.video.framing import FrameSettings

ENCODER_FILE = "encoder.json"


@dataclass(frozen=True)
class EncoderIdentity:
    """How features came about.

    ``settings`` make an encoder that yields them; ``recorded`` is what the store's head says of them:
    checksums of weights, geometry, snippet length, optical flow. ``recorded`` decides whether two kinds of
    features are the same; paths of weights and devices may differ.
    """

    settings: ExtractSettings
    recorded: Mapping[str, Any]

    @property
    def encoder(self) -> str:
        """The encoder's name, as ``--encoder`` takes it."""
        return self.settings.encoder

    @property
    def streams(self) -> tuple[str, ...]:
        """The streams that are extracted."""
        return self.settings.streams

    @property
    def grid(self) -> SnippetGrid:
        """How snippets lie in time."""
        return self.settings.grid

    def to_json(self) -> dict[str, Any]:
        """The identity as ``encoder.json`` holds it."""
        grid = self.grid
        return {
            "encoder": self.encoder,
            "streams": list(self.streams),
            "grid": {"fps": str(grid.fps), "length": grid.length, "stride": grid.stride},
            "recorded": dict(self.recorded),
            "settings": settings_to_json(self.settings),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> EncoderIdentity:
        """The inverse of :meth:`to_json`. KeyError, TypeError, ValueError or InputError for anything else."""
        recorded = value["recorded"]
        if not isinstance(recorded, dict):
            raise TypeError(f"'recorded' is a {type(recorded).__name__}, expected an object")
        return cls(settings_from_json(value["settings"]), recorded)


def settings_to_json(settings: ExtractSettings) -> dict[str, Any]:
    """Extraction settings as JSON values, without what decides the speed only (device, threads).

    Weights, and an encoder of one's own (``file.py:function``), are named by their absolute paths, so that
    they are found from another working folder.
    """
    options = asdict(settings.options)
    for name in ("streams", "device", "threads"):
        del options[name]
    options["weights"] = {name: os.path.abspath(path) for name, path in settings.options.weights.items()}
    return {
        "streams": list(settings.streams),
        "encoder": _absolute(settings.encoder),
        "options": options,
        "frames": settings.frames.to_json(),
        "length": settings.length,
        "stride": settings.stride,
        "flow": settings.flow,
        "flow_parameters": dict(settings.flow_parameters),
        "dtype": settings.dtype,
    }


def _absolute(encoder: str) -> str:
    file, colon, function = encoder.rpartition(":")
    return f"{os.path.abspath(file)}:{function}" if colon and file.endswith(".py") else encoder


def settings_from_json(value: Mapping[str, Any]) -> ExtractSettings:
    """The inverse of :func:`settings_to_json`. KeyError, TypeError, ValueError or InputError for anything
    else."""
    known = {field.name for field in fields(ExtractSettings)}
    if unknown := sorted(set(value) - known):
        raise ValueError(f"unknown setting {unknown[0]!r}")
    return ExtractSettings(
        **{
            **value,
            "streams": tuple(value["streams"]),
            "options": EncoderOptions(**value["options"]),
            "frames": frames_from_json(value["frames"]),
        }
    )


def frames_from_json(value: Mapping[str, Any]) -> FrameSettings:
    """The inverse of ``FrameSettings.to_json``."""
    size = value["size"]
    return FrameSettings(
        **{**value, "fps": Fraction(value["fps"]), "size": tuple(size) if size is not None else None}
    )


def identity_of_store(
    head: Mapping[str, Any], streams: tuple[str, ...], weights: Mapping[str, str] | None = None
) -> EncoderIdentity | None:
    """The identity, for some of its streams, that a feature store's head tells.

    None where the store was not made by ``dgam extract``, or by an encoder that is not known by its name
    alone. The head knows no paths: ``weights`` may name them; otherwise the encoder looks where it usually
    does. Whether it then is the same encoder is found out when it is built, by :func:`differences`.
    """
    head = restricted(head, streams)
    try:
        made, snippet = head["encoder"], head["snippet"]
        if made["name"] not in encoder_names():
            return None
        flow = dict(head.get("flow", {}))
        frames = frames_from_json(head["frames"])
        options = EncoderOptions(
            weights=dict(weights or {}),
            precision=made.get("precision", "float32"),
            short_side=made.get("short_side"),
            crop=made["crop"] if isinstance(made.get("crop"), int) else None,
            flow_bound=made.get("flow_bound", 20.0),
            quantise_flow=made.get("quantise_flow", True),
            seed=made.get("seed", 0),
        )
        if options.short_side is None:
            options = replace(options, short_side=frames.short_side)
        settings = ExtractSettings(
            streams=streams,
            encoder=made["name"],
            options=options,
            frames=frames,
            length=snippet["length"],
            stride=snippet["stride"],
            flow=flow.pop("method", "auto"),
            flow_parameters=flow,
        )
    except (KeyError, TypeError, ValueError, AttributeError, InputError):
        return None
    return EncoderIdentity(settings, head)


def restricted(recorded: Mapping[str, Any], streams: tuple[str, ...]) -> dict[str, Any]:
    """A record without what only other streams need: their weights, and the optical flow."""
    value = {key: part for key, part in recorded.items() if key != "flow" or "flow" in streams}
    made = value.get("encoder")
    if isinstance(made, Mapping):
        value["encoder"] = {
            key: part
            for key, part in made.items()
            if not key.startswith("weights.") or key.removeprefix("weights.") in streams
        }
    return value


def differences(expected: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Where two records differ, each as "encoder.weights.rgb: trained with a…, here b…"; [] if they agree."""
    before, now = flat(expected), flat(found)
    return [
        f"{key}: trained with {brief(before.get(key))}, here {brief(now.get(key))}"
        for key in dict.fromkeys([*before, *now])
        if before.get(key) != now.get(key)
    ]


def flat(record: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested objects as one, with dotted keys."""
    values: dict[str, Any] = {}
    for key, value in record.items():
        if isinstance(value, Mapping):
            values.update(flat(value, f"{prefix}{key}."))
        else:
            values[f"{prefix}{key}"] = value
    return values


def brief(value: object) -> str:
    """A value for a message; checksums are cut."""
    if value is None:
        return "nothing"
    text = str(value)
    return text if len(text) <= 40 else f"{text[:12]}…"
