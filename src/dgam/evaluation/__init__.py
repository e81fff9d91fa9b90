"""mAP in the field's protocols, table-2 statistics and the analysis of errors."""

from dgam.evaluation.errors import ErrorAnalysis, analyse_errors
from dgam.evaluation.metrics import Curve, Evaluation, mean_average_precision, temporal_iou
from dgam.evaluation.protocols import (
    TIOU_ACTIVITYNET,
    TIOU_THUMOS14,
    Protocol,
    Selection,
    evaluate,
    named_protocol,
    parse_tiou,
    protocol_names,
    read_video_list,
    select,
)
from dgam.evaluation.statistics import AttentionStatistics, SnippetScores, attention_statistics

__all__ = [
    "TIOU_ACTIVITYNET",
    "TIOU_THUMOS14",
    "AttentionStatistics",
    "Curve",
    "ErrorAnalysis",
    "Evaluation",
    "Protocol",
    "Selection",
    "SnippetScores",
    "analyse_errors",
    "attention_statistics",
    "evaluate",
    "mean_average_precision",
    "named_protocol",
    "parse_tiou",
    "protocol_names",
    "read_video_list",
    "select",
    "temporal_iou",
]
