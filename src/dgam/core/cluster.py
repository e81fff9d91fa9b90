"""The Ray cluster that long work can be spread over: an extra, imported when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dgam.core.errors import InputError


@contextmanager
def ray_cluster() -> Iterator[Any]:
    """The module ``ray``, connected: to the cluster that RAY_ADDRESS names, one running here, or a new one.

    A connection that was there before stays. InputError where the package is missing.
    """
    try:
        import ray  # type: ignore[import-not-found, unused-ignore]  # an extra
    except ImportError:
        raise InputError("--engine ray needs the package ray: pip install 'dgam[ray]'.") from None
    started = not ray.is_initialized()
    if started:
        try:
            ray.init(address="auto", log_to_driver=False, logging_level="warning")
        except ConnectionError:
            ray.init(log_to_driver=False, logging_level="warning")
    try:
        yield ray
    finally:
        if started:
            ray.shutdown()


def failure_of(error: BaseException) -> str:
    """What a task failed of, for a message: the first line of Ray's many, or the error's kind."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
