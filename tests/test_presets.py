"""The presets: the paper's values, those of the authors' release, and what each file's header says.

That a setting does what the release does is in test_release_settings.py.
"""

from __future__ import annotations

import re

import pytest

from dgam.core.config import load_config, preset_names, preset_text

RELEASES = ("release-thumos14", "release-activitynet12")

# The paper's own settings.

PAPER = {
    "loss.alpha": 0.03,
    "loss.beta": 0.1,
    "loss.gamma2": 0.1,
    "loss.samples": 1,
    "loss.warmup_epochs": 300,
    "loss.warmup_step": 1,
    "loss.foreground": 1.0,
    "loss.cvae_weight": 1.0,
    "loss.foreground_offset": 0.0,
    "loss.background_offset": 0.0,
    "model.r": 1.0,
    "model.latent": 128,
    "model.normalise": "none",
    "train.snippets": 400,
    "train.optimiser": "adam",
    "train.lr": 1e-3,
    "train.betas": (0.9, 0.999),
    "train.drop_last": False,
    "train.resample_every": 1,
    "train.select": "last",
    "localize.score": "pooled",
    "localize.mask_tcam": 0.0,
    "localize.mask_attention": 1.0,
    "localize.mask_power": 1.0,
    "localize.nms": "hard",
}

OWN = [
    ("thumos14", "rgb", {**PAPER, "loss.gamma1": 0.5, "localize.t_max": 400}),
    ("thumos14", "flow", {**PAPER, "loss.gamma1": 0.3, "localize.t_max": 400}),
    ("activitynet12", "rgb", {**PAPER, "loss.gamma1": 0.5, "localize.t_max": 200}),
    ("activitynet12", "flow", {**PAPER, "loss.gamma1": 0.3, "localize.t_max": 200}),
]

_INFERENCE = {  # deviation 8
    "localize.class_threshold": 0.1,
    "localize.upsample": 20,
    "localize.mask_tcam": 0.8,
    "localize.mask_attention": 0.2,
    "localize.mask_power": 2.0,
    "localize.threshold_scale": "absolute",
    "localize.score": "tcam",
    "localize.eta": 0.3,
    "localize.margin": 0.25,
    "localize.nms": "hard",
    "localize.nms_tiou": 0.5,
    "localize.video_weight": 0.0,
}
_BOTH = {
    **_INFERENCE,
    "train.select": "test-map",  # 1
    "train.select_every": 10,
    "loss.foreground_offset": 1.0,  # 2
    "loss.background_offset": 1e-6,
    "loss.beta": 0.1,  # 3
    "loss.cvae_weight": 10.0,
    "loss.reduction": "element",
    "train.betas": (0.8, 0.999),  # 4
    "train.batch": 32,
    "train.drop_last": True,
    "train.schedule": "constant",
    "train.resample_every": 10,
    "train.clip": 0.0,
    "train.ema": 0.0,
    "model.attention_hidden": 256,  # 5
    "model.cvae_hidden": 128,
    "model.latent": 128,
    "model.r": 1.0,
    "model.normalise": "none",
    "loss.guide_sigma": 1.0,  # 6
    "loss.guide_detach": True,
    "loss.multilabel": "mean",  # 7
}
_THUMOS = {
    **_BOTH,
    "train.epochs": 6000,
    "loss.foreground": 1.0,
    "loss.alpha": 0.03,
    "loss.gamma2": 0.1,
    "loss.warmup_epochs": 300,
    "loss.warmup_step": 10,
    "localize.mask_sigma": 0.0,
    "localize.t_min": 50,  # 10
    "localize.t_max": 400,
}
_ACTIVITYNET = {
    **_BOTH,
    "loss.alpha": 1.0,
    "loss.gamma2": 0.1,
    "loss.gamma1": 0.1,
    "localize.thresholds": (0.01,),
    "localize.mask_sigma": 25.0,
    "localize.stream_mix": 0.5,
    "localize.t_min": 2,
    "localize.t_max": 200,
}
THEIRS = [
    (
        "release-thumos14",
        "rgb",
        {
            **_THUMOS,
            "loss.gamma1": 0.5,
            "localize.thresholds": (0.03,),
            "localize.stream_mix": 0.35,
        },
    ),
    (
        "release-thumos14",
        "flow",
        {
            **_THUMOS,
            "loss.gamma1": 0.3,
            "localize.thresholds": (0.08,),
            "localize.stream_mix": 0.65,
        },
    ),
    ("release-activitynet12", "rgb", {**_ACTIVITYNET, "loss.foreground": 1.0}),
    ("release-activitynet12", "flow", {**_ACTIVITYNET, "loss.foreground": 0.3}),
]


@pytest.mark.parametrize(("preset", "stream", "expected"), OWN + THEIRS)
def test_a_preset_sets_what_it_stands_for(preset: str, stream: str, expected: dict[str, object]) -> None:
    config = load_config(preset).for_stream(stream)
    found = {}
    for name in expected:
        section, key = name.split(".")
        found[name] = getattr(getattr(config, section), key)
    assert found == expected


@pytest.mark.parametrize("preset", preset_names())
def test_a_presets_header_gives_command_duration_and_score(preset: str) -> None:
    header = " ".join(line.lstrip("# ") for line in preset_text(preset).splitlines() if line.startswith("#"))
    assert re.search(r"dgam train FEATURES --labels \S+ .*--out RUN", header)
    if preset != "default":
        assert f"--preset {preset}" in header
    assert re.search(r"\b(minute|hour|day)s?\b", header), "how long it takes"
    assert re.search(r"\b(mAP|tIoU)\b|docs/benchmarks\.md", header), "what to expect"


def test_the_default_is_what_measured_best() -> None:
    best = load_config("dgam-plus")
    assert load_config("default") == best.model_copy(update={"preset": "default"})


@pytest.mark.parametrize("preset", preset_names())
def test_only_the_releases_presets_choose_by_the_test_set_and_say_so(preset: str) -> None:
    chosen_by_test = load_config(preset).train.select == "test-map"
    assert chosen_by_test == (preset in RELEASES)
    assert ("BY TEST mAP" in preset_text(preset)) == chosen_by_test
