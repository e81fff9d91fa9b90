"""Dense optical flow between frames by TV-L1 (Zach, Pock & Bischof 2007), as OpenCV's DualTVL1 computes it.

Four implementations of one algorithm, with the same parameters by name and default:

    llvm     vector kernels compiled at run time by llvmlite (a wheel; no compiler needed), for CPUs
    triton   kernels compiled at run time by the Triton that comes with PyTorch, for GPUs
    torch    plain PyTorch, batched, where the other two cannot be had
    opencv   cv2.optflow.DualTVL1OpticalFlow of opencv-contrib-python, unchanged

docs/flow.md says how near they are to each other and how fast.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dgam.core.errors import InputError
from dgam.flow.pyramid import pyramid_sizes
from dgam.flow.settings import FlowSettings

__all__ = ["BOUND", "METHODS", "FlowSettings", "choose_method", "flow", "grey", "quantise", "scale_to_unit"]

METHODS = ("auto", "llvm", "triton", "torch", "opencv")
BOUND = 20.0
Images = TypeVar("Images", NDArray[Any], Tensor)
# ITU-R BT.601 luma as OpenCV has it: these over 2¹⁵, rounded half up.
_LUMA = (9798, 19235, 3735)


def choose_method(method: str = "auto", device: str | torch.device = "cpu", gamma: float = 0.0) -> str:
    """What "auto" stands for here: "llvm" on a CPU and "triton" on a GPU where they work, else "torch".

    Any other name is checked and returned. InputError says what is missing and how to get it.
    """
    kind = torch.device(device).type
    if method not in METHODS:
        raise InputError(f"unknown flow method {method!r}; there are {', '.join(METHODS)}.")
    if method == "auto":
        if gamma:
            return "torch"
        if kind == "cpu":
            return "llvm" if find_spec("llvmlite") is not None else "torch"
        return "triton" if _why_no_triton(device) is None else "torch"
    if method == "triton":
        if gamma:
            raise InputError("flow method triton has no brightness change; choose torch, or gamma 0.")
        if reason := _why_no_triton(device):
            raise InputError(f"flow method triton cannot be used: {reason}; choose torch.")
        return method
    if method != "torch" and kind != "cpu":
        raise InputError(f"flow method {method} runs on the CPU only; for {kind} choose torch.")
    if method == "llvm" and gamma:
        raise InputError("flow method llvm has no brightness change; choose torch, or gamma 0.")
    if method == "llvm" and find_spec("llvmlite") is None:
        raise InputError("flow method llvm needs llvmlite: pip install llvmlite, or choose torch.")
    if method == "opencv" and not _has_opencv_flow():
        raise InputError(
            "flow method opencv needs OpenCV with its contributed modules: "
            "pip install opencv-contrib-python-headless."
        )
    return method


def _why_no_triton(device: str | torch.device) -> str | None:
    """What keeps Triton's kernels from running on this device, if anything."""
    if torch.device(device).type != "cuda":
        return "it runs on GPUs only"
    if not torch.cuda.is_available():
        return "PyTorch finds no GPU"
    if find_spec("triton") is None:
        return "there is no Triton (it comes with PyTorch's builds for GPUs, or by pip install triton)"
    from dgam.flow import gpu

    return gpu.why_not(torch.device(device))


def _has_opencv_flow() -> bool:
    if find_spec("cv2") is None:
        return False
    import cv2

    return hasattr(cv2, "optflow") and hasattr(cv2.optflow, "DualTVL1OpticalFlow_create")


def grey(rgb: Images) -> Images:
    """RGB uint8 (…, 3) -> grey uint8 (…), bit for bit as OpenCV's RGB2GRAY."""
    if rgb.dtype not in (np.uint8, torch.uint8) or rgb.shape[-1] != 3:
        raise InputError(f"grey wants uint8 RGB with 3 channels last, got {rgb.dtype} {tuple(rgb.shape)}.")
    if isinstance(rgb, Tensor):
        wide = rgb.to(torch.int32)
        total = sum(wide[..., i] * weight for i, weight in enumerate(_LUMA)) + (1 << 14)
        return (torch.as_tensor(total) >> 15).to(torch.uint8)
    total = sum(rgb[..., i].astype(np.int32) * weight for i, weight in enumerate(_LUMA)) + (1 << 14)
    return (np.asarray(total) >> 15).astype(np.uint8)


