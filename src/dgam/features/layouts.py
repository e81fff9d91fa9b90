"""Opening snippet features, whatever the layout they were published in, without converting them first.

store    what dgam writes: a folder with store.json
streams  PATH/<stream>/<video>.npy, each (T, d)
joint    PATH/<video>.npy, each (T, d1 + d2 + …): the streams side by side, RGB first
single   PATH/<video>.npy, each (T, d): one stream
npz      PATH/<video>.npz, one array (T, d) under each stream's name
release  the DGAM authors' data: PATH/[train_data|test_data]/<stream>_features/<number>.npy
wtalc    W-TALC's one file NAME-…-JOINTFeatures.npy: a pickled list of (T, 2048) arrays, one a video
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

from dgam.core.errors import InputError
from dgam.core.timeline import SnippetGrid
from dgam.features.arrays import NpyPlace, NpzPlace, Place, npz_keys
from dgam.features.folders import (
    Places,
    by_video,
    check_stream_name,
    describe,
    files,
    rgb_first,
    split_columns,
    stream_folders,
    subfolders,
)
from dgam.features.numbered import release_parts, release_places, wtalc_places
from dgam.features.placed import PlacedFeatures, sample, usual_dimension
from dgam.features.source import FeatureSource
from dgam.features.store import FeatureStore

Layout = Literal["auto", "store", "streams", "joint", "single", "npz", "release", "wtalc"]


def open_features(
    path: str | os.PathLike[str],
    *,
    layout: Layout = "auto",
    grid: SnippetGrid | None = None,
    streams: Sequence[str] | None = None,
    joint: Mapping[str, int] | None = None,
    names: str | os.PathLike[str] | None = None,
    durations: Mapping[str, float] | None = None,
    trusted_pickle: bool = False,
) -> FeatureSource:
    """Open snippet features for reading.

    ``layout`` says how they lie (see the module); "auto" finds out. ``grid`` is their frame rate, snippet
    length and stride, by default 25 fps and 16 frames; a store knows its own. ``streams`` chooses streams and
    their order; for layout "single" it names the one. ``joint`` says how joined columns split, ``{"rgb":
    1024, "flow": 1024}``; by default in halves. ``names`` is a list of video ids (text, one a line, or
    ``.npy``) for layouts that number their videos. ``durations`` are the videos' lengths in seconds where
    known. ``trusted_pickle`` lets pickles be opened (layout "wtalc").

    Raises InputError where nothing is there, the layout cannot be told, or a stream is unknown.
    """
    folder = Path(path)
    if layout not in get_args(Layout):
        raise InputError(f"unknown layout {layout!r}. Known: {', '.join(get_args(Layout))}.")
    if not folder.exists():
        raise InputError(
            f"{folder}: does not exist. Expected snippet features: a store, or a folder with .npy files."
        )
    try:
        if layout == "auto":
            layout = _detect(folder, joint, streams)
        if layout == "store":
            return _open_store(folder, grid, streams, durations)
        places, found = _find(folder, layout, streams, joint, names, trusted_pickle)
    except OSError as error:
        raise InputError(f"{error.filename or folder}: cannot be read: {error.strerror or error}.") from error
    chosen = choose_streams(found, streams, str(folder))
    kept = {
        video: {stream: at[stream] for stream in chosen if stream in at}
        for video, at in places.items()
        if any(stream in at for stream in chosen)
    }
    if not kept:
        raise InputError(f"{folder}: holds no video in layout {layout}. {describe(folder)}")
    return PlacedFeatures(str(folder), kept, chosen, grid=grid, durations=durations)


def choose_streams(found: Sequence[str], asked: Sequence[str] | None, where: str) -> list[str]:
    """The streams asked for, in that order, or all found. InputError for one that is not there."""
    if asked is None:
        return list(found)
    for name in asked:
        if name not in found:
            near = difflib.get_close_matches(name, found, 1)
            meant = f" Did you mean {near[0]!r}?" if near else ""
            raise InputError(f"{where}: has no stream {name!r}; it has {', '.join(found) or 'none'}.{meant}")
    return list(dict.fromkeys(asked))


def _detect(path: Path, joint: Mapping[str, int] | None, streams: Sequence[str] | None) -> Layout:
    if path.is_file():
        if path.suffix == ".npy":
            return "wtalc"
        hint = " Give the folder that holds it." if path.suffix == ".npz" else ""
        raise InputError(
            f"{path}: is a file, expected a folder of features, or W-TALC's one .npy file.{hint}"
        )
    if (path / "store.json").is_file():
        return "store"
    if release_parts(path):
        return "release"
    if stream_folders(path):
        return "streams"
    if files(path, ".npz"):
        return "npz"
    if bare := len(files(path, ".npy")):
        if joint:
            return "joint"
        if streams and len(streams) == 1:
            return "single"
        raise InputError(
            f"{path}: holds {bare} .npy files and no folder per stream. They may be one stream, or several "
            "side by side. Say --layout single, or --layout joint (halves, or --joint rgb=1024,flow=1024)."
        )
    inside = [
        name
        for name in subfolders(path)
        if (path / name / "store.json").is_file() or stream_folders(path / name)
    ]
    meant = f" Did you mean {' or '.join(str(path / name) for name in inside)}?" if inside else ""
    raise InputError(
        f"{path}: no snippet features found. {describe(path)}{meant} Expected a store (store.json), a "
        "folder per stream with a .npy for each video (rgb/NAME.npy, flow/NAME.npy), .npz files, or the DGAM "
        "authors' train_data/rgb_features/1.npy."
    )


def _find(
    path: Path,
    layout: Layout,
    streams: Sequence[str] | None,
    joint: Mapping[str, int] | None,
    names: str | os.PathLike[str] | None,
    trusted: bool,
) -> tuple[Places, list[str]]:
    """Where every video's streams lie, and the streams in order."""
    if layout == "wtalc":
        if not path.is_file():
            raise InputError(
                f"{path}: is a folder; layout wtalc is one file, such as …-I3D-JOINTFeatures.npy."
            )
        return wtalc_places(path, names, joint, trusted)
    if not path.is_dir():
        raise InputError(f"{path}: is a file; layout {layout} is a folder.")
    match layout:
        case "streams":
            found = stream_folders(path)
            return by_video({name: files(path / name, ".npy") for name in found}), found
        case "single":
            return _single(path, streams)
        case "joint":
            return _joint(path, joint)
        case "npz":
            return _npz(path)
        case _:
            return release_places(path, names)


