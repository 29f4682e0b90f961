"""Judge a relation's KV prefix with Gate A and Gate B and write the report."""

import argparse
from typing import Any, Literal, cast

from cedkv.cli.options import add_config_options, add_setting, config_from, noted_settings, override
from cedkv.cli.show import ProgressLine, drain, table
from cedkv.config import Config, choices
from cedkv.episodes import task_names
from cedkv.errors import ConfigError
from cedkv.events import Done, Opened
from cedkv.gate import GateReport, iter_gate
from cedkv.gate.kinds import KINDS
from cedkv.gate.tables import iter_table
from cedkv.harm import YARDSTICKS
from cedkv.lm.load import DTYPES
from cedkv.report import Report
from cedkv.state import PRECISIONS, KVPrefix

# Settings elsewhere that decide how many queries an episode has.
_QUERIES = {"phase2.eval.on_samples", "phase3.optim.made_up_queries"}

# Blocks of a report that say what views do besides `Delta`.
_BY_VIEW: tuple[Literal["continued", "choice"], ...] = ("continued", "choice")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_options(parser)
    kinds = ", ".join(f"{phase}: {kind.about}" for phase, kind in sorted(KINDS.items()))
    parser.add_argument("--phase", type=int, choices=sorted(KINDS), default=2, help=kinds)
    parser.add_argument("--out", default="runs", metavar="DIR", help="the run's folder appears in it (default: runs)")
    parser.add_argument(
        "--tasks",
        metavar="A,B,C",
        help="several tasks, by name or as task files (.json), or 'all': a table in --out that can be taken up again",
    )
    parser.add_argument(
        "--state", metavar="FILE", help="judge this state file in place of the phase's student; nothing is trained"
    )
    parser.add_argument("--precision", choices=PRECISIONS, help="with --state: as if it were stored in this precision")
    legacy = parser.add_argument_group("flags of the original plans")
    add_setting(legacy, "--phase2-model-id", "run.model.id", metavar="ID")
    add_setting(legacy, "--phase2-device", "run.runtime.device", choices=choices("run.runtime.device"))
    add_setting(legacy, "--phase2-max-on", "phase2.eval.on_samples", type=int, metavar="N")
    add_setting(legacy, "--phase2-max-off", "phase2.eval.off_samples", type=int, metavar="N")
    add_setting(legacy, "--phase2-prefix-len", "phase2.prefix_len", type=int, metavar="N")
    add_setting(legacy, "--phase2-select-mode", "phase2.select.mode", choices=choices("phase2.select.mode"))
    add_setting(legacy, "--phase2-dtype", "run.runtime.torch_dtype", type=_dtype, metavar="DTYPE")
    for phase in (2, 3):
        # Nothing to switch on: the schema refuses every backend but the real one, with or without the flag.
        legacy.add_argument(f"--phase{phase}-strict-hf", action="store_true", help="only real models; always so here")


def _dtype(name: str) -> str:
    """The setting's name for `bf16` and the like; the schema judges whatever else is given."""
    return str(DTYPES.get(name, name)).removeprefix("torch.")


def run(args: argparse.Namespace) -> int:
    if args.precision and not args.state:
        raise ConfigError("--precision is for a saved state; give it with --state FILE")
    if args.state and args.tasks:
        raise ConfigError("--state judges one state on its own relation; leave out --tasks")
    return _run_table(args) if args.tasks else _run_one(args)


def _run_table(args: argparse.Namespace) -> int:
    tasks = task_names() if args.tasks == "all" else [name.strip() for name in args.tasks.split(",") if name.strip()]
    result = drain(iter_table(config_from(args), tasks, args.phase, out=args.out), ProgressLine())
    print(tasks_table(result.asked, KINDS[args.phase].student))
    print()
    failed = sum(not row["passed"] for row in result.asked if row["method"] in (None, KINDS[args.phase].student))
    print(f"{failed} of {len(result.tasks)} gates fail." if failed else f"All {len(result.tasks)} gates pass.")
    print(result.folder / "table.csv")
    if any(row["error"] for row in result.asked):
        return 2
    return 0 if result.passed else 1


def _run_one(args: argparse.Namespace) -> int:
    report = _judge(args)
    for shown in (views_table(report.data), harm_table(report.data), gates_table(report.data)):
        if shown:
            print(f"{shown}\n")
    print("The gate passes." if report.passed else "The gate fails.")
    print(report.folder)
    return 0 if report.passed else 1


def _config(args: argparse.Namespace) -> Config:
    """The user's settings; for a saved state, those it was made with take the place of the defaults."""
    if not args.state or args.config:
        return config_from(args)
    return config_from(args, *(override(path, value) for path, value in _made_with(args.state).items()))


