"""The rail on the left: what to ask. Task, demonstrations, queries, method, settings, and the buttons that run it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import gradio as gr

from cedkv.config import PRESETS, Config, choices, setting
from cedkv.session.limits import Limits
from components.demo_rows import ROW_MOVES
from components.headline import ANCHORS
from components.settings import SettingsForm, advanced_groups, bound, group_label, setting_widget, typed_settings
from components.text import esc
from components.theme import view_choices

OWN = "(my own demonstrations)"
# The choice of a format that leaves it to the reader; the others, as tasks and templates, come with the engine.
FOUND_OUT = ("found out", "")
# What the form opens on, and what a link that names no method means: the student, as in the example run beside it.
OPENS_ON = "ced"


@dataclass(frozen=True)
class Setup:
    """The rail's components. `leaving` counts how often a run that still waited was taken back.

    prefix_len, slots : how many slots each phase of the gate has; the one of the chosen method's phase is seen.
    """

    task: gr.Dropdown
    reading: gr.HTML
    demos: gr.Dataframe
    rows: gr.HTML
    examine: gr.Button
    examined: gr.State
    paste: gr.Textbox
    paste_format: gr.Dropdown
    use_pasted: gr.Button
    count: gr.Slider
    template: gr.Dropdown
    on_source: gr.Radio
    pasted_inputs: gr.Textbox
    test_pairs: gr.Textbox
    method: gr.Dropdown
    preset: gr.Dropdown
    prefix_len: gr.Slider
    slots: gr.Slider
    model: gr.Dropdown
    form: SettingsForm
    yaml: gr.Code
    apply: gr.Button
    find: gr.Textbox
    run: gr.Button
    gate: gr.Button
    cancel: gr.Button
    leaving: gr.State
    status: gr.HTML

    def inputs(self) -> list[gr.components.Component]:
        """What a run is made of, in the order of `components.request.shown_values`."""
        return [
            self.task, self.demos, self.count, self.template, self.on_source, self.pasted_inputs, self.test_pairs,
            self.method, self.prefix_len, self.slots, self.model, self.yaml, *self.form.components(),
        ]  # fmt: skip

    def slots_of_phase(self) -> dict[int, gr.Slider]:
        return {2: self.prefix_len, 3: self.slots}


def build_setup(limits: Limits, config: Config) -> Setup:
    """The rail, showing the settings of a config that names its task."""
    assert config.episode.task is not None, "the page opens on a shipped task"
    gr.HTML(
        '<div class="ck"><a class="ck-from-rail" href="#main">close</a><h2>the next run</h2></div>',
        elem_id="rail-title", js_on_load=ANCHORS,
    )  # fmt: skip
    with gr.Group(elem_classes="ck-rail"):
        task = gr.Dropdown([config.episode.task], value=config.episode.task, label="task", elem_id="task")
        reading = gr.HTML(elem_id="reading")
        demos = gr.Dataframe(
            headers=["input", "output"], datatype="str", type="array", label="demonstrations", elem_id="demos",
            interactive=True, column_count=2, max_height=236, wrap=True, column_widths=["50%", "50%"], max_chars=60,
        )  # fmt: skip
        with gr.Accordion("look at them one by one, or reorder", open=False, elem_id="demo-rows"):
            examine = gr.Button("Examine", size="sm", elem_id="examine")
            rows = gr.HTML("", elem_id="rows", js_on_load=ROW_MOVES)
        with gr.Accordion("paste demonstrations", open=False):
            paste = gr.Textbox(
                lines=4, label="pasted demonstrations", show_label=False, container=False, elem_id="paste",
                max_length=limits.demo_chars,
                placeholder="lift -> lifted\nwalk -> walked\n\nalso: CSV, tabs, tables, Q:/A: blocks, JSON, YAML",
            )  # fmt: skip
            paste_format = gr.Dropdown(
                [FOUND_OUT], value=FOUND_OUT[1], label="format", elem_id="paste-format",
            )  # fmt: skip
            use_pasted = gr.Button("Use these", size="sm", elem_id="use-pasted")
        method, preset = _method_row()
        prefix_len = _slots_slider(limits, config.phase2.prefix_len, "phase2.prefix_len", "hidden")
        slots = _slots_slider(limits, config.phase3.slots, "phase3.slots", True)
    run, gate, cancel, status = _buttons()
    with gr.Accordion("queries and template", open=False):
        count, template, on_source, pasted_inputs, test_pairs = _episode_widgets(limits, config)
    form, model, code, apply, find = _advanced(limits, config)
    return Setup(
        task, reading, demos, rows, examine, gr.State(None), paste, paste_format, use_pasted, count,
        template, on_source, pasted_inputs, test_pairs,
        method, preset, prefix_len, slots,
        model, form, code, apply, find, run, gate, cancel, gr.State(0), status,
    )  # fmt: skip


def preset_files() -> dict[str, Path]:
    """The shipped settings by the name a user sees."""
    return {**{path.name: path for path in sorted(PRESETS.glob("*.yaml"))}, **mixture_files()}


def mixture_files() -> dict[str, Path]:
    """Those of them that are laid over other settings."""
    return {str(path.relative_to(PRESETS)): path for path in sorted(PRESETS.glob("mixtures/*.yaml"))}


def apply_button(pending: bool) -> gr.Button:
    """What takes the typed YAML over; it says so while there is something that a run would not heed."""
    return gr.Button(
        "Apply: a run does not heed it yet" if pending else "Apply", variant="primary" if pending else "secondary",
        size="sm", elem_id="apply",
    )  # fmt: skip


def reading_html(message: str, warnings: Sequence[str]) -> str:
    """The line above the table: how pasted demonstrations were read, and what was left out."""
    more = "".join(f"<br>{esc(warning)}" for warning in warnings)
    return f'<div class="ck"><div class="ck-note idle" role="status">{esc(message)}{more}</div></div>'


def status_html(kind: str, message: str, share: float | None = None) -> str:
    """The line under the buttons. `kind` is `idle`, `busy`, `done`, `error` or `cancelled`."""
    bar = f'<div class="ck-progress"><div style="width:{share:.1%}"></div></div>' if share is not None else ""
    return f'<div class="ck"><div class="ck-note {esc(kind)}" role="status">{esc(message)}{bar}</div></div>'


def _method_row() -> tuple[gr.Dropdown, gr.Dropdown]:
    with gr.Row():
        method = gr.Dropdown(view_choices([OPENS_ON]), value=OPENS_ON, label="method", min_width=120, elem_id="method")
        preset = gr.Dropdown(
            list(preset_files()), value="smoke.yaml", label="preset", min_width=120, elem_id="preset",
        )  # fmt: skip
    return method, preset


def _slots_slider(limits: Limits, count: int, path: str, visible: bool | Literal["hidden"]) -> gr.Slider:
    return gr.Slider(
        1, _most(limits.slots, path), value=count, step=1, label="slots", visible=visible,
        elem_id=path.rpartition(".")[2].replace("_", "-"),
        info="What the prefix may hold. The demonstrations themselves have about 8 tokens each.",
    )  # fmt: skip


def _most(allowed: int, path: str) -> float:
    """The largest value of a setting: the schema's, or what this deployment allows where that is less."""
    largest = bound(path, "maximum")
    return allowed if largest is None else min(allowed, largest)


