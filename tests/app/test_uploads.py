"""Files from elsewhere: what a run keeps of them, and what is refused before it is kept."""

import json
import random
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from cedkv.config import Config, dump_config, parse_config
from cedkv.episodes import read_demos
from cedkv.errors import CedKVError, OutputError
from cedkv.events import drain
from cedkv.methods import run_method
from cedkv.session.limits import PUBLIC, LimitError, Limits
from cedkv.session.reproduce import command_line, python_code, reproduce
from cedkv.session.runs import Run, RunError
from cedkv.session.service import Service
from cedkv.session.store import SessionStore
from cedkv.session.upload import open_files
from cedkv.state import KVPrefix
from components.example import FOLDER
from components.headline import headline_html
from components.report_page import report_page, write_report_page
from components.run_figures import off_figure
from components.tabs.runs import history_rows
from tests.optim.trainings import bench_with

EXAMPLE = next(FOLDER.glob("20*"))
REPORT = json.loads((EXAMPLE / "report_phase3.json").read_text())
LM = SimpleNamespace(id="SmolLM2-135M-Instruct", fingerprint=REPORT["model"]["fingerprint"], vocab=49152)
DEMOS = [("walk", "walked"), ("lift", "lifted")]


def opened(folder: Path, *files: Path, limits: Limits = PUBLIC, load=lambda config: LM):
    return open_files(files, [file.name for file in files], folder / "session", load, limits)


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def report_file(folder: Path, **changes) -> Path:
    return written(folder, "report_phase3.json", json.dumps({**REPORT, **changes}))


@pytest.fixture
def service(tmp_path) -> Service:
    """A server's engine that never loads a model: it holds the example's."""
    service = Service(PUBLIC, SessionStore(tmp_path / "sessions", PUBLIC, []))
    service.models.get = lambda config: LM
    return service


def shown(run) -> str:
    return headline_html(run) + report_page(run) + str(history_rows([run]))


def test_a_whole_run_folder_is_the_run_again(tmp_path):
    run = opened(tmp_path, *sorted(path for path in EXAMPLE.rglob("*") if path.is_file()))
    assert (run.report, run.note) == (REPORT, "opened")
    assert run.methods == ["ced", "select"]
    assert len(run.samples) == (EXAMPLE / "metrics.jsonl").read_text().count('"type": "sample"')
    assert "Gate A passed" in shown(run)


def test_a_report_alone_shows_its_numbers(tmp_path):
    run = opened(tmp_path, report_file(tmp_path), load=None)
    assert run.methods == []
    assert "CED mixture" in shown(run)


def test_a_state_alone_says_what_it_can(tmp_path):
    run = opened(tmp_path, EXAMPLE / "artifacts" / "ced.safetensors")
    assert run.report["slots_budget"] == 8 and "effective rank" in shown(run)


def test_the_report_of_an_extraction_opens_with_its_state(tmp_path):
    alone = opened(tmp_path, EXAMPLE / "artifacts" / "select.safetensors")
    again = opened(tmp_path, alone.folder / "report_extract.json", alone.state_file("select"))
    assert again.report == alone.report and again.student == "select"


def test_of_two_reports_the_higher_phase_counts(tmp_path):
    lower = written(tmp_path, "report_phase2.json", json.dumps({**REPORT, "phase": 2}))
    assert opened(tmp_path, report_file(tmp_path), lower).report["phase"] == 3


def test_the_model_is_the_one_that_the_settings_name(tmp_path):
    asked = []
    config = written(tmp_path, "config.yaml", "run: {model: {id: my-model}}")
    state = EXAMPLE / "artifacts" / "ced.safetensors"
    opened(tmp_path, state, config, limits=Limits(), load=lambda config: asked.append(config.run.model.id) or LM)
    assert asked == ["my-model"]


def test_a_state_of_another_model_is_refused_by_name(tmp_path):
    other = SimpleNamespace(id="other", fingerprint="0")
    made_with = f"'ced.safetensors' was made with a model of fingerprint {LM.fingerprint}, other has 0"
    with pytest.raises(RunError, match=made_with):
        opened(tmp_path, EXAMPLE / "artifacts" / "ced.safetensors", load=lambda config: other)


def test_a_model_that_is_not_offered_is_never_loaded(tmp_path):
    config = written(tmp_path, "config.yaml", "run: {model: {id: /etc}}")
    with pytest.raises(LimitError, match="'/etc' is not offered"):
        opened(tmp_path, EXAMPLE / "artifacts" / "ced.safetensors", config, load=None)


