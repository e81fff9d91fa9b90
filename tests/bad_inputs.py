"""One bad input of data in, as the tables of bad inputs list them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from data_helpers import write_text
from dgam.core.errors import InputError


@dataclass(frozen=True)
class Bad:
    """One bad input: what is done in an empty folder, and part of the message; {at} is the folder."""

    name: str
    action: Callable[[Path], object]
    message: str

    def is_answered(self, at: Path) -> None:
        """Do it in the empty folder ``at``, and look for the message."""
        with pytest.raises(InputError, match=re.escape(self.message.replace("{at}", str(at)))):
            self.action(at)


def text_at(name: str, text: str | bytes, action: Callable[[Path], object]) -> Callable[[Path], object]:
    """Write a text, then act on the folder."""
    return lambda at: (write_text(at / name, text), action(at))
