"""From an empty page to one that is ready: choices, demonstrations, settings from the address, the example run."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr

from cedkv.config import load_config, parse_config
from cedkv.errors import CedKVError
from cedkv.session.runs import Run
from components.demo_rows import demo_warnings
from components.desk import Desk
from components.handlers import DRAWING, run_of, session_of, told
from components.headline import top_html
from components.request import read_request, read_table, shown_values, with_mixture
from components.settings import found_settings, overrides
from components.setup import (
    FOUND_OUT,
    OPENS_ON,
    OWN,
    apply_button,
    mixture_files,
    preset_files,
    reading_html,
    status_html,
)
from components.tabs.compare import NOT_SUGGESTED, CompareParts, comparing
from components.tabs.frame import Page, show_files, show_states
from components.theme import view_choices

_POLL_SECONDS = 0.2
# A page that is loaded again in its browser tab finds its runs by this key. What is on its way would be lost, so that
# the browser asks first.
_PAGE_KEY = """
() => {
  const name = 'cedkv-page', made = crypto.getRandomValues(new Uint32Array(4)).join('-');
  if (!sessionStorage.getItem(name)) sessionStorage.setItem(name, made);
  window.addEventListener('beforeunload', (event) => {
    if (document.querySelector('#status .busy')) event.preventDefault();
  });
  return [sessionStorage.getItem(name)];
}
"""
# What a link to settings may say, and what gradio itself puts into addresses.
_IN_LINKS = {"settings", "method", "query", "plain", "demos"}
_OF_GRADIO = {"__theme", "__sign", "view", "deep_link"}


def wire_start(page: Page, desk: Desk) -> None:
    setup, asking = page.setup, page.part(CompareParts)

    def start(request: gr.Request) -> Iterator[dict]:
        yield {page.top: top_html(*desk.model_line())}
        service = desk.service
        templates, formats = service.forms()
        yield {
            setup.task: gr.Dropdown([*service.tasks(), OWN]),
            setup.method: gr.Dropdown(view_choices(service.methods)),
            setup.template: gr.Dropdown(templates),
            setup.paste_format: gr.Dropdown([FOUND_OUT, *formats]),
            setup.demos: [list(pair) for pair in service.task_demos(page.config)],
        }
        yield from filled_in(page, desk, dict(request.query_params), kept_run(desk, session_of(request)))
        while service.models.status.state == "loading":
            time.sleep(_POLL_SECONDS)
        # Of a generator only its last update makes a state's change known.
        own = kept_run(desk, session_of(request))
        asked_for = request.query_params.get("query", "") or (own.id if own else "")
        yield {page.top: top_html(*desk.model_line()), asking.linked: asked_for}

    def first_run(session: str) -> Run | None:
        return kept_run(desk, session) or next(iter(desk.store.runs(session)), None)

    def show_first(key: str, request: gr.Request) -> dict:
        desk.store.resume(session_of(request), key)
        run = first_run(session_of(request))
        if run is None:
            return {page.run_id: gr.skip()}
        updates = show_files(page, desk, session_of(request), run)
        if run in desk.store.shared:  # its answers came with the page, which may be in use by now
            updates |= dict.fromkeys((asking.columns, asking.why), gr.skip())
        return updates

    def show_first_states(request: gr.Request) -> dict:
        run = first_run(session_of(request))
        return show_states(page, desk, run) if run else {page.run_id: gr.skip()}

    # One after the other: what comes from files is drawn before the import of the engine takes the processor. And
    # events of their own: parts of tabs that were never opened keep only what an event ends with.
    key = gr.Textbox(visible=False)
    filled = page.blocks.load(show_first, key, page.shown(), js=_PAGE_KEY, **DRAWING)
    known = filled.then(show_first_states, None, page.shown(), **DRAWING)
    asked = [asking.query, asking.plain, asking.linked, asking.suggested]
    restored = [setup.status, setup.paste_format, *asked, *setup.inputs()]
    known.then(start, None, [page.top, *restored], **DRAWING)
    # The columns that the page opens on answer another query than a link's, and of another run than one kept.
    asking.linked.change(**comparing(page, desk, quiet=True))

    def end(request: gr.Request) -> None:
        desk.end(session_of(request))

    page.blocks.unload(end)


def kept_run(desk: Desk, session: str) -> Run | None:
    """The run of one's own that the session's page has shown before it was loaded again."""
    name, shared = desk.store.shown(session), {run.id for run in desk.store.shared}
    return next((run for run in desk.store.runs(session) if run.id == name and name not in shared), None)


def filled_in(page: Page, desk: Desk, parameters: dict[str, str], own: Run | None) -> Iterator[dict]:
    """The settings of a link, else of the run that the page goes on with."""
    if own is None or parameters.keys() - _OF_GRADIO:
        yield from from_address(page, desk, parameters)
        return
    setup = page.setup
    try:
        yield dict(zip(setup.inputs(), from_run(page, desk, own), strict=True))
    except CedKVError as error:  # its demonstrations are no longer there: it can still be looked at
        yield {setup.status: status_html("error", desk.store.without_paths(str(error)))}


def from_address(page: Page, desk: Desk, parameters: dict[str, str]) -> Iterator[dict]:
    """What a link to settings restores. Everything in it is checked like typed settings; a mistake is told."""
    unknown = ", ".join(sorted(repr(name) for name in parameters.keys() - {*_IN_LINKS, *_OF_GRADIO}))
    if not unknown and not parameters.keys() & _IN_LINKS:
        return
    setup, service = page.setup, desk.service
    try:
        config = parse_config(parameters.get("settings", ""), "the link's settings")
        method = parameters.get("method", OPENS_ON)
        if method not in service.methods:
            raise CedKVError(f"the link's method {method!r} is unknown; known are {', '.join(service.methods)}")
        pasted = parameters.get("demos")
        demos = service.parse_demos(pasted) if pasted else service.task_demos(config)
        task = OWN if pasted and config.episode.task is None else service.task_of(config)
        values = shown_values(setup.form, config, task, demos, method)
    except CedKVError as error:
        yield {setup.status: status_html("error", str(error))}
        return
    query = parameters.get("query", "")[: desk.limits.query_chars]
    asking = page.part(CompareParts)
    asked = {asking.query: query, asking.plain: parameters.get("plain") == "1", asking.suggested: NOT_SUGGESTED}
    dropped = f"; what it does not understand was left out: {unknown}" if unknown else ""
    yield {
        **dict(zip(setup.inputs(), values, strict=True)),
        **(asked if query else {}),
        setup.status: status_html("idle", f"settings restored from the link{dropped}"),
    }


def from_run(page: Page, desk: Desk, run: Run) -> list[Any]:
    """The rail's values for the settings that a run was made with."""
    desk.service.check_at_hand(run)
    config, form = run.config, page.setup.form
    demos, plain = desk.service.as_asked(config)
    own = config.episode.demos_file is not None and config.episode.task is None
    task = OWN if own else desk.service.task_of(config)
    method = run.made_by if run.made_by in desk.service.methods else OPENS_ON
    return shown_values(form, plain, task, demos, method)


