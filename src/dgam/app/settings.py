"""What ``dgam serve`` is told, with the limits on what is uploaded."""

from __future__ import annotations

import ipaddress
import math
import re
from dataclasses import dataclass, field
from pathlib import Path

from dgam.core.errors import InputError

_UNITS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "t": 1000**4}
_BINARY = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


@dataclass(frozen=True)
class VideoLimits:
    """What a video may be at most, so that a small file cannot ask for days of work or all of the memory."""

    pixels: int = 36_000_000
    """Pixels of a frame; 8K has 33 million."""
    seconds: float = 6 * 3600.0
    """Duration, by the header and by the frames' timestamps."""
    frames: int = 6 * 3600 * 120
    """Coded frames."""
    cpu_seconds: int = 60
    """Processor time for looking at the file before it is taken."""
    memory: int = 2 << 30
    """Bytes of address space for the same."""


@dataclass(frozen=True)
class ServeSettings:
    """Everything that decides how the server behaves. Sizes in bytes.

    ``quota`` bounds the uploads kept in all, ``reserve`` is disk space that is left free, ``silence`` how
    many seconds an upload may stand still, ``hosts`` further names by which the page may be called.
    """

    model: Path
    data: Path
    videos: Path | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = None
    max_upload: int = 2 << 30
    quota: int = 50 << 30
    reserve: int = 256 << 20
    silence: float = 60.0
    workers: int = 1
    hosts: tuple[str, ...] = ()
    limits: VideoLimits = field(default_factory=VideoLimits)

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise InputError(f"--workers must be at least 1, got {self.workers}.")
        if not 0 <= self.port <= 65535:
            raise InputError(f"--port must be 0 (any free one) to 65535, got {self.port}.")
        if self.max_upload < 1:
            raise InputError(f"--max-upload must be at least 1 byte, got {self.max_upload}.")
        if self.videos is not None and not self.videos.is_dir():
            raise InputError(f"--videos {self.videos}: is no folder.")
        if self.token is not None and not re.fullmatch(r"[!-~]{8,200}", self.token):
            raise InputError(
                "--token must be 8 to 200 visible ASCII characters without spaces; "
                "'--token auto' makes a good one."
            )
        if not self.is_loopback and self.token is None:
            raise InputError(
                f"--host {self.host}: other machines could then see and delete every video here. Give a "
                "token ('--token auto' makes one), or leave --host out to be reached from this machine only."
            )

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def parse_size(text: str, option: str) -> int:
    """Bytes of "2GiB", "500 MB" or "1000". InputError for anything else."""
    found = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([kmgt]?)(i?)b?\s*", text.lower())
    if found is None or (found[3] and not found[2]):
        raise InputError(f"{option} {text}: expected a size such as 2GiB, 500MB or a number of bytes.")
    factor = _BINARY[found[2]] if found[3] else _UNITS[found[2]]
    return math.floor(float(found[1]) * factor)


def shown_size(size: float) -> str:
    """Bytes in words: "2 GiB"."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            return f"{size:.4g} {unit}"
        size /= 1024
    raise AssertionError
