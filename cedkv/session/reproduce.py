"""A run as text that gives the same report elsewhere: on the command line and in Python."""

from pathlib import Path

import yaml

from cedkv.config import Config
from cedkv.session.runs import Run

DEMOS_NAME = "demonstrations.jsonl"


def minimal_yaml(config: Config, own: bool, demos_file: str | None) -> str:
    """The settings that differ from the defaults.

    own : there are only demonstrations, no task with held-out pairs; the task must then not be named.
    """
    tree = config.model_dump(mode="json", exclude_defaults=True)
    left_out = {"demos_file", "task"} if own else {"demos_file"}
    episode = {name: value for name, value in tree.pop("episode", {}).items() if name not in left_out}
    if demos_file:
        episode["demos_file"] = demos_file
    return yaml.safe_dump({"episode": episode, **tree}, sort_keys=False, allow_unicode=True, width=100)


def command_line(run: Run, phase: int) -> str:
    """Shell commands that write the run's files and judge them with the gate."""
    text, demos = _files(run)
    parts = [f"cat > run.yaml <<'CEDKV'\n{text}CEDKV"]
    if demos:
        parts.insert(0, f"cat > {DEMOS_NAME} <<'CEDKV'\n{demos}CEDKV")
    return "\n".join([*parts, f"python -m cedkv gate --config run.yaml --phase {phase}"]) + "\n"


def python_code(run: Run, phase: int) -> str:
    """A Python program that judges the same settings with the gate."""
    text, demos = _files(run)
    lines = ["from cedkv import run_gate", "from cedkv.config import parse_config", ""]
    if demos:
        lines.insert(0, "from pathlib import Path\n")
        lines.append(f'Path("{DEMOS_NAME}").write_text({_literal(demos)}, encoding="utf-8")')
    lines.append(f'config = parse_config({_literal(text)}, "run")')
    lines.append(f"report = run_gate(config, phase={phase})")
    lines.append("print(report.passed, report.folder)")
    return "\n".join(lines) + "\n"


def _files(run: Run) -> tuple[str, str]:
    """The settings, and the demonstrations where they were not drawn from a task."""
    path = run.config.episode.demos_file
    demos = Path(path).read_text(encoding="utf-8") if path and Path(path).is_file() else ""
    own = run.report["episode"].get("on_eval_gold") == "teacher"
    return minimal_yaml(run.config, own, DEMOS_NAME if demos else None), demos


def _literal(text: str) -> str:
    plain = "\\" not in text and '"""' not in text and "\r" not in text
    return f'"""{text}"""' if plain and not text.startswith('"') else repr(text)
