"""Figures from plain data: what is drawn, named and escaped."""

import pytest

from components.figures import off_histograms, role_bars, similarity_matrix, slot_heatmap, training_curves
from components.theme import VIEW_COLORS

STEP = {"loss_on": 1.0, "loss_off": 0.5, "loss_str": 0.1, "lambda_off": 0.5, "top_k": 4}
TICK = {"stress_p99": 2.0, "train_kl": 0.3, "role_mass": {"input": 0.2, "output": 0.3, "delimiter": 0.5}}


def heatmap():
    return slot_heatmap([[0.75, 0.25], [0.0, 1.0]], ["<s>", " a\n"], ["delimiter", "input"], chosen=1)


def all_figures():
    return [
        heatmap(),
        similarity_matrix([[1.0, 0.2], [0.2, 1.0]], "cosine"),
        role_bars([{"input": 0.5, "output": 0.2, "delimiter": 0.3}], cap=0.4),
        off_histograms({"prose": {"ced": [0.1, 0.2], "teacher": [1.0]}}, "ced", 3.0, {"prose": 0.199}),
        training_curves([{**STEP, "step": 0}, {**STEP, "step": 1}], [{**TICK, "step": 1}], bound=3.0),
    ]


def test_the_heatmap_has_a_row_per_slot_counted_from_one_and_escaped_tokens():
    figure = heatmap()
    assert [list(row) for row in figure.data[0].z] == [[0.75, 0.25], [0.0, 1.0]]
    assert list(figure.data[0].y) == [1, 2]
    assert list(figure.layout.xaxis.tickvals) == [0, 1]
    assert list(figure.layout.xaxis.ticktext) == ["&lt;s&gt;", "␣a⏎"]
    assert figure.data[0].customdata[0][0] == "0: &lt;s&gt; (delimiter)"


def test_the_chosen_slot_is_framed():
    frame = heatmap().layout.shapes[0]
    assert (frame.y0, frame.y1) == (1.5, 2.5)


def test_equal_tokens_keep_a_column_each():
    figure = slot_heatmap([[0.5, 0.5]], [":", ":"], ["delimiter"] * 2)
    assert list(figure.data[0].x) == [0, 1]


def test_slots_without_any_weight_can_be_drawn():
    assert slot_heatmap([[0.0]], ["a"], ["input"]).data[0].zmax == 1


@pytest.mark.parametrize(
    ("figure", "lowest"),
    # The curves of a training stand above each other, and only the lowest axis has room for its name.
    zip(all_figures(), ["xaxis", "xaxis", "xaxis", "xaxis", "xaxis4"], strict=True),
    ids=["heatmap", "similarity", "roles", "off", "training"],
)
def test_every_figure_is_transparent_and_its_axes_are_named(figure, lowest):
    assert figure.layout.paper_bgcolor == figure.layout.plot_bgcolor == "rgba(0,0,0,0)"
    assert figure.layout.font.color == "#7d8590"
    assert figure.layout[lowest].title.text
    assert figure.layout.yaxis.title.text


def test_the_delimiter_cap_is_drawn_only_where_there_is_one():
    slots = [{"input": 0.1, "output": 0.4, "delimiter": 0.5}]
    assert role_bars(slots, cap=0.6).layout.shapes[0].y0 == 0.6
    assert not role_bars(slots, cap=1.0).layout.shapes


def test_off_histograms_show_the_student_the_ghost_and_both_lines():
    figure = off_histograms({"prose": {"ced": [0.1, 2.0], "teacher": [1.0]}}, "ced", 3.0, {"prose": 1.98})
    student, ghost, *keys = figure.data
    assert student.marker.color == VIEW_COLORS["student"] and list(student.x) == [0.1, 2.0]
    assert ghost.marker.color == "rgba(0,0,0,0)" and ghost.marker.line.color == VIEW_COLORS["teacher"]
    assert sorted(line.x0 for line in figure.layout.shapes) == [1.98, 3.0]
    assert [line.name for line in keys] == ["p99", "what the gate allows"]


def test_off_histograms_draw_each_line_in_its_buckets_plot():
    deltas = {name: {"ced": [0.1], "teacher": [1.0]} for name in ("prose", "code")}
    lines = off_histograms(deltas, "ced", None, {"prose": 1.0, "code": 2.0}).layout.shapes
    assert [(line.x0, line.xref, line.yref) for line in lines] == [(1.0, "x", "y domain"), (2.0, "x2", "y2 domain")]


def test_token_names_are_left_out_where_there_is_no_room():
    figure = slot_heatmap([[0.5, 0.5]], [":", ":"], ["delimiter"] * 2, named=False)
    assert figure.layout.xaxis.ticktext is None
    assert "(delimiter)" in figure.data[0].customdata[0][1]


def test_training_counts_steps_from_one_and_ticks_where_they_were():
    figure = training_curves([{**STEP, "step": 0}, {**STEP, "step": 1}], [{**TICK, "step": 1}], None)
    lines = {line.name: line for line in figure.data}
    assert list(lines["L_on"].x) == [1, 2]
    assert list(lines["p99 on training’s texts"].x) == [2] and list(lines["p99 on training’s texts"].y) == [2.0]
    assert {"L_off", "L_str", "lambda_off", "top-k", "KL to teacher"} <= lines.keys()


def test_more_tokens_than_can_be_named_keep_their_names_for_the_pointer():
    figure = slot_heatmap([[0.0] * 300], ["w"] * 300, ["input"] * 300)
    assert len(figure.layout.xaxis.tickvals) == 100 and len(figure.data[0].customdata[0]) == 300
