"""The plot of a diagnosis: every curve, and what else might stand in front where it is about other text."""

import json
import sys
from xml.etree import ElementTree

from benchmarks import plot_diagnosis
from tests.gate.test_diagnosis import curve


def diagnosis() -> dict:
    found = curve()
    found["references"]["teacher"] = found["references"]["neutral_token"] = found["references"]["neutral_paragraph"]
    return {**found, "bottlenecks": [{"name": "none", "words": "Nothing.", "option": "chunked."}]}


def test_every_curve_is_drawn_beside_what_it_is_held_against():
    drawn = plot_diagnosis.panels(diagnosis())
    assert [len(panel.lines) for panel in drawn] == [1, 1, 1, 4, 1, 4]
    assert drawn[0].lines["slots"] == [(4, 1.0), (8, 1.0), (16, 1.0)]
    assert drawn[3].lines["a paragraph"] == [(0.0, 2.6), (1.0, 2.6)]


def test_the_command_writes_a_picture_beside_the_figures(tmp_path, monkeypatch, capsys):
    path = tmp_path / "diagnosis.json"
    path.write_text(json.dumps(diagnosis()), encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["plot_diagnosis.py", str(path)])
    plot_diagnosis.main()
    assert ElementTree.parse(tmp_path / "diagnosis.svg").getroot().tag.endswith("svg")
    assert capsys.readouterr().out.splitlines() == ["none: Nothing. Try: chunked.", str(tmp_path / "diagnosis.svg")]
