"""Every setting, declared once: its name, type, range, default and meaning.

The command line's help, the presets and the checks all come from here. A preset is a YAML file in
``dgam/presets``; a user's own YAML file and ``--set section.name=value`` go on top, in that order. Any
setting of ``model``, ``loss`` and ``localize`` can differ between streams: ``streams.flow.loss.gamma1=0.3``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from dgam.core.errors import InputProblems, Problem
from dgam.core.origins import Origin, explain, merge, nearest_of, read_file, read_override, read_yaml

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction01 = Annotated[float, Field(ge=0, le=1)]
Momentum = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise PydanticCustomError("odd", "Input should be an odd number")
    return value


Odd = Annotated[Count, AfterValidator(_odd)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_yes_as_number(cls, value: Any, info: ValidationInfo) -> Any:
        """YAML's "yes" and "on" are true, which pydantic would take for the number 1."""
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation is not bool:
            raise PydanticCustomError("not_a_switch", "Input should not be a yes or no")
        return value


class ModelSettings(_Section):
    """The networks' shapes and the prior of the latent."""

    attention_hidden: Count = 256
    """Hidden units of the attention module."""
    attention_kernel: Odd = 1
    """How many neighbouring snippets the attention module sees of the sampled sequence, an odd number: 1 is
    the snippet alone, as in the paper; 3 adds one before it and one after it, and so on; zeros beyond the
    ends."""
    cvae_hidden: Count = 128
    """Hidden units of the CVAE's encoder and decoder."""
    latent: Count = 128
    """Dimension of the CVAE's latent z (table 6)."""
    r: Annotated[float, Field(allow_inf_nan=False)] = 1.0
    """Discrepancy of the latent prior N(rλ·1, I) between attention values (figure 4); 0: independent of λ."""
    attention_start: Literal["random", "level"] = "random"
    """Weights of the attention's last layer before the first step. random: as PyTorch draws them; level: 0,
    so that λ is 1/2 everywhere and the labels, not the draw, decide what is attended to first."""
    classifier_bias: bool = True
    """Whether the classification layer has a bias; the TCAM never uses it."""
    normalise: Literal["none", "l2", "scale", "root", "standard"] = "none"
    """Scaling of snippet features before the model: none; l2: each snippet to unit length; scale: one factor
    that makes the features' overall deviation 1; root: the same on sign(x)·√|x|, which tames the long tail of
    pooled features; standard: mean 0 and deviation 1 in each dimension. The last three are measured on the
    training videos and kept with the weights."""


class LossSettings(_Section):
    """Weights and forms of the losses, equations 6 to 16."""

    foreground: NonNegative = 1.0
    """Weight of L_fg. 1 in the paper; the release has 0.3 for ActivityNet flow."""
    alpha: NonNegative = 0.03
    """Weight of L_bg, equation 6."""
    beta: NonNegative = 0.1
    """Weight of the KL term, equation 10 (table 7)."""
    gamma1: NonNegative = 0.5
    """Weight of L_re, equation 16. 0 trains without the generative part."""
    gamma2: NonNegative = 0.1
    """Weight of L_guide, equation 16."""
    samples: Count = 1
    """L, the number of latent samples in equations 10 and 11."""
    sigma2: Positive = 0.5
    """σ², the variance of p(x|λ, z). At 0.5 and L = 1, −log p is the squared error up to a constant."""
    reduction: Literal["sum", "snippet", "element"] = "element"
    """What a video's −log p and KL are summed or averaged over. sum: summed over snippets and dimensions, as
    the equations are written; snippet: summed over dimensions, averaged over snippets; element: averaged over
    both (the release)."""
    cvae_weight: Positive = 1.0
    """Factor on L_CVAE. The release has 10. Adam all but cancels it, save for gradient clipping and
    warm-up."""
    warmup_epochs: Annotated[int, Field(ge=0)] = 300
    """Epochs over which L_re and L_CVAE rise linearly from 0 to their full weight."""
    warmup_step: Count = 1
    """The warm-up moves in steps of this many epochs. The release moves in tens, so its first ten weigh
    nothing."""
    foreground_offset: NonNegative = 0.0
    """Added to Σλ when foreground is pooled in training, equation 4. The release has 1."""
    background_offset: NonNegative = 0.0
    """Added to Σ(1−λ) when background is pooled in training, equation 5. The release has 1e-6."""
    guide_sigma: NonNegative = 1.0
    """σ_s in snippets of the Gaussian along time in equations 13 and 14; 0: no smoothing."""
    guide_detach: bool = True
    """Whether L_guide holds the TCAM fixed and moves the attention only (the release does)."""
    multilabel: Literal["mean", "sum"] = "mean"
    """Target of a video with k labels: mean: 1/k for each (the release's y/Σy); sum: 1 for each."""


