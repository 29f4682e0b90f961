"""What is judged is the answer: digits behind a blank, answers of two lines, and brackets that format decides."""

import json
from collections import Counter

import pytest

from cedkv.config import load_config
from cedkv.episodes import episode_from_config, get_template, load_task, make_query, task_names
from cedkv.evaluation import Judge
from cedkv.events import Warned
from cedkv.gate import iter_gate
from cedkv.gate.answers import describe_first_token, judging_warnings
from cedkv.methods import Workbench
from tests.gate.reports import SMALL
from tests.tiny import tiny_lm

ONES = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
DIGITS = [(word, str(number + 1)) for number, word in enumerate(ONES)] + [
    (f"{ten}-{one}", str(20 + 10 * tens + ones + 1)) for tens, ten in enumerate(TENS) for ones, one in enumerate(ONES)
]
PLURALS = [word for word, _ in load_task("singular-plural").pairs]
KINDS = {
    "digits": DIGITS,
    "lines": [(word, f"{word}\n{word.upper()}") for word in PLURALS],
    "brackets": [(word, f"[{word}]") for word in PLURALS],
}


@pytest.fixture
def task_file(tmp_path):
    """Write the pairs of a kind as a task file and return its path."""

    def write(kind: str) -> str:
        path = tmp_path / f"{kind}.json"
        path.write_text(json.dumps([{"input": x, "output": y} for x, y in KINDS[kind]]), encoding="utf-8")
        return str(path)

    return write


@pytest.fixture
def judge_of(lm, task_file):
    """The judge of a kind of answers on the embedded model."""

    def make(kind: str, queries: int = 12) -> Judge:
        settings = [f"episode.task_file={task_file(kind)}", f"phase2.eval.on_samples={queries}", "episode.on_train=4"]
        config = load_config(None, settings)
        episode = episode_from_config(lm, config)
        return Judge(lm, episode, Workbench(lm, episode, config).teacher, {})

    return make


def test_digit_answers_tell_the_views_apart(judge_of):
    """The blank in front of a digit is in every view's query, and no longer the answer that all of them get right."""
    judge = judge_of("digits")
    assert judge.episode.opening == " "
    assert all(query.blanks == 0 and judge.lm.decode([query.first_id]).isdigit() for query in judge.episode.on_eval)
    base, teacher = judge.scores(None), judge.scores(judge.teacher)
    assert base["accuracy"] < 0.5 < 0.8 < teacher["accuracy"]
    assert base["whole_answer"] < 0.5 < teacher["whole_answer"]
    assert describe_first_token(judge)["blank"] == 1
    assert not describe_first_token(judge)["by_format"]


def test_answers_of_two_lines_are_judged_whole(judge_of):
    judge = judge_of("lines")
    assert judge.episode.stop == "\n\n"
    assert all("\n" in query.answer for query in judge.episode.on_eval)
    assert judge.whole_answer(judge.teacher) > 0 == judge.whole_answer(None)


def test_a_first_token_that_format_decides_is_said(judge_of):
    judge = judge_of("brackets", queries=4)
    assert describe_first_token(judge)["by_format"]
    (warning,) = judging_warnings(judge)
    assert "decided by format: ' [' begins 100%" in warning


def test_the_gate_then_counts_whole_answers_and_warns(task_file, tmp_path):
    config = load_config(None, [*SMALL, f"episode.task_file={task_file('brackets')}"])
    *events, done = iter_gate(config, 2, lm=tiny_lm("llama"), out=tmp_path)
    names = [row["name"] for row in done.result.data["gate_b"]]
    assert "whole_gain" in names and "on_gain" not in names
    assert any("decided by format" in event.message for event in events if isinstance(event, Warned))


def test_answers_that_go_on_after_their_end_are_said(task_file, tmp_path):
    """A template of one line cannot say where an answer of two lines ends."""
    config = load_config(None, [*SMALL, f"episode.task_file={task_file('lines')}", "episode.template=arrow"])
    lm = tiny_lm("llama")
    episode = episode_from_config(lm, config)
    assert all("\n" not in query.answer for query in episode.on_eval)
    warnings = list(judging_warnings(Judge(lm, episode, Workbench(lm, episode, config).teacher, {})))
    assert any("10 answers go on after '\\n'" in warning for warning in warnings)


def test_no_shipped_task_is_decided_by_its_tokens(lm):
    """Of all shipped tasks one has answers behind a blank, 1 of 100 of them; in none do the answers begin alike."""
    blank, alike = set(), set()
    for name in task_names():
        queries = [make_query(lm, get_template("qa"), x, y) for x, y in load_task(name).pairs]
        blank |= {name for query in queries if query.blanks}
        commonest = Counter(query.first_id for query in queries).most_common(1)[0][1]
        alike |= {name} if commonest > 0.6 * len(queries) else set()
    assert (blank, alike) == ({"english-french"}, set())
