"""What every handler shares: user errors become messages, and use of the model goes through one queue."""

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, Literal, TypedDict

import gradio as gr

from cedkv.errors import CedKVError
from cedkv.session.runs import Run
from components.desk import Desk
from components.text import esc


class Queue(TypedDict, total=False):
    """What a handler waits for and who may call it, in gradio's words."""

    concurrency_id: str
    concurrency_limit: int | None
    api_visibility: Literal["public", "private", "undocumented"]


class QuietQueue(Queue):
    """The same with nothing laid over what it will fill."""

    show_progress: Literal["hidden"]


def waiting_line(name: str) -> Queue:
    """Calls of one name wait for each other. What takes minutes has a line of its own, and takes turns at the model."""
    return {"concurrency_id": name, "concurrency_limit": 1, "api_visibility": "private"}


# Runs wait for each other; the page shows their place in the queue.
RUN_QUEUE = waiting_line("run")
# Calls of seconds have a queue of their own: a run that goes on lets them use the model between its steps.
SHORT_QUEUE = waiting_line("short")
# The same for what opens a file: one that is refused must not lay its error over the plot; a message tells it.
OPENING: QuietQueue = {**SHORT_QUEUE, "show_progress": "hidden"}
# Handlers that only draw run beside everything else.
DRAWING: QuietQueue = {"concurrency_limit": None, "show_progress": "hidden", "api_visibility": "private"}


def told(handler: Callable) -> Callable:
    """A handler whose user errors become messages, never tracebacks."""

    @wraps(handler)
    def telling(*args: Any) -> Any:
        try:
            return handler(*args)
        except CedKVError as error:
            raise message_of(error) from error

    return telling


def told_stream(handler: Callable) -> Callable:
    """The same for a generator handler."""

    @wraps(handler)
    def telling(*args: Any) -> Iterator[Any]:
        try:
            yield from handler(*args)
        except CedKVError as error:
            raise message_of(error) from error

    return telling


def message_of(error: CedKVError) -> gr.Error:
    # gr.Error renders HTML, and its message may hold what a user typed.
    return gr.Error(esc(error), title="Not possible", duration=12, print_exception=False)


def session_of(request: gr.Request) -> str:
    """Whose page or client asks. Assistants, who name no session, have one together; of a bare request without a
    `session_hash` gradio makes a session that is never seen again."""
    return request.session_hash or ""


def run_of(desk: Desk, request: gr.Request, run_id: str) -> Run:
    """The run that is shown.

    Raises
    ------
    CedKVError
        There is none yet.
    """
    if not run_id:
        raise CedKVError("there is no run yet; press Run first")
    return desk.store.get(session_of(request), run_id)


def moved_on(desk: Desk, request: gr.Request, run_id: str) -> bool:
    """Whether the page shows another run by now, on which an answer of this one has no place. Of a session that has
    made room for others nothing is known any more, and the run that its page asks of is the one that it shows."""
    return desk.store.shown(session_of(request)) not in ("", run_id)


def drawn(figure: Any) -> Any:
    """A figure as an update; without one the plot takes no room."""
    return gr.Plot(value=figure, visible=figure is not None)
