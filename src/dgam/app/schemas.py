"""What the HTTP API takes and gives; the OpenAPI document is made of these."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from dgam.app.folders import ID_PATTERN
from dgam.app.queue import Job

JobId = Annotated[str, Field(pattern=ID_PATTERN, examples=["0123456789abcdef01234567"])]
Label = Annotated[str, Field(min_length=1, max_length=100, examples=["pour"])]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False, examples=[12.5])]
LongestLabels, MostSegments = 1000, 10000


class _Value(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)


class Problem(_Value):
    """Why a request was refused."""

    detail: str
    """A sentence for people."""


class Health(_Value):
    """The server is there."""

    status: Literal["ok"] = "ok"


class UploadLimits(_Value):
    """What may be uploaded."""

    max_bytes: int
    max_seconds: float
    max_pixels: int
    suffixes: list[str]
    """File endings to offer in a file picker; what counts is the content."""


class ModelFacts(_Value):
    """The model that localises."""

    name: str
    classes: list[str]
    streams: list[str]
    encoder: str
    snippet_seconds: float
    score_threshold: float | None
    """The score that best tells right from wrong on held-out video labels; null where it was not found."""
    card: str
    """The model card, Markdown."""
    formats: list[str]
    """Names of export formats."""
    limits: UploadLimits
    labels_editable: bool = True


class FolderVideo(_Value):
    """A video of the folder given with ``--videos``."""

    id: str
    name: str
    size: int
    """Bytes."""


class FolderVideos(_Value):
    """The videos of the folder; none where none was given."""

    videos: list[FolderVideo]


class FromFolder(_Value):
    """Which video of the folder to localise."""

    model_config = ConfigDict(extra="forbid")
    video: JobId
    """Its ``id`` in the list of videos."""


class JobFacts(_Value):
    """A video on its way from submission to detections."""

    id: JobId
    name: str
    """The file's name, for display."""
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    stage: Literal["", "extracting", "localising", "preview"]
    """What a running job is at. preview: making a copy that browsers can play."""
    progress: Annotated[float, Field(ge=0, le=1)]
    message: str
    """Why it failed."""
    duration: float | None
    """Seconds."""
    created: float
    """Seconds since 1970."""
    finished: float | None

    @classmethod
    def of(cls, job: Job) -> JobFacts:
        """What the API tells of a job."""
        return cls.model_validate({name: getattr(job, name) for name in cls.model_fields})


class Jobs(_Value):
    """Jobs, newest first."""

    jobs: list[JobFacts]


class SegmentValue(_Value):
    """An action instance, in seconds from the first frame shown."""

    model_config = ConfigDict(extra="forbid")
    start: Seconds
    end: Seconds
    label: Label


class DetectionValue(_Value):
    """A detection; a higher ``score`` is surer, on a scale of the model's own."""

    start: float
    end: float
    label: str
    score: float


class CorrectionValue(_Value):
    """What a person says of a video: its labels and its segments. Labels of segments are labels of the video.

    Labels may be new ones; they hold no semicolon, which separates labels in a labels CSV, and no control
    character. Segments lie inside the video and have some length.
    """

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"labels": ["pour"], "segments": [{"start": 1.2, "end": 3.4, "label": "pour"}]}]
        },
    )
    labels: Annotated[list[Label], Field(max_length=LongestLabels)]
    segments: Annotated[list[SegmentValue], Field(max_length=MostSegments)]


class ScoreRange(_Value):
    """The lowest and the highest score of a video's detections."""

    min: float
    max: float


class StreamCurve(_Value):
    """What one stream's model says at sampled snippets; all lists are as long as ``times``."""

    times: list[float]
    """Centres of snippets, in seconds."""
    attention: list[float]
    """λ in [0, 1]."""
    classes: dict[str, list[float]]
    """sigmoid(TCAM) in [0, 1] for each class."""


class ContextValue(_Value):
    """A stretch where attention and class activation disagree."""

    start: float
    end: float
    label: str
    kind: str
    """Which of the two is high: "classifier" or "attention"."""
    stream: str
    attention: float
    class_score: float
    gap: float


class ResultValue(_Value):
    """What the model found in a video."""

    id: JobId
    name: str
    duration: float
    classes: list[str]
    probabilities: dict[str, float]
    """Video-level probability of each class."""
    detections: list[DetectionValue]
    """Best first."""
    score_range: ScoreRange
    curves: dict[str, StreamCurve]
    context: list[ContextValue]
    correction: CorrectionValue | None


Explanation = Annotated[
    dict[str, Any],
    Field(description="A detection taken apart, as dgam.explain.segments.Explanation; words has sentences."),
]
