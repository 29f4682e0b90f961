"""A run as text that gives the same report elsewhere: on the command line and in Python."""

from pathlib import Path

import yaml

from cedkv.config import Config
from cedkv.gate.kinds import KINDS
from cedkv.session.runs import Run


def reproduce(run: Run) -> tuple[str, str]:
    """The run's gate as a command line and as Python; that of the first phase for a method that none runs."""
    phase = run.report.get("phase")
    if phase not in KINDS:
        phase = next((n for n in KINDS if run.student in KINDS[n].methods), min(KINDS))
    return command_line(run, phase), python_code(run, phase)


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
    text, demos_name, demos = _files(run)
    parts = [f"cat > run.yaml <<'CEDKV'\n{text}CEDKV"]
    if demos:
        parts.insert(0, f"cat > {demos_name} <<'CEDKV'\n{demos}CEDKV")
    return "\n".join([*parts, f"python -m cedkv gate --config run.yaml --phase {phase}"]) + "\n"


def python_code(run: Run, phase: int) -> str:
    """A Python program that judges the same settings with the gate."""
    text, demos_name, demos = _files(run)
    lines = ["from cedkv import run_gate", "from cedkv.config import parse_config", ""]
    if demos:
        lines.insert(0, "from pathlib import Path\n")
        lines.append(f'Path("{demos_name}").write_text({_literal(demos)}, encoding="utf-8")')
    lines.append(f'config = parse_config({_literal(text)}, "run")')
    lines.append(f"report = run_gate(config, phase={phase})")
    lines.append("print(report.passed, report.folder)")
    return "\n".join(lines) + "\n"


def _files(run: Run) -> tuple[str, str, str]:
    """The settings, and name and text of the demonstrations file where this session wrote it.

    A file from elsewhere is named as the settings name it, and never read.
    """
    given = run.config.episode.demos_file
    own = run.report["episode"].get("on_eval_gold") == "teacher"
    path = Path(given or "").resolve()
    if given is None or path.parent != run.folder.resolve().parent:
        return minimal_yaml(run.config, own, given), "", ""
    return minimal_yaml(run.config, own, path.name), path.name, path.read_text(encoding="utf-8")


def _literal(text: str) -> str:
    plain = "\\" not in text and '"""' not in text and "\r" not in text
    return f'"""{text}"""' if plain and not text.startswith('"') else repr(text)
