"""Optical flow as extraction needs it: of neighbouring pictures, in the form the encoder takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dgam.core.errors import InputError
from dgam.video.framing import Picture

if TYPE_CHECKING:
    from torch import Tensor

PAIRS = {"cpu": 16, "cuda": 128}
"""Pairs of pictures that the methods torch and triton take at once; their memory grows with them."""


class NeighbourFlow:
    """The TV-L1 flow from each picture to the next, by one method on one device.

    ``method`` and ``parameters`` are those of :mod:`dgam.flow.tvl1`, "auto" for whatever is fastest here;
    ``device`` is "auto" or a torch device; ``bound`` is in pixels; ``threads`` 0 means one a core.
    :attr:`settings` says what was chosen, fit for JSON. InputError for a method or parameter that cannot be.
    """

    def __init__(
        self,
        method: str = "auto",
        parameters: Mapping[str, float | int | str] | None = None,
        *,
        device: str = "auto",
        bound: float = 20.0,
        quantised: bool = True,
        threads: int = 0,
    ) -> None:
        from dgam.encoders.fast_i3d import choose_device
        from dgam.flow.tvl1 import FlowSettings, choose_method

        known = {field.name.rstrip("_"): field.name for field in dataclasses.fields(FlowSettings)}
        given = {name.rstrip("_"): value for name, value in (parameters or {}).items()}
        if unknown := sorted(set(given) - set(known)):
            raise InputError(f"flow has no parameter {unknown[0]!r}, only {', '.join(known)}.")
        try:
            # The values are checked by FlowSettings itself, which says in words what is wrong.
            # For mypy: values of a file, checked by it.
            self._parameters = FlowSettings(**{known[name]: value for name, value in given.items()})  # type: ignore[arg-type]
        except TypeError:
            raise InputError(f"flow parameters must be numbers, got {given}.") from None
        if method in ("llvm", "opencv") and device == "auto":
            device = "cpu"
        self._device = choose_device(device)
        self._method = choose_method(method, self._device, self._parameters.gamma)
        self._bound, self._quantised, self._threads = bound, quantised, threads
        self.settings: dict[str, Any] = {"method": self._method, **dataclasses.asdict(self._parameters)}

    def __call__(self, pictures: Picture) -> NDArray[Any]:
        """Pictures uint8 (n, H, W, 3) to the flow between neighbours, (n − 1, H, W, 2): horizontal, vertical.

        uint8 levels over ± the bound where quantised, else float32 in pixels.
        """
        from dgam.flow.tvl1 import flow, grey, quantise

        if self._method in ("torch", "triton"):
            return self._on_device(pictures)
        light = grey(pictures)  # (n, H, W)
        motion = flow(light[:-1], light[1:], self._parameters, method=self._method, threads=self._threads)
        levels = quantise(motion, self._bound) if self._quantised else motion
        return np.ascontiguousarray(levels.transpose(0, 2, 3, 1))  # (n - 1, 2, H, W) -> (n - 1, H, W, 2)

    def _on_device(self, pictures: Picture) -> NDArray[Any]:
        import torch

        from dgam.flow.tvl1 import flow, grey, quantise

        light: Tensor = grey(torch.from_numpy(pictures).to(self._device))  # (n, H, W)
        size = PAIRS.get(self._device.type, PAIRS["cpu"])
        parts = []
        for start in range(0, len(light) - 1, size):
            end = min(start + size, len(light) - 1)
            motion = flow(light[start:end], light[start + 1 : end + 1], self._parameters, method=self._method)
            levels = quantise(motion, self._bound) if self._quantised else motion
            parts.append(levels.permute(0, 2, 3, 1).cpu().numpy())  # (b, 2, H, W) -> (b, H, W, 2)
        return np.concatenate(parts)
