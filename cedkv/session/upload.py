"""Files of a run from elsewhere: verified, and laid out as the folder that the run had."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cedkv.config import Config, dump_config, parse_config, settings_then
from cedkv.errors import CedKVError
from cedkv.files import dump_json
from cedkv.lm import LanguageModel
from cedkv.report import Report, RunFolder, new_run_id
from cedkv.session.demonstrations import with_demos_of, with_episode
from cedkv.session.limits import Limits
from cedkv.session.reports import report_of_state
from cedkv.session.runs import NOTES, Run, RunError, iter_records, student_among
from cedkv.session.shape import REPORT_BLOCKS, check_record, check_report
from cedkv.state import KVPrefix

ACCEPTED = (".safetensors", ".json", ".jsonl", ".yaml", ".yml")
# A name from a file becomes the name of a folder.
_RUN_ID = re.compile(r"[A-Za-z0-9_-]{1,120}")


def open_files(
    paths: Sequence[Path],
    names: Sequence[str],
    root: Path,
    load: Callable[[Config], LanguageModel],
    limits: Limits,
    run_id: str = "",
) -> Run:
    """A run from uploaded files: its states, its report, or both, with its metrics.jsonl and config.yaml.

    Of a whole run folder the other JSON files are left aside.

    Parameters
    ----------
    load : gives the model that a config names; asked only where there is a state, and only for an allowed model.
    run_id : what the run is to be called; a name of its own where that is empty, taken, or no name of a run.

    Raises
    ------
    CedKVError
        A file is too large, of another kind, damaged, or made for another model; it is named.
    """
    files = _by_suffix(paths, names, limits)
    notes = _read_notes(files[".json"].pop(NOTES, None))
    if not (files[".safetensors"] or files[".json"]):
        raise RunError("nothing to open: give a state file (.safetensors) or a report (.json)")
    states = _read_states(files[".safetensors"])
    report = _read_report(files[".json"]) if files[".json"] else None
    metrics = _read_metrics(files[".jsonl"])
    config, from_file = _read_config(files[".yaml"] | files[".yml"], states)
    limits.check_model(config.run.model.id)
    if states:
        lm = load(config)
        _check_model(states, lm)
        student = states[student_among(states)][1]
        report = report or report_of_state(student, _method_of(student), lm, config)
    assert report is not None, "without a state there is a report"
    if report["episode"].pop("demos_lost", False) or from_file:
        told = with_demos_of((state for _, state in states.values()), config, lm, root) if states else None
        if told is None:
            report["episode"]["demos_lost"] = True
        config = told or config
    if not _RUN_ID.fullmatch(run_id) or (root / run_id).exists():
        run_id = new_run_id("opened", report.get("phase", 0), report["slots_budget"])
    folder = RunFolder(root, run_id)
    folder.write("config.yaml", dump_config(config))
    folder.write(f"report_{_kind(report)}.json", dump_json(report))
    for method, (_, state) in states.items():
        state.save(folder.path / "artifacts" / f"{method}.safetensors")
    if metrics:
        folder.write("metrics.jsonl", metrics)
    run = Run(folder.path, note="opened without its demonstrations" if "demos_lost" in report["episode"] else "opened")
    if notes:
        run.note_down(**notes)
    return run


def _by_suffix(paths: Sequence[Path], names: Sequence[str], limits: Limits) -> dict[str, dict[str, Path]]:
    """The files of each kind by their names, as far as they are allowed."""
    files: dict[str, dict[str, Path]] = {suffix: {} for suffix in ACCEPTED}
    for path, name in zip(paths, names, strict=True):
        limits.check_upload(path)
        if path.suffix not in ACCEPTED:
            raise RunError(f"{name!r} is not accepted; open .safetensors, .json, .jsonl or .yaml files")
        if name in files[path.suffix]:
            raise RunError(f"{name!r} is there twice; open the files of one run at a time")
        files[path.suffix][name] = path
    return files


def _read_notes(path: Path | None) -> dict[str, str]:
    """What was noted of the run; what is no text is left out."""
    kept = _read_json(path, NOTES) if path else {}
    if not isinstance(kept, dict):
        raise RunError(f"{NOTES!r} is not what a run notes; leave it out")
    return {part: text for part in ("name", "tags", "text") if isinstance(text := kept.get(part), str)}


def _read_states(files: dict[str, Path]) -> dict[str, tuple[str, KVPrefix]]:
    """The states with their file names, by method."""
    states: dict[str, tuple[str, KVPrefix]] = {}
    for name, path in files.items():
        try:
            state = KVPrefix.load(path)
        except CedKVError as error:
            raise RunError(str(error).replace(repr(str(path)), repr(name))) from error
        method = _method_of(state)
        if method in states:
            raise RunError(f"{name!r} is a second state of {method!r}; open the files of one run at a time")
        states[method] = (name, state)
    return states


def _check_model(states: dict[str, tuple[str, KVPrefix]], lm: LanguageModel) -> None:
    for name, state in states.values():
        if state.fingerprint != lm.fingerprint:
            raise RunError(
                f"{name!r} was made with a model of fingerprint {state.fingerprint}, {lm.id} has {lm.fingerprint}; "
                "open it with the config.yaml that names its model"
            )
        if state.mixture and not all(0 <= token < lm.vocab for token in state.mixture.tokens.ids):
            raise RunError(f"{name!r} names tokens that {lm.id} does not have; the file was altered")


def _read_report(files: dict[str, Path]) -> Report:
    """The report among JSON files, told from a run's artifacts by its blocks; of several that of the highest phase."""
    read = {name: _read_json(path, name) for name, path in files.items()}
    whole = {name: data for name, data in read.items() if isinstance(data, dict) and data.keys() >= REPORT_BLOCKS}
    reports = [check_report(report, name) for name, report in (whole or read).items()]
    return max(reports, key=lambda report: report.get("phase", 0))


