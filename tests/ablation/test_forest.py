"""The study at a glance: its lines against plain differences, and what is drawn of them."""

from math import nan
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.text import Annotation
from PIL import Image

from dualcam.ablation.effects import Estimate
from dualcam.ablation.forest import BETTER, UNDECIDED, WORSE, color_of, draw_forest, reach, rows_of, write_forest
from dualcam.ablation.glance import OTHERS, STEP, Line, lines_of
from dualcam.ablation.tables import heading
from tests.ablation.made_up import ALL, DUAL, METRICS, PLAIN, effects_of, exact, made_up, result_of


def test_each_part_of_the_step_is_added_first_and_last() -> None:
    value = made_up(ALL)
    found = {line.name: line for line in lines_of(effects_of(value)) if line.section == STEP}
    parts = {"head: softmax → sigmoid": "head", "clamp: signed → positive": "sign"}
    parts["normalization: minmax → max"] = "normalization"
    assert list(found) == ["all three", *parts]
    for name, field in parts.items():
        first, last = found[name].first, found[name].last
        assert first is not None
        assert last is not None
        with_it = PLAIN._replace(**{field: getattr(DUAL, field)})
        without = DUAL._replace(**{field: getattr(PLAIN, field)})
        assert first["MaxBoxAccV2"].mean == pytest.approx(value[with_it] - value[PLAIN])
        assert last["MaxBoxAccV2"].mean == pytest.approx(value[DUAL] - value[without])
    whole = found["all three"].first
    assert whole is not None
    assert whole["MaxBoxAccV2"].mean == pytest.approx(value[DUAL] - value[PLAIN])


def test_other_values_take_the_place_of_both() -> None:
    value = made_up(ALL)
    found = {line.name: line for line in lines_of(effects_of(value)) if line.section == OTHERS}
    settings = {"start": {"sigmoid-centered", "sigmoid-random"}, "solver": {"sigmoid-optimum"}}
    names = {f"{setting}: {head}" for setting, heads in settings.items() for head in heads}
    names |= {"balance: sigmoid-unbalanced", "head: centered", "head: log-odds", "normalization: ivr"}
    assert set(found) == names | {"method: grad-cam++"}
    both = found["normalization: ivr"]
    assert both.first is not None
    assert both.last is not None
    assert both.first["MaxBoxAccV2"].mean == pytest.approx(value[PLAIN._replace(normalization="ivr")] - value[PLAIN])
    assert both.last["MaxBoxAccV2"].mean == pytest.approx(value[DUAL._replace(normalization="ivr")] - value[DUAL])
    assert found["solver: sigmoid-optimum"].first is None, "the plain map has no solver"


def test_a_reversed_effect_keeps_its_interval_in_order() -> None:
    figure = Estimate(1.0, -0.5, 4.0, 0.3, 20, 3)
    assert figure.reversed() == Estimate(-1.0, -4.0, 0.5, 0.3, 20, 3)
    assert figure.reversed().reversed() == figure


def test_a_study_without_the_plain_map_has_what_is_added_last() -> None:
    value = made_up([item for item in ALL if item.normalization == "max"])
    lines = lines_of(effects_of(value))
    assert {line.first for line in lines} == {None}
    assert [line.name for line in lines if line.section == STEP] == [
        "head: softmax → sigmoid",
        "clamp: signed → positive",
    ]
    assert lines_of([]) == []
    assert draw_forest(result_of([]), "") is None


def test_right_is_better_and_the_color_is_the_interval() -> None:
    assert color_of(exact(1.0), 1) == color_of(exact(-1.0), -1) == BETTER
    assert color_of(exact(1.0), -1) == color_of(exact(-1.0), 1) == WORSE
    assert color_of(Estimate(1.0, 0.0, 2.0, 0, 9, 3), 1) == UNDECIDED
    figure = draw_forest(result_of(effects_of(made_up(ALL))), "title")
    assert figure is not None
    boxes, drop = figure.axes
    assert boxes.get_title() == "MaxBoxAccV2"
    assert drop.get_title() == "Average Drop ↓ (n = 7)"
    assert boxes.get_xlim()[0] < boxes.get_xlim()[1]
    assert drop.get_xlim()[0] > drop.get_xlim()[1], "less is better, and stands on the right"


