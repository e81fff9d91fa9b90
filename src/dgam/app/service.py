"""What the routes work with: the settings, the model's facts, the queue, the folders."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
from fastapi import HTTPException

from dgam.app.folders import DataFolder
from dgam.app.probe import Finding, Refused, probe_apart
from dgam.app.queue import Job, JobQueue
from dgam.app.schemas import ModelFacts, UploadLimits
from dgam.app.settings import ServeSettings, shown_size
from dgam.app.sniff import SUFFIXES
from dgam.core.errors import InputError

if TYPE_CHECKING:
    from dgam.fitting.folder import ModelFolder
    from dgam.fitting.identity import EncoderIdentity

PROBES = 2
"""How many files are looked into at the same time."""


@dataclass
class Service:
    """Shared by all requests. ``wake`` tells the workers of a new job; ``closing`` says whether the server
    is about to end; ``whole``: videos that are cut off are refused, as the model's extraction would do;
    ``receiving`` are the bytes that uploads under way may bring."""

    settings: ServeSettings
    model: ModelFacts
    data: DataFolder
    queue: JobQueue
    wake: Callable[[], None] = lambda: None
    closing: Callable[[], bool] = lambda: False
    whole: bool = True
    receiving: int = 0
    _probes: anyio.CapacityLimiter | None = field(default=None, init=False)

    def job(self, job: str) -> Job:
        """A job; 404 where there is none."""
        found = self.queue.get(job)
        if found is None:
            raise HTTPException(404, "There is no such job. It may have been deleted.")
        return found

    def done_job(self, job: str) -> tuple[Job, Path]:
        """A job that is done, and its folder; 409 where it is not."""
        found = self.job(job)
        if found.state != "done":
            told = f": {found.message}" if found.message else ""
            raise HTTPException(409, f"There is no result, as the job is {found.state}{told}.")
        return found, self.data.job(job)

    async def probe(self, path: Path, *, trusted: bool = False) -> Finding:
        """Look into a file in a process of its own, not too many at a time."""
        if self._probes is None:
            self._probes = anyio.CapacityLimiter(PROBES)
        return await anyio.to_thread.run_sync(
            lambda: probe_apart(path, self.settings.limits, trusted=trusted, whole=self.whole),
            limiter=self._probes,
        )

    @contextmanager
    def room_for(self, size: int) -> Iterator[None]:
        """Hold so many bytes of the quota and of the disk; :class:`Refused` where they are not there."""
        settings = self.settings
        if self.queue.total_size() + self.receiving + size > settings.quota:
            raise Refused(
                f"The videos here would take more than {shown_size(settings.quota)} in all. "
                "Delete some first.",
                507,
            )
        if self.data.free_bytes() < self.receiving + size + settings.reserve:
            raise Refused("The server's disk is full. Delete some videos first.", 507)
        self.receiving += size
        try:
            yield
        finally:
            self.receiving -= size


def open_model(path: Path) -> tuple[ModelFolder, EncoderIdentity]:
    """The model and its encoder. InputError where it is none, or cannot read videos."""
    from dgam.fitting.folder import load_model_folder

    folder = load_model_folder(path)
    if folder.encoder is None:
        raise InputError(
            f"{path}: this model does not know what made its features (it has no encoder.json), so "
            "it cannot read videos. Train it with 'dgam fit' on videos."
        )
    return folder, folder.encoder


def open_service(settings: ServeSettings, data: DataFolder, queue: JobQueue) -> Service:
    """The service for the settings' model. InputError as from :func:`open_model`."""
    folder, encoder = open_model(settings.model)
    whole = encoder.settings.frames.damage == "refuse"
    return Service(settings, _facts(settings, folder, encoder), data, queue, whole=whole)


def _facts(settings: ServeSettings, folder: ModelFolder, encoder: EncoderIdentity) -> ModelFacts:
    """What the page is told of the model."""
    from dgam.exports.formats import FORMATS

    grid, calibration = encoder.grid, folder.calibration
    return ModelFacts(
        name=folder.name,
        classes=list(folder.run.classes),
        streams=list(folder.run.streams),
        encoder=encoder.encoder.rpartition("/")[2],
        snippet_seconds=float(grid.stride / grid.fps),
        score_threshold=calibration.score_threshold if calibration is not None else None,
        card=folder.card(),
        formats=list(FORMATS),
        limits=UploadLimits(
            max_bytes=settings.max_upload,
            max_seconds=settings.limits.seconds,
            max_pixels=settings.limits.pixels,
            suffixes=list(SUFFIXES),
        ),
    )