def from_yaml(page: Page, desk: Desk, task: str, demos: list, method: str, text: str) -> list[Any]:
    """The rail's values for typed settings. Task and demonstrations stay, unless the settings name a task."""
    config = parse_config(text or "", "settings")
    pairs = read_table(demos)
    if config.episode.task is not None:
        task, pairs = config.episode.task, desk.service.task_demos(config)
    return shown_values(page.setup.form, config, task, pairs, method)


def from_preset(page: Page, desk: Desk, name: str, method: str, rail: Sequence[Any]) -> list[Any]:
    """The rail's values for a preset: all settings anew, or a mixture laid over those that the rail holds."""
    form, service = page.setup.form, desk.service
    if name in mixture_files():
        asked = read_request(form, rail)
        config = with_mixture(asked.config, name)
        return shown_values(form, config, OWN if asked.own else service.task_of(config), asked.demos, method)
    config = load_config(preset_files()[name])
    return shown_values(form, config, service.task_of(config), service.task_demos(config), method)


def slots_shown(page: Page, desk: Desk, method: str) -> list[Any]:
    """Of the sliders for slots, the one that the method's phase reads. The other stays in the page with its value."""
    phase = desk.service.phase_of(method)
    return [gr.Slider(visible=number == phase or "hidden") for number in page.setup.slots_of_phase()]