class TrainSettings(_Section):
    """The schedule, the optimiser, and how the final weights are chosen."""

    epochs: Count = 300
    """Passes over the training videos, at most."""
    until: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Ends a stream's training before ``epochs``, once no more than this share of its labels is left
    unexplained: where L_fg, over three epochs, stands between its least possible value (0) and that of a
    classifier that knows nothing (1). Not before ``least_steps`` and ``loss.warmup_epochs``. 0: after all
    epochs."""
    least_steps: Annotated[int, Field(ge=0)] = 100
    """Batches that a training sees at least before ``until`` ends it: attention needs some when the labels of
    a few videos are soon explained."""
    batch: Count = 32
    """Videos in a batch."""
    drop_last: bool = False
    """Whether an epoch leaves out the last, smaller batch (the release does)."""
    snippets: Count = 400
    """T, snippets sampled from each video in training."""
    resample_every: Count = 1
    """Epochs for which a video's sampled snippets stay the same. The release has 10."""
    optimiser: Literal["adam", "adamw", "sgd"] = "adam"
    """Optimiser of both alternating steps."""
    lr: Positive = 1e-3
    """Learning rate of attention and classifier."""
    cvae_lr: Positive | None = None
    """Learning rate of the CVAE; by default that of the attention."""
    betas: tuple[Momentum, Momentum] = (0.9, 0.999)
    """Adam's betas. The release has 0.8 and 0.999."""
    weight_decay: NonNegative = 0.0
    """Weight decay, as the optimiser understands it."""
    schedule: Literal["constant", "cosine", "late-cosine"] = "constant"
    """Learning rate over the epochs. cosine falls to a hundredth; late-cosine does so in the last third, and
    is constant before."""
    clip: NonNegative = 0.0
    """Largest norm of a step's gradient; 0: no clipping."""
    ema: Momentum = 0.0
    """Decay per step of the moving average of weights that is used for localising; 0: the weights
    themselves."""
    precision: Literal["auto", "float32", "bfloat16"] = "float32"
    """Arithmetic of the networks; weights, losses and optimiser stay float32. auto: bfloat16 on a GPU that
    has it, float32 elsewhere; a run's own settings say which it was."""
    resident_gib: NonNegative | None = None
    """GiB of training features kept on the device; more are read while training, with the same results. By
    default half of its free memory."""
    step: Literal["fast", "plain"] = "fast"
    """How a step is computed. fast: with only the arithmetic that it needs; plain: as the equations read,
    several times slower, to check the other by."""
    select: Literal["last", "held-out", "test-map"] = "last"
    """Which weights a run keeps. last: those after the last epoch; held-out: the best by video classification
    on training videos set aside; test-map: the best by test mAP@0.5, as the release did. The last one looks
    at the test annotations, needs them on the command line, and every result of the run says so."""
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Fraction of the training videos set aside when select is held-out."""
    select_every: Count = 10
    """Epochs between two looks when select is not last."""
    checkpoint_every: Count = 20
    """Epochs between checkpoints; a killed run resumes from the newest."""
    log_every: Count = 1
    """Epochs between lines of metrics.jsonl."""


class LocalizeSettings(_Section):
    """From attention and TCAM to detections, section 3.5."""

    t_max: Count = 400
    """T_max: longer videos are sampled uniformly to this many snippets."""
    t_min: Count = 1
    """Shorter videos are sampled (with repeats) to this many. The release has 50 on THUMOS14, 2 on
    ActivityNet."""
    class_threshold: Fraction01 = 0.1
    """A class is localised if its video-level probability exceeds this; if none does, the best one is."""
    upsample: Count = 1
    """Points per snippet on which curves are thresholded, linearly interpolated. The release has 20."""
    mask_tcam: NonNegative = 0.0
    """Weight of λ·sigmoid(TCAM) in the curve that is thresholded. The release has 0.8."""
    mask_attention: NonNegative = 1.0
    """Weight of λ^mask_power in the curve that is thresholded. The release has 0.2."""
    mask_power: Positive = 1.0
    """Exponent of λ in the curve that is thresholded. The release has 2."""
    mask_sigma: NonNegative = 0.0
    """Gaussian smoothing of that curve, in points (snippets / upsample). The release has 25 on
    ActivityNet."""
    threshold_scale: Literal["absolute", "relative"] = "absolute"
    """Whether thresholds are values of the curve, or fractions of the way from its least to its greatest
    value."""
    thresholds: Annotated[tuple[Fraction01, ...], Field(min_length=1)] = (0.5,)
    """t_att: each threshold contributes its segments."""
    fusion: Literal["segments", "geometric", "mean"] = "segments"
    """How streams meet. segments: each finds its own, which NMS thins together (the paper); geometric, mean:
    attention and TCAM of all streams are fused first, attention by that mean, and give one list of
    segments."""
    attention_share: Positive = 1.0
    """This stream's share in fused attention, in proportion to the others' shares."""
    class_share: Positive = 1.0
    """This stream's share in fused TCAM and class probabilities, in proportion to the others' shares."""
    score: Literal["pooled", "tcam"] = "pooled"
    """A segment's class score. pooled: the classifier's output, before softmax, for the segment's
    features pooled with attention (equation 17's s); tcam: the mean of λ times the λ·sigmoid(TCAM) mixed
    over streams."""
    stream_mix: Fraction01 = 1.0
    """Share of the stream's own sigmoid(TCAM) in score tcam; the rest is split over the other streams.
    The release has 0.35 for RGB and 0.65 for flow, 0.5 on ActivityNet."""
    eta: NonNegative = 0.3
    """η, how much of the surroundings' score is subtracted, equation 17."""
    margin: NonNegative = 0.25
    """Width of the surroundings on each side, as a fraction of the segment, equation 17."""
    video_weight: NonNegative = 0.0
    """Weight of the video-level class score (before softmax) added to each of its segments' scores."""
    nms: Literal["hard", "soft-linear", "soft-gaussian", "none"] = "hard"
    """How overlapping detections of a class, of all streams, are thinned."""
    nms_tiou: Fraction01 = 0.5
    """tIoU above which hard NMS drops, and soft-linear NMS decays, the lower-scored one."""
    nms_sigma: Positive = 0.5
    """Width of soft-gaussian NMS."""
    max_detections: Count = 1000
    """Most detections kept for a video, the highest scores first."""
    min_seconds: NonNegative = 0.0
    """Shortest segment kept."""


# The sections that can differ between streams.
PER_STREAM: dict[str, type[BaseModel]] = {
    "model": ModelSettings,
    "loss": LossSettings,
    "localize": LocalizeSettings,
}


class Config(_Section):
    """All settings of a run."""

    preset: str = "default"
    """Name of the preset that the values started from."""
    model: ModelSettings = ModelSettings()
    loss: LossSettings = LossSettings()
    train: TrainSettings = TrainSettings()
    localize: LocalizeSettings = LocalizeSettings()
    streams: dict[str, dict[Literal["model", "loss", "localize"], dict[str, Any]]] = {}
    """Per stream, the settings of model, loss and localize that differ from the common ones."""

    def for_stream(self, stream: str) -> Config:
        """The settings as they hold for one stream, with ``streams`` emptied."""
        own: dict[str, Any] = dict(self.streams.get(stream, {}).items())
        return Config.model_validate(merge(self.model_dump(exclude={"streams"}), own))


def preset_names() -> tuple[str, ...]:
    """The presets that come with the package, sorted."""
    folder = resources.files("dgam") / "presets"
    return tuple(sorted(file.name[:-5] for file in folder.iterdir() if file.name.endswith(".yaml")))


def preset_text(name: str) -> str:
    """The YAML file of a preset that comes with the package."""
    return (resources.files("dgam") / "presets" / f"{name}.yaml").read_text(encoding="utf-8")


def load_config(
    preset: str | None = None,
    file: str | os.PathLike[str] | None = None,
    overrides: Sequence[str] = (),
) -> Config:
    """Build a config from a preset, then a YAML file, then dotted overrides such as ``train.epochs=200``.

    The preset is the one given, else the one that the file names as ``preset:``, else "default".
    Raises InputProblems that lists every defect at once, with the file or option it comes from: an unknown
    preset or key (with the nearest known one), a value of the wrong type or out of range, a repeated key,
    malformed YAML.
    """
    problems: list[Problem] = []
    own = [read_file(Path(file), problems)] if file is not None else []
    named = own[0].values.get("preset") if own else None
    if preset is not None and named not in (None, preset):
        clash = f"is {named!r}, but --preset says {preset!r}."
        problems.append(Problem(f"{file}: preset", clash, remedy="Leave one of them out."))
    chosen = preset or (named if isinstance(named, str) else "default")
    origins = [_read_preset(chosen, problems), *own, *(read_override(text, problems) for text in overrides)]
    values: dict[str, Any] = {"preset": chosen}
    for origin in origins:
        values = _on_top(values, origin.values)
    config = _validate(values, origins, problems)
    if problems or config is None:
        raise InputProblems("The settings are not usable:", problems)
    return config


def change_config(config: Config, overrides: Sequence[str]) -> Config:
    """A config with dotted overrides on top. InputProblems as in :func:`load_config`."""
    problems: list[Problem] = []
    origins = [read_override(text, problems) for text in overrides]
    values = config.model_dump()
    for origin in origins:
        values = _on_top(values, origin.values)
    changed = _validate(values, origins, problems)
    if problems or changed is None:
        raise InputProblems("The settings are not usable:", problems)
    return changed


def _on_top(values: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    """``values`` with ``top`` on top: what comes later wins, also over an earlier value for one stream.

    So ``--set loss.gamma1=0`` holds for every stream, whatever the preset says of one of them.
    """
    streams = values.get("streams")
    if not isinstance(streams, Mapping):
        return merge(values, top)
    kept: dict[str, Any] = {}
    for stream, sections in streams.items():
        kept[stream] = sections
        if isinstance(sections, Mapping):
            kept[stream] = {name: _without(own, top.get(name)) for name, own in sections.items()}
    return merge({**values, "streams": kept}, top)


def _without(settings: Any, later: Any) -> Any:
    if not isinstance(settings, Mapping) or not isinstance(later, Mapping):
        return settings
    return {name: value for name, value in settings.items() if name not in later}


def _read_preset(name: str, problems: list[Problem]) -> Origin:
    if name not in preset_names():
        problems.append(
            Problem("--preset", f"unknown preset {name!r}.", remedy=nearest_of(name, preset_names()))
        )
        return Origin("", {})
    return Origin(f"preset {name}: ", read_yaml(preset_text(name), f"preset {name}", problems))


def _validate(values: Mapping[str, Any], origins: Sequence[Origin], problems: list[Problem]) -> Config | None:
    config = None
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        problems.extend(explain(error, Config, (), origins))
    streams = values.get("streams")
    for stream, sections in streams.items() if isinstance(streams, Mapping) else ():
        for section, settings in sections.items() if isinstance(sections, Mapping) else ():
            if section not in PER_STREAM or not isinstance(settings, Mapping):
                continue  # Config has complained of it
            model = PER_STREAM[section]
            try:
                model.model_validate(settings)
            except ValidationError as error:
                problems.extend(explain(error, model, ("streams", str(stream), section), origins))
    return config
