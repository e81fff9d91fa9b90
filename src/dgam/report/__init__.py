"""Tables and pictures of results. matplotlib and rich are imported when one is made."""

from dgam.report.plots import class_ap_figure, losses_figure, precision_recall_figure, save_figure
from dgam.report.tables import Number, Table, class_table, error_table, map_table, statistics_table
from dgam.report.timelines import VideoPicture, timeline_figure

__all__ = [
    "Number",
    "Table",
    "VideoPicture",
    "class_ap_figure",
    "class_table",
    "error_table",
    "losses_figure",
    "map_table",
    "precision_recall_figure",
    "save_figure",
    "statistics_table",
    "timeline_figure",
]
