"""Sinks: fed by events, one line to add another."""

import json
import sys
from collections import defaultdict

import mlflow
import pytest

from cedkv.errors import ConfigError, OutputError
from cedkv.events import TrainingStep
from cedkv.optim.loop import LoopSettings, Training, run_training
from cedkv.optim.sinks import SINKS, fed, open_sinks
from tests.optim.toys import Pulls


def lines(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "training.jsonl").read_text(encoding="utf-8").splitlines()]


def trained(sinks, steps: int = 4):
    return fed(run_training(Training(Pulls(), LoopSettings(steps, tick_every=2))), sinks)


def test_json_lines_hold_every_step_and_tick(tmp_path):
    events = list(trained(open_sinks(["jsonl"], tmp_path)))
    told = lines(tmp_path)
    assert [line["type"] for line in told] == ["TrainingStep", "TrainingStep", "TrainingTick"] * 2
    assert [{"type": type(event).__name__, **vars(event)} for event in events] == told


def test_a_training_that_is_cut_short_leaves_its_lines(tmp_path):
    events = trained(open_sinks(["jsonl"], tmp_path))
    next(events)
    events.close()
    assert [line["step"] for line in lines(tmp_path)] == [0]


class Counting:
    """A sink of somebody else's."""

    counted: dict[str, int] = {}
    closed = 0

    def __init__(self, folder) -> None:
        self.folder = folder

    def put(self, event) -> None:
        name = type(event).__name__
        self.counted[name] = self.counted.get(name, 0) + 1

    def close(self) -> None:
        Counting.closed += 1


def test_another_sink_is_a_line_in_the_registry(tmp_path, monkeypatch):
    monkeypatch.setitem(SINKS, "counting", Counting)
    list(trained(open_sinks(["jsonl", "counting"], tmp_path)))
    assert Counting.counted == {"TrainingStep": 4, "TrainingTick": 2}
    assert Counting.closed == 1


def test_an_unknown_sink_is_named_with_the_nearest(tmp_path):
    with pytest.raises(ConfigError, match="sink 'json' is unknown; did you mean 'jsonl'"):
        open_sinks(["json"], tmp_path)


def test_a_folder_that_cannot_be_written_is_an_output_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        open_sinks(["jsonl"], tmp_path / "file")


def test_mlflows_own_client_reads_every_figure(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    events = list(trained(open_sinks(["mlflow"], tmp_path / "run")))
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'run' / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("cedkv").experiment_id])
    assert run.info.status == "FINISHED" and run.info.run_name == "run"
    told = defaultdict(list)
    for event in events:
        for name, value in (event.terms if isinstance(event, TrainingStep) else event.figures).items():
            told[name if "/" in name else f"{event.method}/{name}"].append((event.step, value))
    assert set(client.get_run(run.info.run_id).data.metrics) == set(told)
    for name, figures in told.items():
        kept = [(one.step, one.value) for one in client.get_metric_history(run.info.run_id, name)]
        assert sorted(kept) == sorted(figures)


def test_mlflow_says_how_to_get_it_where_it_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(ConfigError, match=r"mlflow is not installed; run: pip install 'mlflow-skinny>=3,<4'"):
        open_sinks(["mlflow"], tmp_path)
