"""A report's pictures as files, PNG and SVG, in the style of all other pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from dgam.core.errors import InputError
from dgam.features.names import file_stem
from dgam.page.content import Content, VideoContent
from dgam.report.plots import class_ap_figure, losses_figure, precision_recall_figure, save_figure
from dgam.report.timelines import VideoPicture, timeline_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ENDINGS = (".png", ".svg")


def save_pictures(
    folder: Path, content: Content, on_picture: Callable[[str], None] | None = None
) -> list[Path]:
    """Write ``class-ap``, ``losses``, ``curves/CLASS`` and ``videos/VIDEO`` into ``folder``.

    Each as PNG and as SVG. Returns the paths. InputError where ``folder`` is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--pictures {folder}: is a file; expected a folder.")
    simulated = content.simulated is not None
    written: list[Path] = []

    def save(name: str, figure: Figure) -> None:
        for ending in ENDINGS:
            path = folder / f"{name}{ending}"
            save_figure(path, figure)
            written.append(path)
        if on_picture is not None:
            on_picture(name)

    evaluations = {s.name: s.evaluation for s in content.systems if s.evaluation is not None}
    if evaluations:
        results = {name: evaluation.to_dict() for name, evaluation in evaluations.items()}
        save("class-ap", class_ap_figure(results, content.tiou, simulated=simulated))
        for label in dict.fromkeys(label for e in evaluations.values() for label in e.classes):
            curves = {name: e.curve(label, content.tiou) for name, e in evaluations.items()}
            lines = {name: (curve.recall, curve.envelope) for name, curve in curves.items()}
            title = f"{label}: precision over recall at tIoU {content.tiou:g}"
            save(f"curves/{file_stem(label)}", precision_recall_figure(lines, title, simulated=simulated))
    if content.losses:
        save("losses", losses_figure(content.losses, simulated=simulated))
    for video in content.videos:
        if not video.listed:
            save(f"videos/{file_stem(video.video)}", timeline_figure(_picture(video, simulated)))
    return written


def _picture(video: VideoContent, simulated: bool) -> VideoPicture:
    return VideoPicture(
        video=video.video,
        truth=video.truth,
        detections={name: found[:12] for name, found in video.detections.items()},
        attention={name: (line.seconds, line.values) for name, line in video.attention.items()},
        tcam={name: (line.seconds, line.values) for name, line in video.activation.items()},
        duration=video.duration,
        simulated=simulated,
    )
