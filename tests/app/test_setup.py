"""What the rail shows is what runs, after Apply, a preset, another method or a link: the same as without the app."""

import json
from collections.abc import Callable
from urllib.parse import parse_qs

import gradio as gr
import pytest

from cedkv.config import PRESETS, Config, dump_config, load_config, parse_config
from cedkv.errors import ConfigError
from cedkv.gate.kinds import KINDS
from cedkv.methods import METHODS
from cedkv.session.limits import Limits
from cedkv.session.runs import Run, RunError
from cedkv.session.store import SessionStore
from components.demo_rows import demo_warnings
from components.desk import Desk
from components.headline import headline_html
from components.page import build_page
from components.request import read_request, with_mixture
from components.settings import overrides, setting_widget
from components.setup import OWN, preset_files
from components.tabs import TABS
from components.tabs.compare import CompareParts, on_input, on_table
from components.tabs.frame import Page
from components.tabs.gate import GateParts, show_states
from components.tabs.runs import permalink
from components.tabs.slots import SlotsParts
from components.text import visible
from components.wiring import wire
from components.wiring.start import filled_in, from_address, from_preset, from_run, from_yaml, slots_shown

MINE = [["lift", "lifted"], ["walk", "walked"]]
PAIRS = [("lift", "lifted"), ("walk", "walked")]


@pytest.fixture(scope="module")
def page() -> Page:
    with gr.Blocks() as blocks:
        return build_page(blocks, Limits(), load_config(PRESETS / "smoke.yaml"), None, TABS)


@pytest.fixture(scope="module")
def desk(tmp_path_factory) -> Desk:
    return Desk(Limits(), SessionStore(tmp_path_factory.mktemp("runs"), Limits(), []))


def test_no_two_parts_of_the_page_have_one_id(page):
    ids = [block.elem_id for block in page.blocks.blocks.values() if getattr(block, "elem_id", None)]
    assert len(ids) > 40 and sorted(set(ids)) == sorted(ids)


def test_no_text_can_be_pasted_that_is_longer_than_demonstrations_may_be(page):
    boxes = [page.setup.paste, page.setup.pasted_inputs, page.setup.test_pairs]
    assert [box.max_length for box in boxes] == [Limits().demo_chars] * 3


def handler(page, desk, name: str, fills) -> Callable:
    """What the page calls to fill a component, by its name in the code."""
    with gr.Blocks() as blocks:
        page = build_page(blocks, Limits(), page.config, None, TABS)
        wire(page, desk)
    found = [event.fn for event in blocks.fns.values() if event.fn and event.outputs[:1] == [fills(page)]]
    return next(fn for fn in found if fn.__name__ == name)


@pytest.mark.parametrize("seed", [None, 0.0])
def test_a_task_is_drawn_while_the_seed_is_emptied(page, desk, seed):
    drawn = handler(page, desk, "draw", lambda page: page.setup.demos)("antonym", 4.0, seed)
    config = parse_config("episode: {task: antonym, demos: 4}", "test")
    assert drawn == [list(pair) for pair in desk.service.task_demos(config)]


@pytest.mark.parametrize(
    ("name", "fills", "given"),
    [
        ("ring", lambda page: page.sizes.plot, ("a strip",)),
        ("another_state", lambda page: page.part(SlotsParts).steering.reset()[0], ("ced",)),
    ],
)
def test_a_run_that_is_gone_is_told(page, desk, name, fills, given):
    with pytest.raises(gr.Error, match="gone.* is not kept in this session"):
        handler(page, desk, name, fills)("gone", *given, gr.Request(session_hash="me"))


def test_the_settings_of_a_run_whose_demonstrations_are_lost_are_not_taken(page, desk, tmp_path):
    """The rail would show the default task in their place."""
    (tmp_path / "report_phase2.json").write_text('{"episode": {"task": "mine", "demos_lost": true}}')
    (tmp_path / "config.yaml").write_text("{}")
    with pytest.raises(RunError, match="came from a file that is not here"):
        from_run(page, desk, Run(tmp_path))
    texts = show_states(GateParts(*"abcdef"), desk, Run(tmp_path))
    assert [text.startswith("# the demonstrations") for text in texts.values()] == [True, True]


