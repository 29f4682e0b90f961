"""The page's parts from plain data: numbers stand with their yardstick, and foreign text stays text."""

import json
import re
from pathlib import Path

import gradio as gr
import pytest

from cedkv.config import PRESETS, Config, load_config, parse_config, setting
from cedkv.errors import ConfigError
from cedkv.events import Opened, Progress, StepTrace
from cedkv.methods import METHODS
from cedkv.session.limits import PUBLIC, LimitError, Limits
from cedkv.session.runs import Run, RunError
from cedkv.session.service import Service
from cedkv.session.slots import Mix
from cedkv.session.store import SessionStore
from cedkv.session.views import Comparison, SlotMap, View, Why
from components import api
from components.example import QUERY, example_comparison, example_runs, example_why
from components.headline import headline_html, verdict_sentence
from components.settings import advanced_groups, compact_yaml, group_label, overrides, setting_paths, value_of
from components.slot_text import demo_text_html, slot_card_html, slot_of_token
from components.stages import Stages
from components.tabs.compare import NOT_SUGGESTED, comparison_html, even_widths, next_query, on_table
from components.tabs.off_effect import beside
from components.tabs.runs import history_rows, run_choices, run_label
from components.tabs.slots import build as build_slots
from components.tabs.slots import slider_options
from components.tabs.steering import faders_html
from components.tabs.training import training_html
from components.theme import view_choices
from components.verdicts import criteria_html, gate_html, margin
from components.why_text import made_of, why_html

HOSTILE = '<img src=x onerror="alert(1)">'
SLOTS = SlotMap(
    ("Q", HOSTILE, "b"), ("delimiter", "input", "output"), (0, 0, 1), [[0.2, 0.8, 0], [0, 0, 1]], [True, True], 1, 1
)
# Two tokens; the second slot carries the first of them, though nearly all attention goes to the first slot.
WHY = Why(
    "answer", (HOSTILE, "ed"), [-0.1, -0.2], [[-0.1, -0.3], [-3.1, -0.2]],
    [[[[0.9, 0.7]], [[0.1, 0.0]]], [[[0.5, 0.5]], [[0.2, 0.2]]]], SLOTS,
)  # fmt: skip
ROW = {"name": "on_gain", "value": 0.5, "op": ">=", "threshold": 0.3, "passed": True, "about": HOSTILE}


@pytest.mark.parametrize(
    ("value", "op", "threshold", "share"),
    [(0.5, ">=", 0.25, 0.5), (0.25, ">=", 0.5, -0.5), (1, "<=", 4, 0.75), (0, "<=", 0, 0), (-9, ">=", 1, -1)],
)
def test_the_margin_is_positive_on_the_right_side_and_a_share_of_the_larger(value, op, threshold, share):
    assert margin(value, op, threshold) == pytest.approx(share)


def test_another_states_sliders_end_where_it_ends_and_keep_the_slot_as_far_as_it_has_one():
    slot, layer, head = slider_options(4, 30, 1, slot=3)
    assert (slot["maximum"], slot["value"]) == (4, 3) and slider_options(2, 30, 1, slot=3)[0]["value"] == 2
    assert layer["interactive"] and not head["visible"] and slider_options(4, 1, 3)[2]["visible"]


def test_a_criterion_shows_value_threshold_and_verdict():
    shown = criteria_html([], [ROW])
    assert "0.50" in shown and "0.30" in shown and ">pass<" in shown and "≥" in shown


@pytest.mark.parametrize(
    "shown",
    [
        criteria_html([ROW], []),
        demo_text_html(SLOTS, 0),
        slot_card_html(SLOTS, 1, [[1, 0.5], [0.5, 1]]),
        why_html(WHY),
        comparison_html(Comparison(HOSTILE, (View(HOSTILE, (HOSTILE,), (0.5,), (0.5,), 0.1, 0.2, HOSTILE),)), "ced"),
    ],
)
def test_hostile_text_never_becomes_a_tag(shown):
    assert "<img" not in shown and "&lt;img" in shown


