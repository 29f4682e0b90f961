"""Plots that are drawn anew again and again leave nothing behind in the page."""

import pytest

from components.figures import similarity_matrix
from components.plots import FORGET_REMOVED

pytest.importorskip("playwright")

# As gradio does it: each new figure is drawn into an element of its own, and the one before is taken out of the page.
_DRAW = """
async ([data, layout]) => {
  document.querySelector('#plot')?.remove();
  const plot = document.createElement('div');
  plot.id = 'plot';
  document.body.append(plot);
  await Plotly.react(plot, data, layout, {responsive: true});
}
"""


def listeners_after(page, draws: int) -> tuple[int, int]:
    """Nodes and listeners that are left, after garbage collection."""
    figure = similarity_matrix([[1.0, 0.2], [0.2, 1.0]], "cosine").to_plotly_json()
    for _ in range(draws):
        page.evaluate(_DRAW, [figure["data"], {"width": 300, "height": 300}])
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")
    session.send("HeapProfiler.collectGarbage")
    counted = {row["name"]: row["value"] for row in session.send("Performance.getMetrics")["metrics"]}
    return counted["Nodes"], counted["JSEventListeners"]


@pytest.mark.parametrize("forgetting", [True, False], ids=["forgotten", "as gradio leaves them"])
def test_a_plot_that_has_left_the_page_is_given_up(browser, forgetting):
    from plotly.offline import get_plotlyjs

    page = browser.new_page()
    page.set_content("<body></body>")
    page.add_script_tag(content=get_plotlyjs())
    if forgetting:
        page.evaluate(FORGET_REMOVED)
    few, many = listeners_after(page, 3), listeners_after(page, 10)
    page.close()
    grown = [b / a for a, b in zip(few, many, strict=True)]
    assert all(growth < 1.2 for growth in grown) if forgetting else all(growth > 1.5 for growth in grown)
