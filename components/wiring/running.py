"""Run, Run gate and Cancel: following a run's events onto the page."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gradio as gr

from cedkv.errors import CedKVError
from cedkv.events import Done, Event, GateCriterion, Opened, Progress, StepTrace, Tick, Warned
from cedkv.session.runs import Run
from components.desk import Desk
from components.figures import training_curves
from components.handlers import DRAWING, RUN_QUEUE, drawn, session_of
from components.headline import top_html
from components.request import Request, read_request
from components.setup import status_html
from components.stages import Stages
from components.tabs.compare import comparing
from components.tabs.frame import Page, show_run, show_runs
from components.tabs.gate import GateParts
from components.tabs.training import LiveCurves, TrainingParts, live_html
from components.text import esc
from components.theme import view_name
from components.verdicts import criteria_html

Stop = Callable[[], bool]
# What a session's inputs start, as the events of a run.
Start = Callable[[str, Sequence[Any], Stop], Iterator[Event]]
# Drawing more often than this would cost more than the steps themselves.
_DRAW_SECONDS = 0.7


def wire_running(page: Page, desk: Desk) -> None:
    setup = page.setup

    def start_run(session: str, asked: Request, stop: Stop) -> Iterator[Event]:
        config = desk.service.prepare(session, asked.config, asked.demos, asked.own)
        return desk.service.running.iter_run(session, config, asked.method, stop)

    def start_gate(session: str, asked: Request, stop: Stop) -> Iterator[Event]:
        config = desk.service.prepare(session, asked.config, asked.demos, asked.own)
        return desk.service.running.iter_gate_of(session, config, asked.method, stop)

    def asked(start: Callable[[str, Request, Stop], Iterator[Event]]) -> Start:
        return lambda session, rail, stop: start(session, read_request(setup.form, rail), stop)

    def judge(session: str, shown: Sequence[Any], stop: Stop) -> Iterator[Event]:
        return desk.service.judge(session, shown[0], stop)

    def open_place(session: str, given: Sequence[Any], stop: Stop) -> Iterator[Event]:
        (slots, weight, _), strip = given
        return desk.service.running.iter_run(session, strip.config_at(slots, weight), "chunked", stop)

    def waiting(request: gr.Request) -> Any:
        said = desk.service.going.others(session_of(request))
        return status_html("busy", said) if said else gr.skip()

    outputs, rail = [page.top, setup.status, *page.shown()], setup.inputs()
    started = []
    for asks, start, inputs in (
        (setup.run.click, asked(start_run), rail), (setup.gate.click, asked(start_gate), rail),
        (page.judge.click, judge, [page.run_id]),
        (page.sizes.chosen.change, open_place, [page.sizes.chosen, page.sizes.found]),
    ):  # fmt: skip
        asks(waiting, None, setup.status, **DRAWING)
        event = asks(
            following(page, desk, start), inputs, outputs, show_progress="minimal",
            show_progress_on=setup.status, **RUN_QUEUE,
        )  # fmt: skip
        event.then(**comparing(page, desk, quiet=True))
        started.append(event)

    _wire_cancel(page, desk, started)


def _wire_cancel(page: Page, desk: Desk, started: list[Any]) -> None:
    """A run that goes on ends itself and is followed to its end; only one that still waits leaves the queue."""
    setup = page.setup

    def cancel(left: int, request: gr.Request) -> Iterator[dict]:
        if session_of(request) in desk.service.going:
            yield {setup.status: status_html("busy", "cancelling: the step in hand comes to its end")}
            desk.service.going.cancel(session_of(request))
        else:
            said = "nothing was running; a waiting run has left the queue"
            yield {setup.status: status_html("cancelled", said), setup.leaving: left + 1}

    setup.cancel.click(cancel, setup.leaving, [setup.status, setup.leaving], **DRAWING)
    setup.leaving.change(None, cancels=started)


def following(page: Page, desk: Desk, start: Start) -> Callable:
    """A handler that follows the events of what its inputs start, and shows the run when it is done."""
    setup = page.setup

    def follow(request: gr.Request, *given: Any) -> Iterator[dict]:
        session = session_of(request)
        yield {setup.status: status_html("busy", "starting")}
        try:
            with desk.service.going.of(session) as stop:
                events = desk.service.in_turn(start(session, given, stop), stop)
                yield from follow_events(page, desk, session, events)
        except CedKVError as error:  # by which something may have been kept
            said = status_html("error", desk.store.without_paths(str(error)))
            yield {setup.status: said, **show_runs(page, desk, session)}

    return follow


def follow_events(page: Page, desk: Desk, session: str, events: Iterator[Event]) -> Iterator[dict]:
    """The page's updates for a run's events, drawn no more often than is of use."""
    gate, training = page.part(GateParts), page.part(TrainingParts)
    live, last_drawn, criteria, started, run, kept = LiveCurves(), 0.0, [], time.monotonic(), None, False
    stages, warned = Stages(), set()
    for event in events:
        stage = stages.of(event)
        if isinstance(event, Done):
            run = event.result
            yield {
                page.top: top_html(*desk.model_line()),
                page.setup.status: _ended(run, time.monotonic() - started),
                **show_run(page, desk, session, run),
            }
        elif isinstance(event, Opened):
            kept = True
        elif isinstance(event, GateCriterion):
            criteria.append(event)
            yield {gate.table: _growing(criteria)}
        elif isinstance(event, Warned):
            if event.message not in warned:  # said once, however often a run comes upon it
                warned.add(event.message)
                gr.Warning(esc(desk.store.without_paths(event.message)))
        elif isinstance(event, StepTrace | Tick):
            live.add(event)
            if isinstance(event, StepTrace) and time.monotonic() - last_drawn > _DRAW_SECONDS:
                last_drawn = time.monotonic()
                curves = training_curves(live.steps, live.ticks, None)
                yield {
                    page.setup.status: step_html(event, live, stage),
                    training.note: live_html(live),
                    training.curves: drawn(curves),
                }
        elif isinstance(event, Progress):
            share = event.done / max(event.total, 1)
            said = f"{stage}{event.stage} · {event.done} of {event.total}"
            yield {page.setup.status: status_html("busy", said, share)}
    if run is None:
        said = f"cancelled; {'Runs lists what was kept' if kept else 'there was nothing yet to keep'}"
        yield {page.setup.status: status_html("cancelled", said), **show_runs(page, desk, session)}


def _ended(run: Run, seconds: float) -> str:
    if run.cancelled:
        step = run.report["stopped"].partition(":")[0]
        return status_html("cancelled", f"cancelled at {step}; the best state so far is kept and shown")
    return status_html("done", f"done in {_duration(seconds)}")


def step_html(event: StepTrace, live: LiveCurves, stage: str = "") -> str:
    """Where a training is: step, loss, seconds a step, time left."""
    pace = sum(step["seconds"] for step in live.steps) / len(live.steps)
    done = event.step + 1
    name, left = view_name(event.method), _duration(pace * (event.steps - done))
    text = f"{name} · step {done}/{event.steps} · L_on {event.loss_on:.3f} · {pace:.1f} s a step · about {left} left"
    return status_html("busy", stage + text, done / event.steps)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def _growing(criteria: list[GateCriterion]) -> str:
    rows = {gate: [c.as_row() for c in criteria if c.gate == gate] for gate in "AB"}
    return criteria_html(rows["A"], rows["B"])