def wire_setup(page: Page, desk: Desk) -> None:
    _wire_demos(page, desk)
    _wire_settings(page, desk)


def _wire_demos(page: Page, desk: Desk) -> None:
    """The table of demonstrations: drawn from a task, pasted or typed."""
    setup = page.setup

    @told
    def draw(task: str, count: float, seed: float | None) -> Any:
        if task == OWN:
            return gr.skip()
        given = overrides(["episode.task", "episode.demos", "run.seed"], [task, count, seed])
        return [list(pair) for pair in desk.service.task_demos(parse_config("", "settings", given))]

    @told
    def paste(text: str, format: str) -> tuple[Any, Any, str]:
        reading = desk.service.read_demos(text, format or None)
        pairs = [[demo.input, demo.output] for demo in reading.pairs]
        return pairs, OWN, reading_html(str(reading), reading.warnings)

    def check(demos: list) -> str:
        warnings = demo_warnings(read_table(demos))
        return reading_html("worth a look", warnings) if warnings else ""

    def unread(task: str) -> Any:
        return gr.skip() if task == OWN else ""

    seed = setup.form.widgets["run.seed"]
    assert isinstance(seed, gr.Number), "a seed is typed"
    drawn_by = [setup.task.input, setup.count.release, seed.blur]
    gr.on(drawn_by, draw, [setup.task, setup.count, seed], setup.demos, **DRAWING)
    pasted = [setup.demos, setup.task, setup.reading]
    setup.use_pasted.click(paste, [setup.paste, setup.paste_format], pasted, **DRAWING)
    setup.demos.input(check, setup.demos, setup.reading, **DRAWING)
    setup.task.change(unread, setup.task, setup.reading, **DRAWING)


def _wire_settings(page: Page, desk: Desk) -> None:
    """All other settings: typed, from a preset, from a run; and those that are looked for by name."""
    setup = page.setup

    @told
    def apply(task: str, demos: list, method: str, text: str) -> list[Any]:
        return [*from_yaml(page, desk, task, demos, method, text), apply_button(pending=False)]

    @told
    def choose_preset(name: str, method: str, *rail: Any) -> list[Any]:
        return [*from_preset(page, desk, name, method, rail), apply_button(pending=False)]

    @told
    def take(run_id: str, request: gr.Request) -> list[Any]:
        return [*from_run(page, desk, run_of(desk, request, run_id)), apply_button(pending=False)]

    def choose_method(method: str) -> list[Any]:
        return slots_shown(page, desk, method)

    def find(words: str) -> list[Any]:
        return found_settings(setup.form, words)

    found = [*setup.form.groups.values(), *setup.form.components()]
    # Not `input`, which a box that is first drawn in an unfolded accordion does not tell.
    setup.find.change(find, setup.find, found, trigger_mode="always_last", **DRAWING)
    set_anew = [*setup.inputs(), setup.apply]
    setup.apply.click(apply, [setup.task, setup.demos, setup.method, setup.yaml], set_anew, **DRAWING)
    setup.preset.input(choose_preset, [setup.preset, setup.method, *setup.inputs()], set_anew, **DRAWING)
    page.take.click(take, page.run_id, set_anew, **DRAWING)
    setup.yaml.input(lambda: apply_button(pending=True), None, setup.apply, **DRAWING)
    setup.method.change(choose_method, setup.method, list(setup.slots_of_phase().values()), **DRAWING)