def test_a_report_alone_names_no_other_model_either(tmp_path):
    config = written(tmp_path, "config.yaml", "run: {model: {id: /etc}}")
    with pytest.raises(LimitError, match="'/etc' is not offered"):
        opened(tmp_path, report_file(tmp_path), config)


def test_a_larger_run_than_this_deployment_makes_can_be_looked_at(tmp_path):
    config = written(tmp_path, "config.yaml", "phase3: {optim: {steps: 5000}}")
    assert opened(tmp_path, EXAMPLE / "artifacts" / "ced.safetensors", config).config.phase3.optim.steps == 5000


def test_a_judged_report_and_its_state_can_be_looked_at_without_samples(tmp_path):
    run = opened(tmp_path, EXAMPLE / "artifacts" / "ced.safetensors", report_file(tmp_path))
    assert run.judged
    assert off_figure(run, "stress", ["select"]) is None


def test_a_states_own_settings_are_checked_alike(tmp_path):
    state = KVPrefix.load(EXAMPLE / "artifacts" / "ced.safetensors")
    settings = parse_config("run: {model: {id: /etc}}", "test").model_dump(mode="json")
    replace(state, meta={**state.meta, "settings": settings}).save(tmp_path / "ced.safetensors")
    with pytest.raises(LimitError, match="'/etc' is not offered"):
        opened(tmp_path, tmp_path / "ced.safetensors", load=None)


def test_demonstrations_from_a_file_are_told_by_the_state_itself(tmp_path):
    demos = written(tmp_path, "mine.jsonl", '{"input": "hot", "output": "cold"}\n{"input": "big", "output": "small"}\n')
    bench = bench_with(f"episode.demos_file={json.dumps(str(demos))}")
    drain(run_method("select", bench, 4)).prefix.save(tmp_path / "select.safetensors")
    demos.unlink()
    run = opened(tmp_path, tmp_path / "select.safetensors", load=lambda config: bench.lm)
    assert str(demos) != run.config.episode.demos_file
    for copied in (command_line(run), python_code(run)):
        assert '"hot"' in copied and '"small"' in copied and "mine.jsonl" not in copied


def test_pairs_of_a_task_file_are_told_by_the_state_as_its_demonstrations(tmp_path):
    pairs = [{"input": f"word{number}", "output": f"word{number}ed"} for number in range(12)]
    file = written(tmp_path, "pairs.json", json.dumps(pairs))
    bench = bench_with(f"episode.task_file={json.dumps(str(file))}")
    drain(run_method("select", bench, 4)).prefix.save(tmp_path / "select.safetensors")
    run = opened(tmp_path, tmp_path / "select.safetensors", load=lambda config: bench.lm)
    episode = run.config.episode
    assert (episode.task, episode.task_file, run.note) == (None, None, "opened")
    assert read_demos(episode.demos_file).pairs == bench.episode.demos
    assert bench.episode.demos[0].output in "".join(reproduce(run)) and "pairs.json" not in "".join(reproduce(run))


def test_a_state_whose_demonstrations_are_lost_is_looked_at_and_not_judged_on_another_task(service, tmp_path):
    """Free vectors name no tokens; the settings without their file would mean the default task."""
    state = KVPrefix.load(EXAMPLE / "artifacts" / "ced.safetensors")
    settings = parse_config("episode: {task_file: elsewhere/pairs.json}", "test").model_dump(mode="json")
    free = replace(state, mixture=None, meta={**state.meta, "method": "free", "settings": settings})
    free.save(tmp_path / "free.safetensors")
    first = service.open_files("me", [tmp_path / "free.safetensors"], ["free.safetensors"])
    again = service.open_zip("you", service.pack("me"))
    for session, run in (("me", first), ("you", again)):
        assert "opened without its demonstrations" in headline_html(run)
        for refused in (lambda: service.judge(session, run.id), lambda: service.reproduce(run)):  # noqa: B023
            with pytest.raises(RunError, match="came from a file that is not here, .*; paste them as your own"):
                refused()


def test_a_state_with_tokens_that_the_model_lacks_is_refused(tmp_path):
    state = KVPrefix.load(EXAMPLE / "artifacts" / "ced.safetensors")
    tokens = replace(state.mixture.tokens, ids=(10**12, *state.mixture.tokens.ids[1:]))
    forged = replace(state, mixture=replace(state.mixture, tokens=tokens))
    forged.save(tmp_path / "ced.safetensors")
    with pytest.raises(RunError, match="names tokens that SmolLM2-135M-Instruct does not have"):
        opened(tmp_path, tmp_path / "ced.safetensors")


