"""One run of the gate, from a config to a report, as a generator of events."""

from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, cast

from cedkv.config import Config, dump_config
from cedkv.errors import ConfigError
from cedkv.evaluation import Judge
from cedkv.events import Done, Event, GateCriterion, Opened, Progress, Sample, StepTrace, Warned, drain, timed
from cedkv.files import dump_json
from cedkv.gate.answers import describe_first_token, judging_warnings
from cedkv.gate.harm import judge_harm
from cedkv.gate.judging import judge_trials, judge_view
from cedkv.gate.kinds import KINDS, Kind, in_place_of_student
from cedkv.gate.plumbing import check_plumbing, repeat_criterion
from cedkv.gate.spans import score_spans
from cedkv.gate.stage import GateReport, GateRun
from cedkv.gate.trained import constraint_warnings, describe_training
from cedkv.harm import YARDSTICKS
from cedkv.lm import LanguageModel, load_model
from cedkv.methods import Extraction, Workbench, run_method
from cedkv.methods.base import never
from cedkv.provenance import library_versions
from cedkv.report import CollapseBlock, Report, RunFolder, new_run_id
from cedkv.report.slots import describe_state
from cedkv.state import KVPrefix, with_precision

_DESCRIBING = "describing the slots"


def iter_gate(
    config: Config,
    phase: int = 2,
    *,
    lm: LanguageModel | None = None,
    out: str | Path = "runs",
    state: str | Path | None = None,
    precision: str | None = None,
    stop: Callable[[], bool] = never,
) -> Iterator[Event]:
    """Run the gate of one phase and yield what happens; the last event is `Done(GateReport)`.

    Closing the generator cancels the run, and so does `stop`; what is written by then stays, marked incomplete.

    Parameters
    ----------
    lm : a loaded model to use; by default the one the config names is loaded.
    out : the run's folder `OUT/{run_id}` appears there.
    state : a state file to judge in the place of the phase's student; nothing is then trained.
    precision : one of `cedkv.state.PRECISIONS`, to judge the saved state as it would be if stored that way.
    stop : asked after each step of a training, whose best state so far is then written too, and between the parts of
        a run. The run then ends without `Done`.

    Raises
    ------
    CedKVError
        Anything in the config, the files it names or the output folder that cannot be used.
    """
    if phase not in KINDS:
        raise ConfigError(f"phase {phase!r} does not exist; choose from {', '.join(map(str, KINDS))}")
    run = yield from _prepare(config, KINDS[phase], lm, out, state, precision, stop)
    yield from judge_view(run, "base", None)
    run.data["episode"]["first_token"] = describe_first_token(run.judge)
    for warning in judging_warnings(run.judge):
        yield Warned(warning)
    yield from judge_view(run, "teacher", run.judge.teacher)
    for method in run.kind.methods:
        yield from _extract(run, method)
        if not run.extractions[method].complete or stop():
            return
        yield from judge_view(run, method, run.extractions[method].prefix)
    for name, trial in run.kind.trials.items():
        yield from judge_trials(run, name, trial)
    yield from judge_harm(run)
    yield from _describe(run)
    if (yield from _decide(run)):
        run.save(complete=True)
        yield Done(run.report)


def run_gate(config: Config, phase: int = 2, **options: Any) -> GateReport:
    """Drain `iter_gate` and return its report.

    Raises
    ------
    Cancelled
        `stop` said yes before the report was complete.
    CedKVError
        As `iter_gate`.
    """
    return drain(iter_gate(config, phase, **options))


def saved_state(path: str | Path, lm: LanguageModel, precision: str | None) -> KVPrefix:
    """A state from a file, as it is or as another precision would leave it."""
    prefix = KVPrefix.load(path, lm.fingerprint)
    return with_precision(prefix, precision) if precision else prefix


def _prepare(
    config: Config,
    kind: Kind,
    lm: LanguageModel | None,
    out: str | Path,
    state: str | Path | None,
    precision: str | None,
    stop: Callable[[], bool],
) -> Generator[Event, None, GateRun]:
    """Model, episode and folder of a run, and what there is to say of them before anything is judged."""
    timing: dict[str, float] = {}
    saved = KVPrefix.load(state) if state else None
    if lm is None:
        yield Progress("loading the model", 0, 1)
        with timed(timing, "model_load"):
            lm = load_model(config.run.model.id, config.run.runtime.torch_dtype, config.run.runtime.device)
    yield Progress("preparing the episode", 0, 1)
    with timed(timing, "episode"):
        if state:
            saved = saved_state(state, lm, precision)
            kind = in_place_of_student(kind, saved)
        run = _open(config, kind, lm, out, timing, stop)
        if saved:
            run.data["state"] = {"file": str(state), "method": saved.meta.get("method"), "precision": precision}
        run.save(complete=False)
    yield Opened(run.folder.path, _stages(run))
    if run.bench.episode.reading:
        yield from run.bench.episode.reading.events()
    if saved and saved.meta.get("episode") != run.bench.episode.sha256:
        yield Warned(f"state {str(state)!r} was made in another episode: what is judged may be what it was trained on")
    return run


