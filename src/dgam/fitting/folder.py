"""The model folder: a run folder, and what it takes to use it on videos.

MODEL/run.json, MODEL/<stream>/…   the run folder that training left, see ``dgam.core.run``
MODEL/encoder.json                 what turns videos into the features it was trained on; null where unknown
MODEL/calibration.json             what was found on held-out video labels; null where nothing could be
MODEL/card.md, MODEL/card.json     the model card: data, settings, seeds, scores, limits
MODEL/times.json                   how long the steps took; all other files depend on input and seed only
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dgam.core.errors import InputError
from dgam.core.run import Run, load_run
from dgam.fitting.calibration import CALIBRATION_FILE, Calibration
from dgam.fitting.identity import ENCODER_FILE, EncoderIdentity

CARD_TEXT, CARD_DATA, TIMES_FILE = "card.md", "card.json", "times.json"


@dataclass(frozen=True)
class ModelFolder:
    """A model folder's facts.

    ``encoder`` is None where the model was trained on features of unknown origin, so that no video can be
    turned into the like; ``calibration`` is None where there was too little to calibrate on.
    """

    path: Path
    run: Run
    encoder: EncoderIdentity | None = None
    calibration: Calibration | None = None

    @property
    def name(self) -> str:
        """The folder's own name, for titles."""
        return self.path.resolve().name

    def card(self) -> str:
        """The model card's Markdown text; "" where there is none."""
        file = self.path / CARD_TEXT
        return file.read_text(encoding="utf-8") if file.is_file() else ""


def load_model_folder(path: str | os.PathLike[str]) -> ModelFolder:
    """Read a model folder. A plain run folder loads too, with encoder and calibration None.

    InputError where it is neither, or a file of it is damaged.
    """
    folder = Path(path)
    run = load_run(folder)
    encoder = calibration = None
    value = _read(folder / ENCODER_FILE)
    if value is not None:
        try:
            encoder = EncoderIdentity.from_json(value)
        except (KeyError, TypeError, ValueError, AttributeError, InputError) as error:
            raise _damaged(folder / ENCODER_FILE, error) from error
    value = _read(folder / CALIBRATION_FILE)
    if value is not None:
        try:
            calibration = Calibration.from_json(value)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _damaged(folder / CALIBRATION_FILE, error) from error
    return ModelFolder(folder, run, encoder, calibration)


def _read(file: Path) -> dict[str, Any] | None:
    """The object in a file; None where there is no file, or it holds null."""
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise _damaged(file, error) from error
    if value is not None and not isinstance(value, dict):
        raise _damaged(file, TypeError(f"holds a {type(value).__name__}, expected an object"))
    return value


def _damaged(file: Path, error: Exception) -> InputError:
    detail = " ".join(str(error).split())
    return InputError(
        f"{file}: damaged or not written by dgam ({type(error).__name__}: {detail}). "
        "Give the 'dgam fit' command again, or restore the file."
    )