@pytest.mark.parametrize("name", ["demos_file", "task_file"])
def test_paths_of_another_machine_are_dropped(tmp_path, name):
    secret = written(tmp_path, "secret.jsonl", "hidden -> text")
    config = written(tmp_path, "config.yaml", f"episode: {{{name}: {secret}}}")
    run = opened(tmp_path, report_file(tmp_path), config)
    assert run.config == Config()
    assert "hidden" not in command_line(run) + python_code(run)
    with pytest.raises(RunError, match="came from a file that is not here"):
        reproduce(run)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"slots_budget": "abc"}, "'slots_budget'"),
        ({"slots_budget": 10**30}, "'slots_budget'"),
        ({"phase": [3]}, "'phase'"),
        ({"method": {}}, "'method'"),
        ({"episode": {}}, "'episode.task'"),
        ({"episode": {**REPORT["episode"], "off": 5}}, "'episode.off'"),
        ({"episode": {**REPORT["episode"], "off": {"stress": []}}}, "'episode.off.stress'"),
        ({"episode": {**REPORT["episode"], "on_eval": {}}}, "'episode.on_eval'"),
        ({"episode": {**REPORT["episode"], "on_eval_gold": []}}, "'episode.on_eval_gold'"),
        ({"model": {}}, "'model.fingerprint'"),
        ({"timing": None}, "'timing'"),
        ({"collapse": {"verdict": "fine"}}, "'collapse.value_cosine_max'"),
        ({"slots": [{"slot": 0, "tokens": [{}]}]}, "'slots.0.tokens.0.text'"),
        ({"gate_a": [{}]}, "'gate_a.0.name'"),
        ({"on": {"ced": {"accuracy": "all"}}}, "'on.ced.accuracy'"),
        ({"on": {}}, "'gate_b' stands without"),
        ({"off": {}}, "'off' has no 'base'"),
        ({"anything": float("nan")}, "not JSON"),
        ({"anything": "\ud800"}, "not JSON"),
    ],
)
def test_a_report_that_could_not_be_shown_is_refused_before_it_is_kept(service, tmp_path, changes, named):
    file = report_file(tmp_path, **changes)
    with pytest.raises(RunError, match=f"'report_phase3.json'.*{named}"):
        service.open_files("me", [file], [file.name])
    assert service.store.runs("me") == []


def test_json_that_is_no_report_is_refused_by_name(tmp_path):
    with pytest.raises(RunError, match=r"'phase3_prefix_meta.json': 'run_id': field required"):
        opened(tmp_path, EXAMPLE / "artifacts" / "phase3_prefix_meta.json")


@pytest.mark.parametrize(
    ("record", "named"),
    [
        ("[]", "valid dictionary"),
        ('{"type": "sample"}', "kind"),
        ('{"type": "sample", "kind": []}', "kind"),
        ('{"type": "sample", "kind": "on", "view": "ced"}', "'on.input'"),
        ('{"type": "sample", "kind": "off", "view": "a", "split": "b", "bucket": "c", "text": "d"}', "no Delta"),
        ('{"type": "sample", "kind": "off", "view": "a", "split": "b", "bucket": "c", "text": "d", '
         '"phase3_delta_off_a": NaN}', "delta_off_a"),
        ('{"type": "sample", "kind": "on", "view": "a", "input": "\\ud800", "gold": "", "answer": "", '
         '"correct": true}', "not JSON"),
    ],
)  # fmt: skip
def test_a_metrics_record_that_could_not_be_shown_is_refused_by_its_line(tmp_path, record, named):
    metrics = written(tmp_path, "metrics.jsonl", f'{{"type": "run"}}\n{record}\n')
    with pytest.raises(RunError, match=f"'metrics.jsonl' line 2: .*{named}"):
        opened(tmp_path, report_file(tmp_path), metrics)


def test_a_line_cut_short_is_left_out_and_one_with_a_line_separator_is_not(tmp_path):
    whole = {"type": "sample", "kind": "span", "text": "a\u2028b"}
    metrics = written(tmp_path, "metrics.jsonl", json.dumps(whole, ensure_ascii=False) + '\n{"type": "sam')
    assert opened(tmp_path, report_file(tmp_path), metrics).samples == [whole]