def _buttons() -> tuple[gr.Button, gr.Button, gr.Button, gr.HTML]:
    with gr.Row(elem_classes="ck-buttons"):
        run = gr.Button("Run", variant="primary", elem_id="run", min_width=70)
        gate = gr.Button("Run gate", elem_id="gate", min_width=90)
        cancel = gr.Button("Cancel", elem_id="cancel", min_width=70)
    status = gr.HTML(
        status_html(
            "idle",
            "Run makes the slots: Select-KV in seconds, a trained method in half a minute. Run gate also judges them.",
        ),
        elem_id="status",
    )
    return run, gate, cancel, status


def _episode_widgets(limits: Limits, config: Config) -> tuple[gr.Slider, gr.Dropdown, gr.Radio, gr.Textbox, gr.Textbox]:
    count = gr.Slider(
        1, _most(limits.demos, "episode.demos"), value=config.episode.demos, step=1,
        label="demonstrations drawn", info=setting("episode.demos").description,
    )  # fmt: skip
    template = gr.Dropdown(
        [config.episode.template], value=config.episode.template, allow_custom_value=True,
        label="template", info=setting("episode.template").description,
    )  # fmt: skip
    on_source = gr.Radio(
        choices("episode.on_source"), value=config.episode.on_source, label="training queries",
        info=setting("episode.on_source").description,
    )  # fmt: skip
    pasted = gr.Textbox(
        lines=3, label="pasted inputs", max_length=limits.demo_chars, info="One input per line, for on_source: pasted.",
    )  # fmt: skip
    tests = gr.Textbox(
        lines=3, label="labelled test pairs", elem_id="test-pairs", max_length=limits.demo_chars,
        info="Pairs that the gate judges on, in any format of demonstrations. Without them queries of your own "
        "demonstrations are made up by the model, and the teacher’s answers are taken for right.",
    )  # fmt: skip
    return count, template, on_source, pasted, tests


def _advanced(limits: Limits, config: Config) -> tuple[SettingsForm, gr.Dropdown, gr.Code, gr.Button, gr.Textbox]:
    widgets: dict[str, Any] = {}
    groups: dict[str, gr.Accordion] = {}
    with gr.Accordion("advanced settings", open=False, elem_id="advanced"):
        model = gr.Dropdown(
            list(limits.models or ("embedded",)), value=config.run.model.id, label="model",
            info=setting("run.model.id").description, allow_custom_value=limits.models is None,
        )  # fmt: skip
        find = gr.Textbox(label="find a setting", placeholder="such as: layers, steps, p99", elem_id="find-setting")
        for block, paths in advanced_groups().items():
            with gr.Accordion(group_label(block), open=False) as groups[block]:
                for path in paths:
                    widgets[path] = setting_widget(path, config)
        with gr.Accordion("as YAML", open=False):
            code = gr.Code(
                typed_settings(config), language="yaml", label="what differs from the defaults", lines=6,
                elem_id="yaml",
            )  # fmt: skip
            apply = apply_button(pending=False)
    return SettingsForm(widgets, groups), model, code, apply, find
