"""Where kernels in Triton can be tried: on a GPU, or with TRITON_INTERPRET=1 in its interpreter, anywhere."""

from __future__ import annotations

import os

import pytest
import torch

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


def device_or_skip() -> str:
    """The device for a module of such tests, which is skipped where there is none."""
    pytest.importorskip("triton", reason="needs Triton")
    if not (torch.cuda.is_available() or INTERPRETED):
        pytest.skip("there is no GPU, and TRITON_INTERPRET is not 1", allow_module_level=True)
    return "cuda" if torch.cuda.is_available() else "cpu"
