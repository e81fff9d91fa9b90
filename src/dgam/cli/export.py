"""``dgam export``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

from dgam.cli.options import Skipped
from dgam.cli.outputs import Choice, Target, refuse_unwritable, told_of
from dgam.core.errors import InputError
from dgam.core.progress import track
from dgam.core.results import read_detections
from dgam.core.types import Detection, Detections
from dgam.exports.content import Content
from dgam.features.arrays import as_problem

if TYPE_CHECKING:
    from dgam.video.container import VideoInfo


def export(
    detections: Path,
    /,
    *,
    out: Path | None = None,
    to: str | None = None,
    media: Path | None = None,
    media_url: str | None = None,
    clips: Path | None = None,
    choice: Choice | None = None,
    ids: Literal["name", "path"] = "name",
    skip_bad: bool = False,
) -> None:
    """Write detections in the formats of other tools, or cut clips of them.

    Subtitles to see them in any player, tables, and files that ELAN, Label Studio and FiftyOne import. With
    the videos at hand, their lengths, frame rates and places go into the files.

    ```
    dgam export detections.json --to vtt,srt,csv --out found
    dgam export detections.json --to labelstudio --out tasks.json --media videos/ --media-url https://host/v/
    dgam export detections.json --clips clips --media videos/ --top 5
    ```

    Parameters
    ----------
    detections
        A result file of "dgam localize", or ActivityNet's result JSON from elsewhere.
    out
        The folder that --to writes into; or one file, whose ending says the format (.json, .csv, .vtt, .srt,
        .eaf).
    to
        Formats, separated by commas: json (ActivityNet), csv, vtt, srt, elan, labelstudio, fiftyone.
    media
        The videos: a file, a folder, or a .txt list. A video's id is its file name without the ending.
    media_url
        Address of the folder that serves the videos, put in place of their paths, as Label Studio needs it.
    clips
        A folder to cut each segment into as a clip; needs --media.
    ids
        How videos of --media are named: by file name, or by their path below the folder given.
    skip_bad
        Leave out defective predictions, and videos that no clip can be cut of, and list them.
    """
    choice = choice or Choice()
    if to is not None and out is None:
        raise InputError("--to needs --out: the folder to write into.")
    if out is None and clips is None:
        raise InputError("--out is missing: the folder or file to write. Or cut clips with --clips.")
    if clips is not None and media is None:
        raise InputError("--clips needs --media: the videos to cut.")
    if media_url is not None and media is None:
        raise InputError("--media-url needs --media: which files it serves.")
    target = Target.of(out, to) if out is not None else None
    skipped = Skipped()
    read = read_detections(detections, skipped if skip_bad else None)
    kept = {video: choice(found) for video, found in read.videos.items()}
    if target is not None:
        target.refuse(kept)
    if clips is not None:
        refuse_unwritable("--clips", clips)
    places = _places(media, ids) if media is not None else {}
    lost = [video for video in kept if video not in places]
    if media is not None and lost:
        what = f"{media}: has no video {lost[0]!r} of {detections} ({len(lost)} such in all)."
        if not skip_bad:
            raise InputError(f"{what} Give those files too, or go on without their media with --skip-bad.")
        print(f"note: {what}")
    places = {video: path for video, path in places.items() if video in kept}
    addresses = {video: _address(path, media, media_url) for video, path in places.items()}
    headers = _headers(places, skipped if skip_bad else None)
    content = Content(
        Detections(kept, read.about),
        {video: info.seconds for video, info in headers.items()},
        addresses,
        {video: float(info.rate) for video, info in headers.items() if info.rate},
    )
    if target is not None:
        print(told_of(target.write(content), sum(map(len, kept.values())), len(kept)))
    if clips is not None:
        _cut(kept, {video: places[video] for video in headers}, clips, skipped if skip_bad else None)
    skipped.summary()


def _places(media: Path, ids: Literal["name", "path"]) -> dict[str, Path]:
    from dgam.video.listing import find_videos

    return {file.video: Path(file.path) for file in find_videos([media], ids).videos}


def _address(path: Path, media: Path | None, url: str | None) -> str:
    """Where a tool finds the video: its path, or below the address that serves ``media``."""
    if url is None:
        return str(path.absolute())
    below = path.relative_to(media) if media is not None and media in path.parents else Path(path.name)
    return f"{url if url.endswith(('/', '=')) else f'{url}/'}{quote(below.as_posix())}"


def _headers(places: Mapping[str, Path], skipped: Skipped | None) -> dict[str, VideoInfo]:
    from dgam.video.container import probe

    headers = {}
    for video, path in places.items():
        try:
            headers[video] = probe(path)
        except InputError as error:
            if skipped is None:
                raise
            skipped(as_problem(error, str(path), video))
    return headers


def _cut(
    kept: Mapping[str, tuple[Detection, ...]],
    places: Mapping[str, Path],
    out: Path,
    skipped: Skipped | None,
) -> None:
    from dgam.exports.clips import cut_clips

    count = 0
    wanted = {video: found for video, found in kept.items() if found and video in places}
    with track("cutting clips", total=sum(map(len, wanted.values()))) as advance:
        for video, found in wanted.items():
            try:
                count += len(cut_clips(places[video], found, out, name=video, on_clip=lambda _: advance(1)))
            except InputError as error:
                if skipped is None:
                    raise
                skipped(as_problem(error, str(places[video]), video))
    print(f"{out}: {count} clips.")
