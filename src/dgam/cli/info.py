"""``dgam info``."""

from __future__ import annotations

import itertools
import platform
import textwrap
from collections.abc import Iterable
from dataclasses import fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import dgam
from dgam.cli.options import FeatureOptions, SettingOptions
from dgam.cli.settings_help import describe_settings
from dgam.core.config import PER_STREAM, Config, load_config, preset_names, preset_text
from dgam.core.errors import InputError
from dgam.core.origins import nearest_of
from dgam.core.run import Run, load_run
from dgam.features.source import FeatureSource

TOPICS = ("settings", "simulation", "protocols")
SECTIONS = tuple(name for name in Config.model_fields if name not in ("preset", "streams"))
PACKAGES = (
    "torch",
    "numpy",
    "safetensors",
    "pydantic",
    "cyclopts",
    "PyYAML",
    "rich",
    "matplotlib",
    "tensorboard",
)


def info(
    about: str | None = None,
    /,
    *,
    settings: SettingOptions | None = None,
    reading: FeatureOptions | None = None,
) -> None:
    """Show versions and presets, explain every setting, or describe a run or features.

    Without an argument it shows what is installed and which presets there are. `settings` lists every setting
    with its value, what values it can take, and its meaning; with --preset, --config or --set the values are
    those. A section (`model`, `loss`, `train`, `localize`) lists that part, a preset's name shows its file,
    `simulation` the knobs of "dgam simulate", and `protocols` the protocols of evaluation. A path is
    described, be it a run folder or features of any known layout.

    ```
    dgam info settings --preset thumos14
    dgam info RUN
    dgam info FEATURES
    ```

    Parameters
    ----------
    about
        A topic (settings, simulation, protocols), a section, a preset, or a path.
    """
    if about is None:
        print(_overview())
    elif about == "settings" or about in SECTIONS:
        values = (settings or SettingOptions()).load()
        print(describe_settings(values, "" if about == "settings" else about))
    elif about == "simulation":
        print(_simulation())
    elif about == "protocols":
        print(_protocols())
    elif about in preset_names():
        print(preset_text(about), end="")
    elif (Path(about) / "run.json").is_file():
        print(_run(load_run(about)))
    elif Path(about).exists():
        print(_features((reading or FeatureOptions()).open(Path(about))))
    else:
        known = (*TOPICS, *SECTIONS, *preset_names())
        raise InputError(f"{about!r} is no file, folder or topic. {nearest_of(about, known)}")


def _overview() -> str:
    lines = [f"dgam {dgam.__version__}, Python {platform.python_version()}, {platform.platform()}"]
    lines += [f"  {name} {_version(name)}" for name in PACKAGES]
    lines += ["", "Presets (dgam info NAME shows one):"]
    lines += [f"  {name}\n{_indented(_first_sentence(preset_text(name)))}" for name in preset_names()]
    lines += ["", "dgam info settings    every setting, its range, default and meaning"]
    lines += ["dgam info simulation  the knobs and presets of dgam simulate"]
    lines += ["dgam info protocols   the protocols of dgam evaluate"]
    return "\n".join(lines)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _first_sentence(text: str) -> str:
    """That of the comment which heads a preset."""
    comments = itertools.takewhile(lambda line: line.strip("# "), text.splitlines())
    return " ".join(line.lstrip("# ") for line in comments).partition(". ")[0].rstrip(".") + "."


def _simulation() -> str:
    from dgam.data.simulate import PRESETS, Simulation

    lines = ["Presets of simulated data, and the knobs in which they differ from the default:"]
    for name, (meaning, knobs) in PRESETS.items():
        changed = ", ".join(f"{knob}={value:g}" for knob, value in knobs.items())
        lines.append(f"  {name:<14}{meaning}{f' ({changed})' if changed else ''}")
    lines += ["", "Knobs, with their defaults (--set knob=value):", ""]
    for knob in fields(Simulation):
        about = knob.metadata
        allowed = (
            " | ".join(about["choices"]) if "choices" in about else f"{about['low']:g} to {about['high']:g}"
        )
        lines += [f"  {knob.name} = {knob.default}    {allowed}", _indented(about["help"])]
    return "\n".join(lines)


def _protocols() -> str:
    from dgam.evaluation import named_protocol, protocol_names

    lines = ["Protocols of dgam evaluate (--protocol):"]
    for name in protocol_names():
        protocol = named_protocol(name)
        lines += [f"  {name}", _indented(protocol.summary)]
        if protocol.expected:
            lines.append(_indented("{} videos, {} instances".format(*protocol.expected)))
    return "\n".join(lines)


def _run(run: Run) -> str:
    rows = {
        "run": str(run.path),
        "preset": run.config.preset,
        "seed": str(run.seed),
        "trained on": f"{run.videos} videos, labels from {run.labels or 'memory'}",
        "streams": _streams(run.streams.items()),
        "classes": f"{len(run.classes)}: {', '.join(run.classes)}",
        "weights": run.selection,
        "settings": "; ".join(_changed(run.config)) or "as in the preset",
    }
    return _table(rows)


def _changed(config: Config) -> list[str]:
    """The settings that differ from those of the run's preset, dotted."""
    started_from = load_config(config.preset) if config.preset in preset_names() else Config()
    default, values = started_from.model_dump(), config.model_dump()
    common = [
        f"{section}.{name}={value}"
        for section in SECTIONS
        for name, value in values[section].items()
        if value != default[section][name]
    ]
    own = [
        f"streams.{stream}.{section}.{name}={value}"
        for stream, sections in values["streams"].items()
        for section in PER_STREAM
        for name, value in sections.get(section, {}).items()
    ]
    return common + own


def _features(source: FeatureSource) -> str:
    timelines = [source.timeline(video) for video in source.videos]
    counts = sorted(timeline.snippets for timeline in timelines) or [0]
    grids = {timeline.grid for timeline in timelines}
    told = [f"{grid.fps} frames/s, {grid.length} frames a snippet, one every {grid.stride}" for grid in grids]
    rows = {
        "features": source.name,
        "streams": _streams(source.streams.items()),
        "videos": str(len(source.videos)),
        "snippets": f"{sum(counts)}; {counts[0]} to {counts[-1]} a video, median {counts[len(counts) // 2]}",
        "time": "; ".join(sorted(told)),
        "hours": f"{sum(timeline.end for timeline in timelines) / 3600:.2f}",
    }
    return _table(rows)


def _streams(streams: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{name} ({size})" for name, size in streams)


def _table(rows: dict[str, str]) -> str:
    return "\n".join(
        textwrap.fill(f"{name + ':':<12}{value}", 100, subsequent_indent=" " * 12, break_on_hyphens=False)
        for name, value in rows.items()
    )


def _indented(text: str) -> str:
    return textwrap.fill(text, 100, initial_indent="      ", subsequent_indent="      ")