def test_attention_and_effect_stand_side_by_side_and_the_slot_that_carries_the_token_is_chosen():
    shown = why_html(WHY)
    rows = re.findall(r"<tr class.*?</tr>", shown)
    assert len(rows) == 2 and "0.80" in rows[0] and "+0.00" in rows[0]
    assert "0.05" in rows[1] and "-3.00" in rows[1] and 'class="chosen"' in rows[1]
    assert "90%</b>; without slot 2 it would be <b>5%</b>" in shown and "the proof" in shown
    assert shown.count("<title>layer 1, head") == 1  # one head leaves the slot alone
    other = why_html(WHY, 1, 0)
    assert "82%</b>; without slot 1 it would be <b>74%</b>" in other and 'data-at="1" data-slot="0"' in other


def test_a_disturbed_text_opens_at_its_worst_position_and_names_the_slot():
    text = Why(
        "text", ("a", "b", "c"), [0.1, 2.0, 0.5], [[0.1, 1.9, 0.5], [0.1, 0.4, 0.5]], [WHY.attention[0]] * 3, None, 9
    )
    shown = why_html(text)
    assert 'data-at="1" data-slot="1"' in shown and "<b>2.00</b> nats; without slot 2 it would be <b>0.40</b>" in shown
    assert "its first 3 of 9 tokens" in shown and "a free vector" in shown
    shades = [float(shade) for shade in re.findall(r"rgb\(224 112 44 / ([\d.]+)\)", shown)]
    assert shades == pytest.approx([0.03, 0.6, 0.15])


def test_a_texts_first_token_is_not_the_worst_and_no_slot_is_blamed_that_makes_nothing_better():
    """Behind a first token anything in front changes what a text begins with."""
    measured, rises = [9.0, 0.5, 1.0], [9.5, 0.6, 1.2]
    shown = why_html(Why("text", ("a", "b", "c"), measured, [rises, rises], [WHY.attention[0]] * 3, None))
    assert 'data-at="2"' in shown and "no slot alone is to blame" in shown
    shades = [float(shade) for shade in re.findall(r"rgb\(224 112 44 / ([\d.]+)\)", shown)]
    assert shades == pytest.approx([0.6, 0.3, 0.6])


def test_the_example_comes_with_its_explanation():
    why, comparison = example_why(), example_comparison()
    said = comparison.view("ced")
    assert "".join(why.tokens).startswith(said.text) and len(why.tokens) == len(said.said)
    assert "sink" in made_of(why.slots, 0)
    assert "would be" in why_html(why)


def test_a_token_leads_to_the_slot_that_takes_most_of_it():
    assert [slot_of_token(SLOTS, token) for token in range(3)] == [1, 1, 2]


def test_every_setting_of_the_schema_can_be_reached():
    shown = {path for paths in advanced_groups().values() for path in paths}
    hidden = set(setting_paths()) - shown
    assert {"phase2.select.mode", "phase3.mixture.mix_mode"} <= shown
    assert "episode.task" in hidden and len(hidden) == 16
    assert {"phase3.pair_log", "phase3.amortised.extractor"} <= hidden, "folders of the server are not a page's to name"


def test_no_two_groups_of_settings_have_one_heading():
    headings = [group_label(block) for block in advanced_groups()]
    assert len(set(headings)) == len(headings)
    assert not any(" · " in heading for heading in headings)  # each says what its settings are for
    assert group_label("phase9.new_block") == "phase9 · new block"  # one that nobody has given a purpose yet


def test_a_run_is_called_by_what_it_is_and_found_by_its_name(tmp_path):
    (run,) = example_runs(tmp_path)
    ((label, name),) = run_choices([run])
    assert re.fullmatch(r"\d\d:\d\d · present-past · CED mixture · S=8", label)
    assert name == run.id == history_rows([run])[0][0]


def test_only_views_with_texts_of_their_own_stand_beside_the_student(tmp_path):
    """The few-shot prompts drawn by lot are judged too, but of them the report keeps means alone."""
    (run,) = example_runs(tmp_path)
    assert "few_shot_random" in run.report["off"]
    views, chosen = beside(run)
    assert dict(views) == {
        "Select-KV": "select", "few-shot": "few_shot", "chunked, untrained": "chunked", "Free-KV": "free",
        "a line break": "neutral_token", "an ordinary paragraph": "neutral_paragraph",
    }  # fmt: skip
    assert chosen == ["chunked", "neutral_paragraph"]


def test_a_view_that_goes_on_talking_leaves_the_others_their_room(tmp_path):
    table = on_table(*example_runs(tmp_path))
    widths = even_widths(len(table["headers"]))
    assert len(widths) == len(table["headers"]) == 9 and set(widths) == {"11.11%"}


