"""One run of the gate, from a config to a report, as a generator of events."""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cedkv.config import Config, dump_config
from cedkv.episodes import episode_from_config
from cedkv.errors import ConfigError
from cedkv.evaluation import Judge, OnView
from cedkv.events import Done, Event, GateCriterion, Opened, Progress, Sample, StepTrace, Warned
from cedkv.gate.phases import PHASES, SAVED, Phase, saved_state_phase
from cedkv.gate.plumbing import check_plumbing, repeat_criterion
from cedkv.gate.slots import describe_collapse, describe_roles, describe_slots
from cedkv.gate.spans import score_spans
from cedkv.gate.trained import constraint_warnings, describe_training
from cedkv.lm import LanguageModel, load_model
from cedkv.methods import Extraction, Workbench, describe_source, run_method
from cedkv.methods.few_shot import few_shot_trial
from cedkv.methods.select import random_trial
from cedkv.report import RunFolder, dump_json, library_versions, new_run_id, timed
from cedkv.state import KVPrefix, with_precision

# Temperature of whole answers when `eval.decoding` is `sample`.
_SAMPLING_TEMPERATURE = 0.7


@dataclass
class GateReport:
    """The report as it grows; `data` is what the JSON file holds (contract: the report in docs/report.md)."""

    folder: Path
    data: dict[str, Any] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        return self.data["passed"]


@dataclass
class GateRun:
    """What the stages of one run share. `state` is the saved state that is judged, where one is."""

    phase: Phase
    bench: Workbench
    judge: Judge
    folder: RunFolder
    report: GateReport
    state: KVPrefix | None = None
    extractions: dict[str, Extraction] = field(default_factory=dict)
    views: dict[str, OnView] = field(default_factory=dict)

    @property
    def config(self) -> Config:
        return self.bench.config

    @property
    def data(self) -> dict[str, Any]:
        return self.report.data

    def part(self, name: str):
        """Count a block's wall-clock seconds under `timing.NAME`."""
        return timed(self.data["timing"], name)

    def save(self, complete: bool) -> None:
        """Write the report as far as it is; a run that is cut short leaves the last one, marked incomplete."""
        self.data["complete"] = complete
        self.folder.write(f"report_phase{self.phase.number}.json", dump_json(self.data))


def iter_gate(
    config: Config,
    phase: int = 2,
    *,
    lm: LanguageModel | None = None,
    out: str | Path = "runs",
    state: str | Path | None = None,
    precision: str | None = None,
) -> Iterator[Event]:
    """Run the gate of one phase and yield what happens; the last event is `Done(GateReport)`.

    Closing the generator cancels the run; what is written by then stays, marked incomplete.

    Parameters
    ----------
    lm : a loaded model to use; by default the one the config names is loaded.
    out : the run's folder `OUT/{run_id}` appears there.
    state : a state file to judge in the place of the phase's student; nothing is then trained.
    precision : one of `cedkv.state.PRECISIONS`, to judge the saved state as it would be if stored that way.

    Raises
    ------
    CedKVError
        Anything in the config, the files it names or the output folder that cannot be used.
    """
    if phase not in PHASES:
        raise ConfigError(f"phase {phase!r} does not exist; choose from {', '.join(map(str, PHASES))}")
    timing: dict[str, float] = {}
    saved = KVPrefix.load(state) if state else None
    if lm is None:
        yield Progress("loading the model", 0, 1)
        with timed(timing, "model_load"):
            lm = load_model(config.phase2.model.id, config.phase2.runtime.torch_dtype, config.phase2.runtime.device)
    yield Progress("preparing the episode", 0, 1)
    with timed(timing, "episode"):
        if saved is None:
            run = _open(config, PHASES[phase], lm, out, timing)
        else:
            saved = saved_state(state, lm, precision)
            run = _open(config, saved_state_phase(phase, saved.slots), lm, out, timing, saved)
            run.data["state"] = {"file": str(state), "method": saved.meta.get("method"), "precision": precision}
        run.save(complete=False)
    yield Opened(run.folder.path)
    if saved and saved.meta.get("episode") != run.bench.episode.sha256:
        yield Warned(f"state {str(state)!r} was made in another episode: what is judged may be what it was trained on")
    yield from _judge_view(run, "base", None)
    yield from _judge_view(run, "teacher", run.judge.teacher)
    for method in run.phase.methods:
        yield from _extract(run, method)
        yield from _judge_view(run, method, run.extractions[method].prefix)
    yield from _judge_trials(run, "random", random_trial)
    yield from _judge_trials(run, "few_shot_random", few_shot_trial)
    yield from _describe(run)
    yield from _decide(run)
    run.save(complete=True)
    yield Done(run.report)


def run_gate(config: Config, phase: int = 2, **options: Any) -> GateReport:
    """Drain `iter_gate` and return its report."""
    *_, done = iter_gate(config, phase, **options)
    return done.result


