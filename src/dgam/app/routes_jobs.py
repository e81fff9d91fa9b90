"""Submitting videos, following them, cancelling and deleting them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

import anyio
from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import StreamingResponse
from starlette.requests import ClientDisconnect

from dgam.app.library import video_with, videos_in
from dgam.app.probe import Refused
from dgam.app.queue import ENDED
from dgam.app.schemas import FolderVideo, FolderVideos, FromFolder, JobFacts, JobId, Jobs, Problem
from dgam.app.service import Service
from dgam.app.sniff import HEAD, sniff
from dgam.app.uploads import FIELD, SLACK, FileReceiver, display_name, too_large

EVENTS_END = 60.0
"""Seconds after which a stream of events ends; browsers then ask again by themselves."""
_DRAINED = 16 << 20

_REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "The form is malformed or broke off."},
    408: {"model": Problem, "description": "The upload stood still for too long."},
    413: {"model": Problem, "description": "The file is larger than is taken."},
    415: {"model": Problem, "description": "No form, or no video of a known kind."},
    422: {"model": Problem, "description": "No video that can be read, or one beyond the limits."},
    507: {"model": Problem, "description": "No room for it."},
}
_UPLOAD = {
    "requestBody": {
        "required": True,
        "description": f"A form with the video as its field {FIELD!r}.",
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": [FIELD],
                    "properties": {FIELD: {"type": "string", "format": "binary"}},
                },
                "encoding": {FIELD: {"contentType": "video/mp4, video/webm, application/octet-stream"}},
            }
        },
    }
}
NOT_FOUND: dict[int | str, dict[str, Any]] = {
    404: {"model": Problem, "description": "There is no such thing."}
}
NO_JSON: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "The body is no JSON."},
    411: {"model": Problem, "description": "The body comes without its length."},
    413: {"model": Problem, "description": "The body is too large."},
}
INVALID: dict[int | str, dict[str, Any]] = {
    422: {"model": Problem, "description": "An argument is not usable; detail says which."}
}


def job_routes(service: Service) -> APIRouter:
    """The routes, tied to a service."""
    router = APIRouter(tags=["jobs"])

    @router.get("/videos")
    def list_folder() -> FolderVideos:
        """The videos of the folder that the server was started with."""
        found = videos_in(service.settings.videos)
        return FolderVideos(videos=[FolderVideo(id=one.id, name=one.name, size=one.size) for one in found])

    @router.post("/jobs", status_code=202, responses=_REFUSALS, openapi_extra=_UPLOAD)
    async def submit(request: Request) -> JobFacts:
        """Upload a video and queue it.

        The file is written to disk as it comes, looked into, and refused if it is no video; nothing of a
        refused one stays.
        """
        most = service.settings.max_upload
        length = _content_length(request)
        if length is not None and length > most + SLACK:
            await _drain(request, request.stream())
            raise too_large(most)
        expected = min(length, most) if length is not None else most
        with service.room_for(expected):
            folder = await anyio.to_thread.run_sync(service.data.new_incoming)
            try:
                return await _take(request, folder)
            except BaseException:
                service.data.remove(folder)
                raise

    async def _take(request: Request, folder: Path) -> JobFacts:
        settings, part = service.settings, folder / "upload.part"
        receiver = FileReceiver(request.headers.get("content-type"), part, settings.max_upload)
        body = request.stream()
        try:
            await receiver.receive(body, settings.silence)
        except Refused:
            await _drain(request, body)
            raise
        with part.open("rb") as file:
            kind = sniff(file.read(HEAD))
        # FFmpeg minds endings, so the file has its own, by content, before anything opens it.
        path = part.rename(folder / f"video{kind.ending if kind is not None else ''}")
        finding = await service.probe(path)
        size, name = receiver.size, display_name(receiver.name)

        def keep() -> JobFacts:
            job = service.data.adopt(folder)
            try:
                facts = service.queue.add(job, name, path.name, finding.media, size, finding.duration)
            except BaseException:
                service.data.remove(service.data.job(job))
                raise
            return JobFacts.of(facts)

        with anyio.CancelScope(shield=True):  # from here on it is either a job, or gone
            facts = await anyio.to_thread.run_sync(keep)
        service.wake()
        return facts

    @router.post(
        "/jobs/from-folder",
        status_code=202,
        responses={422: _REFUSALS[422], **NOT_FOUND, **NO_JSON},
    )
    async def submit_from_folder(body: FromFolder) -> JobFacts:
        """Queue a video of the folder that the server was started with; it stays where it is."""
        video = await anyio.to_thread.run_sync(video_with, service.settings.videos, body.video)
        if video is None:
            raise HTTPException(404, "The folder has no such video (any more).")
        finding = await service.probe(video.path, trusted=True)

        def keep() -> JobFacts:
            folder = service.data.new_incoming()
            job = service.data.adopt(folder)
            name = video.name.rpartition("/")[2]
            return JobFacts.of(
                service.queue.add(job, name, str(video.path), finding.media, 0, finding.duration)
            )

        facts = await anyio.to_thread.run_sync(keep)
        service.wake()
        return facts

    @router.get("/jobs", responses=INVALID)
    def list_jobs(limit: Annotated[int, Query(ge=1, le=10000)] = 1000) -> Jobs:
        """Jobs, newest first."""
        return Jobs(jobs=[JobFacts.of(job) for job in service.queue.newest(limit)])

    @router.get("/jobs/{job}", responses={**NOT_FOUND, **INVALID})
    def get_job(job: JobId) -> JobFacts:
        """How far a job is."""
        return JobFacts.of(service.job(job))

    @router.post(
        "/jobs/{job}/cancel",
        responses={**NOT_FOUND, **INVALID, 409: {"model": Problem, "description": "The job has ended."}},
    )
    def cancel_job(job: JobId) -> JobFacts:
        """Stop a job; its video stays until the job is deleted."""
        found = service.job(job)
        if not service.queue.cancel(job):
            raise HTTPException(409, f"There is nothing to cancel, as the job is {found.state}.")
        return JobFacts.of(service.job(job))

    @router.delete("/jobs/{job}", status_code=204, responses={**NOT_FOUND, **INVALID})
    def delete_job(job: JobId) -> None:
        """Cancel a job and remove all of it: video, result, correction."""
        if not service.queue.remove(job):
            service.job(job)  # tells that there is none
        service.data.remove(service.data.job(job))

    @router.get(
        "/events",
        response_class=StreamingResponse,
        responses={
            200: {"content": {"text/event-stream": {}}, "description": "A job as JSON whenever it changes."},
            **NOT_FOUND,
            **INVALID,
        },
    )
    async def events(job: JobId) -> StreamingResponse:
        """Follow a job by server-sent events; the stream ends with the job, or after a minute."""
        await anyio.to_thread.run_sync(service.job, job)
        return StreamingResponse(_follow(service, job), media_type="text/event-stream")

    return router


async def _follow(service: Service, job: str) -> AsyncIterator[str]:
    last = ""
    until = anyio.current_time() + EVENTS_END
    while anyio.current_time() < until and not service.closing():
        found = await anyio.to_thread.run_sync(service.queue.get, job)
        if found is None:
            yield "event: gone\ndata: {}\n\n"
            return
        value = json.dumps(JobFacts.of(found).model_dump())
        if value != last:
            last = value
            yield f"data: {value}\n\n"
        if found.state in ENDED:
            return
        await anyio.sleep(0.3)


def _content_length(request: Request) -> int | None:
    text = request.headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdecimal() else None


async def _drain(request: Request, body: AsyncIterator[bytes]) -> None:
    """Read on for a little, since a client that still sends may not see the answer; then it is cut off."""
    if "expect" in request.headers:
        return  # it waits for a word before it sends
    taken = 0
    with anyio.move_on_after(2.0), contextlib.suppress(ClientDisconnect):
        async for chunk in body:
            taken += len(chunk)
            if taken > _DRAINED:
                return