def test_widget_values_become_the_same_config():
    config = parse_config("phase2: {select: {span_len: 2}, layer_scope: {selection: [1, 2]}}", "test")
    paths = [path for paths in advanced_groups().values() for path in paths]
    from components.settings import shown

    again = parse_config("", "test", overrides(paths, [shown(value_of(config, path)) for path in paths]))
    assert again == config
    assert parse_config(compact_yaml(config), "test") == config


def test_a_mistake_in_the_yaml_is_told_with_its_line():
    with pytest.raises(ConfigError, match="settings line 3: .*did you mean 'span_len'"):
        parse_config("phase2:\n  select:\n    span_length: 2\n", "settings")


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ("phase2: {prefix_len: 33}", "33 slots"),
        ("phase2: {eval: {on_samples: 65}}", "phase2.eval.on_samples"),
        ("run: {model: {id: /etc}}", "'/etc' is not offered"),
        ("episode: {task_file: /etc/passwd}", "opens no paths"),
        ("phase3: {optim: {steps: 201}}", "phase3.optim.steps"),
        ("phase3: {optim: {extend_to: 201}}", "phase3.optim.extend_to"),
        ("phase3: {slots: 33}", "33 slots"),
        ("phase2: {eval: {repro_runs: 10}}", "10 phase2.eval.repro_runs: this deployment allows 3; ask for less"),
        ("phase3: {off_data: {candidates: 100000000}}", "phase3.off_data.candidates"),
        ("phase3: {optim: {off_reads: 9}}", "phase3.optim.off_reads"),
        (f"episode: {{pasted_inputs: {['word'] * 129}}}", "129 episode.pasted_inputs"),
        (f"episode: {{pasted_inputs: [{'x' * 20_001}]}}", "20001 characters of pasted inputs.* 20000; use shorter"),
        (f"episode: {{test_pairs: [[a, {'x' * 20_000}]]}}", "20001 characters of test pairs.* 20000; use shorter"),
    ],
)
def test_a_public_deployment_refuses_by_name(settings, named):
    config = parse_config(settings, "test")
    Limits().check_config(config)
    with pytest.raises(LimitError, match=named):
        PUBLIC.check_config(config)


def test_the_defaults_are_within_the_public_limits():
    PUBLIC.check_config(Config())


@pytest.mark.parametrize("name", ["smoke", "mid", "base"])
def test_the_shipped_quick_settings_are_within_the_public_limits(name):
    PUBLIC.check_config(load_config(PRESETS / f"{name}.yaml"))


def test_every_size_that_the_schema_leaves_open_has_a_public_limit():
    rarer_is_cheaper = {"tick_every", "update_every", "refill_every", "patience"}
    sizes = [path for path in setting_paths() if setting(path).annotation in (int, int | None)]
    bounded = [path for path in sizes if any(hasattr(bound, "le") for bound in setting(path).metadata)]
    left_open = {path for path in sizes if path not in bounded and path.split(".")[-1] not in rarer_is_cheaper}
    assert left_open and left_open <= PUBLIC.settings.keys()


@pytest.mark.parametrize(
    ("left", "named"),
    [
        ({"on": {}, "collapse": {}, "timing": {}}, "views judged.*>0<"),
        ({"on": {"base": {}}, "collapse": {}, "timing": {"episode": 0.5}}, "views judged.*>1<"),
        ({"collapse": {"effective_rank_values": 3.25}, "timing": {}}, "effective rank.*>3.2<"),
        ({"collapse": {}, "timing": {"total": 2.5}}, "made in.*>2.5 s<"),
    ],
)
def test_the_headline_of_a_cancelled_run_shows_what_there_is(tmp_path, left, named):
    report = {"episode": {"task": "present-past"}, "slots_budget": 8, "complete": False, **left}
    (tmp_path / "report_phase2.json").write_text(json.dumps(report))
    headline = headline_html(Run(tmp_path))
    assert "cancelled" in headline and re.search(named, headline)