def asked(page, rail):
    return read_request(page.setup.form, rail)


def held(page, rail, component):
    return rail[page.setup.inputs().index(component)]


def opened(page, desk, link: str) -> list:
    """The rail's values after a link was opened."""
    parameters = {name: values[0] for name, values in parse_qs(link.removeprefix("?")).items()}
    (shown,) = from_address(page, desk, parameters)
    return [shown[component] for component in page.setup.inputs()]


def slots_of(config: Config) -> tuple[int, int]:
    return config.phase2.prefix_len, config.phase3.slots


@pytest.mark.parametrize("method", METHODS)
def test_the_slider_that_is_seen_is_the_one_that_the_method_runs_on(page, desk, method):
    updates = zip(page.setup.slots_of_phase().values(), slots_shown(page, desk, method), strict=True)
    (seen,) = [slider for slider, update in updates if update.visible is True]
    rail = from_yaml(page, desk, "present-past", MINE, method, "phase2: {prefix_len: 5}\nphase3: {slots: 4}\n")
    assert held(page, rail, seen) == KINDS[desk.service.phase_of(method)].slots(asked(page, rail).config)


def test_the_form_opens_on_the_student_of_the_example_with_its_slider(page, desk):
    opening = page.setup.method.value
    assert METHODS[opening].gate_role == "student"
    seen = [slider.visible is True for slider in page.setup.slots_of_phase().values()]
    assert seen == [update.visible is True for update in slots_shown(page, desk, opening)]


@pytest.mark.parametrize(
    ("text", "slots"), [("", (16, 8)), ("phase3: {slots: 4}", (16, 4)), ("phase2: {prefix_len: 5}", (5, 8))]
)
def test_applied_slots_of_one_phase_leave_those_of_the_other(page, desk, text, slots):
    assert slots_of(asked(page, from_yaml(page, desk, OWN, MINE, "ced", text)).config) == slots


@pytest.mark.parametrize("preset", [path for path in preset_files() if "/" not in path])
def test_a_preset_gives_the_config_of_its_file(page, desk, preset):
    rail = from_preset(page, desk, preset, "ced", [])
    assert asked(page, rail).config == load_config(preset_files()[preset])


def test_apply_keeps_own_demonstrations(page, desk):
    after = asked(page, from_yaml(page, desk, OWN, MINE, "select", "run: {seed: 3}"))
    assert after.own and after.demos == PAIRS and after.config.run.seed == 3


def test_apply_keeps_own_demonstrations_also_when_a_preset_filled_the_yaml(page, desk):
    text = held(page, from_preset(page, desk, "base.yaml", "select", []), page.setup.yaml)
    after = asked(page, from_yaml(page, desk, OWN, MINE, "select", text))
    assert after.own and after.demos == PAIRS and after.config.episode.on_train == 72


def test_apply_keeps_the_chosen_task(page, desk):
    after = asked(page, from_yaml(page, desk, "antonym", MINE, "select", "run: {seed: 3}"))
    assert after.config.episode.task == "antonym" and after.demos == PAIRS


def test_apply_takes_a_task_that_is_named_with_its_demonstrations(page, desk):
    rail = asked(page, from_yaml(page, desk, OWN, MINE, "select", "episode: {task: antonym, demos: 4}"))
    assert rail.config.episode.task == "antonym" and not rail.own
    assert len(rail.demos) == 4 and rail.demos == desk.service.task_demos(rail.config)


