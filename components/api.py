"""Every action as an endpoint with a plain signature: for `gradio_client`, scripts, and assistants (MCP).

A client's session is its own: it sees the runs it made, and the example. Assistants have one session together. A bare
request has a session of its own too: whoever wants to name its run again sends the same `session_hash` each time.
"""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import gradio as gr

from cedkv.config import Config, parse_config
from cedkv.errors import CedKVError
from cedkv.events import Done, Event, Progress, StepTrace
from cedkv.labels import LABELS
from components.desk import Desk
from components.handlers import Queue, message_of, session_of
from components.off_texts import worst_rows


def add_endpoints(desk: Desk) -> None:
    """Register the endpoints on the Blocks that are being built."""
    for name, make in ENDPOINTS.items():
        queue = next((queue for queue, names in _QUEUES.items() if name in names), None)
        limits: Queue = {"concurrency_limit": None}
        if queue:
            limits = {"concurrency_id": queue, "concurrency_limit": 1}
        gr.api(described(make(desk), name), api_name=name, **limits)


def described(endpoint: Callable, name: str) -> Callable:
    """The endpoint with a name and with its arguments told in its docstring, from which gradio makes a tool."""
    endpoint.__name__ = name
    told = [f"    {name}: {_ARGUMENTS[name]}" for name in inspect.signature(endpoint).parameters if name in _ARGUMENTS]
    if told:
        endpoint.__doc__ = "\n".join([inspect.cleandoc(endpoint.__doc__ or ""), "", "Args:", *told])
    return endpoint


def _followed(
    desk: Desk, session: str, task: str, demos: str, settings: str, start: Callable[[Config, Any], Iterator[Event]]
) -> Iterator[dict]:
    """What a client hears of a run. `demos` may be pasted in any format, and then stand alone without a task."""
    try:
        config = parse_config(settings, "settings", [f"episode.task={task!r}"] if task else [])
        pairs = desk.service.parse_demos(demos) if demos.strip() else desk.service.task_demos(config)
        config = desk.service.prepare(session, config, pairs, own=bool(demos.strip()) and not config.episode.task)
        with desk.service.going.of(session) as stop:
            yield from filter(None, map(_heard, desk.service.in_turn(start(config, stop), stop)))
    except CedKVError as error:
        raise message_of(error) from error


def _heard(event: Event) -> dict[str, Any] | None:
    if isinstance(event, Done):
        return {"state": "done", "run_id": event.result.id, "report": event.result.report}
    if isinstance(event, Progress):
        return {"state": "running", "stage": event.stage, "done": event.done, "total": event.total}
    if isinstance(event, StepTrace):
        return {"state": "training", **event.as_dict()}
    return None


def _run(desk: Desk) -> Any:
    def run(task: str, demos: str, method: str, settings: str, request: gr.Request) -> Iterator[dict]:
        """Extract a state: compress demonstrations of a relation into a few key/value slots. Takes seconds with
        `chunked` or `select`, half a minute or more with `ced`, which trains. The last value has `run_id`, which the
        other tools take, and a report without a verdict: `judge` gives one."""
        session, start = session_of(request), desk.service.running.iter_run
        yield from _followed(desk, session, task, demos, settings, lambda c, stop: start(session, c, method, stop))

    return run


def _gate(desk: Desk) -> Any:
    def gate(task: str, demos: str, phase: int, settings: str, request: gr.Request) -> Iterator[dict]:
        """Extract and judge in one go, beside all baselines, which takes minutes. The last value holds the report:
        `passed`, `gate_a` (is the plumbing sound) and `gate_b` (does the state work, is it harmless) row by row."""
        session, start = session_of(request), desk.service.running.iter_gate
        yield from _followed(desk, session, task, demos, settings, lambda c, stop: start(session, c, phase, stop))

    return gate


def _judge(desk: Desk) -> Any:
    def judge(run_id: str, request: gr.Request) -> Iterator[dict]:
        """Run the gate on the state that a run has made, as it is: does it answer like the whole demonstrations, and
        does it leave other text alone? The last value holds the report with `passed` and every criterion."""
        session = session_of(request)
        try:
            with desk.service.going.of(session) as stop:
                events = desk.service.judge(session, run_id, stop)
                yield from filter(None, map(_heard, desk.service.in_turn(events, stop)))
        except CedKVError as error:
            raise message_of(error) from error

    return judge


def _why(desk: Desk) -> Any:
    def why(run_id: str, query: str, plain: bool, request: gr.Request) -> dict:
        """What each slot did to each token of the student's answer, or at each position of a `plain` text."""
        session = session_of(request)
        try:
            *_, comparison = desk.service.iter_compare(session, run_id, query, (), plain)
            found = desk.service.explain(session, run_id, comparison, plain)
        except CedKVError as error:
            raise message_of(error) from error
        return asdict(found) if found else {}

    return why


