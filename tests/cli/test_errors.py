"""Everything a user can get wrong: exit code 2 and one line that names the thing and what to do."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("yaml", "named"),
    [
        ("phase2: {prefix_length: 8}", ["line 1", "phase2.prefix_length", "did you mean 'prefix_len'?"]),
        ("phase2:\n  select:\n    mod: random_span", ["line 3", "phase2.select.mod", "did you mean 'mode'?"]),
        ("phase2: {prefix_len: 0}", ["line 1", "phase2.prefix_len = 0", "greater than or equal to 1"]),
        ("phase2: {eval: {off_samples: many}}", ["phase2.eval.off_samples = 'many'", "integer"]),
        ("run: {runtime: {backend: mock}}", ["run.runtime.backend = 'mock'", "'hf'"]),
        ("phase2: {select: {mode: best}}", ["phase2.select.mode = 'best'", "'attention_diversity_span'"]),
        ("phase2: [", ["not valid YAML"]),
        ("- 1", ["top level"]),
    ],
)
def test_settings(cli, tmp_path, yaml, named):
    config = tmp_path / "c.yaml"
    config.write_text(yaml, encoding="utf-8")
    error = cli("gate", "--config", config).error
    for part in [str(config), *named]:
        assert part in error


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["gate", "--config", "nowhere.yaml"], ["'nowhere.yaml'", "No such file"]),
        (["gate", "--set", "phase2.prefix_len"], ["--set 'phase2.prefix_len'", "a.b=value"]),
        (["gate", "--set", "phase2.prefx_len=3"], ["phase2.prefx_len", "did you mean 'prefix_len'?"]),
        (["gate", "--phase2-prefix-len", "9999"], ["phase2.prefix_len = 9999", "512"]),
        (["gate", "--phase2-dtype", "int8"], ["run.runtime.torch_dtype = 'int8'", "'bfloat16'"]),
        (["gate", "--phase2-max-on", "few"], ["--phase2-max-on", "'few'"]),
        (["gate", "--phase", "7"], ["--phase", "7", "choose from"]),
        (["gate", "--phase2-prefix", "7"], ["unrecognized", "--phase2-prefix"]),
        (["documents", "--out", "."], ["output '.' is a folder"]),
        (["documents", "--off-texts", "-5"], ["--off-texts", "'-5'", "whole number"]),
        (["extract", "--slots", "0", "--out", "x"], ["--slots", "'0'", "at least 1"]),
        (["extract", "--method", "magic", "--out", "x"], ["--method", "magic", "select"]),
        (["extract"], ["--out"]),
        (["query", "--state", "nowhere.safetensors", "a"], ["nowhere.safetensors"]),
        (["inspect", "nowhere.safetensors"], ["nowhere.safetensors"]),
        (["app", "--port", "70000"], ["--port 70000"]),
        (["gat"], ["gat", "choose from"]),
        ([], ["COMMAND"]),
    ],
)
def test_arguments(cli, arguments, named):
    error = cli(*arguments).error
    for part in named:
        assert part in error


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", ["empty", "lift -> lifted"]),
        ("   \n\n", ["empty"]),
        ("lift -> lifted\nwalk ->", ["walk", "output"]),
        ("lift -> lifted\nwalk", ["walk", "only one side"]),
        ("lift -> lifted\nwalk -> walked\nlift -> raised", ["'lift'", "1 and 3", "same input"]),
        ('[{"input": "lift"', ["JSON"]),
    ],
)
@pytest.mark.parametrize("command", ["gate", "extract"])
def test_demonstrations(cli, model, tmp_path, command, text, named):
    demos = tmp_path / "demos.txt"
    demos.write_text(text, encoding="utf-8")
    out = tmp_path / "out"
    error = cli(command, "--demos", demos, "--model", model, "--out", out).error
    for part in named:
        assert part in error
    assert not out.exists()


@pytest.mark.parametrize("command", ["gate", "extract", "query"])
def test_demonstrations_longer_than_the_context(cli, model, state, tmp_path, command):
    demos = tmp_path / "many.txt"
    demos.write_text("".join(f"word number {n} -> {n}\n" for n in range(300)), encoding="utf-8")
    rest = {
        "gate": ["--model", model, "--out", tmp_path / "out"],
        "extract": ["--model", model, "--out", tmp_path / "out"],
        "query": ["--state", state, "rain"],
    }[command]
    error = cli(command, "--demos", demos, *rest).error
    for part in ("demonstrations", "tokens", "512", "fewer"):
        assert part in error


def test_a_task_that_does_not_exist(cli, model, tmp_path):
    error = cli("gate", "--task", "presentpast", "--model", model, "--out", tmp_path).error
    assert "'presentpast'" in error and "did you mean 'present-past'?" in error


@pytest.mark.parametrize("given", ["nowhere/at/all", "nowhere.gguf", "broken.gguf", "empty_folder", "nobody/no-model"])
def test_models(cli, tmp_path, monkeypatch, given):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CEDKV_CACHE", str(tmp_path / "cache"))
    (tmp_path / "broken.gguf").write_bytes(b"GGUF but not really")
    (tmp_path / "empty_folder").mkdir()
    assert given in cli("gate", "--model", given, "--out", tmp_path / "out").error


@pytest.mark.parametrize("command", ["gate", "extract"])
def test_an_output_that_cannot_be_written(cli, model, demos_file, tmp_path, command):
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "below"
    error = cli(command, "--demos", demos_file, "--model", model, "--out", out).error
    assert str(out) in error and "choose another" in error


def test_an_output_that_is_a_folder(cli, model, tmp_path):
    error = cli("extract", "--task", "capitalize", "--model", model, "--out", tmp_path).error
    assert str(tmp_path) in error and "is a folder" in error


def test_an_extraction_that_fails_keeps_the_state_that_was_there(cli, state, model, tmp_path):
    before = Path(state).read_bytes()
    (tmp_path / "empty.txt").touch()
    outcome = cli("extract", "--demos", tmp_path / "empty.txt", "--model", model, "--method", "select", "--out", state)
    assert "empty" in outcome.error
    assert Path(state).read_bytes() == before


@pytest.mark.parametrize("command", [["inspect"], ["query", "rain", "--state"]])
def test_a_damaged_state(cli, state, command):
    content = Path(state).read_bytes()
    Path(state).write_bytes(content[: len(content) // 2])
    assert state in cli(*command, state).error


def test_a_state_of_another_model(cli, state):
    from tests.tiny import tiny_path

    error = cli("query", "--state", state, "--model", tiny_path("qwen2"), "rain").error
    assert "'fingerprint'" in error and "load the model it was made for" in error


def test_a_name_in_any_script_is_shown_as_it_was_typed(cli):
    error = cli("extract", "--demos", "nowhere 😀.txt", "--out", "state.safetensors").error
    assert "nowhere 😀.txt" in error


@pytest.mark.parametrize("error", [MemoryError, torch.OutOfMemoryError])
def test_too_little_memory(cli, monkeypatch, error):
    def run(args):
        raise error

    monkeypatch.setattr("cedkv.cli.app.run", run)
    assert "out of memory; use fewer samples" in cli("app").error


def test_a_home_that_does_not_exist(cli):
    assert "'~no-such-user/model' does not exist" in cli("gate", "--model", "~no-such-user/model").error


@pytest.mark.parametrize("text", ["", "word " * 600])
def test_a_text_that_is_empty_or_too_long(cli, state, text):
    error = cli("query", "--state", state, "--raw", text).error
    assert "empty" in error or "do not fit into the 512" in error


def test_from_a_shell_an_error_is_one_line_and_exit_code_2():
    run = subprocess.run(
        [sys.executable, "-m", "cedkv", "gate", "--set", "phase2.prefx_len=3"], cwd=ROOT, capture_output=True, text=True
    )
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.count("\n") == 1
    assert "did you mean 'prefix_len'?" in run.stderr


def test_a_reader_that_goes_away_leaves_no_traceback(state):
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "cedkv", "inspect", state]
    run = subprocess.run(command, cwd=ROOT, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (run.returncode, run.stderr) == (141, "")