def test_a_judged_state_is_called_by_what_made_it(tmp_path):
    judged = {"episode": {"task": "present-past"}, "slots_budget": 8, "state": {"method": "ced"}}
    judged |= {"collapse": None, "timing": {}}
    (tmp_path / "report_phase3.json").write_text(json.dumps(judged))
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts/state.safetensors").touch()
    assert "CED mixture" in headline_html(Run(tmp_path)) and "CED mixture" in run_label(Run(tmp_path))
    assert "CED mixture" in history_rows([Run(tmp_path)])[0]
    assert ("saved state", "state") in view_choices(Run(tmp_path).methods)


@pytest.mark.parametrize(
    ("views", "about"),
    [
        (["base", "teacher", "select", "ced", "random"], "ced"),
        (["base", "teacher", "ced", "state", "random"], "state"),
        (["base", "teacher", "chunked", "random"], "chunked"),
        (["base", "teacher", "random", "their_method", "few_shot_random"], "their_method"),
        (["base", "teacher", "random"], ""),
    ],
)
def test_a_gate_is_about_its_student_whoever_offers_it(tmp_path, views, about):
    """Also where no state is in the folder to say which it is."""
    (tmp_path / "report_phase3.json").write_text(json.dumps({"on": dict.fromkeys(views, {})}))
    assert Run(tmp_path).judged_view == about


def test_pasted_text_that_is_too_long_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("cedkv.session.service.read_demos_text", None)
    service = Service(PUBLIC, SessionStore(tmp_path, PUBLIC, []))
    with pytest.raises(LimitError, match="20001 characters of demonstrations"):
        service.read_demos("x" * (PUBLIC.demo_chars + 1))


def test_sessions_cannot_name_each_others_runs(tmp_path):
    store = SessionStore(tmp_path, PUBLIC, [])
    run = Run(store.folder("me") / "my-run")
    store.add("me", run)
    assert store.get("me", "my-run") is run
    with pytest.raises(RunError, match="'my-run' is not kept in this session"):
        store.get("you", "my-run")


def test_a_session_name_cannot_leave_the_folder(tmp_path):
    store = SessionStore(tmp_path, PUBLIC, [])
    assert store.folder("../../etc").parent == tmp_path


def test_the_least_recent_session_makes_room_and_leaves_nothing(tmp_path):
    store = SessionStore(tmp_path, Limits(sessions=1, keep_runs=False), [])
    first = store.folder("first")
    store.folder("second")
    assert not first.exists()


def test_the_verdict_is_a_sentence_with_its_yardsticks(tmp_path):
    (run,) = example_runs(tmp_path)
    said = verdict_sentence(run.report, "ced")
    assert "<b>Works</b>: 16 of 16 whole answers right on unseen queries (95 %: 81% to 100%), the teacher 16." in said
    costs = "an ordinary paragraph costs 2.27, the demonstrations cost 4.24."
    p99 = run.report["off"]["ced"]["stress"]["delta_p99"]
    assert said.endswith(f"<b>Harmless</b>: {p99:.2f} of 2.00 allowed; {costs}")
    report = json.loads(json.dumps(run.report))
    report["off"]["neutral_paragraph"] = {"stress": {"delta_p99": 2.6}}
    report["on"]["ced"]["whole_answer"] = report["on"]["teacher"]["whole_answer"] = 0.5
    for row in report["gate_b"]:
        row["passed"] = not row["name"].startswith("off_")
    report["episode"]["on_eval_gold"] = "teacher"
    said = verdict_sentence(report, "ced")
    assert (
        "8 of 16 whole answers right on queries that the model made up" in said
        and "teacher’s own answers" in said
        and "Disturbs other text" in said
    )
    assert "an ordinary paragraph costs 2.60" in said and "To try against the harm" in said


@pytest.mark.parametrize("name", ["off_foreign_delta_p99", "same_continuations", "choice_loss"])
def test_any_harm_that_fails_a_gate_is_called_harm(tmp_path, name):
    (run,) = example_runs(tmp_path)
    failed = {"name": name, "value": 0.9, "op": "<=", "threshold": 0.1, "passed": False, "about": ""}
    said = verdict_sentence({**run.report, "gate_b": [*run.report["gate_b"], failed]}, "ced")
    assert "<b>Works</b>" in said and "<b>Disturbs other text</b>" in said


