"""What was found in a video: the result, explanations, the video itself, corrections, exports."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi import Path as InPath
from fastapi.responses import Response

from dgam.app import corrections
from dgam.app.media import file_response
from dgam.app.results import detections_of, explain, load_result
from dgam.app.routes_jobs import INVALID, NO_JSON, NOT_FOUND
from dgam.app.schemas import (
    CorrectionValue,
    Explanation,
    Health,
    JobId,
    ModelFacts,
    Problem,
    ResultValue,
)
from dgam.app.service import Service
from dgam.core.types import Detection, Detections

_NOT_DONE: dict[int | str, dict[str, Any]] = {
    **NOT_FOUND,
    **INVALID,
    409: {"model": Problem, "description": "The job has no result (yet)."},
}
_MEDIA: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {"video/mp4": {}, "video/webm": {}},
        "description": "The video, or a copy that browsers can play.",
    },
    206: {"content": {"video/mp4": {}, "video/webm": {}}, "description": "The part asked for."},
    304: {"description": "The client has it already."},
    416: {"description": "The range begins behind the file's end."},
    **NOT_FOUND,
    **INVALID,
}


def result_routes(service: Service) -> APIRouter:
    """The routes, tied to a service."""
    from dgam.exports.formats import FORMATS

    router = APIRouter(tags=["results"])
    kinds: dict[str, Any] = {kind.media_type: {} for kind in FORMATS.values()}

    @router.get("/health")
    def health() -> Health:
        """Whether the server is there."""
        return Health()

    @router.get("/model")
    def model() -> ModelFacts:
        """The model, what it can find, and what may be uploaded."""
        return service.model

    @router.get("/jobs/{job}/result", responses=_NOT_DONE)
    def result(job: JobId) -> ResultValue:
        """Detections, curves, context candidates, and the correction if there is one."""
        found, folder = service.done_job(job)
        value = {**load_result(folder), "id": job, "name": found.name}
        return ResultValue.model_validate({**value, "correction": corrections.load(folder)})

    @router.get("/jobs/{job}/explanations/{number}", responses=_NOT_DONE)
    def explanation(job: JobId, number: Annotated[int, InPath(ge=0, le=1_000_000)]) -> Explanation:
        """Why the detection of this number (from 0, best first) has its score."""
        _, folder = service.done_job(job)
        try:
            return explain(folder, number)
        except IndexError:
            raise HTTPException(404, f"There is no detection {number}.") from None

    def send_media(job: JobId, request: Request) -> Response:
        """The video, or a copy that browsers can play, whole or in part (Range)."""
        found = service.job(job)
        folder = service.data.job(job)
        places = [(folder / found.video, found.media)] if found.media else []
        places += [(folder / "preview.mp4", "video/mp4"), (folder / "preview.webm", "video/webm")]
        for path, media in places:
            try:
                return file_response(request, path, media)
            except FileNotFoundError:
                continue
        raise HTTPException(
            404, "There is no video to play: its preview is not made yet, or the file is gone."
        )

    router.add_api_route(
        "/jobs/{job}/media",
        send_media,
        methods=["GET"],
        responses=_MEDIA,
        response_class=Response,
        name="media",
    )
    router.add_api_route("/jobs/{job}/media", send_media, methods=["HEAD"], include_in_schema=False)

    @router.put(
        "/jobs/{job}/correction",
        responses={**_NOT_DONE, **NO_JSON},
    )
    def correct(job: JobId, correction: CorrectionValue) -> CorrectionValue:
        """Save what a person says of the video; it replaces an earlier correction."""
        _, folder = service.done_job(job)
        value = corrections.checked(correction, load_result(folder)["duration"])
        try:
            corrections.save(folder, value)
        except FileNotFoundError:
            service.job(job)  # deleted meanwhile
            raise
        return CorrectionValue.model_validate(value)

    @router.delete("/jobs/{job}/correction", status_code=204, responses=_NOT_DONE)
    def discard(job: JobId) -> None:
        """Forget the correction; without one it does nothing."""
        _, folder = service.done_job(job)
        corrections.discard(folder)

    @router.get(
        "/corrections",
        response_class=Response,
        responses={200: {"content": {"text/csv": {}}, "description": "A labels CSV: video,labels."}},
    )
    def all_corrections() -> Response:
        """All corrected video labels, for the next ``dgam fit``."""
        found = []
        for job in service.queue.newest():
            correction = corrections.load(service.data.job(job.id))
            if correction is not None:
                found.append((job.name, correction))
        return _attachment(corrections.labels_csv(found).encode(), "labels.csv", "text/csv; charset=utf-8")

    @router.get(
        "/jobs/{job}/export/{format}",
        response_class=Response,
        responses={200: {"content": kinds, "description": "The file, as an attachment."}, **_NOT_DONE},
    )
    def export(
        job: JobId,
        format: Annotated[str, InPath(max_length=40, examples=["csv"])],
        threshold: Annotated[float | None, Query(allow_inf_nan=False)] = None,
        min_seconds: Annotated[float, Query(ge=0, allow_inf_nan=False)] = 0.0,
        source: Literal["detections", "correction"] = "detections",
    ) -> Response:
        """Detections with at least this score and length, or the correction's segments, as a file."""
        found, folder = service.done_job(job)
        if format not in FORMATS:
            raise HTTPException(404, f"There is no format {format!r}, only {', '.join(FORMATS)}.")
        value = load_result(folder)
        if source == "correction":
            chosen = _corrected(folder)
        else:
            chosen = [one for one in detections_of(value) if threshold is None or one.score >= threshold]
        chosen = [one for one in chosen if one.end - one.start >= min_seconds]
        return _exported(format, found.name, chosen, value)

    return router


def _corrected(folder: Path) -> list[Detection]:
    correction = corrections.load(folder)
    if correction is None:
        raise HTTPException(404, "This video was not corrected.")
    return [Detection(one["start"], one["end"], one["label"], 1.0) for one in correction["segments"]]


def _exported(format: str, name: str, detections: list[Detection], result: Mapping[str, Any]) -> Response:
    from dgam.exports.formats import FORMATS
    from dgam.exports.formats import export as write

    video = corrections.video_of(name)
    (data,) = write(
        format,
        Detections({video: detections}),
        durations={video: result["duration"]},
        media={video: name},
        classes=result["classes"],
    ).values()
    kind = FORMATS[format]
    media = kind.media_type + ("; charset=utf-8" if kind.media_type.startswith("text/") else "")
    tail = f"-{format}" if kind.suffix == ".json" and format != "json" else ""
    return _attachment(data, f"{video}{tail}{kind.suffix}", media)


def _attachment(data: bytes, name: str, media_type: str) -> Response:
    """A download. ``name`` is fit for any system, as ASCII and, where that is not all, in full."""
    plain = re.sub(r"[^A-Za-z0-9._ ()-]", "_", name)
    headers = {
        "content-disposition": f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
    }
    return Response(data, media_type=media_type, headers=headers)