def _made_with(state: str) -> dict[str, Any]:
    """The settings in a state's notes that decide on model, demonstrations and queries."""
    kept = {path: value for path, value in noted_settings(KVPrefix.load(state)).items() if _decides(path)}
    if kept.get("episode.demos_file") and not (kept.get("episode.task") or kept.get("episode.task_file")):
        # Queries that the model makes up are judged beside those of the training, however few it asked for.
        kept.pop("phase2.eval.on_samples", None)
    return kept


def _decides(path: str) -> bool:
    return path in _QUERIES or path.startswith(("episode.", "run."))


def _judge(args: argparse.Namespace) -> GateReport:
    progress, folder = ProgressLine(), None
    events = iter_gate(_config(args), args.phase, out=args.out, state=args.state, precision=args.precision)
    try:
        for event in events:
            if isinstance(event, Opened):
                folder = event.folder
            progress.show(event)
        assert isinstance(event, Done)
        return event.result
    except KeyboardInterrupt:
        kept = f"what was measured so far is kept in {folder}" if folder else "nothing had been measured yet"
        raise KeyboardInterrupt(kept) from None
    finally:
        progress.close()


def views_table(report: Report) -> str:
    """Every view's right answers and distance on ON queries, and its effect on the OFF stress set."""
    rows = [["view", "first token", "whole answer", "its log-prob", "KL to teacher", "OFF p99"]]
    for name, on in report["on"].items():
        right = [f"{on['accuracy']:.2f}", f"{on['whole_answer']:.2f}", f"{on['answer_logprob']:.2f}"]
        off = report["off"][name]["stress"]["delta_p99"]
        rows.append([name, *right, f"{on['kl_to_teacher']:.3f}", f"{off:.3f}"])
    for name in YARDSTICKS:
        rows.append([name, *[""] * 4, f"{report['off'][name]['stress']['delta_p99']:.3f}"])
    return table(rows, right=(1, 2, 3, 4, 5))


def harm_table(report: Report) -> str:
    """What each view does to real text, other relations, continuations and simple questions, as far as it was read."""
    rows = [["view", "real text mean", "p99", "perplexity", "other relations p99", "same 8 tokens", "questions right"]]
    for name, off in report["off"].items():
        blocks = off.get("real_text"), off.get("foreign"), *(report.get(key, {}).get(name) for key in _BY_VIEW)
        real, foreign, continued, choice = (cast(dict[str, Any], block or {}) for block in blocks)
        cells = [real.get("delta_mean"), real.get("delta_p99"), real.get("perplexity_ratio"), foreign.get("delta_p99")]
        cells += [continued.get("same_first", {}).get("8"), choice.get("accuracy")]
        if any(cell is not None for cell in cells):
            rows.append([name, *("" if cell is None else f"{cell:.3f}" for cell in cells)])
    return table(rows, right=range(1, 7)) if len(rows) > 1 else ""


def tasks_table(rows: list[dict[str, Any]], student: str) -> str:
    """Two lines per task: its student below the teacher, or why its gate could not run."""
    teachers = {row["task"]: row for row in rows if row["method"] == "teacher"}
    shown = [["task", "", "first token", "whole answer", "its log-prob", "KL to teacher", "OFF p99", "verdict"]]
    for row in rows:
        if row["error"]:
            shown.append([row["task"], *[""] * 6, f"ERROR {row['error']}"])
        elif row["method"] == student:
            shown.append([row["task"], "teacher", *_figures(teachers[row["task"]]), ""])
            shown.append(["", student, *_figures(row), "PASS" if row["passed"] else "FAIL"])
    return table(shown, right=(2, 3, 4, 5, 6))


def _figures(row: dict[str, Any]) -> list[str]:
    right = [f"{row[name]:.2f}" for name in ("accuracy", "whole_answer", "answer_logprob")]
    return [*right, f"{row['kl_to_teacher']:.3f}", f"{row['off_delta_p99']:.3f}"]


def gates_table(report: Report) -> str:
    """Both gates, one criterion a line: value, bound, verdict."""
    rows = [["gate", "criterion", "value", "", "threshold", "verdict"]]
    for gate, criteria in (("A", report["gate_a"]), ("B", report["gate_b"])):
        for row in criteria:
            verdict = "PASS" if row["passed"] else "FAIL"
            rows.append([gate, row["name"], f"{row['value']:.4g}", row["op"], f"{row['threshold']:.4g}", verdict])
    return table(rows, right=(2, 4))