def test_a_mixture_is_laid_over_what_the_rail_holds(page, desk):
    before = from_yaml(page, desk, OWN, MINE, "ced", "phase2: {eval: {on_samples: 3}}\nphase3: {optim: {steps: 7}}")
    after = asked(page, from_preset(page, desk, "mixtures/v_only.yaml", "ced", before))
    assert after.own and after.demos == PAIRS
    assert (after.config.phase2.eval.on_samples, after.config.phase3.optim.steps) == (3, 7)
    assert after.config.phase3.mixture.mix_mode == "v_only"


@pytest.mark.parametrize("first", [name for name in preset_files() if "/" in name])
def test_a_mixture_takes_the_place_of_another(first):
    over = load_config(PRESETS / "base.yaml")
    for name in preset_files():
        if "/" in name:
            expected = load_config(PRESETS / "base.yaml", mixture=preset_files()[name])
            assert with_mixture(with_mixture(over, first), name) == expected


@pytest.mark.parametrize(("task", "own"), [("antonym", False), (OWN, True)])
def test_a_link_with_demonstrations_brings_back_the_task_they_were_edited_in(page, desk, task, own):
    rail = from_yaml(page, desk, task, MINE, "ced", "phase3: {slots: 4}")
    before = asked(page, rail)
    after = asked(page, opened(page, desk, permalink(desk, before, "jump", False)))
    assert (before.own, after) == (own, before)
    assert after.config.episode.task == (None if own else "antonym")


def test_own_demonstrations_have_no_task_even_where_the_yaml_still_names_one(page, desk):
    rail = from_yaml(page, desk, OWN, MINE, "select", "")
    rail[page.setup.inputs().index(page.setup.yaml)] = "episode: {task: antonym}"
    assert asked(page, rail).config.episode.task is None


@pytest.mark.parametrize(("source", "header"), [("labels", "gold"), ("teacher", "teacher's answer")])
def test_where_the_right_answers_come_from_is_said(tmp_path, source, header):
    """Without held-out pairs the teacher's answers are taken for right, and accuracy is agreement with it."""
    views = {"base": {}, "teacher": {}, "select": {}}
    numbers = {"accuracy": 0.5, "whole_answer": 0.25, "kl_to_teacher": 1.0, "answer_logprob_gain": 2.0}
    report = {
        "run_id": "r", "slots_budget": 4, "gate_a": [], "gate_b": [{"name": "on_gain", "passed": True}], "passed": True,
        "episode": {"task": "mine", "on_eval": 8, "on_eval_gold": source, "off": {"stress": {"count": 54}}},
        "on": dict.fromkeys(views, numbers), "off": {view: {"stress": {"delta_p99": 1.5}} for view in views},
    }  # fmt: skip
    (tmp_path / "report_phase2.json").write_text(json.dumps(report))
    run = Run(tmp_path)
    assert on_table(run)["headers"][1] == header
    headline = headline_html(run)
    assert ("agreement with teacher" in headline) == (source == "teacher")
    assert "first token" in headline and "whole answer" in headline and "0.25" in headline
    assert ("the teacher’s own answers" in headline) == (source == "teacher") and "2 of 8 whole answers" in headline
    assert "8 queries" in headline and "54 texts" in headline


def test_a_link_that_is_partly_understood_says_what_was_left_out(page, desk):
    (shown,) = from_address(page, desk, {"query": "jump", "plain": "1", "qery": "x", "__theme": "dark"})
    asking = page.part(CompareParts)
    assert shown[asking.query] == "jump" and shown[asking.plain] is True
    assert "left out: &#x27;qery&#x27;" in shown[page.setup.status]
    assert list(from_address(page, desk, {"__theme": "dark"})) == []


def test_slips_in_edited_demonstrations_are_told_by_row():
    pairs = [("lift", "lifted"), ("walk", "walked"), ("lift", "lifted"), ("walk", "walks"), ("run", "")]
    said = ["row 3 repeats row 1", "rows 2 and 4 give one input two outputs", "row 5 has only one side"]
    assert demo_warnings(pairs) == said and demo_warnings(PAIRS) == []


