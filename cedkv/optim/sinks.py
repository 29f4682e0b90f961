"""Where the events of a training are kept while it runs. A new sink is a class and a line in `SINKS`."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Protocol

from cedkv.errors import ConfigError, OutputError
from cedkv.events import Event, StepTrace, Tick, TrainingStep, TrainingTick, Warned
from cedkv.extras import extra

# Events that say something of the training itself.
_KEPT = (StepTrace, Tick, TrainingStep, TrainingTick, Warned)


class Sink(Protocol):
    """Takes a training's events one by one; `close` is called once, however the training ends."""

    def put(self, event: Event) -> None: ...

    def close(self) -> None: ...


class JsonLines:
    """`training.jsonl` in a folder, a line per event: its `type` and its fields. An interrupted one stays readable.

    Raises
    ------
    OutputError
        The file cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / "training.jsonl"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a", encoding="utf-8", buffering=1)
        except OSError as error:
            raise OutputError(
                f"output {str(path)!r} cannot be written: {error.strerror}; choose another --out"
            ) from error

    def put(self, event: Event) -> None:
        line = {"type": type(event).__name__, **vars(event)}
        self._file.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")

    def close(self) -> None:
        self._file.close()


class MlFlow:
    """A run of MLflow in the experiment `cedkv`: the figures of any training's steps and ticks as metrics.

    It is kept in `mlflow.db` in the folder, or on the server that MLFLOW_TRACKING_URI names.

    Raises
    ------
    ConfigError
        MLflow is not installed.
    """

    EXPERIMENT = "cedkv"

    def __init__(self, folder: Path) -> None:
        mlflow = extra("mlflow", "mlflow")
        folder.mkdir(parents=True, exist_ok=True)
        uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder.resolve() / 'mlflow.db'}"
        self._client = mlflow.MlflowClient(tracking_uri=uri)
        known = self._client.get_experiment_by_name(self.EXPERIMENT)
        experiment = known.experiment_id if known else self._client.create_experiment(self.EXPERIMENT)
        self._run = self._client.create_run(experiment, run_name=folder.name).info.run_id

    def put(self, event: Event) -> None:
        if not isinstance(event, TrainingStep | TrainingTick):
            return
        figures = event.terms if isinstance(event, TrainingStep) else event.figures
        for name, value in figures.items():
            named = name if "/" in name else f"{event.method}/{name}"
            self._client.log_metric(self._run, named, value, step=event.step)

    def close(self) -> None:
        self._client.set_terminated(self._run)


SINKS: dict[str, Callable[[Path], Sink]] = {
    "jsonl": JsonLines,
    "mlflow": MlFlow,
}


def open_sinks(names: Sequence[str], folder: Path) -> list[Sink]:
    """The named sinks, each writing where it keeps things for this folder.

    Raises
    ------
    ConfigError
        There is no such sink.
    """
    for name in names:
        if name not in SINKS:
            near = get_close_matches(name, SINKS, n=1, cutoff=0)[0]
            raise ConfigError(f"sink {name!r} is unknown; did you mean {near!r}? Known are {', '.join(SINKS)}")
    return [SINKS[name](folder) for name in names]


def fed(events: Iterator[Event], sinks: Sequence[Sink]) -> Iterator[Event]:
    """The same events, put into every sink as they pass; the sinks are closed when they end or are cut short."""
    try:
        for event in events:
            if isinstance(event, _KEPT):
                for sink in sinks:
                    sink.put(event)
            yield event
    finally:
        for sink in sinks:
            sink.close()
