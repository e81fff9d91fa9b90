"""Who may ask, and what a browser may do with the answer.

A page open in the same browser can send requests to this machine. So a request is answered only if it was
made to a name of this server (Host, against DNS rebinding), and one that changes something only if no other
site made it (Origin, Sec-Fetch-Site). Where a token is asked for, every request needs it.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import math
from collections.abc import Iterable
from urllib.parse import parse_qsl, urlencode, urlsplit

import anyio
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
UPLOAD_PATH = "/api/v1/jobs"
"""The one path that takes large bodies, and bounds them itself."""
MOST_JSON = 8 << 20
OPEN_PATHS = frozenset({"/api/v1/health"})
WRONG_TOKEN_PAUSE = 0.5
POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; object-src 'none'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
}


class Guard:
    """Wraps an ASGI application: refuses what must not be answered, and adds headers to what is.

    ``host`` is the address that the server is bound to, ``names`` further host names by which it may be
    called, such as that of a proxy with TLS, ``token`` the secret that requests need (None: none). A numeric
    address as Host is fine, since DNS rebinding needs a name; where the server is bound to loopback it must
    be a loopback one.
    """

    def __init__(
        self, app: ASGIApp, *, host: str, names: Iterable[str] = (), token: str | None = None
    ) -> None:
        self._app = app
        self._only_loopback = _is_loopback(host)
        self._proxies = frozenset(name.lower() for name in names)
        self._names = {"localhost", host.lower(), *self._proxies}
        self._token = token.encode() if token is not None else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # there are no websockets here; the server answers 403 to what is not accepted

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("cache-control", "no-store")
            await send(message)

        headers = Headers(scope=scope)
        if reason := self._refusal(scope, headers):
            await _answer(send_with_headers, 403, reason)
        elif scope["path"] != UPLOAD_PATH and "transfer-encoding" in headers:
            await _answer(send_with_headers, 411, "Send the body with its length (Content-Length).")
        elif scope["path"] != UPLOAD_PATH and _length(headers) > MOST_JSON:
            await _answer(send_with_headers, 413, f"The body is larger than {MOST_JSON >> 20} MiB.")
        elif self._token is None or scope["path"] in OPEN_PATHS:
            await self._app(scope, receive, send_with_headers)
        elif scope["method"] in SAFE and (given := _query(scope).get("token")) is not None:
            await self._enter(scope, given, send_with_headers)
        elif self._has_token(scope, headers):
            await self._app(scope, receive, send_with_headers)
        else:
            if headers.get("authorization") is not None:
                await anyio.sleep(WRONG_TOKEN_PAUSE)  # guessing takes time
            await _answer(
                send_with_headers,
                401,
                "This server asks for a token. Open the address that 'dgam serve' printed, which holds it, "
                "or send the header 'Authorization: Bearer TOKEN'.",
                {"www-authenticate": 'Bearer realm="dgam"'},
            )

    def _refusal(self, scope: Scope, headers: Headers) -> str | None:
        """Why a request is refused whoever made it; None where it is not."""
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._is_ours(hosts[0]):
            return (
                f"This server is not called {hosts[0][:100]!r}. " if hosts else "The request names no host. "
            ) + "Use the address that 'dgam serve' printed, or start it with --allow-host NAME."
        site = headers.get("sec-fetch-site", "none")
        if scope["method"] in SAFE:
            entering = not scope["path"].startswith("/api/")  # a link to the page is fine
            if site in ("same-origin", "none") or entering:
                return None
            return "Other sites may not read this server."
        origin = headers.get("origin")
        if site not in ("same-origin", "none") or not (
            origin is None or _is_same(origin, scope, hosts[0]) or self._is_proxied(origin, hosts[0])
        ):
            return "Other sites may not send anything to this server."
        return None

    def _is_proxied(self, origin: str, host: str) -> bool:
        """Whether the request came through a proxy with TLS, for a name that was allowed for that."""
        return origin.lower() == f"https://{host.lower()}" and host.lower().partition(":")[0] in self._proxies

    def _is_ours(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name in self._names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or not self._only_loopback

    def _has_token(self, scope: Scope, headers: Headers) -> bool:
        assert self._token is not None
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), self._token):
            return True
        wanted = f"{cookie_name(scope)}={self._pass()}".encode()
        cookies = [one.strip().encode() for line in headers.getlist("cookie") for one in line.split(";")]
        return any(hmac.compare_digest(one, wanted) for one in cookies)

    def _pass(self) -> str:
        """What the cookie holds: proof of the token, not the token, since other ports get to see it."""
        assert self._token is not None
        return hmac.new(self._token, b"dgam cookie", hashlib.sha256).hexdigest()

    async def _enter(self, scope: Scope, given: str, send: Send) -> None:
        """Answer a request that has the token in its address: a cookie, and the address without it."""
        assert self._token is not None
        if not hmac.compare_digest(given.encode(), self._token):
            await anyio.sleep(WRONG_TOKEN_PAUSE)
            await _answer(send, 401, "This is not the token of this server.", {"www-authenticate": "Bearer"})
            return
        query = {name: value for name, value in _query(scope).items() if name != "token"}
        # A path such as //elsewhere would lead to another host.
        place = "/" + scope["path"].lstrip("/\\") + (f"?{urlencode(query)}" if query else "")
        secure = "; Secure" if scope.get("scheme") == "https" else ""
        cookie = f"{cookie_name(scope)}={self._pass()}; HttpOnly; SameSite=Strict; Path=/{secure}"
        location = place.encode("ascii", "ignore").decode().translate({10: None, 13: None})
        await _answer(send, 303, "Go on without the token.", {"location": location, "set-cookie": cookie})


def _length(headers: Headers) -> int:
    text = headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdecimal() else 0


def _query(scope: Scope) -> dict[str, str]:
    return dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))


def cookie_name(scope: Scope) -> str:
    """A cookie for each port, as browsers give cookies to all ports of a host."""
    server = scope.get("server")
    return f"dgam_{server[1] if server else 0}"


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_same(origin: str, scope: Scope, host: str) -> bool:
    """Whether an Origin header names this very server: same scheme, name and port."""
    try:
        theirs, ours = urlsplit(origin), urlsplit(f"{scope.get('scheme', 'http')}://{host}")
        return (theirs.scheme, theirs.hostname, _port(theirs.scheme, theirs.port)) == (
            ours.scheme,
            ours.hostname,
            _port(ours.scheme, ours.port),
        )
    except ValueError:
        return False


def _port(scheme: str, port: int | None) -> float:
    return port if port is not None else {"http": 80, "https": 443}.get(scheme, math.nan)


async def _answer(send: Send, status: int, detail: str, headers: dict[str, str] | None = None) -> None:
    body = json.dumps({"detail": detail}).encode()
    every = {"content-type": "application/json", "content-length": str(len(body)), **(headers or {})}
    raw = [(name.encode(), value.encode("latin-1")) for name, value in every.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