def saved_state(path: str | Path, lm: LanguageModel, precision: str | None) -> KVPrefix:
    """A state from a file, as it is or as another precision would leave it."""
    prefix = KVPrefix.load(path, lm.fingerprint)
    return with_precision(prefix, precision) if precision else prefix


def _open(
    config: Config,
    phase: Phase,
    lm: LanguageModel,
    out: str | Path,
    timing: dict[str, float],
    state: KVPrefix | None = None,
) -> GateRun:
    episode = episode_from_config(lm, config)
    bench = Workbench(lm, episode, config)
    off = {split: episode.off_set(split, size) for split, size in phase.off_sizes(config).items()}
    folder = RunFolder(out, new_run_id(episode.task, phase.number, phase.slots(config)))
    folder.write("config.yaml", dump_config(config))
    folder.write("artifacts/hf_runtime_meta.json", dump_json(lm.describe()))
    data = {
        "run_id": folder.path.name,
        "phase": phase.number,
        "seed": config.phase2.seed,
        "slots_budget": phase.slots(config),
        "model": lm.describe(),
        "episode": {
            "task": episode.task,
            "demos": len(episode.demos),
            "tokens": len(episode.tokens),
            "template": episode.template.text,
            "on_train": len(episode.on_train),
            "on_train_source": config.episode.on_source,
            "on_eval": len(episode.on_eval),
            "on_eval_gold": episode.gold,
            "off": {name: {"count": texts.size, "sha256": texts.sha256} for name, texts in off.items()},
        },
        "passed": False,
        "gate_a": [],
        "gate_b": [],
        "on": {},
        "off": {},
        "collapse": {},
        "role_mass": {},
        "slots": [],
        "timing": timing,
        "versions": library_versions(),
    }
    judge = Judge(lm, episode, bench.teacher, off)
    return GateRun(phase, replace(bench, observe=judge.observe), judge, folder, GateReport(folder.path, data), state)


def _run_method(run: GateRun, method: str, bench: Workbench) -> Iterator[Event]:
    """An extraction; a saved state is one that is there already."""
    if method == SAVED:
        yield Done(Extraction(SAVED, run.state))
    else:
        yield from run_method(method, bench, run.phase.slots(run.config))


def _extract(run: GateRun, method: str) -> Iterator[Event]:
    with run.part(f"extract_{method}"):
        for event in _run_method(run, method, run.bench):
            if isinstance(event, Done):
                run.extractions[method] = event.result
            else:
                yield event
    # At once, so that a run that is cut short leaves what is finished.
    _save_state(run, method, run.extractions[method].prefix)
    artifacts, training = run.extractions[method].artifacts, run.extractions[method].training
    for name, artifact in artifacts.items():
        _write_artifact(run, name, artifact)
    if training:
        run.data.setdefault("training", {})[method] = describe_training(training)
        _write_artifact(run, f"training_{method}", training)
    if training and method == run.phase.student:
        _write_artifact(run, "constraint_warn_trace", constraint_warnings(training))
    if "selection" in artifacts:
        with run.part("score_spans"):
            yield from _span_samples(run, method, artifacts["selection"]["spans"])


def _save_state(run: GateRun, name: str, prefix: KVPrefix) -> None:
    prefix.save(run.folder.path / "artifacts" / f"{name}.safetensors")


def _write_artifact(run: GateRun, name: str, artifact: Any) -> None:
    run.folder.write(f"artifacts/phase{run.phase.number}_{name}.json", dump_json(artifact))


def _judge_view(run: GateRun, name: str, prefix: KVPrefix | None) -> Iterator[Event]:
    """Judge one view on all ON queries and OFF texts, write its samples and add it to the report."""
    judge, judged = run.judge, run.config.phase2.eval
    yield Progress(f"judging {name}", 0, 1 + len(judge.off_sets))
    with run.part(f"judge_{name}"):
        view = run.views[name] = judge.on_view(prefix)
        temperature = _SAMPLING_TEMPERATURE if judged.decoding == "sample" else 0.0
        answers = judge.whole_answers(prefix, judged.answer_tokens, temperature, run.config.phase2.seed)
        run.data["on"][name] = {**judge.on_scores(view), "exact_match": judge.exact(answers)}
        off = run.data["off"][name] = {}
        yield from _on_samples(run, name, view, answers)
        for done, split in enumerate(judge.off_sets, start=1):
            yield Progress(f"judging {name}", done, 1 + len(judge.off_sets))
            delta = judge.delta_off(prefix, split)
            off[split] = judge.off_scores(delta, split)
            yield from _off_samples(run, name, split, delta.tolist())
    run.save(complete=False)


def _span_samples(run: GateRun, method: str, spans: list[dict[str, Any]]) -> Iterator[Sample]:
    for scored in score_spans(run.bench, spans):
        for rule in ("attention", "causal_drop"):
            scored[f"phase{run.phase.number}_selection_score_{rule}"] = scored.pop(rule)
        yield _write_sample(run, {"kind": "span", "view": method, **scored})


