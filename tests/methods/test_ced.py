"""CED-KV as a method: what it takes, what it gives, and how it stands to the other methods."""

import json

import pytest
import torch

from cedkv import extract
from cedkv.errors import ConfigError
from cedkv.events import Warned
from cedkv.files import dump_json
from cedkv.lm import log_probs
from cedkv.metrics import kl
from cedkv.state import KVPrefix
from tests.optim.trainings import SLOTS, bench_with, ced, events_of, train


def test_it_gives_a_state_that_can_be_saved_and_used(tmp_path):
    bench = bench_with()
    prefix = extract(bench.lm, bench.episode, "ced", SLOTS, bench.config).prefix
    prefix.save(tmp_path / "state.safetensors")
    again = KVPrefix.load(tmp_path / "state.safetensors", bench.lm.fingerprint)
    queries = [query.ids for query in bench.episode.on_eval]
    assert torch.equal(log_probs(bench.lm, queries, prefix), log_probs(bench.lm, queries, again))
    assert prefix.meta["method"] == "ced"
    assert prefix.slots == SLOTS
    assert not prefix.values.requires_grad


def test_more_slots_than_spans_or_tokens():
    """The spans that Select-KV may take do not limit a mixture; the demonstrations' tokens do, and that is said."""
    bench = bench_with("phase3.optim.steps=1", "phase2.select.span_budget=2")
    tokens = len(bench.episode.tokens)
    exact, events = train(bench, slots=tokens)
    assert (exact.prefix.slots, events_of(events, Warned)) == (tokens, [])
    most, events = train(bench, slots=tokens + 5)
    assert most.prefix.slots == tokens
    assert f"{tokens + 5} slots are asked for" in events_of(events, Warned)[0].message


IDLE = ["phase3.optim.lr=0.3", "phase3.loss.lambda_str=0.02", "phase3.optim.topk_schedule=[16, 8, 4]"]
IDLE += ["phase3.optim.matching_iterations=150", "phase3.optim.matching_off_texts=16"]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ([], None),
        (["phase3.optim.lr=0.1"], "phase3.optim.lr"),
        (
            ["phase3.layer_scope.mixture=last_2", "phase3.optim.matching_iterations=9"],
            "phase3.layer_scope.mixture, phase3.optim.matching_iterations",
        ),
    ],
)
def test_settings_that_chunks_have_no_use_for_are_told(changed, told):
    """They mean something to mixtures of tokens, so they are no mistake; but nothing here follows from them."""
    chunks = ["phase3.start=chunks", "phase3.mixture={}", "phase3.optim.steps=1", *IDLE, *changed]
    extraction, events = train(bench_with(*chunks))
    warnings = [event.message for event in events_of(events, Warned) if "chunks are trained without" in event.message]
    assert warnings == (
        [f"ced: chunks are trained without {told}; phase3.start: tokens heeds what is set there"] if told else []
    )
    assert [step["top_k"] for step in extraction.training["steps"]] == [None]


@pytest.mark.parametrize("slots", [1, 2, 9])
def test_it_gives_as_many_slots_as_are_asked_for(slots):
    prefix = train(bench_with("phase3.optim.steps=2"), slots=slots)[0].prefix
    assert prefix.slots == slots
    assert (prefix.positions.tolist(), prefix.query_start) == (list(range(slots)), slots)


def test_it_ends_nearer_to_the_teacher_than_the_tokens_it_started_from():
    bench = bench_with("phase3.optim.steps=16", "phase3.loss.lambda_off=0.05")
    start, _ = train(bench, "select", SLOTS)
    end, _ = train(bench, "ced", SLOTS)
    distance = {
        name: kl(bench.teacher_on_probes, log_probs(bench.lm, bench.probes, result.prefix)).mean().item()
        for name, result in (("select", start), ("ced", end))
    }
    assert distance["ced"] < 0.8 * distance["select"]


def test_its_record_holds_every_step_tick_and_update():
    training = ced().training
    assert training["method"] == "ced"
    assert training["stopped"] == ""
    assert [step["step"] for step in training["steps"]] == list(range(8))
    assert [tick["step"] for tick in training["ticks"]] == [row["step"] for row in training["lambda_off"]] == [3, 7]
    assert training["steps"][0].keys() >= {"loss_on", "loss_off", "loss_str", "lambda_off", "top_k", "seconds"}
    assert json.loads(dump_json(training)) == json.loads(json.dumps(training))


def test_loose_sources_are_refused_in_production_and_said_in_debugging(monkeypatch):
    loose = "phase3.off_data.dual_metric_source=hard_pool"
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(ConfigError, match="dual_metric_source"):
        ced(loose)
    _, events = train(bench_with(loose, "phase3.policy_mode=debug", "phase3.optim.steps=1"))
    (warning,) = events_of(events, Warned)
    assert "do not quote this run" in warning.message
    monkeypatch.setenv("CI", "true")
    with pytest.raises(ConfigError, match="CI=true forces"):
        ced(loose, "phase3.policy_mode=debug")


def test_a_bf16_trunk_trains_a_state_of_full_precision():
    full, half = (ced(f"phase3.optim.train_dtype={dtype}").prefix for dtype in ("model", "bfloat16"))
    assert full.values.dtype == half.values.dtype == torch.float32
    assert not torch.equal(full.values, half.values)
    assert (half.mixture.weights.sum(-1) - 1).abs().max() < 1e-5


@pytest.mark.parametrize("decay", ["cosine", "linear"])
def test_the_decay_changes_the_training(decay):
    same, other = ced(f"phase3.optim.decay={decay}"), ced("phase3.optim.decay=cosine")
    assert torch.equal(same.prefix.values, other.prefix.values) is (decay == "cosine")