def test_files_of_two_runs_are_refused_by_name(tmp_path):
    files = [written(tmp_path, name, "") for name in ("a.yaml", "b.yml")]
    with pytest.raises(RunError, match="'a.yaml' and 'b.yml' are of one kind"):
        opened(tmp_path, report_file(tmp_path), *files)
    state = EXAMPLE / "artifacts" / "ced.safetensors"
    (tmp_path / "again.safetensors").write_bytes(state.read_bytes())
    with pytest.raises(RunError, match="'again.safetensors' is a second state of 'ced'"):
        opened(tmp_path, state, tmp_path / "again.safetensors")


def run_made_with(config: Config, folder: Path) -> Run:
    folder.mkdir()
    report_file(folder)
    written(folder, "config.yaml", dump_config(config))
    return Run(folder)


def test_an_empty_table_stands_for_what_the_task_draws_and_is_refused_where_there_is_no_task(service):
    """A page that is just opening has an empty table for a moment; Run works then too."""
    assert service.prepare("me", Config(), [], own=False) == Config()
    with pytest.raises(CedKVError, match="the demonstrations are empty"):
        service.prepare("me", Config(), [], own=True)


def test_every_run_reproduces_its_own_demonstrations(service):
    session = service.store.folder("me")
    first = run_made_with(service.prepare("me", Config(), DEMOS, own=True), session / "first")
    second = run_made_with(service.prepare("me", Config(), DEMOS[:1], own=True), session / "second")
    for copied in (command_line, python_code):
        assert "walked" in copied(first) and "lifted" in copied(first)
        assert "walked" in copied(second) and "lifted" not in copied(second)


def made_by(folder: Path, report: dict, *states: str) -> Run:
    (folder / "artifacts").mkdir(parents=True)
    for state in states:
        (folder / "artifacts" / f"{state}.safetensors").touch()
    written(folder, "config.yaml", dump_config(Config()))
    written(folder, "report_extract.json", json.dumps({"slots_budget": 8, "episode": {}, **report}))
    return Run(folder)


def test_what_is_copied_makes_the_run_that_was_made(tmp_path):
    """A Run extracts, a gate judges what it extracts itself, and a judged state is extracted and then judged."""
    extracted = made_by(tmp_path / "a", {"phase": 0, "method": "ced"}, "ced")
    gated = made_by(tmp_path / "b", {"phase": 3}, "ced", "select")
    judged = made_by(tmp_path / "c", {"phase": 3, "state": {"method": "ced"}}, "select", "state")
    assert judged.student == "state" and judged.made_by == "ced"
    extract, gate = "extract --config run.yaml --method ced --slots 8 --out state.safetensors", "gate --config run.yaml"
    for run, has_extract, its_gate in (
        (extracted, True, ""), (gated, False, f"{gate} --phase 3\n"),
        (judged, True, f"{gate} --phase 3 --state state.safetensors\n"),
    ):  # fmt: skip
        shell, python = command_line(run), python_code(run)
        compile(python, "copied", "exec")
        assert (extract in shell) == has_extract == ("method='ced', slots=8" in python)
        assert shell.endswith(its_gate) and ("cedkv gate" in shell) == bool(its_gate) == ("run_gate(" in python)
        assert ("state=" in python) == (run is judged) and shell.startswith("# once") and "pip install" in python


def test_a_state_of_a_method_that_nobody_here_makes_is_judged_from_its_file(service, tmp_path):
    state = KVPrefix.load(EXAMPLE / "artifacts" / "ced.safetensors")
    replace(state, meta={"method": "peft"}).save(tmp_path / "mine.safetensors")
    run = service.open_files("me", [tmp_path / "mine.safetensors"], ["mine.safetensors"])
    assert run.student == "peft" and "--phase 2 --state state.safetensors" in service.reproduce(run)[0]


def test_a_demonstrations_file_outside_the_session_is_named_and_not_read(service, tmp_path):
    secret = written(tmp_path, "mine.jsonl", "hidden -> text")
    config = parse_config(f"episode: {{demos_file: {secret}}}", "test")
    run = run_made_with(config, service.store.folder("me") / "mine")
    copied = command_line(run)
    assert str(secret) in copied and "hidden" not in copied


@pytest.mark.parametrize("name", ["report.html", "state.pkl"])
def test_other_kinds_of_files_are_refused_by_name(tmp_path, name):
    with pytest.raises(CedKVError, match=f"'{name}' is not accepted"):
        opened(tmp_path, written(tmp_path, name, ""))


