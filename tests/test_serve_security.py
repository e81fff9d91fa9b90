"""Who is answered: names, origins, tokens, and the headers of every answer."""

from __future__ import annotations

import ast
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from dgam.app.settings import ServeSettings, parse_size
from dgam.cli import main
from dgam.core.errors import InputError
from serve_site import API, Site, clip, live_site, running, shared_model

TOKEN = "correct-horse-battery"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with live_site(tmp_path_factory.mktemp("open")) as site:
        yield site


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with live_site(tmp_path_factory.mktemp("locked"), token=TOKEN) as site:
        yield site


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:{port}", "LOCALHOST", "[::1]:{port}", "127.5.5.5"])
def test_names_of_this_machine(site: Site, host: str) -> None:
    named = host.format(port=site.client.base_url.port)
    assert site.client.get(f"{API}/health", headers={"host": named}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "192.168.0.7", "[::", ""]
)
@pytest.mark.parametrize("path", ["/", f"{API}/jobs", f"{API}/health", "/static/app.js"])
def test_another_name_is_refused_against_dns_rebinding(site: Site, host: str, path: str) -> None:
    answer = site.client.get(path, headers={"host": host})
    assert answer.status_code == 403
    assert "not called" in answer.json()["detail"]


def test_names_that_are_allowed(tmp_path: Path) -> None:
    with live_site(tmp_path, host="0.0.0.0", token=TOKEN, hosts=("videos.example",)) as site:
        for host, status in (
            ("videos.example", 200),
            ("Videos.Example:8000", 200),
            ("192.168.0.7:8000", 200),
            ("evil.example", 403),
        ):
            assert site.client.get(f"{API}/health", headers={"host": host}).status_code == status


def test_a_proxy_with_tls_under_an_allowed_name(tmp_path: Path) -> None:
    with live_site(tmp_path, hosts=("videos.example",)) as site:

        def ask(host: str, origin: str) -> int:
            headers = {"host": host, "origin": origin}
            return site.client.delete(f"{API}/jobs/{'0' * 24}", headers=headers).status_code

        assert ask("videos.example", "https://videos.example") == 404
        assert ask("videos.example:8443", "https://videos.example:8443") == 404
        assert ask("videos.example", "https://evil.example") == 403
        assert ask("videos.example", "https://videos.example:8443") == 403
        assert ask("localhost", "https://localhost") == 403


FOREIGN = [
    {"origin": "http://evil.example"},
    {"origin": "null"},
    {"origin": "http://127.0.0.1:1"},
    {"origin": "https://127.0.0.1:{port}"},
    {"origin": "http://localhost:{port}"},
    {"origin": "http://[::"},
    {"origin": "http://127.0.0.1:99999999"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"origin": "http://127.0.0.1:{port}", "sec-fetch-site": "cross-site"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_other_sites_can_change_nothing(site: Site, headers: dict[str, str]) -> None:
    sent = {name: value.format(port=site.client.base_url.port) for name, value in headers.items()}
    job = site.submit(clip()).json()["id"]
    for method, path in (
        ("POST", "/jobs"),
        ("POST", "/jobs/from-folder"),
        ("POST", f"/jobs/{job}/cancel"),
        ("PUT", f"/jobs/{job}/correction"),
        ("DELETE", f"/jobs/{job}"),
        ("DELETE", f"/jobs/{job}/correction"),
    ):
        answer = site.client.request(method, f"{API}{path}", headers=sent)
        assert answer.status_code == 403, path
        assert "Other sites" in answer.json()["detail"]
    found = site.service.queue.get(job)
    assert found is not None
    assert found.state == "queued"
    assert site.client.delete(f"{API}/jobs/{job}").status_code == 204


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "http://127.0.0.1:{port}"},
        {"sec-fetch-site": "same-origin"},
        {"sec-fetch-site": "none"},
    ],
    ids=str,
)
def test_the_page_itself_and_scripts_can(site: Site, headers: dict[str, str]) -> None:
    sent = {name: value.format(port=site.client.base_url.port) for name, value in headers.items()}
    answer = site.client.post(f"{API}/jobs", files={"file": ("a.mp4", clip().read_bytes())}, headers=sent)
    assert answer.status_code == 202
    site.client.delete(f"{API}/jobs/{answer.json()['id']}")


def test_other_sites_may_link_to_the_page_but_not_read_the_api(site: Site) -> None:
    foreign = {"sec-fetch-site": "cross-site"}
    assert site.client.get("/", headers=foreign).status_code == 200
    assert site.client.get(f"{API}/jobs", headers=foreign).status_code == 403


