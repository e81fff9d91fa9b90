"""Whatever bytes a file holds, a reader answers with a result or an InputError, never with another
exception."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_helpers import (
    ACTIVITYNET,
    only_input_errors,
    some_arrays,
    write_joint,
    write_npz,
    write_streams,
    write_text,
    write_thumos,
    write_wtalc,
)
from dgam.core.timeline import SnippetGrid
from dgam.data.annotations import read_labels, read_segments
from dgam.data.checks import check
from dgam.features.convert import import_features
from dgam.features.layouts import open_features
from dgam.features.source import FeatureSource
from dgam.features.store import FeatureStore
from dgam.features.writer import StoreWriter
from test_layouts import write_release, write_wtalc_joint

often = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

Mutation = Callable[[bytes], bytes]


@st.composite
def mutations(draw: st.DrawFn) -> Mutation:
    """Damage to a file: other bytes altogether, cut short, some bytes changed, a piece taken out or put
    in."""
    kind = draw(st.sampled_from(["replace", "cut", "change", "change", "remove", "insert"]))
    at = draw(st.floats(0, 1))
    piece = draw(st.binary(max_size=40))
    places = draw(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=4))

    def mutate(content: bytes) -> bytes:
        place = int(at * len(content))
        match kind:
            case "replace":
                return piece
            case "cut":
                return content[:place]
            case "remove":
                return content[:place] + content[place + len(piece) :]
            case "insert":
                return content[:place] + piece + content[place:]
            case _:
                changed = bytearray(content)
                for where, byte in places:
                    changed[int(where * (len(content) - 1))] = byte
                return bytes(changed)

    return mutate


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp())
    yield path
    shutil.rmtree(path)


def read_all(source: FeatureSource) -> None:
    """Everything a source can be asked."""
    for problem in check(source):
        assert problem.where
        assert problem.what
    for video in source.videos:
        only_input_errors(lambda: source.timeline(video))  # noqa: B023 - called at once
        for stream in source.streams:
            if source.has(video, stream):
                only_input_errors(lambda: source.read(video, stream))  # noqa: B023 - called at once


def damage(file: Path, mutate: Mutation, action: Callable[[], object]) -> None:
    """Run ``action`` with a damaged file, then put the file back."""
    content = file.read_bytes()
    file.write_bytes(mutate(content))
    try:
        only_input_errors(action)
    finally:
        file.write_bytes(content)


@pytest.fixture(scope="module")
def annotations() -> Iterator[dict[str, Path]]:
    base = Path(tempfile.mkdtemp())
    yield {
        "csv": write_text(base / "l.csv", "video,subset,labels\na,train,x;y\n\"b, c\",test,'z'\nd,,\n"),
        "json": write_text(base / "gt.json", json.dumps(ACTIVITYNET, indent=1)),
        "thumos": write_thumos(base / "thumos"),
        "wtalc": write_wtalc(base / "wtalc"),
        "wtalc of Python 2": write_wtalc(base / "wtalc2", python2=True),
    }
    shutil.rmtree(base)


@pytest.mark.parametrize("name", ["csv", "json"])
@often
@given(mutate=mutations())
def test_annotation_files(annotations: dict[str, Path], name: str, mutate: Mutation) -> None:
    path = annotations[name]
    for read in (read_labels, read_segments):
        damage(path, mutate, lambda: read(path))  # noqa: B023 - called at once
        # For ruff: called at once.
        damage(path, mutate, lambda: read(path, on_problem=lambda problem: None))  # noqa: B023


@often
@given(mutate=mutations(), number=st.integers(0, 5))
def test_thumos_folder(annotations: dict[str, Path], mutate: Mutation, number: int) -> None:
    folder = annotations["thumos"]
    file = sorted(folder.rglob("*.txt"))[number]
    for read in (read_labels, read_segments):
        damage(file, mutate, lambda: read(folder))  # noqa: B023 - called at once


@pytest.mark.parametrize("name", ["wtalc", "wtalc of Python 2"])
@often
@given(mutate=mutations(), number=st.integers(0, 7))
def test_wtalc_folder(annotations: dict[str, Path], name: str, mutate: Mutation, number: int) -> None:
    folder = annotations[name]
    file = sorted(folder.iterdir())[number]
    for read in (read_labels, read_segments):
        damage(file, mutate, lambda: read(folder, trusted_pickle=True))  # noqa: B023 - called at once
        damage(file, mutate, lambda: read(folder))  # noqa: B023 - called at once


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["subset", "annotations", "label", "segment", "duration"]) | st.text(max_size=3),
            inner,
        )
    ),
    max_leaves=8,
)


@often
@given(
    st.dictionaries(
        st.text(max_size=3),
        json_values
        | st.fixed_dictionaries(
            {
                "annotations": st.lists(
                    st.fixed_dictionaries({"label": json_values, "segment": json_values}), max_size=2
                )
            }
        ),
        max_size=3,
    )
)
def test_json_of_any_content(folder: Path, database: dict[str, Any]) -> None:
    path = write_text(folder / "gt.json", {"database": database})
    only_input_errors(lambda: read_labels(path))
    only_input_errors(lambda: read_segments(path))


@often
@given(
    st.text(st.characters(codec="utf-8"), max_size=60) | st.text(st.sampled_from('a,;"\n\r \t'), max_size=30)
)
def test_csv_of_any_text(folder: Path, text: str) -> None:
    path = write_text(folder / "l.csv", "video,labels\n" + text)
    only_input_errors(lambda: read_labels(path))


@often
@given(
    st.binary(max_size=60) | st.text(st.sampled_from("video 0123.e-naif\n\t"), max_size=40).map(str.encode)
)
def test_thumos_of_any_text(folder: Path, content: bytes) -> None:
    write_text(folder / "Run_test.txt", content)
    only_input_errors(lambda: read_labels(folder))
    only_input_errors(lambda: read_segments(folder))


@pytest.fixture(scope="module")
def features() -> Iterator[dict[str, Path]]:
    base = Path(tempfile.mkdtemp())
    arrays, equal = some_arrays(("a", "b")), some_arrays(("a", "b"), {"rgb": 4, "flow": 4})
    writer = StoreWriter(base / "store", {"rgb": 4, "flow": 6})
    for video, streams in arrays.items():
        writer.add(video, streams, grid=SnippetGrid(), duration=4.0)
    write_release(base / "release", arrays, "test")
    write_text(base / "release" / "test_data" / "Sim_test_vid_list.txt", "x\ny\n")
    np.save(base / "release" / "test_data" / "test_labels.npy", np.eye(2))
    write_text(base / "release" / "classes.txt", "Run\nJump\n")
    yield {
        "streams": write_streams(base / "streams", arrays),
        "joint": write_joint(base / "joint", equal),
        "npz": write_npz(base / "npz", arrays),
        "npz, compressed": write_npz(base / "npzc", arrays, compressed=True),
        "release": base / "release",
        "store": base / "store",
        "wtalc": write_wtalc_joint(base / "wtalc", equal),
    }
    shutil.rmtree(base)


@pytest.mark.parametrize("name", ["streams", "joint", "npz", "npz, compressed", "release", "store"])
@often
@given(mutate=mutations(), number=st.integers(0, 1000))
def test_feature_folders(features: dict[str, Path], name: str, mutate: Mutation, number: int) -> None:
    folder = features[name]
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]

    def action() -> None:
        source = open_features(folder, joint={"rgb": 4, "flow": 4} if name == "joint" else None)
        read_all(source)
        if isinstance(source, FeatureStore):
            list(source.verify())

    damage(files[number % len(files)], mutate, action)
    if name == "release":
        damage(files[number % len(files)], mutate, lambda: read_labels(folder))


@often
@given(mutate=mutations())
def test_wtalc_joint_file(features: dict[str, Path], mutate: Mutation) -> None:
    path = features["wtalc"]
    damage(path, mutate, lambda: read_all(open_features(path, trusted_pickle=True)))
    damage(path, mutate, lambda: read_all(open_features(path)))
    names = path.parent / "Simreduced-Annotations" / "videoname.npy"
    damage(names, mutate, lambda: read_all(open_features(path, trusted_pickle=True)))


@settings(often, max_examples=25)
@given(mutate=mutations(), number=st.integers(0, 3))
def test_import(folder: Path, features: dict[str, Path], mutate: Mutation, number: int) -> None:
    """An import of a damaged source ends in InputError or a store that is sound."""
    file = sorted(features["streams"].rglob("*.npy"))[number]
    out = Path(tempfile.mkdtemp(dir=folder))
    damage(file, mutate, lambda: import_features(open_features(features["streams"]), out))
    if (out / "store.json").exists():
        store = FeatureStore(out)
        assert not list(store.verify())
        assert {problem.video for problem in check(store)} <= {None}


@often
@given(st.dictionaries(st.sampled_from(["video", "fps", "snippets", "sha256", "duration"]), json_values))
def test_store_entries_of_any_content(features: dict[str, Path], changes: dict[str, Any]) -> None:
    file = features["store"] / "videos" / "a.json"
    content = json.loads(file.read_text()) | changes
    damage(file, lambda _: json.dumps(content).encode(), lambda: read_all(open_features(features["store"])))
