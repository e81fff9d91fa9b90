"""What an extraction tells about each video, and about the run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Status = Literal["extracted", "unchanged", "failed"]


@dataclass(frozen=True)
class VideoReport:
    """One video's line. ``seconds`` maps a stage to its busy time; stages overlap, ``wall`` is all of it.

    ``message`` says why a video failed. An unchanged video has the figures of its manifest and no times.
    """

    video: str
    path: str
    status: Status
    frames: int = 0
    snippets: int = 0
    duration: float = 0.0
    wall: float = 0.0
    seconds: dict[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    message: str = ""


@dataclass(frozen=True)
class ExtractReport:
    """A whole run: its videos by id, what it was set to, and how long it took (seconds)."""

    videos: tuple[VideoReport, ...]
    settings: dict[str, Any]
    wall: float
    workers: int
    ignored: tuple[str, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """How many videos ended in which status."""
        tally = Counter(report.status for report in self.videos)
        return {status: tally[status] for status in ("extracted", "unchanged", "failed")}

    @property
    def seconds(self) -> dict[str, float]:
        """Busy seconds of each stage over all videos."""
        total: Counter[str] = Counter()
        for report in self.videos:
            total.update(report.seconds)
        return {stage: total[stage] for stage in total}

    @property
    def bound(self) -> str | None:
        """The stage that was busy longest, which bounds the run; None where nothing was extracted."""
        seconds = self.seconds
        return max(seconds, key=lambda stage: seconds[stage]) if seconds else None

    @property
    def frames_per_second(self) -> float:
        """Pictures extracted a second of the run."""
        frames = sum(report.frames for report in self.videos if report.status == "extracted")
        return frames / self.wall if self.wall > 0 else 0.0

    def to_json(self) -> dict[str, Any]:
        """Everything, as JSON values."""
        return {
            "counts": self.counts,
            "wall": round(self.wall, 3),
            "workers": self.workers,
            "frames_per_second": round(self.frames_per_second, 3),
            "seconds": {stage: round(value, 3) for stage, value in self.seconds.items()},
            "bound": self.bound,
            "settings": self.settings,
            "ignored": list(self.ignored),
            "videos": [_rounded(report) for report in self.videos],
        }

    def table(self, most: int = 60) -> str:
        """A plain-text table: all videos if there are at most ``most``, else those with something to say."""
        stages = [*self.seconds]
        shown = (
            self.videos if len(self.videos) <= most else [v for v in self.videos if v.warnings or v.message]
        )
        head = ["video", "", "frames", "snippets", "length/s", *(f"{stage}/s" for stage in stages), "wall/s"]
        rows = [head]
        for report in shown:
            times = [f"{report.seconds[stage]:.1f}" if stage in report.seconds else "" for stage in stages]
            figures = [str(report.frames), str(report.snippets), f"{report.duration:.2f}"]
            if report.status == "failed":
                figures = ["", "", ""]
            wall = f"{report.wall:.1f}" if report.status == "extracted" else ""
            rows.append([report.video, report.status, *figures, *times, wall])
        lines = _aligned(rows)
        for report, at in zip(reversed(shown), range(len(shown), 0, -1), strict=True):
            notes = [*report.warnings, *([report.message] if report.message else [])]
            lines[at + 1 : at + 1] = [f"    {note}" for note in notes]
        if len(shown) < len(self.videos):
            lines.append(f"({len(self.videos) - len(shown)} videos without remarks are not shown)")
        return "\n".join([*lines, *self._summary()])

    def _summary(self) -> list[str]:
        counts = ", ".join(f"{number} {status}" for status, number in self.counts.items() if number)
        lines = ["", f"{len(self.videos)} videos: {counts}, in {self.wall:.1f} s"]
        if self.bound is not None:
            busy = ", ".join(f"{stage} {value:.1f} s" for stage, value in self.seconds.items())
            lines.append(f"{self.frames_per_second:.1f} frames/s; busy: {busy}; bound by: {self.bound}")
        if self.ignored:
            names = ", ".join(self.ignored[:5]) + (" …" if len(self.ignored) > 5 else "")
            lines.append(f"{len(self.ignored)} files left aside, by their names no videos: {names}")
        return lines


def _rounded(report: VideoReport) -> dict[str, Any]:
    value = asdict(report)
    value["wall"] = round(report.wall, 3)
    value["seconds"] = {stage: round(seconds, 3) for stage, seconds in report.seconds.items()}
    value["warnings"] = list(report.warnings)
    return value


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