@pytest.mark.parametrize(
    "path", ["/", f"{API}/model", f"{API}/jobs/xyz", "/nothing", f"{API}/jobs/{'0' * 24}"]
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_every_answer_has_the_headers(site: Site, path: str, method: str) -> None:
    headers = site.client.request(method, path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "no-cache" in headers["cache-control"] or "no-store" in headers["cache-control"]
    assert "access-control-allow-origin" not in headers


def test_without_the_token_there_is_nothing_but_health(locked: Site) -> None:
    assert locked.client.get(f"{API}/health").status_code == 200
    for path in ("/", "/static/app.js", f"{API}/jobs", f"{API}/openapi.json", "/?token", "/?x=1"):
        answer = locked.client.get(path)
        assert answer.status_code == 401, path
        assert answer.headers["www-authenticate"].startswith("Bearer")
    assert locked.submit(clip()).status_code == 401
    assert locked.left() == []


def test_the_token_as_a_header(locked: Site) -> None:
    def ask(value: str) -> int:
        return locked.client.get(f"{API}/jobs", headers={"authorization": value}).status_code

    assert ask(f"Bearer {TOKEN}") == 200
    assert ask(f"bearer  {TOKEN}") == 200
    began = time.monotonic()
    for wrong in (f"Bearer {TOKEN}x", f"Basic {TOKEN}", "Bearer é".encode("latin-1")):
        assert ask(wrong) == 401  # type: ignore[arg-type]  # wrong on purpose
    assert time.monotonic() - began > 1.4  # each wrong one waits half a second


def test_the_token_in_the_address_becomes_a_cookie(locked: Site) -> None:
    with httpx.Client(base_url=locked.client.base_url, trust_env=False) as browser:
        wrong = browser.get("/?token=wrong-horse")
        assert (wrong.status_code, "set-cookie" in wrong.headers) == (401, False)
        entered = browser.get(f"/?token={TOKEN}&job=7")
        assert (entered.status_code, entered.headers["location"]) == (303, "/?job=7")
        cookie = entered.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert TOKEN not in cookie
        assert browser.get(f"{API}/jobs").status_code == 200
        foreign = browser.post(f"{API}/jobs", headers={"origin": "http://evil.example"})
        assert foreign.status_code == 403
    jar = {"cookie": f'odd="a; b; {cookie.partition(";")[0]}'}
    assert locked.client.get(f"{API}/jobs", headers=jar).status_code == 200
    forged = {"cookie": f"{cookie.partition('=')[0]}={TOKEN}"}
    assert locked.client.get(f"{API}/jobs", headers=forged).status_code == 401


@pytest.mark.parametrize("path", ["//evil.example", "/\\evil.example", "//evil.example/%2e%2e"])
def test_entering_leads_nowhere_else(locked: Site, path: str) -> None:
    target = httpx.URL(locked.client.base_url).copy_with(raw_path=f"{path}?token={TOKEN}".encode())
    answer = httpx.get(target, trust_env=False)
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/evil.example")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"host": "0.0.0.0"}, "other machines could then see and delete"),
        ({"host": "videos.example"}, "Give a token"),
        ({"token": "short"}, "8 to 200"),
        ({"token": "with space in it"}, "8 to 200"),
        ({"workers": 0}, "--workers"),
        ({"port": 70000}, "--port"),
        ({"max_upload": 0}, "--max-upload"),
        ({"videos": Path("/nowhere")}, "--videos"),
    ],
)
def test_settings_that_are_refused(settings: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        # For mypy: settings of several types.
        ServeSettings(model=Path("m"), data=Path("d"), **settings)  # type: ignore[arg-type]


def test_sizes() -> None:
    sizes = {"2GiB": 2 << 30, "500MB": 500_000_000, "1.5 kib": 1536, "12": 12, "3b": 3, "1t": 10**12}
    assert {text: parse_size(text, "--max-upload") for text in sizes} == sizes
    for wrong in ("", "GiB", "-1", "2ib", "2XB", "1e9", "١٢GB"[:1]):
        with pytest.raises(InputError, match="--max-upload"):
            parse_size(wrong, "--max-upload")


def test_the_command_refuses_what_it_cannot_serve(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = shared_model()
    assert main(["serve", str(tmp_path)]) == 2
    assert "not a run folder" in capsys.readouterr().err
    plain = tmp_path / "plain"
    plain.mkdir()
    (plain / "run.json").write_bytes((model / "run.json").read_bytes())
    assert main(["serve", str(plain), "--data", str(tmp_path / "d")]) == 2
    assert "does not know what made its features" in capsys.readouterr().err
    assert not (tmp_path / "d").exists()
    assert main(["serve", str(model), "--host", "0.0.0.0"]) == 2
    assert "Give a token" in capsys.readouterr().err
    with running(tmp_path / "data") as server:
        port = server.address.rpartition(":")[2]
        command = ["serve", str(model), "--port", port, "--data", str(tmp_path / "d")]
        assert main(command) == 2
        assert "cannot listen there: Address already in use" in capsys.readouterr().err
        assert main(["serve", str(model), "--port", "0", "--data", str(tmp_path / "data")]) == 2
        assert "another dgam serve is using this folder" in capsys.readouterr().err


def test_a_token_is_made_and_printed_and_the_warning_is_loud(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dgam", "serve", str(shared_model()), "--port", "0", "--token", "auto"]
    command += ["--host", "0.0.0.0", "--data", str(tmp_path / "data")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        port, token = address.rpartition(":")[2].split("/?token=")
        assert len(token) >= 32
        jobs = f"http://127.0.0.1:{port}{API}/jobs"
        assert httpx.get(jobs, trust_env=False).status_code == 401
        given = {"authorization": f"Bearer {token}"}
        assert httpx.get(jobs, headers=given, trust_env=False).status_code == 200
    finally:
        process.terminate()
        told = process.communicate(timeout=30)[1]
    assert told.startswith("WARNING: --host 0.0.0.0 lets other machines reach this server.")
    assert process.returncode == 0


def test_secrets_are_compared_in_constant_time() -> None:
    """No == or != on what a client sends: every comparison of a token or cookie is hmac.compare_digest."""
    import dgam.app.security as module

    tree = ast.parse(Path(str(module.__file__)).read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and any(isinstance(op, ast.Eq | ast.NotEq) for op in node.ops):
            assert "token" not in ast.unparse(node).replace("name != 'token'", "")
            assert "_pass" not in ast.unparse(node)