def test_every_effect_is_drawn_in_its_row_with_its_interval() -> None:
    effects = effects_of(made_up(ALL), width=0.3)
    figure = draw_forest(result_of(effects), "title")
    assert figure is not None
    panel, rows = figure.axes[0], rows_of(lines_of(effects))
    names = [label.get_text() for label in panel.get_yticklabels()]
    drawn: dict[tuple[str, bool], tuple[float, str]] = {}
    spans = set()
    for line in panel.lines:
        points = np.asarray(line.get_xydata(), dtype=np.float64).tolist()
        if line.get_marker() == "o":
            hollow = to_hex(line.get_markerfacecolor()) == "#ffffff"
            drawn[names[round(points[0][1])], hollow] = (points[0][0], to_hex(line.get_color()))
        else:
            spans.add((points[0][0], points[1][0]))
    wanted = {
        (name, hollow): each["MaxBoxAccV2"]
        for name, change in rows
        if change is not None
        for each, hollow in ((change.first, True), (change.last, False))
        if each is not None
    }
    limit = reach(lines_of(effects), "MaxBoxAccV2")
    inside = {key: each for key, each in wanted.items() if abs(each.mean) <= limit}
    assert set(drawn) == set(inside)
    for key, each in inside.items():
        assert drawn[key] == (each.mean, color_of(each, 1))
        assert (max(each.low, -limit), min(each.high, limit)) in spans


def test_an_effect_beyond_the_step_is_an_arrow_with_its_number(tmp_path: Path) -> None:
    value = made_up(ALL)
    value |= {item: value[item] - 80.0 for item in ALL if item.head == "sigmoid-unbalanced"}
    figure = draw_forest(result_of(effects_of(value)), "title")
    assert figure is not None
    boxes, drop = figure.axes
    for panel in (boxes, drop):
        (note,) = [text for text in panel.texts if text.get_text().startswith(("-7", "-8"))]
        assert isinstance(note, Annotation)
        assert abs(note.xy[0]) == max(panel.get_xlim())
        assert note.xy[0] < 0
        assert max(panel.get_xlim()) < 20
    write_forest(tmp_path / "forest.png", figure)
    with Image.open(tmp_path / "forest.png") as picture:
        seen = {color for _, color in picture.convert("RGB").getcolors(1 << 24) or []}
        assert picture.format == "PNG"
    assert {(0, 114, 178), (213, 94, 0)} <= seen


def test_the_scale_is_the_steps_and_never_nothing() -> None:
    none = dict.fromkeys(METRICS, Estimate(nan, nan, nan, nan, 0, 3))
    step, other = Line(STEP, "a", {"m": exact(2.0)}, {"m": exact(-3.0)}), Line(OTHERS, "b", {"m": exact(9.0)}, None)
    assert reach([step, other], "m") == pytest.approx(1.08 * 3)
    assert reach([other], "m") == pytest.approx(1.08 * 9)
    assert reach([Line(STEP, "a", none, None)], "MaxBoxAccV2") == 1.0
    assert reach([Line(STEP, "a", {"m": exact(0.0)}, None)], "m") == 1.0


@pytest.mark.parametrize("metrics", [METRICS[:1], METRICS, ("MaxBoxAccV2", "Average Drop", "Top-5 Loc", "PxAP")])
def test_nothing_of_the_picture_is_cut_off(metrics: tuple[str, ...]) -> None:
    result = result_of(effects_of(made_up(ALL), metrics=metrics), metrics)
    figure = draw_forest(result, heading(result, "butterflies"))
    assert figure is not None
    figure.draw_without_rendering()
    (legend,), (title,) = figure.legends, figure.texts
    assert title.get_text().startswith("butterflies")
    for part in (legend, title):
        assert figure.bbox.x0 <= part.get_window_extent().x0
        assert part.get_window_extent().x1 <= figure.bbox.x1
