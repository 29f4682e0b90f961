"""Judging the views of a gate run: scores into the report, a sample for every query and text."""

from collections.abc import Iterator
from dataclasses import replace
from typing import cast

from cedkv.evaluation import OnView
from cedkv.events import Event, Progress, Sample
from cedkv.gate.kinds.base import Trial
from cedkv.gate.stage import GateRun
from cedkv.methods import describe_source
from cedkv.report import OnScores
from cedkv.state import KVPrefix

# Temperature of the answers shown when `eval.decoding` is `sample`.
_SAMPLING_TEMPERATURE = 0.7


def judge_view(run: GateRun, name: str, prefix: KVPrefix | None) -> Iterator[Event]:
    """Judge one view on all ON queries and OFF texts, write its samples and add it to the report."""
    judge, judged = run.judge, run.config.phase2.eval
    yield Progress(f"judging {name}", 0, 1 + len(judge.off_sets))
    with run.part(f"judge_{name}"):
        view = run.views[name] = judge.on_view(prefix)
        temperature = _SAMPLING_TEMPERATURE if judged.decoding == "sample" else 0.0
        answers = judge.answers(prefix, judged.answer_tokens, temperature, run.config.run.seed)
        whole = judge.right(answers)
        # Sampled answers are shown; judged are greedy ones, as those of the random choices are.
        share = judge.whole_answer(prefix) if temperature else sum(whole) / len(whole)
        run.data["on"][name] = {**judge.on_scores(view), "whole_answer": share}
        yield from _on_samples(run, name, view, answers, whole)
        yield from judge_off(run, name, prefix)
    run.save(complete=False)


def judge_off(run: GateRun, name: str, prefix: KVPrefix | None) -> Iterator[Event]:
    """One view on the OFF sets: into the report, and a sample for every text."""
    off = run.data["off"][name] = {}
    for done, split in enumerate(run.judge.off_sets, start=1):
        yield Progress(f"judging {name}", done, 1 + len(run.judge.off_sets))
        delta = run.judge.delta_off(prefix, split)
        off[split] = run.judge.off_scores(delta, split)
        yield from _off_samples(run, name, split, delta.tolist())


def _on_samples(run: GateRun, name: str, view: OnView, answers: list[str], whole: list[bool]) -> Iterator[Sample]:
    delta = run.judge.delta_on(view).tolist()
    gain = (view.answer_logprob - run.judge.base_on.answer_logprob).tolist()
    label = run.kind.label
    for index, query in enumerate(run.judge.episode.on_eval):
        values = {
            "kind": "on",
            "view": name,
            "input": query.input,
            "gold": query.answer,
            "answer": answers[index],
            "correct": bool(view.correct[index]),
            "whole": whole[index],
            "answer_logprob": view.answer_logprob[index].item(),
            f"{label}_delta_on_{name}": delta[index],
            f"{label}_answer_logprob_gain": gain[index],
        }
        yield run.write_sample(values)


def _off_samples(run: GateRun, name: str, split: str, delta: list[float]) -> Iterator[Sample]:
    label = f"{run.kind.label}_delta_off_{name}"
    for off, value in zip(run.judge.off_sets[split].texts, delta, strict=True):
        values = {"kind": "off", "view": name, "split": split, "bucket": off.bucket, "text": off.text, label: value}
        yield run.write_sample(values)


def judge_trials(run: GateRun, name: str, drawn: Trial) -> Iterator[Event]:
    """Random choices of the same size: ON scores are means over the trials, OFF effect is the first trial's."""
    trials = run.config.phase2.eval.n_random_trials
    scores: list[OnScores] = []
    with run.part(f"judge_{name}"):
        for trial in range(trials):
            yield Progress(f"judging {name}", trial, trials)
            prefix = drawn.draw(run.bench, run.kind.slots(run.config), trial)
            scores.append(run.judge.scores(prefix))
            if trial == 0:
                if drawn.kept:
                    run.save_state(name, replace(prefix, meta=describe_source(name, run.bench)))
                off = {s: run.judge.off_scores(run.judge.delta_off(prefix, s), s) for s in run.judge.off_sets}
    run.data["on"][name] = _over_trials(scores)
    run.data["off"][name] = off


def _over_trials(scores: list[OnScores]) -> OnScores:
    """Means of all figures, and each trial's share of right answers."""
    means = {key: sum(cast(dict[str, float], score)[key] for score in scores) / len(scores) for key in scores[0]}
    return {
        **cast(OnScores, means),
        "trials": [score["accuracy"] for score in scores],
        "whole_answer_trials": [score["whole_answer"] for score in scores],
    }