def test_a_row_of_the_gates_queries_is_asked_as_it_was(tmp_path):
    text = "two\nlines\tand a tab"
    sample = {
        "type": "sample",
        "kind": "on",
        "view": "base",
        "input": text,
        "gold": "y",
        "answer": "y",
        "correct": True,
    }
    (tmp_path / "metrics.jsonl").write_text(json.dumps(sample))
    (tmp_path / "report_phase2.json").write_text('{"episode": {}}')
    ((shown, *_),) = on_table(Run(tmp_path))["data"]
    assert shown == visible(text) != text
    assert on_input(Run(tmp_path), shown) == text


def test_a_kept_run_fills_the_form_unless_its_demonstrations_are_gone_or_a_link_speaks(page, desk, tmp_path):
    demos = tmp_path / "demos.csv"
    demos.write_text("input,output\nlift,lifted\nwalk,walked\n")
    folder = tmp_path / "kept"
    folder.mkdir()
    (folder / "report_phase2.json").write_text('{"on": {}, "episode": {}}')
    settings = load_config(None, [f"episode.demos_file={demos}", "phase2.prefix_len=5"])
    (folder / "config.yaml").write_text(dump_config(settings))
    own = Run(folder)
    (shown,) = filled_in(page, desk, {}, own)
    assert asked(page, [shown[component] for component in page.setup.inputs()]).demos == PAIRS
    (linked,) = filled_in(page, desk, {"settings": "phase2: {prefix_len: 7}"}, own)
    assert asked(page, [linked[part] for part in page.setup.inputs()]).config.phase2.prefix_len == 7
    demos.unlink()
    (told,) = filled_in(page, desk, {}, own)
    assert told.keys() == {page.setup.status} and "demos.csv" in str(told)


def test_a_whole_number_that_may_be_left_empty_comes_back_as_one():
    """A browser gives a number field's value as a number, and a text field's as a text, which the schema refuses."""
    path = "phase3.optim.extend_to"
    for mixture, held in ((None, None), ("fast", 40)):
        widget = setting_widget(path, load_config(None, mixture=mixture))
        assert isinstance(widget, gr.Number) and widget.value == held
    assert parse_config("", "test", overrides([path], [40.0])).phase3.optim.extend_to == 40
    assert parse_config("", "test", overrides([path], [None])).phase3.optim.extend_to is None


@pytest.mark.parametrize("empty", [None, ""])
def test_an_emptied_setting_is_empty_whatever_the_typed_settings_hold(page, desk, empty):
    rail = from_preset(page, desk, "mixtures/fast.yaml", "ced", from_yaml(page, desk, "antonym", MINE, "ced", ""))
    assert asked(page, rail).config.phase3.optim.extend_to == 40
    rail[page.setup.inputs().index(page.setup.form.widgets["phase3.optim.extend_to"])] = empty
    assert asked(page, rail).config.phase3.optim.extend_to is None


@pytest.mark.parametrize("path", ["phase3.optim.topk_schedule", "phase3.layer_scope.mixture"])
@pytest.mark.parametrize("typed", ["[16, 8, 4", "[2026-13-45]", "[2026-10-05]", "[" * 3000])
def test_a_list_typed_with_a_slip_is_refused_by_name(path, typed):
    with pytest.raises(ConfigError, match=path) as caught:
        parse_config("", "test", overrides([path], [typed]))
    assert "\n" not in str(caught.value)


def test_a_bound_that_may_be_left_empty_is_a_number_within_the_schemas_bounds():
    path = "phase3.thresholds.harm.choice_loss_max"
    widget = setting_widget(path, Config())
    assert isinstance(widget, gr.Number) and (widget.value, widget.minimum, widget.maximum) == (None, 0, 1)
    text = "phase2: {eval: {harm: {questions: 8}}}"
    for held in (0.25, None, ""):
        config = parse_config(text, "test", overrides([path], [held]))
        assert config.phase3.thresholds.harm.choice_loss_max == (held or None)
