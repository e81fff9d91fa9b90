"""dgam: when actions happen in long videos, learned from video labels alone.

The functions below are the whole Python interface; the command line calls the same ones. Each is loaded when
it is first used, so ``import dgam`` costs next to nothing, and reading or evaluating does not wait for torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dgam.api import (
        check,
        evaluate,
        fit,
        import_features,
        load_config,
        load_model,
        load_run,
        localize,
        open_features,
        read_detections,
        read_labels,
        read_segments,
        simulate,
        statistics,
        train,
        train_many,
        write_detections,
    )

__version__ = "0.1.0"

__all__ = [
    "__version__",
    "check",
    "evaluate",
    "fit",
    "import_features",
    "load_config",
    "load_model",
    "load_run",
    "localize",
    "open_features",
    "read_detections",
    "read_labels",
    "read_segments",
    "simulate",
    "statistics",
    "train",
    "train_many",
    "write_detections",
]

# Where a function lives that needs no torch; all others come through dgam.api.
_HOMES = {
    "check": "dgam.data.checks",
    "evaluate": "dgam.evaluation",
    "import_features": "dgam.features.convert",
    "load_config": "dgam.core.config",
    "load_run": "dgam.core.run",
    "open_features": "dgam.features.layouts",
    "read_detections": "dgam.core.results",
    "read_labels": "dgam.data.annotations",
    "read_segments": "dgam.data.annotations",
    "simulate": "dgam.data.simulate",
    "write_detections": "dgam.core.results",
}


def __getattr__(name: str) -> object:
    if name in __all__:
        return getattr(import_module(_HOMES.get(name, "dgam.api")), name)
    raise AttributeError(f"module 'dgam' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
