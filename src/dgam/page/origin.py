"""Whether data are simulated, by what they say about themselves."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from dgam.data.simulate import MARK

_SAYS = "simulated data"
_HEAD = 4096


def simulated_data(*paths: str | os.PathLike[str] | None) -> str | None:
    """What simulated data say of themselves, if any of ``paths`` (features, labels, annotations) is such.

    ``dgam simulate`` leaves a README.txt that begins with SIMULATED DATA beside what it writes, and names
    itself in the annotations' "version". Paths that are None, empty or gone are passed over.
    """
    for given in paths:
        if not given:
            continue
        path = Path(given)
        if path.suffix == ".json" and path.is_file() and (said := _version(path)):
            return said
        for folder in (path, *path.absolute().parents[:2]):
            readme = folder / "README.txt"
            if readme.is_file() and readme.read_bytes()[: len(MARK)] == MARK.encode():
                return _made_by(readme.read_text(encoding="utf-8", errors="replace"))
    return None


def _version(path: Path) -> str | None:
    try:
        version = json.loads(path.read_bytes()).get("version")
    except (OSError, ValueError, AttributeError, RecursionError):
        return None  # whether it is readable is for its own reader to say
    return version if isinstance(version, str) and version.lower().startswith(_SAYS) else None


def _made_by(text: str) -> str:
    """The line that tells preset and seed, as ``simulated data (dgam simulate, preset …, seed …)``."""
    for line in text[:_HEAD].splitlines():
        if line.startswith("Made by dgam simulate"):
            without_preset_help = re.sub(r" \(.*\)(?=, seed)", "", line.removeprefix("Made by ").rstrip(":"))
            return f"{_SAYS} ({without_preset_help})"
    return _SAYS