def _on_samples(run: GateRun, name: str, view: OnView, answers: list[str]) -> Iterator[Sample]:
    delta = run.judge.delta_on(view).tolist()
    gain = (view.answer_logprob - run.judge.base_on.answer_logprob).tolist()
    label = f"phase{run.phase.number}"
    for index, query in enumerate(run.judge.episode.on_eval):
        values = {
            "kind": "on",
            "view": name,
            "input": query.input,
            "gold": query.answer,
            "answer": answers[index],
            "correct": bool(view.correct[index]),
            f"{label}_delta_on_{name}": delta[index],
            f"{label}_answer_logprob_gain": gain[index],
        }
        yield _write_sample(run, values)


def _off_samples(run: GateRun, name: str, split: str, delta: list[float]) -> Iterator[Sample]:
    label = f"phase{run.phase.number}_delta_off_{name}"
    for off, value in zip(run.judge.off_sets[split].texts, delta, strict=True):
        values = {"kind": "off", "view": name, "split": split, "bucket": off.bucket, "text": off.text, label: value}
        yield _write_sample(run, values)


def _write_sample(run: GateRun, values: dict[str, Any]) -> Sample:
    run.folder.append_metric({"type": "sample", **values})
    return Sample(values)


def _judge_trials(run: GateRun, name: str, trial_prefix: Callable[[Workbench, int, int], KVPrefix]) -> Iterator[Event]:
    """Random choices of the same size: ON scores are means over the trials, OFF effect is the first trial's."""
    trials = run.config.phase2.eval.n_random_trials
    scores: list[dict[str, float]] = []
    with run.part(f"judge_{name}"):
        for trial in range(trials):
            yield Progress(f"judging {name}", trial, trials)
            prefix = trial_prefix(run.bench, run.phase.slots(run.config), trial)
            view = run.judge.on_view(prefix)
            scores.append(run.judge.on_scores(view))
            if trial == 0:
                if name == "random":  # to stand beside the others when a query is looked at
                    _save_state(run, name, replace(prefix, meta=describe_source(name, run.bench)))
                off = {s: run.judge.off_scores(run.judge.delta_off(prefix, s), s) for s in run.judge.off_sets}
    run.data["on"][name] = {
        **{key: sum(score[key] for score in scores) / trials for key in scores[0]},
        "trials": [score["accuracy"] for score in scores],
    }
    run.data["off"][name] = off


def _describe(run: GateRun) -> Iterator[Event]:
    """Slots, roles and collapse of the student."""
    yield Progress("describing the slots", 0, 1)
    student = run.extractions[run.phase.student].prefix
    run.data["slots"] = describe_slots(student, run.config.phase2.reporting.topk_tokens)
    run.data["role_mass"] = describe_roles(student)
    run.data["collapse"] = describe_collapse(student)
    meta = {
        "slots": student.slots,
        "active_slots": int(student.active.any(0).sum()),
        "positions": student.positions.tolist(),
        "query_start": student.query_start,
        "bytes": student.nbytes,
        "teacher_bytes": run.judge.teacher.nbytes,
    }
    _write_artifact(run, "prefix_meta", meta)


def _decide(run: GateRun) -> Iterator[Event]:
    """Both gates, criterion by criterion, then the verdict and the `run` record."""
    with run.part("gate_a"):
        for criterion in check_plumbing(run.judge, run.extractions[run.phase.student].prefix):
            yield _add(run, criterion)
        accuracies = yield from _repeat(run)
        yield _add(run, repeat_criterion(accuracies, run.config.phase2.thresholds.repro_acc_tol))
    for criterion in run.phase.criteria(run.data, run.config):
        yield _add(run, criterion)
    run.data.update(run.phase.summary(run.data))
    run.data["passed"] = all(row["passed"] for row in run.data["gate_a"] + run.data["gate_b"])
    run.folder.append_metric({"type": "run", **run.phase.run_record(run.data)})


def _add(run: GateRun, criterion: GateCriterion) -> GateCriterion:
    run.data[f"gate_{criterion.gate.lower()}"].append(criterion.as_dict())
    return criterion


def _repeat(run: GateRun) -> Generator[Progress, None, list[float]]:
    """Accuracies of the student, extracted and evaluated anew. Of a training only its steps are told."""
    repeats = [run.views[run.phase.student].accuracy]
    for _ in range(run.config.phase2.eval.repro_runs - 1):
        bench = Workbench(run.bench.lm, run.bench.episode, run.config)
        for event in _run_method(run, run.phase.student, bench):
            if isinstance(event, StepTrace):
                yield Progress(f"repeating {event.method}", event.step, event.steps)
            elif isinstance(event, Done):
                repeats.append(run.judge.on_view(event.result.prefix).accuracy)
    return repeats