def _read_json(path: Path, name: str) -> Any:
    """Strict JSON: what could not be written again is refused too."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        dump_json(data).encode()
    except (ValueError, RecursionError) as error:
        raise RunError(f"{name!r} is not JSON: {type(error).__name__}; open a report that the gate wrote") from error
    return data


def _read_metrics(files: dict[str, Path]) -> str:
    text = _only_text(files)
    for line, record in iter_records(text):
        check_record(record, next(iter(files)), line)
    return text


def _read_config(files: dict[str, Path], states: dict[str, tuple[str, KVPrefix]]) -> tuple[Config, bool]:
    """The run's settings, and whether its demonstrations came from a file.

    The files they name are another machine's, so they name none any more, nor a task that a file stood in place of.
    """
    if files:
        config = parse_config(_only_text(files), next(iter(files)), recorded=True)
    else:
        config = _settings_of(states[student_among(states)][1]) if states else Config()
    named = config.episode
    task = None if named.task_file else named.task
    from_file = bool(named.demos_file or named.task_file)
    return with_episode(config, demos_file=None, demos_format=None, task_file=None, task=task), from_file


def _only_text(files: dict[str, Path]) -> str:
    """The text of the only file of its kind; empty where there is none."""
    if len(files) > 1:
        raise RunError(f"{' and '.join(map(repr, files))} are of one kind; open the files of one run at a time")
    for name, path in files.items():
        try:
            return path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise RunError(f"{name!r} is not UTF-8 text; open the file that the run wrote") from error
    return ""


def _settings_of(state: KVPrefix) -> Config:
    try:
        return Config.model_validate(settings_then(state.meta.get("settings") or {}))
    except ValueError:
        return Config()  # settings of another version describe a run that is over; the state itself is verified


def _method_of(state: KVPrefix) -> str:
    method = str(state.meta.get("method", "state"))
    return method if method.isidentifier() else "state"


def _kind(report: Report) -> str:
    return f"phase{report['phase']}" if report.get("phase") in (2, 3) else "extract"
