"""Text that no file could hold again: half characters, bytes that are not UTF-8, numbers without end."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from cedkv.errors import DemoError, StateError
from cedkv.state import KVPrefix
from cedkv.state.container import write_container
from tests.tiny import tiny_lm

ROOT = Path(__file__).parents[2]
DIGITS = "9" * 4400
HEX = "0x" + "f" * 5000
PAIRS = '[{"input": "a", "output": "b"}, {"input": "c", "output": %s}]'


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ('run: {model: {id: "\\ud800"}}', ["line 1: run.model.id", "'\\ud800' is half of a character"]),
        ('episode:\n  pasted_inputs: ["ok", "a\\udcffb"]', ["line 2: episode.pasted_inputs", "half of a character"]),
        ('"\\ud800": 1', ["half of a character"]),
        (f"run: {{seed: {DIGITS}}}", ["4400 digits"]),
        (f"run:\n  seed: {HEX}", ["line 2: run.seed", "thousands of digits"]),
        (f"phase3: {{optim: {{lr: {HEX}}}}}", ["phase3.optim.lr", "thousands of digits"]),
        (f"phase3: {{optim: {{lr: {'9' * 4000}}}}}", ["phase3.optim.lr"]),
        (f"phase3: {{layer_scope: {{injection: last_{DIGITS}}}}}", ["last_99"]),
        ("phase2: &a {eval: *a}", ["phase2"]),
        ("phase2: &a {prefix: [*a]}", ["phase2"]),
        ("? [a, b]\n: 1", ["not valid YAML"]),
        ("2020-01-01: {a: 1}", ["keys should be strings"]),
    ],
)
def test_settings(cli, model, tmp_path, value, named):
    config = tmp_path / "c.yaml"
    config.write_text(value, encoding="utf-8")
    out = ["--task", "capitalize", "--set", "episode.on_train=2", "--out", tmp_path / "out"]
    more = [] if "model" in value else ["--model", model]
    error = cli("gate", "--config", config, "--phase", 3, *more, *out).error
    for part in named:
        assert part in error


@pytest.mark.parametrize(
    "override", ['run.model.id="\\ud800"', f"run.seed={DIGITS}", f"run.seed={HEX}", f"run.seed=-{HEX}"]
)
def test_overrides(cli, override):
    assert override.partition("=")[0] in cli("gate", "--set", override).error


@pytest.mark.parametrize(
    ("flag", "value"), [("--slots", DIGITS), ("--task", "\udcff"), ("--demos", "\udcff.txt"), ("--out", "x\ud800")]
)
def test_arguments(cli, flag, value):
    error = cli("extract", "--out", "x", flag, value).error
    assert flag in error or "is not UTF-8 text" in error


@pytest.mark.parametrize(
    ("output", "named"),
    [
        ('"\\ud83d"', "half of a character"),
        (DIGITS, "thousands of digits|4300 digits"),
        ("1e999", "it must be a non-empty string"),
    ],
)
def test_task_files(cli, model, tmp_path, output, named):
    file = tmp_path / "task.json"
    file.write_text(PAIRS % output, encoding="utf-8")
    error = cli("gate", "--task-file", file, "--model", model, "--out", tmp_path / "out").error
    assert str(file) in error
    assert any(part in error for part in named.split("|"))


@pytest.mark.parametrize("command", [["inspect"], ["query", "rain", "--state"]])
@pytest.mark.parametrize("number", ["teacher_bytes", "query_start", "slots"])
def test_numbers_without_end_in_a_state(cli, state, tmp_path, command, number):
    def change(header):
        where = header["meta"] if number == "teacher_bytes" else header
        where[number] = 10**4000

    file = rewritten(state, tmp_path, change)
    assert str(file) in cli(*command, file).error


@pytest.mark.parametrize("command", [["inspect"], ["query", "rain", "--state"]])
@pytest.mark.parametrize("raw", [False, True], ids=["escaped", "raw"])
def test_half_characters_in_a_state(cli, state, tmp_path, command, raw):
    file = rewritten(state, tmp_path, lambda header: header["meta"].update(task="\ud800", anything=["\ud800"]))
    if raw:
        whole = file.read_bytes()
        file.write_bytes(whole.replace(b"\\\\ud800", b"\\\\\xed\xa0\x80"))  # as other writers' bytes might be
    assert str(file) in cli(*command, file).error


def rewritten(state: str, folder: Path, change) -> Path:
    """A state file whose sealed header says something else."""
    from safetensors import safe_open

    file = folder / "odd.safetensors"
    with safe_open(state, "pt") as opened:
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        metadata = opened.metadata()
    header = json.loads(metadata["header"])
    change(header)
    metadata.pop("sha256")
    write_container(file, tensors, {**metadata, "header": json.dumps(header)})
    return file


def test_in_python_too(state, tmp_path):
    with pytest.raises(DemoError, match=r"'rain\\ud800' holds half of a character"):
        tiny_lm("llama").encode("rain\ud800")
    file = rewritten(state, tmp_path, lambda header: header.update(fingerprint="\udcff"))
    with pytest.raises(StateError, match="'header' cannot be read"):
        KVPrefix.load(file)


def test_bytes_of_a_shell_that_are_not_utf8_are_one_line_and_exit_code_2(state):
    command = [sys.executable, "-m", "cedkv", "query", "--state", os.fsencode(state), b"caf\xe9"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr == "cedkv: error: argument 'caf\\udce9' is not UTF-8 text; write it, or rename the file, so\n"


def test_a_terminal_that_lacks_a_character_gets_its_number(state, tmp_path):
    prefix = KVPrefix.load(state)
    replace(prefix, meta={**prefix.meta, "task": "naïve 😀"}).save(tmp_path / "odd.safetensors")
    command = [sys.executable, "-m", "cedkv", "inspect", str(tmp_path / "odd.safetensors")]
    ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii"}
    run = subprocess.run(command, cwd=ROOT, env=ascii_only, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")
    assert "na\\xefve \\U0001f600" in run.stdout