def flow(
    previous: Images,
    following: Images,
    settings: FlowSettings | None = None,
    *,
    method: str = "auto",
    threads: int = 0,
    initial: Images | None = None,
) -> Images:
    """Optical flow from each image of ``previous`` to that of ``following``: (B, 2, H, W) float32, px per
    frame.

    Images: uint8 RGB (B, H, W, 3) or grey (B, H, W), or float grey in 0…255; at least 3 × 3 px; NumPy or
    torch, and the result is of the same kind, on the same device. Channel 0 is the motion to the right,
    channel 1 that down. ``threads`` (methods llvm and opencv): 0 for one a core. ``initial`` (B, 2, H, W):
    flow to start from (OpenCV's useInitialFlow). A pair's result does not depend on the batch it is in nor on
    the number of threads. Raises InputError for images that do not match or a method that is not to be had.
    """
    settings = settings or FlowSettings()
    first, second = (
        _grey_floats(images, name) for images, name in ((previous, "previous"), (following, "following"))
    )
    if first.shape != second.shape or first.device != second.device:
        raise InputError(
            f"flow wants two batches of the same shape and device, got {tuple(first.shape)} on "
            f"{first.device} and {tuple(second.shape)} on {second.device}."
        )
    batch, height, width = first.shape
    if min(height, width) < 3:
        raise InputError(f"flow wants images of at least 3 × 3 pixels, got {height} × {width}.")
    start: Tensor | None = None
    if initial is not None:
        start = torch.as_tensor(initial).to(torch.float32)
        if start.shape != (batch, 2, height, width):
            raise InputError(f"initial flow must be {(batch, 2, height, width)}, got {tuple(start.shape)}.")
    chosen = choose_method(method, first.device, settings.gamma)
    sizes = pyramid_sizes(height, width, settings.nscales, settings.scale_step)
    if not batch:
        result = first.new_zeros(0, 2, height, width)
    elif chosen == "triton":
        from dgam.flow import gpu

        result = gpu.solve(first, second, start, sizes, settings).clone()
    elif chosen == "torch":
        from dgam.flow import batched

        with torch.inference_mode():
            result = batched.solve(first, second, start, sizes, settings)
        result = result.clone()  # an ordinary tensor again
    else:
        arrays = (first.numpy(), second.numpy(), None if start is None else start.numpy())
        workers = threads if threads > 0 else _cores()
        if chosen == "llvm":
            from dgam.flow import native

            result = torch.from_numpy(native.solve(*arrays, sizes, settings, workers))
        else:
            result = torch.from_numpy(_opencv(*arrays, settings, workers))
    return result if isinstance(previous, Tensor) else result.numpy()


def _cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _grey_floats(images: NDArray[Any] | Tensor, name: str) -> Tensor:
    """Grey float32 (B, H, W) in 0…255."""
    tensor = images if isinstance(images, Tensor) else torch.from_numpy(np.ascontiguousarray(images))
    if tensor.ndim == 4 and tensor.shape[-1] == 3:
        tensor = grey(tensor)
    if tensor.ndim != 3 or not (tensor.dtype == torch.uint8 or tensor.is_floating_point()):
        raise InputError(
            f"{name}: flow wants uint8 RGB (B, H, W, 3) or grey (B, H, W) images, got {tensor.dtype} "
            f"{tuple(tensor.shape)}."
        )
    tensor = tensor.to(torch.float32).contiguous()
    if not bool(torch.isfinite(tensor).all()):
        raise InputError(f"{name}: images hold values that are not finite numbers.")
    return tensor


def _opencv(
    previous: NDArray[np.float32],
    following: NDArray[np.float32],
    initial: NDArray[np.float32] | None,
    settings: FlowSettings,
    threads: int,
) -> NDArray[np.float32]:
    import cv2

    # OpenCV annotates the contrib modules in some versions only.
    # For mypy: in opencv-contrib alone.
    create: Any = cv2.optflow.DualTVL1OpticalFlow_create  # type: ignore[attr-defined,unused-ignore]

    def one(index: int) -> NDArray[np.float32]:
        solver = create(
            settings.tau,
            settings.lambda_,
            settings.theta,
            settings.nscales,
            settings.warps,
            settings.epsilon,
            settings.inner_iterations,
            settings.outer_iterations,
            settings.scale_step,
            settings.gamma,
            settings.median_filtering,
            initial is not None,
        )
        start = (
            None if initial is None else np.ascontiguousarray(initial[index].transpose(1, 2, 0))
        )  # (H, W, 2)
        images = (
            previous[index] / np.float32(255),
            following[index] / np.float32(255),
        )  # OpenCV's range for floats
        return np.asarray(solver.calc(*images, start), np.float32).transpose(
            2, 0, 1
        )  # (H, W, 2) -> (2, H, W)

    with ThreadPoolExecutor(min(threads, len(previous))) as pool:
        results: Sequence[NDArray[np.float32]] = list(pool.map(one, range(len(previous))))
    return np.stack(results)


def quantise(motion: Images, bound: float = BOUND) -> Images:
    """Flow in px -> uint8: clipped to ± ``bound``, then 256 levels, 0 for −bound and 255 for +bound.

    No motion is level 128 (127.5 rounded to even), as in the field's stored flow images.
    """
    _check_bound(bound)
    scale = 255 / (2 * bound)
    if isinstance(motion, Tensor):
        return ((motion.clamp(-bound, bound) + bound) * scale).round().to(torch.uint8)
    clipped = np.clip(motion, -bound, bound).astype(np.float32, copy=False)
    levels: NDArray[Any] = np.rint((clipped + np.float32(bound)) * np.float32(scale))
    return levels.astype(np.uint8)


def scale_to_unit(motion: Images, bound: float = BOUND) -> Images:
    """Levels (uint8) or flow in px (float, clipped to ± ``bound``) -> float32 in [−1, 1] for networks."""
    _check_bound(bound)
    if isinstance(motion, Tensor):
        if motion.dtype == torch.uint8:
            return motion.to(torch.float32) * (2 / 255) - 1
        return motion.to(torch.float32).clamp(-bound, bound) / bound
    if motion.dtype == np.uint8:
        return motion.astype(np.float32) * np.float32(2 / 255) - np.float32(1)
    clipped: NDArray[Any] = np.clip(motion, -bound, bound).astype(np.float32)
    return clipped / np.float32(bound)


def _check_bound(bound: float) -> None:
    if not 0 < bound < float("inf"):
        raise InputError(f"the flow bound must be a positive number of pixels, got {bound}.")
