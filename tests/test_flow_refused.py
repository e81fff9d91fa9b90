"""What optical flow refuses: settings, images, methods and a start that cannot be."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dgam.core.errors import InputError
from dgam.flow import tvl1 as flow_module
from dgam.flow.tvl1 import FlowSettings, choose_method, flow


def test_all_wrong_settings_are_named_at_once() -> None:
    with pytest.raises(InputError) as caught:
        FlowSettings(tau=0, nscales=0, scale_step=1, median_filtering=4, subpixel="half", gamma=-1)
    assert str(caught.value) == (
        "flow settings: tau must be positive, got 0; nscales must be at least 1, got 0; "
        "gamma must not be negative, got -1; scale_step must lie from 0.1 to below 1, got 1; "
        "median_filtering must be 0, 1, 3 or 5, got 4; "
        'subpixel must be "exact" or "1/32", got \'half\'.'
    )


IMAGES = np.zeros((2, 24, 20), np.uint8)


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (IMAGES, IMAGES[:1], "two batches of the same shape"),
        (IMAGES[:, :2], IMAGES[:, :2], "at least 3 × 3 pixels, got 2 × 20"),
        (IMAGES[0], IMAGES[0], r"previous: flow wants uint8 RGB"),
        (IMAGES.astype(np.int32), IMAGES, "previous: flow wants uint8 RGB"),
        (IMAGES, IMAGES * np.float32("nan"), "following: images hold values that are not finite"),
    ],
)
def test_images_that_cannot_be(first: NDArray[np.uint8], second: NDArray[np.uint8], message: str) -> None:
    with pytest.raises(InputError, match=message):
        flow(first, second)


def test_a_gpu_takes_the_kernels_where_they_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow_module, "_why_no_triton", lambda device: None)
    assert choose_method(device="cuda:1") == "triton"
    assert choose_method(device="cuda:1", gamma=0.1) == "torch"
    monkeypatch.setattr(flow_module, "_why_no_triton", lambda device: "no compiler")
    assert choose_method(device="cuda:1") == "torch"


def test_methods_that_are_not_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        InputError, match="unknown flow method 'farneback'; there are auto, llvm, triton, torch, opencv"
    ):
        choose_method("farneback")
    with pytest.raises(InputError, match="runs on the CPU only; for cuda choose torch"):
        choose_method("llvm", "cuda")
    with pytest.raises(InputError, match="no brightness change; choose torch"):
        choose_method("llvm", gamma=0.1)
    assert choose_method() == "llvm"
    assert choose_method(gamma=0.1) == "torch"
    with pytest.raises(InputError, match="triton cannot be used: it runs on GPUs only; choose torch"):
        choose_method("triton")
    with pytest.raises(InputError, match="no brightness change; choose torch"):
        choose_method("triton", "cuda", gamma=0.1)
    with monkeypatch.context() as working:
        working.setattr(flow_module, "_why_no_triton", lambda device: None)
        assert choose_method(device="cuda") == "triton"
        assert choose_method(device="cuda", gamma=0.1) == "torch"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_method(device="cuda") == "torch"
    with pytest.raises(InputError, match="triton cannot be used: PyTorch finds no GPU; choose torch"):
        choose_method("triton", "cuda")
    monkeypatch.setattr(flow_module, "find_spec", lambda name: None)
    assert choose_method() == "torch"
    with pytest.raises(InputError, match="pip install llvmlite"):
        choose_method("llvm")
    with pytest.raises(InputError, match="pip install opencv-contrib-python-headless"):
        choose_method("opencv")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_method(device="cuda") == "torch"
    with pytest.raises(InputError, match="triton cannot be used: there is no Triton"):
        choose_method("triton", "cuda")


def test_initial_flow_of_wrong_shape() -> None:
    shapes: Sequence[tuple[int, ...]] = [(2, 24, 20), (2, 2, 20, 24)]
    for shape in shapes:
        with pytest.raises(InputError, match="initial flow must be"):
            # For mypy: wrong on purpose.
            flow(IMAGES, IMAGES, initial=np.zeros(shape, np.float32))  # type: ignore[arg-type]
