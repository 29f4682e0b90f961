"""Who listens to whom. The only place where tabs meet each other, the engine and the queue."""

from components.desk import Desk
from components.page import Page
from components.wiring.history import wire_runs
from components.wiring.running import wire_running
from components.wiring.start import wire_setup, wire_start
from components.wiring.tabs import wire_compare, wire_off, wire_slots, wire_training


def wire(page: Page, desk: Desk) -> None:
    """Connect every component of the page."""
    # A plot that was drawn while its tab was hidden has a size of its own until the window changes.
    page.tabs.select(None, js="() => setTimeout(() => window.dispatchEvent(new Event('resize')), 50)")
    wire_start(page, desk)
    wire_setup(page, desk)
    wire_running(page, desk)
    wire_compare(page, desk)
    changes = wire_slots(page, desk)
    wire_off(page, desk)
    wire_training(page, desk)
    wire_runs(page, desk, changes)


__all__ = ["wire"]
