"""In what arithmetic a device trains when the settings leave it open."""

from __future__ import annotations

import torch

from dgam.core.config import Config

_FIRST = 8  # compute capability of the first GPUs that multiply in bfloat16


def settled(config: Config, device: str) -> Config:
    """The settings with ``train.precision=auto`` replaced by what it means on ``device``.

    bfloat16 on a GPU that has it, where it is several times faster and comes to the same mAP; float32 on a
    CPU, where not every processor has it, and the same seed is to come to the same scores on all of them.
    """
    if config.train.precision != "auto":
        return config
    narrow = device.startswith("cuda") and torch.cuda.get_device_capability(device)[0] >= _FIRST
    train = config.train.model_copy(update={"precision": "bfloat16" if narrow else "float32"})
    return config.model_copy(update={"train": train})
