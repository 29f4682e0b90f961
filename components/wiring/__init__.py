"""Who listens to whom on the whole page. What happens within a tab is wired by the tab itself."""

from components.desk import Desk
from components.plots import FORGET_REMOVED
from components.tabs.frame import Page
from components.wiring.rows import wire_rows
from components.wiring.running import wire_running
from components.wiring.sizes import wire_sizes
from components.wiring.start import wire_setup, wire_start

# A plot that was drawn while its tab was hidden has plotly's own width until the window changes. Only then is it told
# so: plotly complains about a change of size while it still draws.
_FIT_PLOTS = """
() => setTimeout(() => {
  const narrow = [...document.querySelectorAll('#main .js-plotly-plot')].some((plot) => {
    const drawn = plot.querySelector('.main-svg');
    return drawn && plot.clientWidth > 0 && Math.abs(drawn.clientWidth - plot.clientWidth) > 8;
  });
  if (narrow) window.dispatchEvent(new Event('resize'));
}, 50)
"""
# A message of what was refused is old once something else is tried: it must not stand beside what then succeeds.
_FORGET_ERRORS = """
() => document.addEventListener('click', (event) => {
  if (!event.target.closest('button, [role=gridcell]') || event.target.closest('[role=tab], .toast-wrap')) return;
  document.querySelectorAll('.toast-wrap .toast-body.error .toast-close').forEach((close) => close.click());
}, true)
"""


def wire(page: Page, desk: Desk) -> None:
    """Connect every component of the page."""
    page.strip.select(None, js=_FIT_PLOTS)
    page.blocks.load(None, js=FORGET_REMOVED)
    page.blocks.load(None, js=_FORGET_ERRORS)
    wire_start(page, desk)
    wire_setup(page, desk)
    wire_rows(page, desk)
    wire_running(page, desk)
    wire_sizes(page, desk)
    for tab in page.tabs:
        tab.wire(page, desk)


__all__ = ["wire"]
