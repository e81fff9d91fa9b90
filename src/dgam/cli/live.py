"""``dgam live``."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from dgam.cli.options import Repeatable
from dgam.core.errors import InputError
from dgam.exports.text import one_line
from dgam.exports.times import short_clock

if TYPE_CHECKING:
    from dgam.live.watch import Event, Watcher
    from dgam.video.framing import Picture


def live(
    model: Path,
    source: str,
    /,
    *,
    delay: int = 4,
    window: int = 64,
    min_score: float | None = None,
    pace: bool = False,
    seconds: float | None = None,
    input_format: str | None = None,
    set: Repeatable = (),
    device: str | None = None,
    weights: Repeatable = (),
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Watch a camera, a stream or a file, and print actions as they begin and end.

    A trial of what the method can do live. Each moment is decided a stated time after it was seen, from a
    window of the newest snippets; the delay is printed first, and as measured at the end. Ctrl-C ends it.

    ```
    dgam live model/ rtsp://camera.example/stream
    dgam live model/ /dev/video0 --delay 2
    dgam live model/ video.mp4 --pace
    ```

    Parameters
    ----------
    model
        What "dgam fit" made from videos.
    source
        A file, an address that FFmpeg opens (rtsp, http, udp, …), or a camera such as /dev/video0.
    delay
        Snippets that must follow a snippet before it is decided. More is surer and later.
    window
        Snippets that the model looks at together.
    min_score
        Leave out what scores less. [default: the model's calibrated threshold, or 0]
    pace
        Read a file no faster than it plays, as if it were live.
    seconds
        Stop after so much of the source.
    input_format
        FFmpeg's name of a device's input format, such as v4l2 or avfoundation.
    set
        A localize setting that differs from the model's; repeat it.
    device
        cpu, cuda, cuda:1 … [default: a GPU if there is one]
    weights
        Where a stream's encoder weights lie now, as rgb=PATH; repeat it.
    as_json
        Print one JSON object a line.
    """
    if not window > delay >= 0:
        raise InputError(f"--window must exceed --delay, which is at least 0; got {window} and {delay}.")
    if seconds is not None and seconds <= 0:
        raise InputError(f"--seconds must be above 0, got {seconds}.")
    from dgam.api import load_models
    from dgam.cli.localize_videos import given_weights
    from dgam.fitting.localizer import Localizer
    from dgam.live.stream import open_source, paced, snippet_features
    from dgam.live.watch import Watcher

    localizer = Localizer(model, device=device, overrides=set, weights=given_weights(weights))
    settings, encoder, flow = localizer.encoder()
    calibration = localizer.folder.calibration
    if min_score is None:
        found = calibration.score_threshold if calibration is not None else None
        min_score = found if found is not None else 0.0
    watcher = Watcher(
        load_models(localizer.run, device),
        localizer.classes,
        settings.grid,
        window,
        delay,
        min_score,
    )
    fps = float(settings.frames.fps)
    with open_source(source, settings.pictures(encoder), input_format) as reader:
        real_time = pace or not Path(source).is_file()
        meter = _Meter(watcher, fps, real_time)
        meter.head(source, as_json)
        pictures: Iterator[Picture] = iter(reader)
        if pace:
            pictures = paced(pictures, fps)
        if seconds is not None:
            pictures = islice(pictures, max(1, round(seconds * fps)))
        try:
            for vectors in snippet_features(
                meter.counted(pictures), encoder, settings.streams, settings.grid, flow
            ):
                before = watcher.decided
                events = watcher.add(vectors)
                meter.decided(before)
                _tell(events, as_json)
            _tell(watcher.finish(), as_json)
        finally:
            meter.foot(as_json)


class _Meter:
    """Measures how long after a moment the decision on it comes."""

    def __init__(self, watcher: Watcher, fps: float, real_time: bool) -> None:
        self._watcher, self._fps, self._real_time = watcher, fps, real_time
        self._began: float | None = None
        self._pictures = 0
        self._worst = self._sum = 0.0
        self._count = 0

    def counted(self, pictures: Iterator[Picture]) -> Iterator[Picture]:
        """The pictures, the clock starting with the first."""
        for picture in pictures:
            if self._began is None:
                self._began = time.monotonic()
            self._pictures += 1
            yield picture

    def decided(self, before: int) -> None:
        """Cells from ``before`` on have just been decided."""
        now = time.monotonic() - self._start if self._real_time else self._pictures / self._fps
        for cell in range(before, self._watcher.decided):
            lag = now - self._watcher.seconds(cell)
            self._worst, self._sum, self._count = max(self._worst, lag), self._sum + lag, self._count + 1

    def head(self, source: str, as_json: bool) -> None:
        """Say what is watched, and the delay."""
        watcher = self._watcher
        seconds = float(watcher.grid.stride / watcher.grid.fps)
        if as_json:
            print(json.dumps({"source": source, "stated_delay": round(watcher.stated_delay, 3)}), flush=True)
            return
        print(
            f"{source}: snippets of {seconds:.2f} s, in a window of {watcher.window * seconds:.1f} s.\n"
            f"Delay: a moment is decided at most {watcher.stated_delay:.2f} s after it was seen, plus what "
            "computing takes.",
            flush=True,
        )

    def foot(self, as_json: bool) -> None:
        """Say what the delay was."""
        took = time.monotonic() - self._start if self._began is not None else 0.0
        mean = self._sum / self._count if self._count else 0.0
        rate = self._pictures / took if took > 0 else 0.0
        if as_json:
            measured = {"mean": round(mean, 3), "most": round(self._worst, 3), "real_time": self._real_time}
            value = {"pictures": self._pictures, "snippets": self._watcher.seen, "delay": measured}
            print(json.dumps(value), flush=True)
            return
        clock = "by the clock, computing included" if self._real_time else "of the source, without computing"
        length = self._pictures / self._fps
        print(
            f"{self._watcher.seen} snippets, {length:.1f} s of the source in {took:.1f} s "
            f"({rate:.1f} pictures a second, {self._fps:g} are real time).\n"
            f"Delay measured: {mean:.2f} s in the mean, {self._worst:.2f} s at most ({clock}).",
            flush=True,
        )

    @property
    def _start(self) -> float:
        return self._began if self._began is not None else time.monotonic()


def _tell(events: list[Event], as_json: bool) -> None:
    for event in events:
        if as_json:
            print(json.dumps(vars(event), ensure_ascii=False), flush=True)
            continue
        end = "         …" if event.end is None else short_clock(event.end).rjust(10)
        words = f"{short_clock(event.start).rjust(10)} {end}  {one_line(event.label)}"
        print(f"{words}  {event.score:.3f}" if event.end is not None else f"{words}  begins", flush=True)
