"""Files of a run from elsewhere: verified, and laid out as the folder that the run had."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cedkv.config import Config, dump_config, load_config
from cedkv.errors import CedKVError
from cedkv.gate.slots import describe_collapse, describe_roles, describe_slots
from cedkv.lm import LanguageModel
from cedkv.report import RunFolder, dump_json, new_run_id
from cedkv.session.limits import Limits
from cedkv.session.runs import Run, RunError
from cedkv.state import KVPrefix

_REPORT_BLOCKS = {
    "run_id": str,
    "model": dict,
    "episode": dict,
    "on": dict,
    "off": dict,
    "slots": list,
    "collapse": dict,
}
_ACCEPTED = (".safetensors", ".json", ".jsonl", ".yaml", ".yml")


def open_files(paths: Sequence[Path], names: Sequence[str], root: Path, lm: LanguageModel, limits: Limits) -> Run:
    """A run from uploaded files: a state file, a report, or both, with their metrics.jsonl and config.yaml.

    Raises
    ------
    CedKVError
        A file is too large, of another kind, damaged, or made for another model; it is named.
    """
    for path, name in zip(paths, names, strict=True):
        limits.check_upload(path)
        if path.suffix not in _ACCEPTED:
            raise RunError(f"{name!r} is not accepted; open .safetensors, .json, .jsonl or .yaml files")
    by_kind = {path.suffix.replace("yml", "yaml"): (path, name) for path, name in zip(paths, names, strict=True)}
    state = _read_state(*by_kind[".safetensors"], lm) if ".safetensors" in by_kind else None
    report = _read_report(*by_kind[".json"]) if ".json" in by_kind else None
    if state is None and report is None:
        raise RunError("nothing to open: give a state file (.safetensors) or a report (.json)")
    config = load_config(by_kind[".yaml"][0]) if ".yaml" in by_kind else _settings_of(state)
    report = report or _report_of(state, lm, config)
    folder = RunFolder(root, new_run_id("opened", report.get("phase", 0), int(report.get("slots_budget", 0))))
    folder.write("config.yaml", dump_config(config))
    folder.write(f"report_{_kind(report)}.json", dump_json(report))
    if state is not None:
        state.save(folder.path / "artifacts" / f"{_method_of(state)}.safetensors")
    if ".jsonl" in by_kind:
        shutil.copyfile(by_kind[".jsonl"][0], folder.path / "metrics.jsonl")
    return Run(folder.path, note="opened")


def _read_state(path: Path, name: str, lm: LanguageModel) -> KVPrefix:
    try:
        return KVPrefix.load(path, lm.fingerprint)
    except CedKVError as error:
        raise RunError(str(error).replace(repr(str(path)), repr(name))) from error


def _read_report(path: Path, name: str) -> dict[str, Any]:
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise RunError(f"{name!r} is not JSON: {type(error).__name__}; open a report that the gate wrote") from error
    if not isinstance(report, dict):
        raise RunError(f"{name!r} holds no report; open a report that the gate wrote")
    for block, kind in _REPORT_BLOCKS.items():
        if not isinstance(report.get(block), kind):
            raise RunError(f"{name!r}: {block!r} is missing or not a {kind.__name__}; it is no report of the gate")
    return report


def _settings_of(state: KVPrefix | None) -> Config:
    settings = state.meta.get("settings") if state else None
    try:
        return Config.model_validate(settings or {})
    except ValueError:
        return Config()  # settings of another version describe a run that is over; the state itself is verified


def _method_of(state: KVPrefix) -> str:
    method = str(state.meta.get("method", "state"))
    return method if method.isidentifier() else "state"


def _kind(report: dict[str, Any]) -> str:
    return f"phase{report['phase']}" if report.get("phase") in (2, 3) else "extract"


def _report_of(state: KVPrefix, lm: LanguageModel, config: Config) -> dict[str, Any]:
    """What a lone state file can tell."""
    tokens = state.mixture.tokens if state.mixture else None
    return {
        "run_id": "opened",
        "phase": 0,
        "method": _method_of(state),
        "complete": True,
        "slots_budget": state.slots,
        "model": {"id": lm.id, "fingerprint": lm.fingerprint},
        "episode": {
            "task": str(state.meta.get("task", "unknown")),
            "demos": len(tokens.demo_spans()) if tokens else 0,
            "tokens": len(tokens) if tokens else 0,
            "template": str(state.meta.get("template", "Q: {input}\nA: {output}\n\n")),
        },
        "slots": describe_slots(state, config.phase2.reporting.topk_tokens),
        "role_mass": describe_roles(state),
        "collapse": describe_collapse(state),
        "timing": {"total": 0.0},
    }
