"""What a tab is, the page that the tabs stand on, and how a run is shown on all of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import gradio as gr
from gradio.components import Component

from cedkv.config import Config
from cedkv.session.runs import Run
from components.desk import Desk
from components.headline import headline_html
from components.setup import Setup
from components.sizes import Sizes

Updates = dict[Component, Any]
Built = TypeVar("Built", bound="Parts")


class Parts(Protocol):
    """A tab's components, each by its name."""

    def shown(self) -> list[Component]:
        """Those that change when another run is shown: the keys of what the tab's `show` functions return."""


def _nothing(*_: Any) -> Updates:
    return {}


@dataclass(frozen=True)
class Tab:
    """One tab. `components/tabs/__init__.py` lists them; nothing else has to know of a new one.

    name, id : what its button says, and what it is called where another tab leads to it.
    build : makes its components inside the Blocks that are being built. It is given the run that the page opens on, or
        None: what is seen of it first comes with the page and waits for no event.
    show : what the files of a run tell, as updates of the tab's parts. The engine need not be there yet.
    show_states : what the states of a run tell, read by the engine.
    show_runs : what the session's runs, newest first, are needed for, as where one of them can be chosen.
    wire : connects its components, also with those of other tabs.
    """

    name: str
    id: str
    build: Callable[[Run | None], Any]
    show: Callable[[Any, Run], Updates] = _nothing
    show_states: Callable[[Any, Desk, Run], Updates] = _nothing
    show_runs: Callable[[Any, list[Run]], Updates] = _nothing
    wire: Callable[["Page", Desk], Any] = _nothing


@dataclass(frozen=True)
class Page:
    """Every part of the page. `run_id` names the run that is shown, `judge` runs the gate on its state, `take` puts its
    settings into the rail, `strip` holds the tabs."""

    blocks: gr.Blocks
    config: Config
    run_id: gr.State
    top: gr.HTML
    setup: Setup
    headline: gr.HTML
    judge: gr.Button
    take: gr.Button
    sizes: Sizes
    strip: gr.Tabs
    tabs: Mapping[Tab, Parts]

    def part(self, kind: type[Built]) -> Built:
        """The components of the tab that builds this kind of parts."""
        return next(parts for parts in self.tabs.values() if isinstance(parts, kind))

    def shown(self) -> list[Component]:
        """What changes when another run is shown."""
        of_tabs = [component for parts in self.tabs.values() for component in parts.shown()]
        return [self.run_id, self.headline, self.judge, *of_tabs]


def show_run(page: Page, desk: Desk, session: str, run: Run) -> Updates:
    """The updates that put a run on the page; `Page.shown` are its keys."""
    return {**show_files(page, desk, session, run), **show_states(page, desk, run)}


def show_files(page: Page, desk: Desk, session: str, run: Run) -> Updates:
    """What the report and the records of a run tell, which is shown from now on; the engine need not be there yet."""
    desk.store.show(session, run)
    judgeable = bool(run.student) and not run.judged
    updates: Updates = {
        page.run_id: run.id, page.headline: headline_html(run), page.judge: gr.Button(visible=judgeable),
    }  # fmt: skip
    for tab, parts in page.tabs.items():
        updates |= tab.show(parts, run)
    return updates | show_runs(page, desk, session)


def show_states(page: Page, desk: Desk, run: Run) -> Updates:
    """What the states of a run tell, read by the engine."""
    return {
        component: update
        for tab, parts in page.tabs.items()
        for component, update in tab.show_states(parts, desk, run).items()
    }


def show_runs(page: Page, desk: Desk, session: str) -> Updates:
    """The list of runs wherever runs can be chosen."""
    runs = desk.store.runs(session)
    return {
        component: update
        for tab, parts in page.tabs.items()
        for component, update in tab.show_runs(parts, runs).items()
    }
