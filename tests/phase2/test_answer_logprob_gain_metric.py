"""`answer_logprob_gain`: how much likelier (nats) the whole gold answer is than for the base."""

import pytest
import torch

from cedkv.config import load_config
from cedkv.evaluation import Judge
from cedkv.gate import run_gate
from tests.gate.reports import SMALL, samples
from tests.tiny import plain_model, tiny_lm


@pytest.fixture
def judge(bench_with) -> Judge:
    bench = bench_with()
    return Judge(bench.lm, bench.episode, bench.teacher, {})


def reference(prompt: list[int], answer: tuple[int, ...]) -> float:
    """Log-probability of an answer after a prompt, token by token, with transformers alone."""
    with torch.no_grad():
        rows = plain_model("llama")(torch.tensor([[*prompt, *answer]])).logits[0].log_softmax(-1)
    return sum(rows[len(prompt) - 1 + place, token].item() for place, token in enumerate(answer))


def test_the_answers_have_several_tokens(judge):
    assert any(len(query.answer_ids) > 1 for query in judge.episode.on_eval)


def test_it_is_the_difference_of_the_answers_log_probabilities(judge):
    demos = list(judge.episode.tokens.ids)
    gain = judge.teacher_on.answer_logprob - judge.base_on.answer_logprob
    for query, measured in zip(judge.episode.on_eval, gain.tolist(), strict=True):
        with_demos = reference([*demos, *query.ids], query.answer_ids)
        alone = reference([*judge.lm.bos, *query.ids], query.answer_ids)
        assert measured == pytest.approx(with_demos - alone, abs=1e-3)


def test_counting_only_the_first_token_would_be_another_number(judge):
    pairs = zip(judge.teacher_on.first, judge.episode.on_eval, strict=True)
    first = [rows[query.answer_ids[0]].item() for rows, query in pairs]
    assert judge.teacher_on.answer_logprob.tolist() != pytest.approx(first, abs=1e-2)


def test_the_base_gains_nothing(judge):
    assert judge.on_scores(judge.base_on)["answer_logprob_gain"] == 0


def test_the_report_is_the_mean_of_the_samples(tmp_path):
    report = run_gate(load_config(None, SMALL), lm=tiny_lm("llama"), out=tmp_path)
    for view in ("base", "teacher", "select", "few_shot"):
        gains = [row["phase2_answer_logprob_gain"] for row in samples(report, kind="on", view=view)]
        assert len(gains) == 6
        assert report.data["on"][view]["answer_logprob_gain"] == pytest.approx(sum(gains) / 6, abs=1e-4)