def _compare(desk: Desk) -> Any:
    def compare(run_id: str, query: str, views: list[str], plain: bool, request: gr.Request) -> dict:
        """Ask a query in several views side by side: base (alone), teacher (behind all demonstrations), the run's
        student (behind its slots). Each has its text, its likeliest next tokens and its distances, nats."""
        return _asked(desk, request, run_id, query, views, plain, None)

    return compare


def _ablate(desk: Desk) -> Any:
    def ablate(run_id: str, query: str, slot: int, factor: float, request: gr.Request) -> dict:
        """The comparison with one slot (from 1) switched off (factor 0) or its values scaled, as view `changed`."""
        return _asked(desk, request, run_id, query, [], False, desk.service.slot_change(slot, factor))

    return ablate


def _swap(desk: Desk) -> Any:
    def swap(run_id: str, query: str, slot: int, from_run: str, from_slot: int, request: gr.Request) -> dict:
        """The comparison with one slot (from 1) taken from another run, as view `changed`."""
        if not from_run:
            raise message_of(CedKVError("name the run to take the slot from"))
        return _asked(desk, request, run_id, query, [], False, desk.service.slot_change(slot, 1, from_run, from_slot))

    return swap


def _asked(desk: Desk, request: gr.Request, run_id: str, query: str, views: list, plain: bool, change: Any) -> dict:
    try:
        *_, last = desk.service.iter_compare(session_of(request), run_id, query, views, plain, change)
    except CedKVError as error:
        raise message_of(error) from error
    return asdict(last)


def _of_run(read: Any, about: str) -> Any:
    """An endpoint that reads something off one of the session's runs. about : what, for whoever may ask for it."""

    def make(desk: Desk) -> Any:
        def answer(run_id: str, request: gr.Request) -> dict:
            try:
                return read(desk, desk.store.get(session_of(request), run_id))
            except CedKVError as error:
                raise message_of(error) from error

        answer.__doc__ = about
        return answer

    return make


def _runs(desk: Desk) -> Any:
    def runs(request: gr.Request) -> list[str]:
        """The runs this session can name, newest first."""
        return [run.id for run in desk.store.runs(session_of(request))]

    return runs


def _cancel(desk: Desk) -> Any:
    def cancel(request: gr.Request) -> bool:
        """Stop this session's run after the step in hand, keeping its best state; false where nothing was running."""
        going = session_of(request) in desk.service.going
        desk.service.going.cancel(session_of(request))
        return going

    return cancel


_ARGUMENTS = {
    "task": "name of a shipped relation task, such as present-past; empty where demonstrations are given",
    "demos": "demonstrations as text in any format, such as lines of `lift -> lifted`; empty for a task's own",
    "method": f"how the slots are made: {', '.join(LABELS)}",
    "phase": "2 judges Select-KV, 3 judges ced, which is trained",
    "settings": "YAML of settings that differ from the defaults, such as `phase3: {slots: 4}`; may be empty",
    "run_id": "name of a run of this session, as `run`, `gate` and `runs` give it",
    "query": "the input to ask about, such as `jump`",
    "views": 'further states of the run to show beside its student, such as ["select"]; may be empty',
    "plain": "true for a text that stands as it is, false for a query that is put into the run's template",
    "slot": "the slot to change, counted from 1",
    "factor": "what its values are multiplied by; 0 switches the slot off",
    "from_run": "name of the run to take a slot from",
    "from_slot": "its slot, counted from 1",
}
ENDPOINTS = {
    "run": _run,
    "gate": _gate,
    "judge": _judge,
    "compare": _compare,
    "why": _why,
    "ablate": _ablate,
    "swap": _swap,
    "slots": _of_run(
        lambda desk, run: asdict(desk.service.slot_map(run, run.student)),
        "What each slot of a run's state is made of: its weight on every token of the demonstrations.",
    ),
    "collapse": _of_run(
        lambda desk, run: {**run.report["collapse"], **desk.service.similarity(run, run.student)},
        "Whether the slots of a run's state have become copies of each other: a verdict and slot-to-slot matrices.",
    ),
    "off": _of_run(
        lambda desk, run: {"scores": run.report.get("off", {}), "worst": worst_rows(run, "stress")},
        "What a judged run does to text that has nothing to do with its demonstrations: Delta in nats by kind of text "
        "and view, and the texts that are disturbed most.",
    ),
    "report": _of_run(lambda desk, run: run.report, "The whole report of a run, as docs/report.md describes it."),
    "reproduce": _of_run(
        lambda desk, run: dict(zip(("command", "python"), desk.service.reproduce(run), strict=True)),
        "A run as shell commands and as Python that make it again elsewhere.",
    ),
    "runs": _runs,
    "cancel": _cancel,
}
# What uses the model, by the queue in which it waits; see `components.handlers`.
_QUEUES = {"run": {"run", "gate", "judge"}, "short": {"compare", "ablate", "swap", "why"}}
