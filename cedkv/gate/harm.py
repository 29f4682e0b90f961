"""Harm beside the frozen OFF sets, in a gate run: neutral yardsticks, real text, other relations and what they show."""

from collections.abc import Iterator
from typing import cast

from cedkv.events import Event
from cedkv.gate.judging import judge_off
from cedkv.gate.stage import GateRun
from cedkv.harm import Asked, iter_harm, yardsticks
from cedkv.report import OffScores

# Measures that give `Delta` and so stand in the report's `off`; the others are blocks of their own.
_OFF = ("real_text", "foreign")


def judge_harm(run: GateRun) -> Iterator[Event]:
    """Judge the yardsticks on the OFF sets, then everything on what else `phase2.eval.harm` asks for."""
    neutral = yardsticks(run.bench.lm, len(run.bench.episode.tokens))
    with run.part("judge_yardsticks"):
        for name, prefix in neutral.items():
            yield from judge_off(run, name, prefix)
    views = {name: extraction.prefix for name, extraction in run.extractions.items()}
    asked = Asked(run.bench.lm, run.bench.episode, run.config.phase2.eval.harm)
    with run.part("judge_harm"):
        found = yield from iter_harm(asked, {"teacher": run.judge.teacher, **views, **neutral})
    for measure, figures in found.items():
        if measure in _OFF:
            for view, scores in figures.items():
                run.data["off"][view][measure] = cast(OffScores, scores)
        else:
            run.report.add({measure: figures})
    run.save(complete=False)
