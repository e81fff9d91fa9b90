"""Options that several commands share: which settings, and how features are read."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from dgam.core.config import Config, load_config
from dgam.core.errors import InputError, Problem
from dgam.core.timeline import SnippetGrid
from dgam.core.types import VideoLabels
from dgam.features.layouts import Layout, open_features
from dgam.features.source import FeatureSource

Repeatable = Annotated[tuple[str, ...], Parameter(show_default=False)]


@Parameter(name="*", group="Settings")
@dataclass(frozen=True, kw_only=True)
class SettingOptions:
    """Where the settings of a run come from; ``dgam info settings`` explains each."""

    preset: str | None = None
    """Named settings to start from; "dgam info" lists them. [default: as --config says, or default]"""
    config: Path | None = None
    """A YAML file of settings that goes on top of the preset."""
    set: Repeatable = ()
    """A setting on top of both, such as train.epochs=200 or streams.flow.loss.gamma1=0.3; repeat it."""

    def load(self) -> Config:
        """The settings. InputProblems where any is not usable."""
        return load_config(self.preset, self.config, self.set)


@Parameter(name="*", group="Reading features")
@dataclass(frozen=True, kw_only=True)
class FeatureOptions:
    """How snippet features lie on the disk, where that cannot be told from them."""

    layout: Layout = "auto"
    """How the features lie. store: made by "dgam import"; streams: a folder per stream with a .npy per video;
    joint: a .npy per video with the streams side by side; single: the same with one stream; npz: a .npz per
    video; release: the DGAM authors' numbered files; wtalc: W-TALC's one file."""
    streams: Repeatable = ()
    """Only this stream; repeat it for several. Names the stream of layout single. [default: all]"""
    joint: str | None = None
    """How joined columns split, in order: rgb=1024,flow=1024. [default: two halves, rgb and flow]"""
    names: Path | None = None
    """The videos' ids, one a line or as .npy, for layouts that number their videos."""
    fps: str = "25"
    """Frames a second at which the features were made, as 25, 29.97 or 30000/1001. A store knows its own."""
    snippet: int = 16
    """Frames that a snippet looks at. A store knows its own."""
    stride: int | None = None
    """Frames from one snippet to the next. [default: as --snippet]"""
    trusted_pickle: bool = False
    """Open pickled files. A pickle can run any program: only for files from somebody you trust."""

    def grid(self) -> SnippetGrid | None:
        """The snippets' place in time as given here; None where nothing was given."""
        if (self.fps, self.snippet, self.stride) == ("25", 16, None):
            return None
        try:
            return SnippetGrid(Fraction(self.fps), self.snippet, self.stride or self.snippet)
        except (ValueError, ZeroDivisionError):
            given = f"--fps {self.fps}, --snippet {self.snippet}, --stride {self.stride}"
            raise InputError(
                f"{given}: expected numbers above 0, --fps as 25, 29.97 or 30000/1001, the others whole."
            ) from None

    def open(self, path: Path) -> FeatureSource:
        """Open the features at ``path``. InputError where they, or these options, are not usable."""
        return open_features(
            path,
            layout=self.layout,
            grid=self.grid(),
            streams=self.streams or None,
            joint=_split(self.joint) if self.joint is not None else None,
            names=self.names,
            trusted_pickle=self.trusted_pickle,
        )


def _split(text: str) -> dict[str, int]:
    """``rgb=1024,flow=1024`` as a mapping."""
    columns: dict[str, int] = {}
    for part in text.split(","):
        name, _, size = part.partition("=")
        if not name.strip() or not size.strip().isdecimal() or int(size) < 1 or name.strip() in columns:
            expected = "expected streams with their dimensions, as rgb=1024,flow=1024."
            raise InputError(f"--joint: {text!r} is not usable; {expected}")
        columns[name.strip()] = int(size)
    return columns


def only_subset(labels: VideoLabels, subsets: Sequence[str], path: Path) -> VideoLabels:
    """The labels of these subsets, all if none is named. InputError where ``path`` has no video of them."""
    chosen = labels.in_subset(*subsets) if subsets else labels
    if not chosen:
        known = ", ".join(sorted(set(labels.subset_of.values()))) or "none"
        raise InputError(f"{path}: has no video of subset {', '.join(subsets)}. Its subsets: {known}.")
    return chosen


@dataclass
class Skipped:
    """Counts, and tells on standard error, what ``--skip-bad`` leaves out."""

    count: int = 0

    def __call__(self, problem: Problem) -> None:
        """Tell of one defect."""
        self.count += 1
        print(f"left out: {problem}", file=sys.stderr)

    def summary(self) -> None:
        """Say at the end how many there were, if any."""
        if self.count:
            print(f"{self.count} defects were passed over because of --skip-bad; see above.", file=sys.stderr)
