"""`gate`: exit codes, what it prints, and how options become settings."""

import json
from pathlib import Path

import pytest

from cedkv.cli import build_parser, main
from cedkv.cli.options import config_from
from cedkv.config import Config, load_config
from tests.gate.reports import SMALL

SMALL_OPTIONS = [word for setting in SMALL for word in ("--set", setting)]
LENIENT = [
    "phase2.thresholds.on_gain_min=-1",
    "phase2.thresholds.rel_kl_to_teacher_max=100",
    "phase2.thresholds.off_delta_p99_max=100",
    "phase2.thresholds.delta_on_min=0",
    "phase2.select.mode=random_span",
    "phase2.eval.n_random_trials=1",
]


def config_of(*arguments: str) -> Config:
    return config_from(build_parser().parse_args(["gate", *arguments]))


def test_a_failing_gate_exits_1_and_prints_its_folder_last(cli, model, tmp_path):
    outcome = cli("gate", "--model", model, "--out", tmp_path, *SMALL_OPTIONS)
    folder = Path(outcome.out.splitlines()[-1])
    assert outcome.code == 1
    assert folder.parent == tmp_path
    assert json.loads((folder / "report_phase2.json").read_text(encoding="utf-8"))["passed"] is False
    assert "on_gain" in outcome.out and "FAIL" in outcome.out


def test_a_passing_gate_exits_0(cli, model, tmp_path):
    lenient = [word for setting in LENIENT for word in ("--set", setting)]
    outcome = cli("gate", "--model", model, "--out", tmp_path, *SMALL_OPTIONS, *lenient)
    assert outcome.code == 0, outcome.out
    assert "FAIL" not in outcome.out
    assert outcome.out.count("PASS") == 11


def test_columns_are_aligned_and_stages_are_plain_lines_without_a_terminal(cli, model, tmp_path):
    outcome = cli("gate", "--model", model, "--out", tmp_path, *SMALL_OPTIONS)
    rows = [line for line in outcome.out.splitlines() if line.endswith(("PASS", "FAIL", "verdict"))]
    assert len({line.rindex("  ") for line in rows}) == 1
    assert "judging teacher" in outcome.err.splitlines()
    assert "\r" not in outcome.err.replace("\r\n", "\n").partition("judging")[2]


def test_an_interrupt_exits_130_and_says_what_was_kept(cli, model, tmp_path, monkeypatch):
    from cedkv.cli.show import ProgressLine

    shown = ProgressLine.show

    def press_ctrl_c(line, event):
        if getattr(event, "stage", "") == "judging select":
            raise KeyboardInterrupt
        shown(line, event)

    monkeypatch.setattr(ProgressLine, "show", press_ctrl_c)
    outcome = cli("gate", "--model", model, "--out", tmp_path, *SMALL_OPTIONS)
    (folder,) = tmp_path.iterdir()
    assert outcome.code == 130
    assert outcome.err.splitlines()[-1] == f"cedkv: interrupted: what was measured so far is kept in {folder}"
    assert json.loads((folder / "report_phase2.json").read_text(encoding="utf-8"))["complete"] is False


def test_without_a_config_every_default_holds():
    assert config_of() == Config()


@pytest.mark.parametrize(
    ("flags", "setting"),
    [
        (["--phase2-model-id", "a/b"], "run.model.id=a/b"),
        (["--phase2-device", "cpu"], "run.runtime.device=cpu"),
        (["--phase2-max-on", "7"], "phase2.eval.on_samples=7"),
        (["--phase2-max-off", "9"], "phase2.eval.off_samples=9"),
        (["--phase2-prefix-len", "12"], "phase2.prefix_len=12"),
        (["--phase2-select-mode", "delimiter_span"], "phase2.select.mode=delimiter_span"),
        (["--phase2-dtype", "bfloat16"], "run.runtime.torch_dtype=bfloat16"),
        (["--phase2-dtype", "bf16"], "run.runtime.torch_dtype=bfloat16"),
        (["--model", "a/b"], "run.model.id=a/b"),
        (["--task", "capitalize"], "episode.task=capitalize"),
        (["--set", "phase2.select.span_len=2"], "phase2.select.span_len=2"),
        (["--phase2-strict-hf", "--phase3-strict-hf"], "run.runtime.backend=hf"),
    ],
)
def test_each_flag_is_a_setting(flags, setting):
    assert config_of(*flags) == load_config(None, [setting])


def test_a_text_that_looks_like_something_else_stays_a_text(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("1").write_text('[{"input": "a", "output": "b"}, {"input": "c", "output": "d"}]', encoding="utf-8")
    assert config_of("--task-file", "1").episode.task_file == "1"
    assert config_of("--model", "yes").run.model.id == "yes"


def test_later_options_win():
    assert config_of("--phase2-prefix-len", "4", "--set", "phase2.prefix_len=6").phase2.prefix_len == 6
    assert config_of("--set", "phase2.prefix_len=6", "--phase2-prefix-len", "4").phase2.prefix_len == 4


def test_options_win_over_the_file(tmp_path):
    (tmp_path / "c.yaml").write_text("{phase2: {prefix_len: 5}, run: {seed: 3}}", encoding="utf-8")
    config = config_of("--config", str(tmp_path / "c.yaml"), "--phase2-prefix-len", "6")
    assert (config.phase2.prefix_len, config.run.seed) == (6, 3)


def test_demonstrations_on_the_command_line_are_not_judged_by_the_files_task(tmp_path):
    (tmp_path / "c.yaml").write_text("episode: {task: capitalize, on_train: 5}", encoding="utf-8")
    mine = tmp_path / "mine.txt"
    mine.write_text("lift -> lifted\n", encoding="utf-8")
    config = config_of("--config", str(tmp_path / "c.yaml"), "--demos", str(mine))
    assert config.episode.demos_file == str(mine)
    assert config.episode.task is None
    assert config.episode.on_train == 5


def test_a_task_on_the_command_line_replaces_the_files_pairs(tmp_path):
    (tmp_path / "c.yaml").write_text("episode: {task_file: other.json}", encoding="utf-8")
    config = config_of("--config", str(tmp_path / "c.yaml"), "--task", "capitalize")
    assert (config.episode.task, config.episode.task_file) == ("capitalize", None)


def test_no_mock_is_accepted_with_or_without_the_strict_flag(cli, tmp_path):
    (tmp_path / "c.yaml").write_text("run: {runtime: {allow_mock_fallback: true}}", encoding="utf-8")
    for flags in ([], ["--phase2-strict-hf"]):
        error = cli("gate", "--config", tmp_path / "c.yaml", *flags).error
        assert "allow_mock_fallback" in error and "refused" in error


def test_help_describes_settings_in_the_schemas_words(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["gate", "--help"])
    assert stop.value.code == 0
    assert "Slots of the Select-KV prefix." in " ".join(capsys.readouterr().out.split())
