"""dgam's own source as a digest, a part of the key of whatever is kept: other code may make other numbers.

Names are those of folders and modules below ``dgam``. Each list holds all that the work runs through, whether
or not it matters to the numbers: a change that was none costs a training, one that was missed a wrong table.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

from dgam.core.errors import InputError
from dgam.experiments.cache import digest_of

TRAINING = (
    "core",
    "data",
    "experiments/data.py",
    "experiments/tasks.py",
    "experiments/together.py",
    "features",
    "kernels",
    "model",
    "runs.py",
    "training",
)
"""What a training runs through, weights not chosen by test mAP."""
MEASURING = (*TRAINING, "api.py", "detection", "evaluation")
"""What a measurement runs through, and a training that chooses weights by one."""
SIMULATING = (
    "core/errors.py",
    "core/files.py",
    "core/timeline.py",
    "core/types.py",
    "data/simulate.py",
    "data/simulate_features.py",
    "data/simulate_knobs.py",
    "data/simulate_timeline.py",
)
"""What makes simulated data."""


@cache
def source_of(*names: str) -> str:
    """Digest of these folders and modules of the dgam that runs here, read once in a process.

    A process goes on with what it imported, so that is what its runs are made of, whatever is edited later.
    """
    return digest_of_source(files("dgam"), names)


def digest_of_source(root: Traversable, names: Iterable[str]) -> str:
    """Digest of the ``.py`` files of these folders and modules below ``root``: of their names and bytes.

    Where ``root`` lies, how lines end and when files were changed are no part of it. InputError where a name
    stands for no source.
    """
    sources: dict[str, bytes] = {}
    for name in names:
        found = dict(_below(root.joinpath(name), name))
        if not found:
            raise InputError(
                f"{root.joinpath(name)}: holds no source of dgam, by which kept runs are recognised. "
                "Install dgam with its source, as pip does."
            )
        sources.update(found)
    order = sorted(sources)
    return digest_of(order, (sources[name].replace(b"\r\n", b"\n") for name in order))


def refuse_other_source(planned: str) -> None:
    """InputError in a worker whose dgam is not the one that named the work, ``planned`` by MEASURING."""
    if source_of(*MEASURING) != planned:
        raise InputError(
            f"the source of dgam on {platform.node()} is not what this command began with: it was changed "
            "meanwhile, or other machines have another. Runs would be kept under names that are not theirs. "
            "Install the same dgam everywhere, and give the command again; finished runs are kept."
        )


def _below(place: Traversable, name: str) -> Iterator[tuple[str, bytes]]:
    if place.is_dir():
        for inner in place.iterdir():
            yield from _below(inner, f"{name}/{inner.name}")
    elif name.endswith(".py") and place.is_file():
        yield name, place.read_bytes()