def _single(path: Path, streams: Sequence[str] | None) -> tuple[Places, list[str]]:
    if streams is not None and len(streams) != 1:
        raise InputError(
            f"layout single holds one stream, but {len(streams)} are named: {', '.join(streams)}."
        )
    name = streams[0] if streams else "features"
    check_stream_name(name, "--streams")
    return by_video({name: files(path, ".npy")}), [name]


def _joint(path: Path, joint: Mapping[str, int] | None) -> tuple[Places, list[str]]:
    paths = files(path, ".npy")
    if not paths:
        return {}, []
    columns = split_columns(
        joint, usual_dimension([NpyPlace(file) for file in paths.values()], str(path)), str(path)
    )
    places: Places = {
        video: {stream: NpyPlace(file, part) for stream, part in columns.items()}
        for video, file in paths.items()
    }
    return places, list(columns)


def _npz(path: Path) -> tuple[Places, list[str]]:
    """Every array that is (T, d) floats in some archive is a stream; others (a frame rate, a name) are
    not."""
    held: dict[str, dict[str, Place]] = {}
    damaged: dict[str, str] = {}
    for video, file in files(path, ".npz").items():
        try:
            held[video] = {key: NpzPlace(file, key) for key in npz_keys(file)}
        except InputError:
            damaged[video] = file
    candidates = dict.fromkeys(key for at in held.values() for key in at)
    names = rgb_first(key for key in candidates if _is_stream([at[key] for at in held.values() if key in at]))
    for name in names:
        check_stream_name(name, str(path))
    # A damaged archive is given every stream, so that reading it says what is wrong with it.
    held |= {video: {name: NpzPlace(file, name) for name in names} for video, file in damaged.items()}
    return held, names


def _is_stream(places: Sequence[Place]) -> bool:
    for place in sample(places):
        try:
            place.shape()
        except InputError:
            continue
        return True
    return False


def _open_store(
    path: Path,
    grid: SnippetGrid | None,
    streams: Sequence[str] | None,
    durations: Mapping[str, float] | None,
) -> FeatureSource:
    store = FeatureStore(path, durations=durations)
    if streams is not None:
        store = store.only_streams(choose_streams(list(store.streams), streams, str(path)))
    if grid is not None and store.videos and (own := store.timeline(store.videos[0]).grid) != grid:
        raise InputError(
            f"{path}: the store's snippets are {own.length} frames every {own.stride} at {own.fps} fps, "
            f"not {grid.length} every {grid.stride} at {grid.fps} fps as asked for. Leave out --fps and "
            "--snippet: a store knows its own."
        )
    return store
