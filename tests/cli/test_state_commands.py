"""`extract`, `query` and `inspect`: from demonstrations to a file, and what the file and the model then say."""

import json
from dataclasses import replace

import pytest
import torch

from cedkv.cli import COMMANDS, load_command
from cedkv.cli.show import quoted, table
from cedkv.gate.diagnosis import Reach
from cedkv.lm import generate, log_probs
from cedkv.state import KVPrefix
from tests.tiny import tiny_lm


@pytest.fixture
def no_model(monkeypatch):
    """Whoever loads a model now fails."""

    def refuse(*args):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("cedkv.cli.query.load_model", refuse)
    monkeypatch.setattr("cedkv.cli.extract.load_model", refuse)
    monkeypatch.setattr("cedkv.lm.load.load_model", refuse)


def test_extract_saves_a_state_that_says_what_it_is(state, demos_file, model):
    prefix = KVPrefix.load(state, tiny_lm("llama").fingerprint)
    assert prefix.slots == 8
    assert (prefix.meta["method"], prefix.meta["task"]) == ("select", "past")
    assert prefix.meta["template"] == "Q: {input}\nA: {output}\n\n"
    assert prefix.meta["settings"]["episode"]["demos_file"] == demos_file
    assert prefix.meta["settings"]["run"]["model"]["id"] == model


def test_extract_prints_a_summary_and_the_file_last(cli, model, tmp_path):
    out = tmp_path / "new folder" / "state.safetensors"
    arguments = ["--task", "capitalize", "--slots", "5", "--method", "few_shot", "--model", model, "--out", out]
    outcome = cli("extract", *arguments)
    assert outcome.code == 0, outcome.err
    assert outcome.out.splitlines()[-1] == str(out)
    assert "few_shot" in outcome.out and "capitalize" in outcome.out and "in place of" in outcome.out


@pytest.mark.parametrize("asked", [["--slots", "3"], ["--set", "phase3.slots=3"]])
def test_extract_makes_as_many_slots_as_the_settings_say_and_notes_them(cli, model, tmp_path, asked):
    out = tmp_path / "state.safetensors"
    outcome = cli("extract", "--task", "capitalize", "--method", "select", "--model", model, "--out", out, *asked)
    assert outcome.code == 0, outcome.err
    assert KVPrefix.load(out).slots == KVPrefix.load(out).meta["settings"]["phase3"]["slots"] == 3


@pytest.mark.parametrize(
    "form", ["lift\tlifted\nwalk\twalked\nbake\tbaked", "Q: lift\nA: lifted\n\nQ: walk\nA: walked"]
)
def test_extract_reads_any_format_of_demonstrations(cli, model, tmp_path, form):
    (tmp_path / "demos").write_text(form, encoding="utf-8")
    out = tmp_path / "state.safetensors"
    outcome = cli("extract", "--demos", tmp_path / "demos", "--method", "select", "--model", model, "--out", out)
    assert outcome.code == 0, outcome.err
    assert KVPrefix.load(out).mixture.tokens.texts[0] == "Q"


def test_query_shows_what_each_view_says(cli, state, demos_file):
    outcome = cli("query", "--state", state, "--demos", demos_file, "--tokens", 3, "rain")
    lines = outcome.out.splitlines()
    assert outcome.code == 0, outcome.err
    assert json.loads(lines[0]) == "Q: rain\nA:"
    assert [line.split()[0] for line in lines[2:]] == ["base", "teacher", "student"]

    lm, prefix = tiny_lm("llama"), KVPrefix.load(state)
    ids = lm.encode("Q: rain\nA:")
    probability, token = log_probs(lm, [ids], prefix)[0].exp().max(dim=-1)
    (continuation,) = generate(lm, [ids], prefix, 3, stop="\n")
    assert quoted(continuation) in lines[-1]
    assert f"{quoted(lm.decode([token.item()]))} {probability.item():.3f}" in lines[-1]


