"""WebVTT and SubRip (SRT): each video's detections as subtitles, "label (score)" while the action lasts.

Cues come by start and may overlap, which players show one below the other. A cue lasts at least one
millisecond, the least that WebVTT allows.
"""

from __future__ import annotations

from dgam.exports.content import Content, Placed
from dgam.exports.text import one_line
from dgam.exports.times import clock
from dgam.features.names import file_stem

# SRT has no escape, but players take <i> and {\an8} for commands; these look nearly the same and command
# nothing.
_NO_MARKUP = str.maketrans({"<": "‹", ">": "›", "{": "(", "}": ")"})


def write_vtt(content: Content) -> dict[str, bytes]:
    """One ``.vtt`` file a video (https://www.w3.org/TR/webvtt1/)."""
    return {f"{file_stem(video)}.vtt": _vtt(content.placed(video)) for video in content.detections.videos}


def write_srt(content: Content) -> dict[str, bytes]:
    """One ``.srt`` file a video."""
    return {f"{file_stem(video)}.srt": _srt(content.placed(video)) for video in content.detections.videos}


def _vtt(segments: list[Placed]) -> bytes:
    blocks = ["WEBVTT"]
    for number, one in enumerate(segments, start=1):
        cue = one.at_least(1)
        text = _caption(one).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        blocks.append(f"{number}\n{clock(cue.start)} --> {clock(cue.end)}\n{text}")
    return ("\n\n".join(blocks) + "\n").encode()


def _srt(segments: list[Placed]) -> bytes:
    blocks = []
    for number, one in enumerate(segments, start=1):
        cue = one.at_least(1)
        times = f"{clock(cue.start, ',')} --> {clock(cue.end, ',')}"
        blocks.append(f"{number}\n{times}\n{_caption(one).translate(_NO_MARKUP)}\n\n")
    return "".join(blocks).encode()


def _caption(one: Placed) -> str:
    return one_line(f"{one.label} ({one.score:.2f})")
