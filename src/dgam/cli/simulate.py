"""``dgam simulate``."""

from __future__ import annotations

from pathlib import Path

import yaml

from dgam.cli.options import Repeatable
from dgam.core.errors import InputError
from dgam.data.simulate import simulate as write_simulation


def simulate(out: Path, /, *, seed: int = 0, preset: str = "default", set: Repeatable = ()) -> None:
    """Write a simulated data set: features of two streams, video labels, and segments for evaluation.

    The features are drawn by a random generator and look like pooled I3D features of THUMOS14-like videos; no
    video was ever filmed for them. They serve for trying dgam, for testing it, and for studying when the
    model works; scores on them are scores on simulated data. OUT gets the folders `train` and `test` with the
    features, `labels.csv` for training and `gt.json` for evaluation.

    ```
    dgam simulate sim --seed 0
    dgam train sim/train --labels sim/labels.csv --subset train --out run
    dgam localize run sim/test --out detections.json
    dgam evaluate detections.json --ground-truth sim/gt.json --subset test
    ```

    Parameters
    ----------
    out
        Folder to write to: new, empty, or an earlier simulation, which is replaced.
    seed
        The same seed, preset and knobs give the same bytes.
    preset
        Difficulty. "dgam info simulation" lists the presets and every knob.
    set
        A knob that goes on top of the preset, such as train=50 or context=0.4; repeat it.
    """
    done = write_simulation(out, seed=seed, preset=preset, **dict(map(_knob, set)))
    print(
        f"{done.out}: simulated data, preset {done.preset}, seed {done.seed}: {done.videos} videos "
        f"({done.knobs.train} train, {done.knobs.test} test), {done.instances} instances, "
        f"{done.snippets} snippets in each stream."
    )


def _knob(text: str) -> tuple[str, object]:
    name, equals, value = text.partition("=")
    try:
        if not equals or not name.strip().isidentifier():
            raise ValueError
        return name.strip(), yaml.safe_load(value)
    except (ValueError, yaml.YAMLError):
        raise InputError(f"--set: {text!r} is not of the form knob=value, such as context=0.4.") from None
