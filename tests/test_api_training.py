"""Trainings that cannot be: defective videos, other settings, arguments that make no sense; and going on."""

from __future__ import annotations

from pathlib import Path

import pytest

import dgam
import tiny_data
from data_helpers import tree_bytes, write_streams, write_text
from dgam.core.errors import InputError, InputProblems, Problem
from dgam.core.locks import file_lock
from dgam.core.types import VideoLabels
from dgam.features.source import ArrayFeatures
from tiny_data import broken, features, train, weights

# Defective videos.


DEFECTS = [
    "arrays: video 'v1': holds 1 NaN or infinite value, the first (nan) at snippet 2, dimension 3.",
    "arrays: video 'v3': has no features in stream 'flow', only in 'rgb'.",
    "arrays: video 'v4': has no snippets (T = 0).",
    "arrays: video 'v4': has no snippets (T = 0).",
    "arrays: video 'absent': has labels but no features.",
]


def test_defects_are_told_all_together_before_training(tmp_path: Path) -> None:
    labels = tiny_data.labels({**tiny_data.ACTIONS, "absent": ("dive",)})
    with pytest.raises(InputProblems) as caught:
        train(tmp_path / "run", source=features(broken()), labels=labels)
    assert [str(problem) for problem in caught.value.problems] == DEFECTS
    assert not (tmp_path / "run").exists()


def test_training_without_the_defective_names_what_was_left_out(tmp_path: Path) -> None:
    labels, told = tiny_data.labels({**tiny_data.ACTIONS, "absent": ("dive",)}), []
    source = features(broken())
    run = train(tmp_path / "run", source=source, labels=labels, on_problem=lambda p: told.append(str(p)))
    assert told == DEFECTS
    assert run.videos == 2
    good = train(tmp_path / "good", labels=labels.only(["v0", "v2"]))
    assert weights(run) == weights(good)
    assert weights(run, "flow") == weights(good, "flow")


def test_defects_of_streams_and_videos_that_are_not_used_do_not_matter(tmp_path: Path) -> None:
    source = features(broken())
    labels = tiny_data.labels().only(["v0", "v2", "v3"])
    assert train(tmp_path, source=source, labels=labels, streams=["rgb"]).videos == 3


def test_no_usable_video_is_an_error_even_then(tmp_path: Path) -> None:
    told: list[Problem] = []
    labels = tiny_data.labels().only(["v1", "v4"])
    with pytest.raises(InputProblems, match="No usable video is left"):
        train(tmp_path, source=features(broken()), labels=labels, on_problem=told.append)
    assert len(told) == 3


def test_labels_without_any_label_are_refused(tmp_path: Path) -> None:
    labels = VideoLabels({"v0": (), "v1": ()}, classes=("dive",))
    with pytest.raises(InputProblems, match="no video of 2 has a label"):
        train(tmp_path, labels=labels, on_problem=lambda problem: None)


# Interrupted, resumed, begun anew.


def test_restart_begins_anew(tmp_path: Path) -> None:
    first = weights(train(tmp_path / "run"))
    with pytest.raises(InputError, match=r"belongs to another training \(its loss.alpha differ\).*--restart"):
        train(tmp_path / "run", "loss.alpha=0.5")
    again = train(tmp_path / "run", "loss.alpha=0.5", restart=True)
    assert weights(again) == weights(train(tmp_path / "other", "loss.alpha=0.5")) != first
    assert tree_bytes(tmp_path / "run" / "rgb") == tree_bytes(tmp_path / "other" / "rgb")


