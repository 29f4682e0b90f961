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


def take_away_plot(elem_id: str, min_width: int = 280) -> gr.Plot:
    """A plot that takes no room until it is drawn, with three small buttons below it."""
    said = elem_id.replace("-", " ")
    buttons = "".join(
        f'<button data-take="{kind}" aria-label="{said} as {kind.upper()}">{kind.upper()}</button>'
        for kind in ("svg", "png", "csv")
    )
    absent = f"body:not(:has(#{elem_id} .js-plotly-plot)) .ck-take[data-of={elem_id}]"
    with gr.Column(min_width=min_width):
        plot = gr.Plot(show_label=False, visible=False, elem_id=elem_id)
        gr.HTML(
            f'<style>{absent} {{display: none}}</style><div class="ck ck-take" data-of="{elem_id}">{buttons}</div>',
            js_on_load=_TAKE,
        )
    return plot
