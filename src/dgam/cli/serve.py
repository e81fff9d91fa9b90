"""``dgam serve``."""

from __future__ import annotations

import sys
from pathlib import Path

from dgam.cli.options import Repeatable


def serve(
    model: Path,
    /,
    *,
    videos: Path | None = None,
    data: Path | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str | None = None,
    max_upload: str = "2GiB",
    quota: str = "50GiB",
    workers: int = 1,
    allow_host: Repeatable = (),
    open: bool = False,
) -> None:
    """Serve a web page to localise videos with a model, look at the result and correct it.

    Drop a video on the page, or choose one of a folder; then the player has a timeline of detections under
    it. An HTTP API does the same; its description is at /api/v1/openapi.json. Videos wait in a queue that
    outlives the server: what was not finished is taken up at the next start.

    Only this machine can reach the page unless --host says otherwise, and then only with a token.

    ```
    dgam serve model/ --videos videos/ --open
    dgam serve model/ --host 0.0.0.0 --token auto
    ```

    Parameters
    ----------
    model
        The model folder that "dgam fit" made.
    videos
        A folder whose videos can be chosen on the page, without uploading them.
    data
        Where uploads, results and corrections are kept. [default: a folder for this model in ~/.local/state]
    host
        The address to listen on. 0.0.0.0 is every network that this machine is in.
    port
        The port to listen on; 0 takes any free one.
    token
        A secret that requests need, 8 characters or more; "auto" makes one and prints it.
    max_upload
        The largest file that may be uploaded, such as 500MB.
    quota
        How much all uploads together may take.
    workers
        Videos that are worked on at the same time. Each worker holds the networks in memory.
    allow_host
        A further name by which this server may be called, such as that of a reverse proxy; repeat it.
    open
        Open the page in a browser.
    """
    from dgam.app.serving import default_data, make_token
    from dgam.app.serving import serve as run
    from dgam.app.settings import ServeSettings, parse_size

    settings = ServeSettings(
        model=model,
        data=(data or default_data(model)).absolute(),
        videos=videos,
        host=host,
        port=port,
        token=make_token() if token == "auto" else token,
        max_upload=parse_size(max_upload, "--max-upload"),
        quota=parse_size(quota, "--quota"),
        workers=workers,
        hosts=allow_host,
    )
    if not settings.is_loopback:
        print(
            f"WARNING: --host {host} lets other machines reach this server. Who has the token sees and "
            "deletes all videos here, and what is sent can be read on the way, as there is no encryption: "
            "put a reverse proxy with TLS before it on any network that you do not trust.",
            file=sys.stderr,
        )

    def ready(address: str) -> None:
        print(f"{address}\nVideos and results are kept in {settings.data}. Ctrl-C ends it.", flush=True)

    run(settings, open_page=open, on_ready=ready)
