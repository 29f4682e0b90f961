"""The Diagnosis tab: what it shows of a diagnosis, made here or written by the command line."""

import json

import pytest

from cedkv.errors import OutputError
from cedkv.gate.diagnosed import read_diagnosis
from components.tabs.diagnosis import shown
from components.tabs.diagnosis_figures import diagnosis_figure, findings_html, roles_html


def measured(agreement=0.5, kl=1.0, off=2.0, **more):
    return {"agreement": agreement, "kl": kl, "off_mean": off / 4, "off_p99": off, **more}


def a_diagnosis():
    return {
        "slots": 4,
        "weight": 0.8,
        "places": 9,
        "queries": 32,
        "references": {"base": measured(), "teacher": measured(off=4.0), "neutral_paragraph": measured(off=3.0)},
        "by_slots": [measured(0.25, 3.0, slots=2, made=2), measured(0.75, 0.5, slots=4, made=4)],
        "by_weight": [measured(weight=0.0), measured(weight=1.0)],
        "by_layer": [measured(0.1, layers=[0, 1]), measured(0.9, layers=[2, 3])],
        "by_role": [measured(0.0, 6.0, role="output", slots=[3])],
        "bottlenecks": [{"name": "expressiveness", "words": "too <few>", "option": "phase3.slots=9"}],
    }


@pytest.fixture
def found():
    return a_diagnosis()


def test_curves_stand_over_slots_weight_and_layers_with_yardsticks_beside_other_text_only(found):
    figure = diagnosis_figure(found)
    curves = [trace for trace in figure.data if trace.name == "instant slots"]
    assert len(curves) == 9
    assert [list(curve.x) for curve in curves[::3]] == [["2", "4"], ["0", "1"], ["0–1", "2–3"]]
    assert list(curves[0].y) == [0.25, 0.75] and list(curves[1].y) == [3.0, 0.5]
    # Demonstrations and paragraph, in each row of the last column; a yardstick that was not measured has no line.
    assert sorted(shape.y0 for shape in figure.layout.shapes) == [3.0] * 3 + [4.0] * 3
    assert {shape.yref for shape in figure.layout.shapes} == {"y3", "y6", "y9"}


def test_the_bottleneck_is_told_in_words_and_what_is_typed_stays_text(found):
    told = findings_html(found)
    assert "expressiveness" in told and "phase3.slots=9" in told and "32 training queries" in told
    assert "too &lt;few&gt;" in told and "<few>" not in told


def test_roles_stand_beside_the_whole_state_and_count_slots_from_one(found):
    told = roles_html(found)
    assert told.index("nothing") < told.index("output")
    assert ">0.75<" in told and ">6.00<" in told and ">4<" in told


def test_the_sink_alone_ends_the_roles_where_a_diagnosis_has_it(found):
    assert "but the sink" not in roles_html(found)
    found["references"]["sink_alone"] = measured(0.0, 9.0, off=1.25)
    told = roles_html(found)
    assert told.index("output") < told.index("everything but the sink") < told.index(">1.25<")


def test_what_the_command_wrote_is_opened(found, tmp_path):
    path = tmp_path / "diagnosis.json"
    path.write_text(json.dumps({"task": "present-past", "model": {}, **found}))
    findings, plot, roles = shown(read_diagnosis(path, path.name))
    assert "expressiveness" in findings and plot.visible and "output" in roles


@pytest.mark.parametrize(
    "spoil",
    [
        lambda found: found.pop("by_layer"),
        lambda found: found.update(by_slots=[]),
        lambda found: found.update(slots=5),
        lambda found: found["by_layer"][0].update(layers=[]),
        lambda found: found["by_weight"][0].update(kl=None),
        lambda found: found.update(bottlenecks="none"),
    ],
)
def test_what_is_no_diagnosis_is_refused_by_its_name(found, tmp_path, spoil):
    spoil(found)
    path = tmp_path / "x.json"
    path.write_text(json.dumps(found))
    with pytest.raises(OutputError, match=r"'x\.json' (is no|holds a curve)"):
        read_diagnosis(path, "x.json")