def test_a_restart_that_is_interrupted_leaves_no_half_old_run(tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(stream: str, epoch: int, losses: dict[str, float]) -> None:
        raise Stop

    train(tmp_path)
    with pytest.raises(Stop):
        train(tmp_path, "loss.alpha=0.5", restart=True, on_epoch=stop)
    with pytest.raises(InputError, match="not a run folder"):
        dgam.localize(tmp_path, features())


def test_restart_removes_nothing_but_its_own_files(tmp_path: Path) -> None:
    """A run folder may be the folder of the features, where streams have folders of the same names."""
    write_streams(tmp_path, tiny_data.arrays())
    before = tree_bytes(tmp_path)
    source = dgam.open_features(tmp_path)
    train(tmp_path, source=source)
    train(tmp_path, "loss.alpha=0.5", source=source, restart=True)
    assert before.items() <= tree_bytes(tmp_path).items()


def test_a_folder_that_another_process_trains_into_is_refused(tmp_path: Path) -> None:
    finished = weights(train(tmp_path))
    with file_lock(tmp_path / ".train.lock") as mine:  # as the other process holds it
        assert mine
        with pytest.raises(InputError, match="another process is training into this folder"):
            train(tmp_path, "loss.alpha=0.5", restart=True)
    assert weights(train(tmp_path)) == finished


def test_what_a_killed_training_left_half_written_goes_and_nothing_else(tmp_path: Path) -> None:
    own = [tmp_path / name for name in (".run.json.ab1.part", "rgb/.checkpoint.safetensors.ab1.part")]
    others = [tmp_path / name for name in ("rgb/.v0.npy.ab1.part", "rgb/checkpoint.safetensors.part")]
    for path in own + others:
        write_text(path, "half")
    train(tmp_path)
    assert [path.exists() for path in own + others] == [False, False, True, True]


def test_going_on_with_a_finished_run_changes_nothing(tmp_path: Path) -> None:
    run = train(tmp_path)
    before, epochs = tree_bytes(tmp_path), []
    train(tmp_path, on_epoch=lambda stream, epoch, losses: epochs.append(epoch))
    assert epochs == []
    assert tree_bytes(run.path) == before


def test_other_labels_of_the_same_videos_are_another_training(tmp_path: Path) -> None:
    """Somebody who corrects a label and trains again must not get the old weights."""
    train(tmp_path)
    with pytest.raises(InputError, match=r"belongs to another training \(its labels differ\)"):
        train(tmp_path, labels=tiny_data.labels({**tiny_data.ACTIONS, "v4": ("jump",)}))
    with pytest.raises(InputError, match="its labels, videos differ"):
        train(tmp_path, labels=tiny_data.labels().only(["v0", "v1"]))


def test_epochs_are_told_as_they_end(tmp_path: Path) -> None:
    told: list[tuple[str, int]] = []
    train(tmp_path, on_epoch=lambda stream, epoch, losses: told.append((stream, epoch)))
    assert told == [(stream, epoch) for stream in ("rgb", "flow") for epoch in (1, 2, 3)]


# What is refused.

REFUSED = {
    "no such device": (
        lambda at: train(at, device="cuda:99"),
        "--device cuda:99: cannot be used here.",
    ),
    "no such stream": (
        lambda at: train(at, streams=["rgb", "audio"]),
        "--streams: arrays has no stream 'audio'. It has: rgb, flow.",
    ),
    "no such stream in a joint one": (
        lambda at: train(at, streams=["rgb+audio"]),
        "--streams: arrays has no stream 'audio'. It has: rgb, flow.",
    ),
    "no stream at all": (
        lambda at: train(at, source=ArrayFeatures({})),
        "arrays: has no stream to train on.",
    ),
    "settings of a stream that is not there": (
        lambda at: train(at, "streams.flwo.loss.alpha=1"),
        "streams.flwo: there is no such stream in this training; it has rgb, flow.",
    ),
    "negative seed": (
        lambda at: train(at, seed=-1),
        "--seed: must be a whole number from 0 on, got -1.",
    ),
    "out is a file": (
        lambda at: train(write_text(at / "f", "")),
        "f: is a file; expected the run folder to write, or to go on with.",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_trained_is_refused_in_words(name: str, tmp_path: Path) -> None:
    action, message = REFUSED[name]
    with pytest.raises(InputError) as caught:
        action(tmp_path)
    assert message in str(caught.value)
    assert not list(tmp_path.glob("**/*.safetensors"))
