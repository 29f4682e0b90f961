"""Every action as an endpoint, through gradio_client; and the same run by three ways gives the same numbers."""

import json
import os
import subprocess
import sys

import pytest
from gradio.utils import get_function_description
from gradio_client import Client
from gradio_client.exceptions import AppError

from benchmarks.running_app import ROOT
from components.api import ENDPOINTS, described

pytestmark = pytest.mark.timeout(900)  # the app may have its model to convert

# A gate that takes seconds: the same code, fewer demonstrations, queries, texts and tokens of answers.
SETTINGS = """episode: {demos: 4, on_train: 2}
phase2: {eval: {on_samples: 2, off_samples: 8, n_random_trials: 1, answer_tokens: 4}}
"""


@pytest.fixture(scope="module")
def client(server) -> Client:
    return Client(server, verbose=False)


@pytest.fixture(scope="module")
def judged(client) -> dict:
    return client.predict("present-past", "", 2, SETTINGS, api_name="/gate")


def test_every_action_is_an_endpoint(client):
    named = client.view_api(return_format="dict")["named_endpoints"]
    actions = "run gate judge compare why ablate swap slots collapse off report reproduce runs cancel open"
    assert {f"/{name}" for name in actions.split()} == named.keys()


def test_every_action_and_its_arguments_are_told_to_assistants():
    for name, make in ENDPOINTS.items():
        about, arguments, _ = get_function_description(described(make(None), name))
        told = {argument: text for argument, text in arguments.items() if argument != "request"}
        assert len(about) > 40 and all(told.values()), (name, about, told)


def test_the_gate_returns_the_report_and_its_parts(client, judged):
    assert judged["state"] == "done" and len(judged["report"]["gate_b"]) == 6
    slots = client.predict(judged["run_id"], api_name="/slots")
    assert len(slots["weights"]) == judged["report"]["slots_budget"]
    assert client.predict(judged["run_id"], api_name="/collapse")["verdict"] == judged["report"]["collapse"]["verdict"]
    off = client.predict(judged["run_id"], api_name="/off")
    assert off["worst"][0][0] == round(judged["report"]["off"]["select"]["stress"]["delta_max"], 2)
    assert client.predict(judged["run_id"], api_name="/report") == judged["report"]


def test_compare_and_ablate_answer_with_numbers(client, judged):
    views = client.predict(judged["run_id"], "jump", [], False, api_name="/compare")["views"]
    assert [view["name"] for view in views] == ["base", "teacher", "select"]
    assert views[1]["kl_to_teacher"] == 0 and views[2]["kl_to_teacher"] > 0
    changed = client.predict(judged["run_id"], "jump", 1, 0, api_name="/ablate")["views"]
    assert changed[3]["name"] == "changed" and changed[3]["delta"] != changed[2]["delta"]


def test_why_tells_each_slots_part_in_each_token_of_the_answer(client, judged):
    said = client.predict(judged["run_id"], "jump", [], False, api_name="/compare")["views"][2]["said"]
    why = client.predict(judged["run_id"], "jump", False, api_name="/why")
    assert why["kind"] == "answer" and len(why["tokens"]) == len(why["measured"]) == len(said)
    assert len(why["without"]) == judged["report"]["slots_budget"]
    assert client.predict(judged["run_id"], "the sea is calm", True, api_name="/why")["kind"] == "text"


def test_the_state_of_a_run_is_judged_as_it_is(client):
    made = client.predict("present-past", "", "select", SETTINGS, api_name="/run")
    judged = client.predict(made["run_id"], api_name="/judge")["report"]
    assert judged["on"].keys() >= {"base", "teacher", "state", "few_shot"} and "select" not in judged["on"]
    command = client.predict(judged["run_id"], api_name="/reproduce")["command"]
    assert (
        "extract --config run.yaml --method select" in command and "gate --config run.yaml --phase 2 --state" in command
    )


def test_swap_takes_a_slot_from_a_run(client, judged):
    run, changes = judged["run_id"], []
    for from_slot in (1, 2):
        views = client.predict(run, "jump", 1, run, from_slot, api_name="/swap")["views"]
        assert views[3]["name"] == "changed"
        changes.append(views[3]["delta"] - views[2]["delta"])
    assert changes[0] == pytest.approx(0, abs=1e-4) and abs(changes[1]) > 1e-4
    with pytest.raises(AppError, match="name the run"):
        client.predict(run, "jump", 1, "", 1, api_name="/swap")


def test_another_session_sees_nothing_of_it(server, judged):
    stranger = Client(server, verbose=False)
    assert judged["run_id"] not in stranger.predict(api_name="/runs")
    with pytest.raises(AppError, match="is not kept in this session"):
        stranger.predict(judged["run_id"], api_name="/report")


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (("present-past", "", "select", "phase2: {prefix_len: 99}"), "99 slots"),
        (("present-past", "", "select", "run: {model: {id: /etc/passwd}}"), "not offered here"),
        (("present-past", "", "selct", ""), "selct"),
        (("", "only one side", "select", ""), "only one side"),
        (("present-past", "", "select", "run: {seeed: 1}"), "did you mean"),
    ],
)
def test_what_cannot_be_is_refused_by_name(client, call, named):
    with pytest.raises(AppError, match=named):
        client.predict(*call, api_name="/run")


def test_the_copied_command_line_and_python_give_the_same_numbers(client, judged, cache, tmp_path):
    copied = client.predict(judged["run_id"], api_name="/reproduce")
    (tmp_path / "copied.py").write_text(copied["python"] + "import json\nprint(json.dumps(report.data))\n")
    shell = copied["command"].replace("python -m", f"{sys.executable} -m")
    commands = [["bash", "-c", shell], [sys.executable, "copied.py"]]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "CEDKV_CACHE": str(cache)}
    made = [subprocess.Popen(command, cwd=tmp_path, env=environment) for command in commands]
    assert {process.wait(250) for process in made} <= {0, 1}
    reports = sorted((tmp_path / "runs").glob("*/report_phase2.json"))
    assert len(reports) == 2
    for path in reports:
        assert numbers(path) == {block: judged["report"][block] for block in ("on", "off", "gate_a", "gate_b", "slots")}


def numbers(path) -> dict:
    report = json.loads(path.read_text())
    return {block: report[block] for block in ("on", "off", "gate_a", "gate_b", "slots")}
