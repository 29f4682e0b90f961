"""A plot with what is needed to take it along: the picture as SVG or PNG, and its data as CSV."""

import gradio as gr

# Plotly's own camera makes the pictures; the data are those that it has drawn, one line a value.
_TAKE = """
element.addEventListener('click', (event) => {
  const what = event.target.closest('[data-take]')?.dataset.take;
  const plot = what && document.querySelector(`#${element.querySelector('[data-of]').dataset.of} .js-plotly-plot`);
  if (!plot) return;
  const name = element.querySelector('[data-of]').dataset.of;
  if (what !== 'csv') {
    plot._context.toImageButtonOptions = {format: what, filename: name};
    plot.querySelector('.modebar-btn[data-title*="Download"]')?.click();
    return;
  }
  const cell = (value) => /[",\\n]/.test(value ?? '') ? `"${String(value).replaceAll('"', '""')}"` : `${value ?? ''}`;
  const lines = [['trace', 'x', 'y', 'value']];
  for (const trace of plot._fullData) {
    const at = (values, place) => values?.[place] ?? place;
    if (trace.z) trace.z.forEach((row, y) => [...row].forEach(
      (value, x) => lines.push([trace.name, at(trace.x, x), at(trace.y, y), value])));
    else for (let place = 0; place < (trace.x?.length ?? 0); place++)
      if (trace.x[place] !== null) lines.push([trace.name, trace.x[place], trace.y?.[place], '']);
  }
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([lines.map((line) => line.map(cell).join(',')).join('\\n') + '\\n'],
    {type: 'text/csv'}));
  link.download = `${name}.csv`;
  link.click();
  URL.revokeObjectURL(link.href);
});
"""


# Gradio takes a plot's element away with every new figure and plotly goes on listening to the window for each of them,
# with all of its data: after a long training that is gigabytes. What has left the page is given up.
FORGET_REMOVED = """
() => new MutationObserver((changes) => {
  const gone = changes.flatMap((change) => [...change.removedNodes]).filter((node) => node.nodeType === 1)
    .flatMap((node) => [node, ...node.querySelectorAll('.js-plotly-plot')])
    .filter((node) => node.matches('.js-plotly-plot'));
  const forget = () => gone.filter((plot) => !plot.isConnected).forEach((plot) => window.Plotly.purge(plot));
  if (gone.length) setTimeout(forget);
}).observe(document.body, {childList: true, subtree: true})
"""


def take_away_plot(elem_id: str, min_width: int = 280) -> gr.Plot:
    """A plot that takes no room until it is drawn, with three small buttons below it."""
    said = elem_id.replace("-", " ")
    buttons = "".join(
        f'<button data-take="{kind}" aria-label="{said} as {kind.upper()}">{kind.upper()}</button>'
        for kind in ("svg", "png", "csv")
    )
    with gr.Column(min_width=min_width, elem_classes="ck-plot"):
        plot = gr.Plot(show_label=False, visible=False, elem_id=elem_id)
        gr.HTML(f'<div class="ck ck-take" data-of="{elem_id}">{buttons}</div>', js_on_load=_TAKE)
    return plot
