"""The benchmark's contract: every key, in figures that agree with each other."""

import json
import math
from dataclasses import replace

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from cedkv.bench import FULL, QUICK, iter_bench
from cedkv.bench.arithmetic import ModelShape
from cedkv.bench.latency import decoding_line, weight_bytes
from cedkv.bench.loading import load_seconds, ready_times
from cedkv.bench.machine import gemm_gflops, peak_rss_mb
from cedkv.bench.run import with_demos
from cedkv.bench.step import measure_step
from cedkv.cli import main
from cedkv.cli.bench import extract_table, facts_table, latency_table, sizes_table, steps_table, written
from cedkv.config import load_config
from cedkv.episodes import episode_from_config
from cedkv.errors import ConfigError, ModelError, StateError
from cedkv.events import Measured, Progress
from cedkv.lm import read_demo_kv
from tests.bench.conftest import PLAN, SHORT
from tests.tiny import HEAD_DIM, KV_HEADS, LAYERS, text_tokens, tiny_lm

VIEWS = ("teacher_prompt", "teacher_cached", "student")
SLOT_BYTES = 2 * LAYERS * KV_HEADS * HEAD_DIM * 4


def test_figures_come_as_they_are_measured_and_stay(told, figures):
    stages = [event.figures for event in told if isinstance(event, Measured)]
    news = ["extract", "ttft_ms", "gemm_gflops", "step"]
    assert "model_load_s" in stages[0]
    for earlier, later, new in zip(stages, [*stages[1:], figures], news, strict=True):
        assert new not in earlier and new in later
        assert earlier["complete"] is False
        assert all(later[key] == earlier[key] for key in ("plan", "machine", "versions", "model_load_s"))
    assert (figures["complete"], figures["left_out"]) == (True, {})


def test_a_stopped_benchmark_leaves_the_figures_so_far_whole(told, tmp_path):
    first = next(event for event in told if isinstance(event, Measured))

    def interrupted():
        yield first
        yield Progress("timing", 0, 1)
        raise KeyboardInterrupt

    out = tmp_path / "bench.json"
    with pytest.raises(KeyboardInterrupt, match=f"the figures so far are kept in {out}"):
        list(written(interrupted(), out))
    assert json.loads(out.read_text(encoding="utf-8")) == first.figures
    with pytest.raises(KeyboardInterrupt, match="nothing was measured"):
        list(written(filter(_interrupt, [first]), out))


def _interrupt(event):
    raise KeyboardInterrupt


def test_what_a_machine_cannot_do_in_time_is_left_out_and_named():
    config = load_config(None, SHORT)
    lm, result = tiny_lm("llama"), {"left_out": {}}
    episode = episode_from_config(lm, with_demos(config, 4))
    list(measure_step(lm, episode, config, replace(PLAN, step_seconds=0.0), result))
    assert [row["dtype"] for row in result["step"]] == ["fp32"]
    assert result["gemm_gflops"].keys() == {"fp32", "bf16"}
    assert result["left_out"].keys() == {"step.bf16"}
    assert "step.bf16 left out: matrix products run at " in steps_table(result)


def test_it_has_every_key_of_the_contract(figures):
    assert figures.keys() >= {
        "gemm_gflops", "step", "extract", "ttft_ms", "tokens_per_second", "kv_bytes", "model_load_s", "peak_rss_mb",
        "versions", "plan", "machine", "model", "decoding",
    }  # fmt: skip
    assert figures["gemm_gflops"].keys() == {"fp32", "bf16"}
    assert figures["model_load_s"].keys() == {"cold", "warm"}
    json.dumps(figures, allow_nan=False)


def test_a_steps_figures_follow_from_each_other(figures):
    assert [row["dtype"] for row in figures["step"]] == ["fp32", "bf16"]
    for row in figures["step"]:
        assert row["gflops"] == pytest.approx(row["gflop"] / row["seconds"])
        assert row["utilisation"] == pytest.approx(row["gflops"] / figures["gemm_gflops"][row["dtype"]])
        assert row["steps_per_second"] == pytest.approx(1 / row["seconds"])
        assert row["texts"] == 5 < row["rows_read"] <= row["tokens"]
    assert figures["step"][0]["gflop"] == figures["step"][1]["gflop"], "both dtypes take the same step"
    assert figures["step"][0]["tokens"] == figures["step"][1]["tokens"]


def test_a_step_is_about_two_passes_over_the_weights(figures):
    row, shape = figures["step"][0], ModelShape.of(tiny_lm("llama"))
    weights = sum(inputs * outputs for layer in shape.layers for inputs, outputs in layer.linears.values())
    assert 0.6 < row["gflop"] * 1e9 / (2 * 2 * row["tokens"] * weights) < 1.5


def test_every_size_is_extracted_once(figures):
    assert [(row["slots"], row["demos"]) for row in figures["extract"]] == [(2, 4), (3, 4), (3, 3)]
    assert all(row["seconds"] > 0 and row["steps"] == 2 for row in figures["extract"])
    tokens = {row["demos"]: row["tokens"] for row in figures["extract"]}
    assert tokens[4] > tokens[3]


def test_every_view_is_timed_at_every_number_of_demonstrations(figures):
    for name in ("ttft_ms", "tokens_per_second"):
        assert [row["demos"] for row in figures[name]] == [3, 4]
        assert all(row[view] > 0 and math.isfinite(row[view]) for row in figures[name] for view in VIEWS)