def zipped(folder: Path, **files: bytes) -> Path:
    with zipfile.ZipFile(folder / "session.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return folder / "session.zip"


def test_a_session_is_packed_and_opened_again_with_its_names(service, tmp_path):
    shutil.copytree(EXAMPLE, tmp_path / "first")
    shutil.copytree(EXAMPLE, tmp_path / "second")
    for name in ("first", "second"):
        service.store.add("me", Run(tmp_path / name)).note_down(name=f"the {name}", tags="kept")
    opened_last = service.open_zip("you", service.pack("me"))
    runs = service.store.runs("you")
    assert [run.notes["name"] for run in runs] == ["the second", "the first"] and opened_last is runs[0]
    assert runs[0].report == REPORT and runs[0].methods == ["ced", "select"] and runs[0].samples
    assert runs[0].prefix("ced").values.equal(Run(EXAMPLE).prefix("ced").values)
    assert [run.id for run in runs] == ["second", "first"]


def test_a_session_opened_where_it_is_already_adds_nothing(service, tmp_path):
    shutil.copytree(EXAMPLE, tmp_path / "mine")
    mine = service.store.add("me", Run(tmp_path / "mine"))
    packed = service.pack("me")
    assert service.open_zip("me", packed) is mine and service.store.runs("me") == [mine]
    assert service.open_zip("you", packed) is service.open_zip("you", packed) is not mine
    assert len(service.store.runs("you")) == 1


def test_a_download_is_there_whole_while_it_is_made_again(service, tmp_path, monkeypatch):
    """Others may be reading it under its name."""
    shutil.copytree(EXAMPLE, tmp_path / "mine")
    run = service.store.add("me", Run(tmp_path / "mine"))
    packed, page = service.pack("me"), write_report_page(run)
    before = packed.read_bytes(), page.read_text()
    seen = []

    def interrupted(*args, **kwargs):
        seen.append((packed.read_bytes(), page.read_text()))
        raise OSError("full")

    monkeypatch.setattr(zipfile.ZipFile, "write", interrupted)
    monkeypatch.setattr(Path, "write_text", interrupted)
    for make in (lambda: service.pack("me"), lambda: write_report_page(run)):
        with pytest.raises(OutputError):
            make()
    assert seen == [before, before] and (packed.read_bytes(), page.read_text()) == before


def test_a_page_that_is_still_being_written_is_not_packed(service, tmp_path):
    shutil.copytree(EXAMPLE, tmp_path / "mine")
    (tmp_path / "mine/.report.html-0a1b2c3d").write_text("half")
    service.store.add("me", Run(tmp_path / "mine"))
    with zipfile.ZipFile(service.pack("me")) as archive:
        assert "mine/config.yaml" in archive.namelist() and not [name for name in archive.namelist() if "html" in name]


def test_a_name_in_a_zip_that_is_no_runs_name_is_not_taken_over(service, tmp_path):
    report = (EXAMPLE / "report_phase3.json").read_bytes()
    run = service.open_zip("me", zipped(tmp_path, **{"..\\evil/report_phase3.json": report}))
    assert run.id.endswith("-opened-s8") and run.folder.parent == service.store.folder("me")


@pytest.mark.parametrize(
    ("files", "named"),
    [
        ({"../../evil/report_phase3.json": b"{}"}, "field required"),
        ({"run/a/report.json": b"{}", "run/b/report.json": b"{}"}, "is in the zip twice"),
        ({"run/metrics.jsonl": b" " * 150_000_000}, "unpacks to more than"),
        ({"run/readme.txt": b"x"}, "holds no run"),
    ],
)
def test_a_zip_that_is_no_session_is_refused(service, tmp_path, files, named):
    with pytest.raises(CedKVError, match=named):
        service.open_zip("me", zipped(tmp_path, **files))
    assert service.store.runs("me") == [] and not list(tmp_path.parent.glob("evil*"))
    with pytest.raises(RunError, match="no zip of runs"):
        service.open_zip("me", written(tmp_path, "text.zip", "no zip"))


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
@pytest.mark.parametrize("place", [0.3, 0.6])
def test_a_damaged_zip_is_refused(service, tmp_path, method, place):
    path, page = tmp_path / "session.zip", random.Random(0).randbytes(2_000).hex()
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("run/report.json", page)
    data = bytearray(path.read_bytes())
    start = int(len(data) * place)
    data[start : start + 8] = b"\xff" * 8
    path.write_bytes(data)
    with pytest.raises(RunError, match="no zip of runs, or damaged"):
        service.open_zip("me", path)
