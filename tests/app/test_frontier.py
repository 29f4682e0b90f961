"""The Frontier tab: what it shows of a sweep, and how its points lead to runs."""

import json

import pytest

from cedkv.errors import CedKVError, OutputError
from components.tabs.frontier import HEADERS, opened, run_files
from tests.sweep.test_tables import FRONT, row


@pytest.fixture
def sweep(tmp_path):
    rows = [*FRONT, row("ced", 0.2, 5.0, 2, run="mine"), row("free", 0, 0, 2, task="<b>", figures={}, error="no <i>")]
    (tmp_path / "sweep.json").write_text(json.dumps({"rows": rows}))
    return tmp_path


def test_a_folder_opens_with_its_points_and_their_runs(sweep):
    note, plot, table, run, at = opened(sweep / "sweep.json", "sweep.json", sweep)
    assert "9 cells on 2 tasks and 1 seed; 3 points that nothing beats" in note
    assert "no &lt;i&gt;" in note and "<i>" not in note and "<b>" not in note
    assert plot.visible
    assert all(len(line) == len(HEADERS) for line in table)
    assert [line[0] for line in table][:2] == ["teacher", "base"]
    assert [line[8] for line in table].count("front") == 3
    place = next(n for n, line in enumerate(table) if line[0] == "CED mixture" and line[1] == 2)
    assert at["runs"][place] == ["mine"] and at["folder"] == str(sweep)


def test_a_file_alone_has_no_runs_to_show(sweep):
    *_, at = opened(sweep / "sweep.json", "sweep.json", None)
    assert at["folder"] == "" and not any(at["runs"])


def test_what_is_no_sweep_is_refused_by_its_name(tmp_path):
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(OutputError, match="'x.json' is no sweep.json"):
        opened(tmp_path / "x.json", "x.json", None)


def test_only_a_run_in_the_sweeps_own_folder_is_shown(sweep):
    run = sweep / "runs" / "mine"
    (run / "artifacts").mkdir(parents=True)
    for name in ("config.yaml", "report_extract.json", "artifacts/ced.safetensors"):
        (run / name).touch()
    assert [file.name for file in run_files(str(sweep), "mine")] == [
        "config.yaml",
        "report_extract.json",
        "ced.safetensors",
    ]
    (sweep / "config.yaml").touch()
    (sweep / "report_extract.json").touch()
    for folder, name in ((str(sweep), "other"), (str(sweep), ".."), (str(sweep), ""), ("", "mine")):
        with pytest.raises(CedKVError, match="is not in the sweep’s folder"):
            run_files(folder, name)