def test_bytes_are_those_of_the_slots_that_are_injected(figures):
    tokens = next(row["tokens"] for row in figures["extract"] if row["demos"] == 4)
    assert figures["kv_bytes"] == {"teacher": tokens * SLOT_BYTES, "student": 3 * SLOT_BYTES}
    few, many = figures["growth"]
    assert few["student_kv_bytes"] == many["student_kv_bytes"] == 3 * SLOT_BYTES
    assert few["teacher_kv_bytes"] < many["teacher_kv_bytes"]
    assert many["state_file_bytes"] > many["student_kv_bytes"]


def test_being_ready_is_timed_at_every_number_of_demonstrations(figures):
    assert [(row["demos"], row["tokens"]) for row in figures["growth"]] == [
        (row["demos"], row["tokens"]) for row in figures["ttft_ms"]
    ]
    for row in figures["growth"]:
        assert 0 < row["state_load_ms"] < 1000
        assert 0 < row["demo_prefill_ms"] < 1000


def test_the_file_that_is_timed_is_the_students():
    lm = tiny_lm("llama")
    tokens = text_tokens(lm)
    student = read_demo_kv(lm, tokens).as_prefix()
    ready = ready_times(lm, tokens, student, repeats=1)
    assert ready.keys() == {"state_file_bytes", "state_load_ms", "demo_prefill_ms"}
    assert student.nbytes < ready["state_file_bytes"] < student.nbytes + 10_000
    with pytest.raises(StateError, match="fingerprint"):
        ready_times(lm, tokens, replace(student, fingerprint="another"), repeats=1)


def test_decoding_is_held_against_reading_every_weight_once(figures):
    decoding = figures["decoding"]
    rate = next(row["student"] for row in figures["tokens_per_second"] if row["demos"] == 4)
    assert decoding["tokens_per_second"] == rate
    assert decoding["limit"] == pytest.approx(decoding["reading_gb_s"] * 1e9 / decoding["weight_bytes"])
    assert decoding["utilisation"] == pytest.approx(rate / decoding["limit"])
    assert f"{decoding['utilisation']:.0%} of the" in decoding_line(decoding)
    assert "not timed" in decoding_line({**decoding, "tokens_per_second": None})
    assert 0.1 < decoding["reading_gb_s"] < 10_000


def test_embeddings_are_read_whole_only_where_they_are_the_head():
    lm, read = tiny_lm("llama"), []
    for tied in (True, False):
        config = AutoConfig.for_model(**{**lm.model.config.to_dict(), "tie_word_embeddings": tied})
        read.append(weight_bytes(replace(lm, model=AutoModelForCausalLM.from_config(config, dtype=torch.float32))))
    assert read[0] == read[1] == weight_bytes(lm)


def test_memory_only_grows(figures):
    after = list(figures["peak_rss_mb_after"].values())
    assert 0 < after[0] <= after[1] <= after[2] <= figures["peak_rss_mb"] <= peak_rss_mb()


def test_the_plans_are_those_of_the_contract():
    wanted = {(slots, 10) for slots in (2, 4, 8, 16)} | {(8, demos) for demos in (5, 10, 20, 40)}
    assert set(FULL.sizes) == wanted
    assert len(FULL.sizes) == len(wanted)
    assert set(QUICK.sizes) < wanted


def test_the_rate_is_work_over_time():
    rate = gemm_gflops(ModelShape.of(tiny_lm("llama")), tokens=32, device=torch.device("cpu"))
    assert all(0.01 < value < 1e5 for value in rate.values())


def test_a_model_that_cannot_be_loaded_is_named(tmp_path):
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_seconds(load_config(None, [f"run.model.id={tmp_path}"]))


def test_a_load_that_dies_without_a_word_is_told_by_its_exit_code(monkeypatch):
    """As where the system ends a process for want of memory."""
    monkeypatch.setattr("cedkv.bench.loading._LOAD", "raise SystemExit(3)")
    with pytest.raises(ModelError, match="it ended with exit code 3"):
        load_seconds(load_config())


def test_fixed_demonstrations_are_refused():
    with pytest.raises(ConfigError, match="demos file"):
        list(iter_bench(load_config(None, ["episode.demos_file=x.txt"])))


def test_the_command_shows_every_row(figures):
    steps, extractions = steps_table(figures), extract_table(figures)
    assert [len(shown.splitlines()) for shown in (steps, extractions)] == [3, 4]
    assert f"{figures['step'][0]['utilisation']:.0%} of" in steps
    assert len(latency_table(figures).splitlines()) == len(sizes_table(figures).splitlines()) == 3
    for row, line in zip(figures["growth"], sizes_table(figures).splitlines()[1:], strict=True):
        assert line.split()[:2] == [str(row["demos"]), str(row["tokens"])]
        assert line.split()[-2:] == [f"{row['state_load_ms']:.1f}", f"{row['demo_prefill_ms']:.1f}"]
    assert f"{figures['peak_rss_mb']:.0f} MiB" in facts_table(figures)


def test_the_output_is_checked_before_the_work(tmp_path, capsys):
    assert main(["bench", "--out", str(tmp_path)]) == 2
    assert "is a folder" in capsys.readouterr().err