def test_query_without_demonstrations_has_no_teacher(cli, state):
    assert "teacher" not in cli("query", "--state", state, "rain").out


def test_query_answers_every_text_and_raw_ones_as_they_are(cli, state):
    outcome = cli("query", "--state", state, "--raw", "once upon", "7")
    blocks = outcome.out.strip().split("\n\n")
    assert [json.loads(block.splitlines()[0]) for block in blocks] == ["once upon", "7"]


def test_query_uses_a_text_as_it_is_when_the_state_has_no_template(cli, state):
    prefix = KVPrefix.load(state)
    meta = {key: value for key, value in prefix.meta.items() if key != "template"}
    replace(prefix, meta=meta).save(state)
    assert json.loads(cli("query", "--state", state, "rain").out.splitlines()[0]) == "rain"


def test_inspect_shows_slots_tokens_and_settings_without_a_model(cli, state, no_model):
    outcome = cli("inspect", state)
    prefix = KVPrefix.load(state)
    assert outcome.code == 0, outcome.err
    for fact in ('"select"', '"past"', '"llama"', "8, 8 of them switched on", "0-7, then the query at 8", "float32"):
        assert fact in outcome.out
    tokens = prefix.mixture.tokens
    for slot, token in enumerate(prefix.mixture.weights[0, 0].argmax(-1).tolist()):
        line = next(line for line in outcome.out.splitlines() if line.split()[:3] == [str(slot), str(slot), "4"])
        assert f"1.00 {quoted(tokens.texts[token])} {tokens.roles[token]} demo {tokens.demo[token]}" in line
    assert "episode.demos_file" in outcome.out


def test_inspect_shows_mixtures_null_slots_and_unconstrained_slots(cli, state, no_model):
    prefix = KVPrefix.load(state)
    weights = prefix.mixture.weights.clone()
    weights[..., :2, :] = 0
    weights[..., 1, 3], weights[..., 1, 5] = 0.75, 0.25
    mixed = replace(prefix, mixture=replace(prefix.mixture, weights=weights))
    mixed.with_active(torch.arange(8).ne(0).expand_as(prefix.active)).save(state)
    lines = cli("inspect", state).out.splitlines()
    assert next(line for line in lines if line.split()[:3] == ["0", "0", "0"]).endswith("null slot")
    mixture = next(line for line in lines if line.split()[:3] == ["1", "1", "4"])
    assert mixture.index("0.75") < mixture.index("0.25")

    replace(prefix, mixture=None).save(state)
    assert "unconstrained" in cli("inspect", state).out


def test_inspect_escapes_what_a_terminal_would_obey(cli, state, no_model):
    prefix = KVPrefix.load(state)
    replace(prefix, meta={**prefix.meta, "task": "red \x1b[31m \x9b1m\nnext"}).save(state)
    out = cli("inspect", state).out
    assert not {"\x1b", "\x9b"} & set(out)
    assert '"red \\u001b[31m \\u009b1m\\nnext"' in out


def test_every_command_is_documented():
    for name, about in COMMANDS.items():
        assert load_command(name).__doc__.splitlines()[0] == about
        assert about.endswith("."), name


def test_table_aligns_left_and_right():
    assert table([["a", "1"], ["long", "22"]], right=[1]) == "a      1\nlong  22"


def test_diagnose_names_a_bottleneck_and_keeps_its_curves(cli, model, demos_file, tmp_path, monkeypatch):
    monkeypatch.setattr("cedkv.gate.diagnosis.Reach", lambda lambdas: Reach((2,), (1.0,), 1, lambdas, 2, 9))
    told = cli("diagnose", "--demos", demos_file, "--model", model, "--out", tmp_path, "--set", "episode.on_train=4")
    assert told.code == 0, told.err
    found = json.loads((tmp_path / "diagnosis.json").read_text())
    assert f"{found['bottlenecks'][0]['name']}: " in told.out
    assert told.out.endswith(f"{tmp_path / 'diagnosis.json'}\n")