def _open(
    config: Config,
    kind: Kind,
    lm: LanguageModel,
    out: str | Path,
    timing: dict[str, float],
    stop: Callable[[], bool],
) -> GateRun:
    episode = kind.episode(lm, config)
    # The judge reads the teacher off the workbench, which asks the judge when a training is looked at. What it refuses
    # leaves no folder behind.
    bench = Workbench(lm, episode, config, observe=lambda prefix: judge.observe(prefix), stop=stop)
    off = {split: episode.off_set(split, size) for split, size in kind.off_sizes(config).items()}
    judge = Judge(lm, episode, bench.teacher, off, kind.scorer)
    folder = RunFolder(out, new_run_id(episode.task, kind.phase, kind.slots(config)))
    folder.write("config.yaml", dump_config(config))
    folder.write("artifacts/hf_runtime_meta.json", dump_json(lm.describe()))
    data: Report = {
        "run_id": folder.path.name,
        "phase": kind.phase,
        "seed": config.run.seed,
        "slots_budget": kind.slots(config),
        "model": lm.describe(),
        "episode": {
            **episode.describe(),
            "off": {name: {"count": texts.size, "sha256": texts.sha256} for name, texts in off.items()},
        },
        "demonstrations_read": episode.reading.as_dict() if episode.reading else None,
        "passed": False,
        "gate_a": [],
        "gate_b": [],
        "on": {},
        "off": {},
        "collapse": cast(CollapseBlock, {}),  # until the slots are described
        "role_mass": {},
        "slots": [],
        "timing": timing,
        "versions": library_versions(),
    }
    return GateRun(kind, bench, judge, folder, GateReport(folder.path, data))


def _stages(run: GateRun) -> tuple[str, ...]:
    return ("base", "teacher", *run.kind.methods, *run.kind.trials, *YARDSTICKS, _DESCRIBING)


def _run_method(run: GateRun, method: str, bench: Workbench) -> Iterator[Event]:
    """An extraction, or one that is there already."""
    if method in run.kind.given:
        yield Done(Extraction(method, run.kind.given[method]))
    else:
        yield from run_method(method, bench, run.kind.slots(run.config))


def _extract(run: GateRun, method: str) -> Iterator[Event]:
    with run.part(f"extract_{method}"):
        for event in _run_method(run, method, run.bench):
            if isinstance(event, Done):
                run.extractions[method] = event.result
            else:
                yield event
    # At once, so that a run that is cut short leaves what is finished.
    run.save_state(method, run.extractions[method].prefix)
    artifacts, training = run.extractions[method].artifacts, run.extractions[method].training
    for name, artifact in artifacts.items():
        run.write_artifact(name, artifact)
    if training:
        run.data.setdefault("training", {})[method] = describe_training(training)
        run.write_artifact(f"training_{method}", training)
    if training and method == run.kind.student:
        run.write_artifact("constraint_warn_trace", constraint_warnings(training))
    if "selection" in artifacts:
        with run.part("score_spans"):
            yield from _span_samples(run, method, artifacts["selection"]["spans"])
    run.save(complete=False)


def _span_samples(run: GateRun, method: str, spans: list[dict[str, Any]]) -> Iterator[Sample]:
    for scored in score_spans(run.bench, spans):
        for rule in ("attention", "causal_drop"):
            scored[f"{run.kind.label}_selection_score_{rule}"] = scored.pop(rule)
        yield run.write_sample({"kind": "span", "view": method, **scored})


def _describe(run: GateRun) -> Iterator[Event]:
    """Slots, roles and collapse of the student."""
    yield Progress(_DESCRIBING, 0, 1)
    student = run.extractions[run.kind.student].prefix
    run.data.update(describe_state(student, run.config.phase2.reporting.topk_tokens))
    meta = {
        "slots": student.slots,
        "active_slots": int(student.active.any(0).sum()),
        "positions": student.positions.tolist(),
        "query_start": student.query_start,
        "bytes": student.nbytes,
        "teacher_bytes": run.judge.teacher.nbytes,
    }
    run.write_artifact("prefix_meta", meta)


def _decide(run: GateRun) -> Generator[Event, None, bool]:
    """Both gates, criterion by criterion, then the verdict and the `run` record; returns whether it came to them."""
    with run.part("gate_a"):
        for criterion in check_plumbing(run.judge, run.extractions[run.kind.student].prefix):
            yield _add(run, criterion)
        accuracies = yield from _repeat(run)
        if accuracies is None:
            return False
        yield _add(run, repeat_criterion(accuracies, run.config.phase2.thresholds.repro_acc_tol))
    for criterion in run.kind.criteria(run.data, run.config):
        yield _add(run, criterion)
    run.report.add(run.kind.summary(run.data))
    run.data["passed"] = all(row["passed"] for row in run.data["gate_a"] + run.data["gate_b"])
    run.folder.append_metric({"type": "run", **run.kind.record(run.data)})
    return True


def _add(run: GateRun, criterion: GateCriterion) -> GateCriterion:
    rows = {"A": run.data["gate_a"], "B": run.data["gate_b"]}
    rows[criterion.gate].append(criterion.as_row())
    return criterion


def _repeat(run: GateRun) -> Generator[Progress, None, list[float] | None]:
    """Accuracies of the student, extracted and evaluated anew; None when stopped. Of a training its steps are told."""
    stop = run.bench.stop
    repeats = [run.views[run.kind.student].accuracy]
    for _ in range(run.config.phase2.eval.repro_runs - 1):
        if stop():
            return None
        bench = Workbench(run.bench.lm, run.bench.episode, run.config, stop=stop)
        for event in _run_method(run, run.kind.student, bench):
            if isinstance(event, StepTrace):
                yield Progress(f"repeating {event.method}", event.step, event.steps)
            elif isinstance(event, Done):
                if not event.result.complete:
                    return None
                repeats.append(run.judge.on_view(event.result.prefix).accuracy)
    return repeats
