"""Look into a file that nobody has vouched for, in a process of its own that can do little harm.

    python -m dgam.app.probe REQUEST      (JSON on the command line, a finding as JSON on standard output)

The process has a bound on memory, processor time and open files, writes no file, opens no other, and reads
with the demuxers that belong to the file's first bytes only.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dgam.app.settings import VideoLimits
from dgam.app.sniff import HEAD, KINDS, sniff
from dgam.core.errors import InputError

ANY_DEMUXER = ",".join(kind.demuxers for kind in KINDS) + ",gif,ivf,mjpeg,yuv4mpegpipe,nut,h264,hevc,dv,mxf"


@dataclass(frozen=True)
class Finding:
    """What a video is. ``media`` is its type where a browser can play it as it is, else ""; ``duration`` in
    seconds; ``width`` and ``height`` in pixels as stored; ``frames`` coded frames."""

    container: str
    codec: str
    width: int
    height: int
    frames: int
    duration: float
    media: str


class Refused(InputError):
    """A file that is not taken; ``status`` is the HTTP status that says so."""

    def __init__(self, message: str, status: int = 422) -> None:
        super().__init__(message)
        self.status = status


def probe_apart(path: Path, limits: VideoLimits, *, trusted: bool = False, whole: bool = True) -> Finding:
    """Look into a file in a process of its own. :class:`Refused` where it is not taken.

    A ``trusted`` one, out of the user's own folder, may be of a few more kinds. ``whole``: one that ends
    before its header says is refused.
    """
    if not trusted:
        with path.open("rb") as file:
            if sniff(file.read(HEAD)) is None:
                raise Refused(
                    "This is no video file of a known kind, whatever its name says. Give MP4, MOV, WebM, "
                    "MKV, AVI, MPEG, FLV, OGV or WMV.",
                    415,
                )
    request = {"path": str(path), "limits": asdict(limits), "trusted": trusted, "whole": whole}
    command = [sys.executable, "-m", "dgam.app.probe", json.dumps(request)]
    patience = 3 * limits.cpu_seconds + 10
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=patience,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Refused(f"Looking into this file took more than {patience} s; it is not taken.") from None
    try:
        value: dict[str, Any] = json.loads(done.stdout)
        if "refused" in value:
            raise Refused(value["refused"], value["status"])
        return Finding(**value)
    except (ValueError, TypeError, KeyError):
        raise Refused(
            f"Looking into this file needed more than {limits.cpu_seconds} s of processor time or "
            f"{limits.memory >> 20} MiB of memory, or broke the decoder; it is not taken. Re-encode it, for "
            "example with: ffmpeg -i IN -c:v libx264 OUT.mp4"
        ) from None


def confine(limits: VideoLimits) -> None:
    """Bound what this process may use. Does nothing where the system has no such bounds (Windows)."""
    try:
        import resource
    except ImportError:
        return
    cpu = limits.cpu_seconds
    for what, value in (
        (resource.RLIMIT_AS, limits.memory),
        (resource.RLIMIT_CPU, cpu),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
    ):
        _, most = resource.getrlimit(what)
        bound = value if most == resource.RLIM_INFINITY else min(value, most)
        with contextlib.suppress(OSError, ValueError):  # macOS bounds no address space
            resource.setrlimit(what, (bound, bound))


def look(path: Path, limits: VideoLimits, *, trusted: bool = False, whole: bool = True) -> Finding:
    """Look into a file in this process: header, first frame, and the timestamps of all frames.

    :class:`Refused` where it is no video, cut off, or beyond the limits.
    """
    import av

    with path.open("rb") as file:
        kind = sniff(file.read(HEAD))
    demuxers = ANY_DEMUXER if trusted or kind is None else kind.demuxers
    options = {"format_whitelist": demuxers, "protocol_whitelist": "file"}
    try:
        with av.open(f"file:{path.absolute()}", options=options, metadata_errors="replace") as container:
            return _look(container, path, limits, whole)
    except MemoryError:
        raise Refused("Decoding this video needs too much memory; it is not taken.") from None
    except (av.error.FFmpegError, OSError) as error:
        raise Refused(
            f"This is no video that can be read ({error.strerror}). It may be cut off or damaged; check that "
            "it plays."
        ) from None


def _look(container: Any, path: Path, limits: VideoLimits, whole: bool) -> Finding:
    import av
    from av.stream import Disposition

    from dgam.video.container import promised_seconds

    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        raise Refused("This file holds no moving picture, only " + (_kinds(container) or "nothing") + ".")
    stream = streams[0]
    if stream.codec_context is None:
        raise Refused("There is no decoder for this video's picture. Re-encode it, for example as H.264.")
    _check_size(stream.width, stream.height, limits)
    if container.duration and container.duration / av.time_base > limits.seconds:
        raise _too_long(container.duration / av.time_base, limits)
    stream.thread_type, stream.thread_count = "NONE", 1
    stream.codec_context.options = {"max_pixels": str(limits.pixels)}
    base, first, last, packets = float(stream.time_base or 0), None, 0, 0
    picture = None
    for packet in container.demux(stream):
        if picture is None:
            with contextlib.suppress(av.error.InvalidDataError):  # recordings may begin amid a picture
                picture = next(iter(packet.decode()), None)
        stamp = packet.pts if packet.pts is not None else packet.dts
        if packet.size == 0:
            continue
        packets += 1
        if stamp is not None:
            first = stamp if first is None else min(first, stamp)
            last = max(last, stamp + (packet.duration or 0))
        if packets > limits.frames:
            raise Refused(f"This video has more than {limits.frames} frames, the most that is taken.")
        if first is not None and (last - first) * base > limits.seconds:
            raise _too_long((last - first) * base, limits)
    if picture is None:
        raise Refused("No picture of this video could be decoded. It may be cut off or damaged.")
    _check_size(picture.width, picture.height, limits)
    rate = float(stream.average_rate or 25)
    duration = (last - first) * base if first is not None and last > first else packets / rate
    header, sure = promised_seconds(container, stream)
    promised = float(header) if header is not None and sure else 0.0
    # As extraction sees it: some containers promise a length, others a last instant.
    if whole and promised - max(duration, last * base) > max(0.5, promised / 200):
        raise Refused(
            f"This video ends after {duration:.1f} s, its header promises {promised:.1f} s. The file "
            "is cut off or damaged; upload it again, or re-encode it."
        )
    return Finding(
        container=container.format.name,
        codec=stream.codec_context.name,
        width=picture.width,
        height=picture.height,
        frames=packets,
        duration=duration,
        media=_media(container, stream, picture.format.name, path),
    )


def _check_size(width: int, height: int, limits: VideoLimits) -> None:
    if width * height > limits.pixels:
        raise Refused(
            f"This video's frames have {width}×{height} pixels; at most {limits.pixels / 1e6:.4g} million "
            "are taken. Make it smaller, for example with: ffmpeg -i IN -vf scale=-2:720 OUT.mp4"
        )


def _too_long(seconds: float, limits: VideoLimits) -> Refused:
    return Refused(
        f"This video lasts {seconds / 3600:.1f} hours by its timestamps; at most {limits.seconds / 3600:.1f} "
        "are taken. Cut it, or use 'dgam localize' on the command line."
    )


def _kinds(container: Any) -> str:
    return ", ".join(sorted({"a cover picture" if s.type == "video" else s.type for s in container.streams}))


def _media(container: Any, stream: Any, pixels: str, path: Path) -> str:
    """The media type under which browsers play the file as it is; "" where most do not."""
    codec, sound = stream.codec_context.name, {s.codec_context.name for s in container.streams.audio}
    pixels = pixels.replace("yuvj", "yuv")
    if "mp4" in container.format.name:
        brand = container.metadata.get("major_brand", "").strip()
        plays = codec == "h264" and pixels == "yuv420p" and sound <= {"aac", "mp3", "mp3float"}
        return "video/mp4" if plays and brand not in ("", "qt") else ""
    if "webm" in container.format.name and path.suffix == ".webm":
        plays = codec in ("vp8", "vp9", "libvpx", "libvpx-vp9") and pixels == "yuv420p"
        return "video/webm" if plays and sound <= {"opus", "libopus", "vorbis", "libvorbis"} else ""
    return ""


def main(request: Mapping[str, Any]) -> None:
    """Answer one request on standard output."""
    limits = VideoLimits(**request["limits"])
    confine(limits)
    try:
        found = look(Path(request["path"]), limits, trusted=request["trusted"], whole=request["whole"])
        finding: dict[str, Any] = asdict(found)
    except Refused as refused:
        finding = {"refused": str(refused), "status": refused.status}
    print(json.dumps(finding))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
