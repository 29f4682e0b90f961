"""The rivals: each is what its paper says where that can be computed by hand; the table goes on where it was cut."""

import sys

import pytest
import torch

from benchmarks import rival_methods, rivals
from benchmarks.rival_methods import (
    FunctionVector,
    answered,
    attention_matched,
    context_tuned,
    last_states,
    matching_bias,
    peft_prefix,
)
from benchmarks.rivals import markdown, means
from cedkv.config import load_config
from cedkv.episodes import episode_from_config
from cedkv.ledger import Ledger
from cedkv.lm import log_probs
from cedkv.methods import Workbench
from cedkv.metrics import kl
from tests.gate.reports import SMALL
from tests.tiny import QUERY_TEXTS, plain_model, tiny_lm, tiny_path
from tests.tolerance import FORWARD, forward


@pytest.fixture(scope="module")
def bench() -> Workbench:
    lm, config = tiny_lm("llama"), load_config(None, SMALL)
    return Workbench(lm, episode_from_config(lm, config), config)


def surprise(bench, prefix) -> float:
    """Nats of the demonstrations' own answers behind a prefix."""
    texts = [[*query.ids, *query.answer_ids[:-1]] for query in answered(bench)]
    gold = torch.tensor([token for query in answered(bench) for token in query.answer_ids])
    rows = log_probs(bench.lm, texts, prefix, [len(query.answer_ids) for query in answered(bench)])
    return -rows.gather(1, gold[:, None]).mean().item()


def test_a_key_that_stands_for_three_has_the_bias_of_three():
    scores = torch.randn(2, 1, 6, 2)
    tokens = torch.cat([scores[..., :1].expand(-1, -1, -1, 3), scores[..., 1:]], dim=-1)
    bias = matching_bias(scores, tokens)
    torch.testing.assert_close(bias, torch.tensor([3.0, 1.0]).log().expand(2, 1, 2), atol=2e-3, rtol=0)


def test_attention_matching_with_every_key_is_the_teacher(bench):
    matched = attention_matched(bench, 10_000)
    assert matched.slots == bench.teacher.slots and matched.query_start == bench.teacher.query_start
    apart = kl(bench.teacher_on_probes, log_probs(bench.lm, bench.probes, matched)).mean()
    fewer = kl(bench.teacher_on_probes, log_probs(bench.lm, bench.probes, attention_matched(bench, 2))).mean()
    assert apart < 0.05 * fewer


def test_context_tuning_starts_at_the_demonstrations_and_learns_their_answers(bench, monkeypatch):
    monkeypatch.setattr(rival_methods, "CT_STEPS", 0)
    start = context_tuned(bench, 8)
    assert torch.equal(start.keys, bench.teacher.keys) and start.mixture is None
    monkeypatch.setattr(rival_methods, "CT_STEPS", 8)
    monkeypatch.setattr(rival_methods, "CT_RATE", 0.03)
    assert surprise(bench, context_tuned(bench, 8)) < surprise(bench, start)


def test_prefix_tuning_is_pefts_and_learns_the_answers(bench, monkeypatch):
    monkeypatch.setattr(rival_methods, "PEFT_STEPS", 1)
    start = peft_prefix(bench, 5)
    assert (start.slots, start.query_start, start.positions.tolist()) == (5, 5, [0, 1, 2, 3, 4])
    monkeypatch.setattr(rival_methods, "PEFT_STEPS", 12)
    assert surprise(bench, peft_prefix(bench, 5)) < surprise(bench, start)
    assert not any(weight.requires_grad for weight in bench.lm.model.parameters())


def test_hidden_states_are_the_models_own():
    lm, ids = tiny_lm("llama"), [tiny_lm("llama").encode(text) for text in QUERY_TEXTS[:2]]
    caught = last_states(lm, ids, None)
    with torch.no_grad():
        for place, text in enumerate(ids):
            hidden = plain_model("llama")(torch.tensor([text]), output_hidden_states=True).hidden_states
            torch.testing.assert_close(caught[1, place], hidden[2][0, -1], **FORWARD)


def test_a_function_vector_of_nothing_is_the_base_and_one_of_something_is_not(bench):
    lm, ids = bench.lm, bench.probes
    found = FunctionVector.of(bench)
    nothing = FunctionVector(lm, found.layer, torch.zeros_like(found.vector))
    base = log_probs(lm, ids)
    assert kl(nothing.log_probs(ids), base).abs().max() < forward()
    assert kl(found.log_probs(ids), base).mean() > 0.01
    assert log_probs(lm, ids).equal(base)


def test_means_stand_beside_the_teacher_on_the_same_tasks():
    def row(task, rival, accuracy, **more):
        figures = dict.fromkeys(("whole_answer", "kl_to_teacher", "off_p99", "off_mean", "seconds", "slots"), 1.0)
        return {"task": task, "seed": 0, "budget": 8, "rival": rival, "accuracy": accuracy, **figures, **more}

    rows = [row("a", "teacher", 0.8), row("b", "teacher", 1.0), row("weak", "teacher", 0.1)]
    rows += [row("a", "ced", 0.4), row("b", "ced", 0.5), row("weak", "ced", 0.0)]
    ced = next(mean for mean in means(rows[:2] + rows[3:5]) if mean["rival"] == "ced")
    assert (ced["tasks"], ced["teacher_share"]) == (2, pytest.approx(0.5))
    assert "| ced | 8 | 1 | 0.450 | 0.500 | 1.000 | 1.000 | 1.000 | 1.000 |  |  | 1.00 | 2 |" in markdown(rows)


def test_the_command_goes_on_where_it_was_cut(tmp_path, monkeypatch, capsys):
    out, kept = tmp_path / "rivals.jsonl", ["chunked", "attention_matching", "function_vector"]
    settings = [f"--set={setting}" for setting in [*SMALL, "phase3.off_data.stress_samples=9"]]
    command = ["rivals.py", "--tasks", "present-past", "--model", str(tiny_path("llama")), "--out", str(out)]
    command += ["--slots", "4", "--teacher-min", "0", "--real-pieces", "2", *settings, "--rivals", *kept]
    monkeypatch.setattr(sys, "argv", command)
    rivals.main()
    rows = Ledger(out).rows()
    assert [row["rival"] for row in rows.values()] == [*rivals.REFERENCES, *kept]
    slots = {row["rival"]: row["slots"] for row in rows.values()}
    assert slots["chunked"] == slots["attention_matching"] == 4 and slots["function_vector"] == 0
    by_name = {row["rival"]: row for row in rows.values()}
    assert by_name["base"]["off_p99"] < forward() and by_name["teacher"]["kl_to_teacher"] < forward()
    assert by_name["base"]["perplexity_ratio"] == pytest.approx(1, abs=1e-4)
    first = capsys.readouterr().out
    monkeypatch.setattr(rivals, "_row", lambda *_: pytest.fail("a row was measured twice"))
    rivals.main()
    assert capsys.readouterr().out == first
