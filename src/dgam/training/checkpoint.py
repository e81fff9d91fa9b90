"""Tensors with their facts in one safetensors file, written atomically; nothing is ever unpickled.

The facts (a JSON object) travel in the file's header, so weights and facts can never come from different
moments.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from dgam.core.errors import InputError
from dgam.core.files import atomic_write
from dgam.model.networks import DGAM, ModelShape


def save_tensors(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], facts: Mapping[str, Any]
) -> None:
    """Write tensors and facts; the same input gives the same bytes."""
    content = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    data = save(content, metadata={"facts": json.dumps(facts, sort_keys=True)})
    with atomic_write(path) as file:
        file.write(data)


def load_tensors(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what :func:`save_tensors` wrote. InputError where the file is missing, cut short or something
    else."""
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {}).get("facts", "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file. Expected one that 'dgam train' made.") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(
            f"{path}: not a readable safetensors file ({error}). Train again, or restore it."
        ) from error
    if not isinstance(facts, dict):
        raise InputError(f"{path}: a safetensors file, but not one that dgam wrote.")
    return tensors, facts


def save_model(
    path: str | os.PathLike[str], shape: ModelShape, weights: Mapping[str, Tensor], epoch: int
) -> None:
    """Write the weights to localise with, and the shape that they need."""
    save_tensors(path, weights, {"shape": asdict(shape), "epoch": epoch})


def load_model(path: str | os.PathLike[str]) -> DGAM:
    """Rebuild the model of a ``model.safetensors``, in evaluation mode on the CPU. InputError where it cannot
    be."""
    tensors, facts = load_tensors(path)
    try:
        model = DGAM(ModelShape(**facts["shape"]), torch.Generator())
        model.load_state_dict(tensors)
    except (KeyError, TypeError, RuntimeError) as error:
        raise InputError(f"{Path(path)}: its weights do not fit its own shape ({error}).") from error
    return model.eval()
