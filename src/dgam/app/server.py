"""The application: routes, static page, errors for people, all behind the guard."""

from __future__ import annotations

import mimetypes
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

import dgam
from dgam.app.probe import Refused
from dgam.app.routes_jobs import job_routes
from dgam.app.routes_results import result_routes
from dgam.app.schemas import Problem
from dgam.app.security import Guard
from dgam.app.service import Service
from dgam.core.errors import InputError

BASE = "/api/v1"
STATIC = Path(__file__).parent / "static"
_NO_PAGE = (
    "dgam serve is running, but its page (static/index.html) is not installed. The HTTP API is at /api/v1, "
    "its description at /api/v1/openapi.json.\n"
)


def create_app(service: Service) -> Guard:
    """The ASGI application. Jobs are only queued here; workers do them."""
    mimetypes.add_type("text/javascript", ".js")  # some systems say otherwise, and nosniff makes it matter
    app = FastAPI(
        title="dgam",
        version=dgam.__version__,
        description="Submit a video, follow its job, fetch the actions found in it.",
        openapi_url=f"{BASE}/openapi.json",
        docs_url=None,  # both pages would fetch scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        responses={
            401: {"model": Problem, "description": "A token is needed."},
            403: {"model": Problem, "description": "Asked by another site, or under another name."},
        },
    )
    app.include_router(job_routes(service), prefix=BASE)
    app.include_router(result_routes(service), prefix=BASE)
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(InputError, _bad_input)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _fault)

    @app.get("/", include_in_schema=False)
    def page() -> Response:
        index = STATIC / "index.html"
        return FileResponse(index) if index.is_file() else PlainTextResponse(_NO_PAGE)

    app.mount("/static", StaticFiles(directory=STATIC, check_dir=False), name="static")
    settings = service.settings
    return Guard(app, host=settings.host, names=settings.hosts, token=settings.token)


def _told(status: int, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"detail": detail}, status, headers)


def _refused(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Refused)
    return _told(error.status, str(error))


def _bad_input(request: Request, error: Exception) -> JSONResponse:
    return _told(422, str(error))


def _invalid(request: Request, error: Exception) -> JSONResponse:
    """pydantic's findings as one text, at most five of them."""
    assert isinstance(error, RequestValidationError)
    found = []
    for one in error.errors()[:5]:
        place = ".".join(str(part) for part in one["loc"] if part not in ("body", "query", "path"))
        found.append(f"{place or one['loc'][0]}: {one['msg']}")
    malformed = any(one["type"] == "json_invalid" for one in error.errors())
    return _told(400 if malformed else 422, "; ".join(found) + ".")


def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return _told(error.status_code, str(error.detail), dict(error.headers or {}))


def _fault(request: Request, error: Exception) -> JSONResponse:
    return _told(500, f"A fault of dgam itself: {type(error).__name__}. The server's log has the details.")
