"""Tables say what they should in every form; pictures are drawn, differ where data differ, and leave no
state."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dgam.core.errors import InputError
from dgam.core.types import Detection, Segment
from dgam.evaluation import SnippetScores, analyse_errors, attention_statistics, evaluate
from dgam.report import (
    Number,
    Table,
    VideoPicture,
    class_ap_figure,
    class_table,
    error_table,
    losses_figure,
    map_table,
    precision_recall_figure,
    save_figure,
    statistics_table,
    timeline_figure,
)
from plain_map import found_of, truth_of

TRUTH = truth_of({"a": [(0, 10, "run"), (20, 30, "run"), (50, 60, "high|jump")]})
FOUND = found_of({"a": [(0, 10, "run", 2.0), (51, 62, "high|jump", 1.0)]})


def result_with(*values: float) -> dict[str, Any]:
    return {
        "tiou": [0.3, 0.5],
        "map": list(values),
        "average": sum(values) / 2,
        "per_class": {"run": list(values)},
        "protocol": {"name": "activitynet", "notes": []},
        "videos": 1,
        "instances": 3,
    }


def test_map_table_of_an_evaluation() -> None:
    result = evaluate(FOUND, TRUTH, [0.5, 0.8]).to_dict()
    table = map_table({"ours": result})
    assert table.columns == ("", "@0.5", "@0.8", "mean 0.5–0.8")
    assert [str(cell) for cell in table.rows[0]] == ["ours", "75.0", "25.0", "50.0"]
    assert table.notes == ("protocol activitynet: 1 videos, 3 instances",)


def test_several_seeds_give_a_mean_and_a_deviation() -> None:
    table = map_table(
        {"with": [result_with(0.4, 0.2), result_with(0.5, 0.3)], "without": result_with(0.1, 0.0)}
    )
    # by hand: the deviation of 40 and 50 is 10/√2 = 7.07
    assert [str(cell) for cell in table.rows[0]] == ["with", "45.0 ± 7.1", "25.0 ± 7.1", "35.0 ± 7.1", "2"]
    assert [str(cell) for cell in table.rows[1]] == ["without", "10.0", "0.0", "5.0", "1"]
    rows = list(csv.reader(io.StringIO(table.csv())))
    assert rows[0] == [
        "",
        "@0.3",
        "@0.3 std",
        "@0.5",
        "@0.5 std",
        "mean 0.3–0.5",
        "mean 0.3–0.5 std",
        "seeds",
    ]
    assert float(rows[1][1]) == pytest.approx(45)
    assert float(rows[1][2]) == pytest.approx(7.0710678)
    assert rows[2] == ["without", "10.0", "", "0.0", "", "5.0", "", "1"]


def test_simulated_is_said_in_the_title() -> None:
    runs = {"ours": result_with(0.4, 0.2)}
    assert map_table(runs, simulated=True).title == "Simulated data: mAP (%)"
    assert class_table(runs, simulated=True).title == "Simulated data: AP per class (%) at tIoU 0.5"
    assert map_table(runs).title == "mAP (%)"


def test_protocols_that_differ_are_told_apart() -> None:
    other = {
        **result_with(0.4, 0.2),
        "protocol": {"name": "thumos14-210", "notes": ["weights chosen: by test mAP"]},
    }
    notes = map_table({"ours": result_with(0.4, 0.2), "theirs": other}).notes
    assert notes == (
        "ours: protocol activitynet: 1 videos, 3 instances",
        "theirs: protocol thumos14-210: 1 videos, 3 instances",
        "theirs: weights chosen: by test mAP",
    )
    plain = {**result_with(0.4, 0.2), "protocol": "by hand"}
    assert map_table({"ours": plain}).notes == ("protocol by hand: 1 videos, 3 instances",)


def test_class_table_has_a_column_per_system_and_the_mean_below() -> None:
    ours = evaluate(FOUND, TRUTH, [0.5]).to_dict()
    theirs = {**ours, "per_class": {"run": [1.0]}, "map": [1.0]}
    table = class_table({"ours": ours, "theirs": theirs})
    assert table.columns == ("class", "ours", "theirs")
    assert [[str(cell) for cell in row] for row in table.rows] == [
        ["high|jump", "100.0", "–"],
        ["run", "50.0", "100.0"],
        ["mean", "75.0", "100.0"],
    ]
    assert "| high\\|jump | 100.0 | – |" in table.markdown()


def test_statistics_table() -> None:
    truth = np.array([True, False, False, False])
    video = SnippetScores(np.array([1.0, 1, 0, 0]), np.array([0.0, 0, 1, 0]), truth)
    table = statistics_table({"with": attention_statistics({"a": video}).to_dict()})
    assert [str(row[1]) for row in table.rows] == ["1.000", "0.000", "1.000", "1.000"]
    assert table.notes[0] == "t* = 0.5; 1 videos, 4 snippets, |gt| = 1"
    assert "↓" in str(table.rows[0][0])


def test_error_table() -> None:
    table = error_table(analyse_errors(FOUND, TRUTH).to_dict())
    assert [str(cell) for cell in table.rows[0]] == ["true positive", "2", "100.0", "–"]
    assert [str(cell) for cell in table.rows[5]] == ["background", "0", "0.0", "+0.0"]
    assert table.title == "Kinds of predictions at tIoU 0.5"
    assert table.notes[0] == "top 10·G predictions of each class with G instances; their mAP is 75.0"


TABLE = Table(
    "Title", ("", "[x]"), (("a [b]", Number(1.25, 0.5)), ("bb", Number(None))), ("a note", "another")
)


def test_plain_text_is_aligned() -> None:
    rule = "─" * 16
    head, first, second = "             [x]", "a [b]  1.2 ± 0.5", "bb             –"
    assert TABLE.text().splitlines() == ["Title", rule, head, rule, first, second, rule, "a note", "another"]


def test_markdown() -> None:
    assert TABLE.markdown() == (
        "**Title**\n\n|  | [x] |\n|---|---:|\n| a [b] | 1.2 ± 0.5 |\n| bb | – |\n\na note  \nanother\n"
    )


def test_rich_shows_text_as_it_is() -> None:
    from rich.console import Console

    out = io.StringIO()
    Console(file=out, width=60).print(TABLE.rich())
    shown = out.getvalue()
    for text in ("Title", "a [b]", "[x]", "±0.5", "a note", "another"):
        assert text in shown


def test_what_makes_no_table_is_refused() -> None:
    with pytest.raises(InputError, match=r"different tIoU thresholds .* ours: 0\.3, 0\.5; theirs: 0\.5"):
        map_table({"ours": result_with(0.1, 0.2), "theirs": {**result_with(0.1, 0.2), "tiou": [0.5]}})
    with pytest.raises(InputError, match="there is none for any"):
        map_table({})
    with pytest.raises(InputError, match=r"there is none for \['ours'\]"):
        map_table({"ours": []})
    with pytest.raises(InputError, match=r"tIoU 0\.7 was not evaluated; thresholds are: 0\.3, 0\.5"):
        class_table({"ours": result_with(0.1, 0.2)}, 0.7)
    with pytest.raises(ValueError, match="a row has 1 cells, the table 2 columns"):
        Table("", ("a", "b"), (("a",),))


TIMES = np.arange(0.32, 64, 0.64)
PICTURE = VideoPicture(
    video="video $1 of $2",
    truth=(Segment(5, 10, "run"), Segment(30, 40, "run"), Segment(30, 40, "jump")),
    detections={
        "with": (Detection(4, 11, "run", 2.0), Detection(5, 9, "run", 1.0), Detection(7, 7, "run", 0.5)),
        "without": tuple(Detection(i, i + 9, f"class {i}", 0.1 * i) for i in range(6)),
    },
    attention={"rgb": (TIMES, np.abs(np.sin(TIMES))), "flow": (TIMES, np.abs(np.cos(TIMES)))},
    tcam={"run": (TIMES, np.sin(TIMES)), "jump": (TIMES, np.cos(TIMES))},
    duration=64.0,
    threshold=0.5,
    simulated=True,
)
RECORDS = [
    {
        "epoch": epoch,
        "stream": stream,
        "foreground": 1 / epoch,
        "kl": epoch,
        "lr": 1e-3,
        "note": "x",
        "ok": True,
    }
    for epoch in range(1, 6)
    for stream in ("rgb", "flow")
]


def texts_of(path: Path) -> str:
    """All text that an SVG was made from: matplotlib writes each as a comment before its outlines."""
    return path.read_text(encoding="utf-8")


def figures() -> dict[str, Any]:
    result = evaluate(FOUND, TRUTH, [0.5]).to_dict()
    curve = evaluate(FOUND, TRUTH, [0.5]).curve("run", 0.5)
    return {
        "timeline": timeline_figure(PICTURE),
        "losses": losses_figure(RECORDS, simulated=True),
        "ap": class_ap_figure(
            {"with": result, "without": {**result, "per_class": {"run": [0.9]}}}, simulated=True
        ),
        "pr": precision_recall_figure({"run": (curve.recall, curve.envelope)}, simulated=True),
    }


@pytest.mark.parametrize("name", ["timeline", "losses", "ap", "pr"])
def test_pictures_are_written_and_say_that_data_are_simulated(tmp_path: Path, name: str) -> None:
    figure = figures()[name]
    save_figure(tmp_path / "new" / "picture.png", figure)
    save_figure(tmp_path / "picture.svg", figure)
    png = (tmp_path / "new" / "picture.png").read_bytes()
    assert png.startswith(b"\x89PNG")
    assert len(png) > 5000
    assert ET.fromstring(texts_of(tmp_path / "picture.svg")).tag.endswith("svg")
    assert "(simulated data)" in texts_of(tmp_path / "picture.svg")


def test_the_same_picture_has_the_same_bytes(tmp_path: Path) -> None:
    for ending in ("png", "svg"):
        for name in ("one", "two"):
            save_figure(tmp_path / f"{name}.{ending}", timeline_figure(PICTURE))
        assert (tmp_path / f"one.{ending}").read_bytes() == (tmp_path / f"two.{ending}").read_bytes()


def test_the_timeline_shows_what_it_was_given() -> None:
    figure = timeline_figure(PICTURE)
    lanes, attention, tcam = figure.axes
    labels = [label.get_text() for label in lanes.get_yticklabels()]
    # run and jump are in the ground truth; of the six that are only detected, the three of highest score
    assert labels[::3] == [f"{c}: ground truth" for c in ("run", "jump", "class 5", "class 4", "class 3")]
    assert labels[1:3] == ["with", "without"]
    assert "3 more classes" in lanes.get_title(loc="right")
    assert attention.get_xlim() == (0, 64)
    assert tcam.get_xlabel() == "time (s)"
    assert [line.get_label() for line in tcam.get_lines()] == ["run", "jump"]
    drawn = attention.get_lines()[0]
    assert np.array_equal(drawn.get_xdata(), TIMES)
    assert np.array_equal(drawn.get_ydata(), PICTURE.attention["rgb"][1])
    assert figure.get_suptitle() == r"video \$1 of \$2 (simulated data)"


def bars_of(figure: Any, lane: float) -> list[tuple[float, float, float]]:
    """(start, end, opacity) of the bars whose middle lies in a lane, from the drawn shapes."""
    bars = []
    for shape in figure.axes[0].collections:
        for path in shape.get_paths():
            (left, bottom), (right, top) = path.get_extents().get_points()
            if abs((bottom + top) / 2 - lane) < 0.45:
                bars.append((float(left), float(right), float(shape.get_alpha() or 1.0)))
    return sorted(bars)


def test_detections_are_bars_from_start_to_end_and_the_surer_the_more_opaque() -> None:
    figure = timeline_figure(PICTURE)
    assert bars_of(figure, 0) == [(5, 10, 1.0), (30, 40, 1.0)]
    assert bars_of(figure, 1) == [
        (4, 11, 1.0),
        (5, 9, pytest.approx(0.2 + 0.8 / 3)),
        (7, 7, pytest.approx(0.2)),
    ]
    heights = {
        extents.ymin: extents.x1
        for shape in figure.axes[0].collections
        for extents in [path.get_extents() for path in shape.get_paths()]
        if abs((extents.ymin + extents.ymax) / 2 - 1) < 0.45
    }
    # all three overlap, so each has a row of its own, the surest on top (the axis points down)
    assert [heights[bottom] for bottom in sorted(heights)] == [11, 9, 7]


def test_ground_truth_shades_the_curves_once_where_classes_coincide() -> None:
    attention = timeline_figure(PICTURE).axes[1]
    shades = [(patch.get_x(), patch.get_x() + patch.get_width()) for patch in attention.patches]
    assert shades == [(5, 10), (30, 40)]


def test_the_timeline_does_with_less() -> None:
    assert len(timeline_figure(VideoPicture("a", truth=(Segment(0, 1, "run"),))).axes) == 1
    only_curve = timeline_figure(VideoPicture("a", attention={"rgb": ([0.5, 1.5], [0.0, 1.0])}))
    assert only_curve.axes[0].get_xlim() == (0, 1.5)
    with pytest.raises(InputError, match="video 'a': there is nothing to draw"):
        timeline_figure(VideoPicture("a"))


def test_losses_have_a_panel_each_and_a_line_per_stream() -> None:
    figure = losses_figure(RECORDS)
    drawn = [axes for axes in figure.axes if axes.axison]
    assert [axes.get_title() for axes in drawn] == ["foreground", "kl"]
    for axes in drawn:
        assert [line.get_label() for line in axes.get_lines()] == ["rgb", "flow"]
        assert axes.get_xlabel() == "epoch"
    assert drawn[1].get_lines()[0].get_ydata().tolist() == [1, 2, 3, 4, 5]
    single = losses_figure([{"epoch": 1, "kl": 2.0}, {"epoch": 2, "kl": float("nan")}], keys=["kl"])
    assert single.axes[0].get_lines()[0].get_xdata().tolist() == [1]
    assert not single.legends
    with pytest.raises(InputError, match="no record has both 'epoch' and a quantity"):
        losses_figure([{"step": 1, "kl": 2.0}])


def test_ap_bars_have_the_given_widths_and_the_best_class_on_top() -> None:
    result = evaluate(FOUND, TRUTH, [0.5]).to_dict()
    figure = class_ap_figure({"with": result, "without": {**result, "per_class": {"run": [0.9]}}})
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["run", "high|jump"]
    widths = [[round(bar.get_width(), 6) for bar in group] for group in axes.containers]
    assert widths == [[50.0, 100.0], [90.0, 0.0]]
    assert axes.get_legend_handles_labels()[1] == ["with (mAP 75.0)", "without (mAP 75.0)"]
    assert axes.get_xlabel() == "AP at tIoU 0.5 (%)"
    with pytest.raises(InputError, match=r"with: tIoU 0\.7 was not evaluated; it has 0\.5"):
        class_ap_figure({"with": result}, 0.7)
    with pytest.raises(InputError, match="at least one system"):
        class_ap_figure({})


def test_precision_recall_starts_at_recall_zero_and_takes_empty_curves() -> None:
    figure = precision_recall_figure({"run": ([0.5, 1.0], [1.0, 0.8]), "none": ([], [])})
    first, second = figure.axes[0].get_lines()
    assert first.get_xdata().tolist() == [0.0, 0.5, 1.0]
    assert first.get_ydata().tolist() == [1.0, 1.0, 0.8]
    assert second.get_ydata().tolist() == [0.0]


def test_other_endings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"picture\.gif: pictures are written as \.png or \.svg, not \.gif"):
        save_figure(tmp_path / "picture.gif", timeline_figure(PICTURE))
    assert not list(tmp_path.iterdir())


def test_drawing_leaves_no_global_state_and_importing_loads_nothing_heavy() -> None:
    code = """
import sys
import dgam.evaluation, dgam.report
heavy = {"torch", "matplotlib", "rich", "pandas"} & set(sys.modules)
assert not heavy, heavy
from dgam.core.types import Segment
figure = dgam.report.timeline_figure(dgam.report.VideoPicture("a", (Segment(0, 1, "run"),)))
assert "matplotlib.pyplot" not in sys.modules
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