def test_a_gates_stages_are_counted_as_they_come():
    stages = Stages()
    assert stages.of(Progress("loading the model", 0, 1)) == ""
    stages.of(Opened(Path("run"), ("base", "teacher", "ced", "random")))
    step = StepTrace("ced", 0, 9, 0.1, 0.1, 0.1, 1.0, 8, 1.0)
    told = [Progress("judging base", 0, 3), Progress("judging teacher", 0, 3), step, Progress("judging ced", 0, 3)]
    told += [Progress("scoring spans", 0, 1), Progress("judging random", 0, 2), Progress("repeating ced", 3, 9)]
    assert [stages.of(event)[6] for event in told] == list("1233344")
    assert stages.of(told[-1]) == "stage 4 of 4 · "


def test_a_training_says_its_last_tick_beside_its_first():
    step = {"step": 9, "steps": 20, "loss_on": 0.1}
    before, after = {"train_kl": 0.1, "stress_p99": 7.7}, {"train_kl": 0.1, "stress_p99": 3.1}
    shown = training_html({"steps": [step], "ticks": [before, after]})
    assert "of 20" in shown and ">3.10<" in shown and "first tick 7.70" in shown


def test_a_run_that_was_not_judged_offers_it_where_it_has_a_state(tmp_path):
    (run,) = example_runs(tmp_path)
    report = {**run.report, "gate_a": [], "gate_b": [], "timing": {"total": 2.0}}
    (run.folder / "report_phase3.json").write_text(json.dumps(report))
    judgeable = Run(run.folder)
    assert "press Judge this state" in headline_html(judgeable)
    assert "Press Judge this state" in gate_html(judgeable) and "Run gate" not in gate_html(judgeable)
    # Nothing can be pressed in a file.
    alone = headline_html(judgeable, alone=True) + gate_html(judgeable, alone=True)
    assert "not judged" in alone and "press" not in alone.lower()
    for state in (run.folder / "artifacts").glob("*.safetensors"):
        state.unlink()
    assert "Run gate makes and judges a new one" in gate_html(Run(run.folder))
    assert "Judge this state" not in headline_html(Run(run.folder))


def test_a_query_of_a_link_stays_where_the_pages_own_makes_room(tmp_path):
    (run,) = example_runs(tmp_path)
    asked = next(sample["input"] for sample in run.samples if sample["kind"] == "on")
    assert next_query(run, QUERY, ("another task", QUERY)) == ("present-past", asked)
    assert next_query(run, "walk", ("another task", QUERY)) is None
    assert next_query(run, QUERY, NOT_SUGGESTED) is None


def test_the_slot_card_counts_what_it_leaves_out():
    many = SlotMap(tuple("abcde"), ("input",) * 5, (0,) * 5, [[0.2] * 5], [True], 1, 1)
    assert "and 2 more" in slot_card_html(many, 1, [[1]], most=3) and "more" not in slot_card_html(many, 1, [[1]])


def test_a_desk_has_a_fader_for_each_slot_and_a_mix_is_told_in_words():
    assert faders_html(3, "a/ced").count('type="range"') == 3 and 'aria-label="values of slot 3 times"' in faders_html(
        3, "a/ced"
    )
    assert Mix((1, 0, 2.5)).told() == "slot 2 off, slot 3 × 2.5"
    assert Mix((1, 1)).told() == "as it is"


def test_a_run_keeps_its_name_tags_and_notes_as_text(tmp_path):
    (run,) = example_runs(tmp_path)
    run.note_down(name=HOSTILE, tags="first, try", text="  the sink alone \n")
    assert Run(run.folder).notes == {"name": HOSTILE, "tags": "first, try", "text": "the sink alone"}
    assert history_rows([run])[0][1:3] == [HOSTILE, "first, try"] and run_choices([run])[0][0].startswith(HOSTILE)
    assert "<img" not in headline_html(run) and "&lt;img" in headline_html(run)
    with pytest.raises(RunError, match="81 characters of name: a run keeps 80"):
        run.note_down(name="x" * 81)


def test_the_sliders_of_a_session_that_the_server_has_forgotten_are_still_read():
    with gr.Blocks():
        parts = build_slots(None)
    # Gradio checks what a page sends against the page as it was built once it has dropped the session's own.
    assert [slider.preprocess(512) for slider in (parts.slot, parts.layer, parts.head)] == [512] * 3


def test_an_assistant_is_told_of_every_method():
    """The names are written out, since the methods themselves bring torch, without which the page can be there."""
    told = re.findall(r"\w+", api._ARGUMENTS["method"].partition(": ")[2])
    assert {*told} - {"or"} == METHODS.keys()
