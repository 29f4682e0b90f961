"""The whole benchmark as a generator of events; its result is what `bench.json` holds."""

import statistics
from collections.abc import Iterator
from typing import Any

from cedkv.bench.arithmetic import ModelShape
from cedkv.bench.latency import decoding_figures, measure_latency
from cedkv.bench.loading import load_seconds, ready_times
from cedkv.bench.machine import describe_machine, peak_rss_mb, seconds_of
from cedkv.bench.plan import FULL, Plan
from cedkv.bench.step import measure_step
from cedkv.config import Config
from cedkv.episodes import RelationEpisode, episode_from_config
from cedkv.errors import ConfigError
from cedkv.events import Done, Event, Measured, Progress
from cedkv.lm import LanguageModel, load_model, read_demo_kv
from cedkv.methods import Extraction, extract
from cedkv.provenance import library_versions
from cedkv.state import KVPrefix

Size = tuple[int, int]


def iter_bench(config: Config, plan: Plan = FULL) -> Iterator[Event]:
    """Measure and yield what happens; the last event is `Done` with the figures, ready for JSON.

    After each stage comes `Measured` with the figures so far, whose `complete` is false. What the machine cannot do in
    reasonable time is left out, and `left_out` says what and why.

    Raises
    ------
    CedKVError
        The model cannot be loaded or its arithmetic is not known, demonstrations are fixed, or the task has too few
        pairs for the plan.
    """
    if config.episode.demos_file:
        raise ConfigError(
            "the benchmark draws several numbers of demonstrations; give a task or task file, no demos file"
        )
    yield Progress("loading the model in processes of its own", 0, 1)
    usual = {"slots": plan.usual_slots, "demos": plan.usual_demos}
    result: dict[str, Any] = {"complete": False, "plan": plan.name, "usual": usual, "left_out": {}}
    result |= {"machine": describe_machine(), "versions": library_versions(), "model_load_s": load_seconds(config)}
    runtime = config.run.runtime
    lm = load_model(config.run.model.id, runtime.torch_dtype, runtime.device)
    ModelShape.of(lm)  # what could not be counted at the end is refused now
    memory = result["peak_rss_mb_after"] = {"load": peak_rss_mb()}
    result["model"] = {
        "id": lm.id,
        "fingerprint": lm.fingerprint,
        "dtype": runtime.torch_dtype,
        "device": str(lm.device),
    }
    yield Measured(result)
    episodes = {demos: episode_from_config(lm, with_demos(config, demos)) for _, demos in plan.sizes}
    extractions: dict[Size, Extraction] = {}
    yield from _extract(lm, episodes, config, plan, result, extractions)
    memory["extract"] = peak_rss_mb()
    yield Measured(result)
    yield from _compare(lm, episodes, plan, result, extractions)
    yield Measured(result)
    yield from measure_step(lm, episodes[plan.usual_demos], config, plan, result)
    memory["step"] = peak_rss_mb()
    result |= {"peak_rss_mb": peak_rss_mb(), "complete": True}
    yield Done(result)


def with_demos(config: Config, demos: int) -> Config:
    """The config with as many demonstrations, and only the few evaluation queries that latency needs."""
    judged = config.phase2.eval.model_copy(update={"on_samples": 4})
    return config.model_copy(
        update={
            "episode": config.episode.model_copy(update={"demos": demos}),
            "phase2": config.phase2.model_copy(update={"eval": judged}),
        }
    )


def _extract(
    lm: LanguageModel,
    episodes: dict[int, RelationEpisode],
    config: Config,
    plan: Plan,
    result: dict[str, Any],
    extractions: dict[Size, Extraction],
) -> Iterator[Event]:
    """Fill in `extract`, with the default preset of CED-KV; the last extraction of every size is kept."""
    times: dict[Size, list[float]] = {size: [] for size in plan.sizes}
    short = config.phase3.optim.model_copy(update={"steps": 1, "extend_to": None})
    warm_up = config.model_copy(update={"phase3": config.phase3.model_copy(update={"optim": short})})
    extract(lm, episodes[plan.usual_demos], "ced", plan.usual_slots, warm_up)
    for turn in range(plan.extractions):
        for number, (slots, demos) in enumerate(plan.sizes):
            yield Progress("timing extraction", turn * len(times) + number, plan.extractions * len(times))

            def work(slots: int = slots, demos: int = demos) -> None:
                extractions[slots, demos] = extract(lm, episodes[demos], "ced", slots, config)

            times[slots, demos].append(seconds_of(work))
    result["extract"] = [
        {
            "slots": slots,
            "demos": demos,
            "tokens": len(episodes[demos].tokens),
            "steps": len(extractions[slots, demos].training["steps"]),
            "seconds": statistics.median(times[slots, demos]),
        }
        for slots, demos in plan.sizes
    ]


def _compare(
    lm: LanguageModel,
    episodes: dict[int, RelationEpisode],
    plan: Plan,
    result: dict[str, Any],
    extractions: dict[Size, Extraction],
) -> Iterator[Event]:
    """Fill in latency, decoding, memory and what it takes to be ready, per number of demonstrations."""
    result |= {"ttft_ms": [], "tokens_per_second": [], "growth": []}
    for number, demos in enumerate(plan.demos):
        yield Progress("timing answers", number, len(plan.demos))
        episode, student = episodes[demos], extractions[plan.usual_slots, demos].prefix
        teacher = read_demo_kv(lm, episode.tokens).as_prefix()
        ttft, rate = measure_latency(lm, episode, teacher, student, plan)
        result["ttft_ms"].append(ttft)
        result["tokens_per_second"].append(rate)
        sizes = {
            "teacher_kv_bytes": kv_bytes(lm, teacher),
            "student_kv_bytes": kv_bytes(lm, student),
        }
        ready = ready_times(lm, episode.tokens, student, plan.answers)
        result["growth"].append({"demos": demos, "tokens": len(episode.tokens), **sizes, **ready})
        if demos == plan.usual_demos:
            result["kv_bytes"] = {"teacher": sizes["teacher_kv_bytes"], "student": sizes["student_kv_bytes"]}
            result["decoding"] = decoding_figures(lm, rate["student"])


def kv_bytes(lm: LanguageModel, prefix: KVPrefix) -> int:
    """Bytes of keys and values as they are injected: in the model's dtype."""
    return (prefix.keys.numel() + prefix.values.numel()) * lm.dtype.itemsize
