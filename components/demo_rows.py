"""The demonstrations as rows to look at and to move: what is odd about each, what each and what their order does."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from components.text import esc, number, visible

if TYPE_CHECKING:
    from cedkv.session.examine import Examination, Row

Pairs = Sequence[tuple[str, str]]

# Rows are dragged, or moved by buttons; either way the page is told the new order. Gradio then changes in place what
# differs, so the keyboard follows the row that was moved to where it is now.
ROW_MOVES = """
const rows = () => [...element.querySelectorAll('[data-row]')];
let wanted = null;
const move = (from, to, way) => {
  if (to < 0 || to >= rows().length || from === to) return;
  wanted = way && `[data-row="${to}"] [data-move="${way}"]`;
  const order = rows().map((_, place) => place);
  order.splice(to, 0, order.splice(from, 1)[0]);
  trigger('input', {order});
};
let dragged = null;
const placeOf = (event) => Number(event.target.closest('[data-row]')?.dataset.row ?? -1);
element.addEventListener('dragstart', (event) => { dragged = placeOf(event); });
element.addEventListener('dragover', (event) => { if (dragged !== null) event.preventDefault(); });
element.addEventListener('drop', (event) => {
  event.preventDefault();
  if (dragged !== null && placeOf(event) >= 0) move(dragged, placeOf(event));
  dragged = null;
});
element.addEventListener('click', (event) => {
  const button = event.target.closest('button');
  if (!button) return;
  if (button.dataset.order) return trigger('input', {order: JSON.parse(button.dataset.order)});
  move(placeOf(event), placeOf(event) + Number(button.dataset.move), button.dataset.move);
});
new MutationObserver(() => {
  if (wanted) element.querySelector(wanted)?.focus({preventScroll: true});
  wanted = null;
}).observe(element, {attributes: true, characterData: true, childList: true, subtree: true});
"""


def demo_warnings(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """What looks like a slip in demonstrations, by their rows from 1."""
    said, first = [], {}
    for row, (source, target) in enumerate(pairs, start=1):
        if not (source and target):
            said.append(f"row {row} has only one side")
        elif source not in first:
            first[source] = (row, target)
        elif first[source][1] == target:
            said.append(f"row {row} repeats row {first[source][0]}")
        else:
            said.append(f"rows {first[source][0]} and {row} give one input two outputs")
    return said


def reordered(pairs: Pairs, order: Sequence[int]) -> list[list[str]]:
    """The pairs in an order of their places; as they are where it is not one of them."""
    places = [int(place) for place in order]
    known = sorted(places) == list(range(len(pairs)))
    return [list(pairs[place]) for place in (places if known else range(len(pairs)))]


def demo_rows_html(pairs: Pairs, examined: "Examination | None" = None) -> str:
    """Every demonstration with its marks; what was examined is shown for rows that are still the same."""
    known = dict(zip(examined.demos, examined.rows, strict=True)) if examined else {}
    most = max((abs(row.influence) for row in known.values() if row.influence is not None), default=0) or 1
    rows = "".join(_row(place, pair, known.get(pair), most) for place, pair in enumerate(pairs))
    slips = "".join(f'<p class="ck-mark">{esc(slip)}</p>' for slip in demo_warnings(pairs))
    return f'<div class="ck">{slips}<ol class="ck-rows">{rows}</ol>{_orders(pairs, examined)}</div>'


def _row(place: int, pair: tuple[str, str], row: "Row | None", most: float) -> str:
    says = "".join(f'<span class="ck-mark">{esc(mark)}</span>' for mark in _marks(row)) if row else ""
    named = f"{visible(pair[0])} to {visible(pair[1])}"
    moves = "".join(
        f'<button data-move="{step}" aria-label="move {esc(named)} {way}">{arrow}</button>'
        for step, way, arrow in ((-1, "up", "↑"), (1, "down", "↓"))
    )
    return (
        f'<li draggable="true" data-row="{place}"><span class="ck-pair"><bdi>{esc(visible(pair[0]))}</bdi> → '
        f"<bdi>{esc(visible(pair[1]))}</bdi></span><span>{moves}</span>{_influence(row, most)}{says}</li>"
    )


def _marks(row: "Row") -> list[str]:
    marks = [] if row.right else ["behind the others the model itself does not say this"]
    if row.outlier:
        marks.append(f"unlike the others: a surprise of {number(-row.log_prob)} nats a token")
    if row.influence is not None and row.influence < -0.05:
        marks.append("the others are likelier without it")
    return marks


def _influence(row: "Row | None", most: float) -> str:
    if row is None or row.influence is None:
        return ""
    half = abs(row.influence) / most / 2
    left = 0.5 - half if row.influence < 0 else 0.5
    title = f"{row.influence:+.2f} nats a token: how much likelier it makes the others’ outputs"
    return (
        f'<span class="ck-part signed" title="{title}"><span class="track"><span class="fill" '
        f'style="left:{left:.1%};width:{half:.1%}"></span></span><span class="num">{row.influence:+.2f}</span></span>'
    )


def _orders(pairs: Pairs, examined: "Examination | None") -> str:
    if examined is None or not examined.orders:
        return ""
    if sorted(map(tuple, pairs)) != sorted(examined.demos):
        return '<p class="muted">The demonstrations have changed since: examine them again.</p>'
    present = tuple(map(tuple, pairs))
    items = []
    for order in examined.orders:
        wanted = tuple(examined.demos[place] for place in order.places)
        at = _places(present, wanted)
        state = "<b>now</b>" if wanted == present else f'<button data-order="{list(at)}">take it</button>'
        items.append(f"<tr><td>{esc(order.name)}</td><td class=num>{order.log_prob:.2f}</td><td>{state}</td></tr>")
    return (
        "<h3>what their order does to the teacher</h3><table><thead><tr><th>order</th>"
        '<th class="num">log p of outputs, nats a token</th><th></th></tr></thead>'
        f"<tbody>{''.join(items)}</tbody></table>"
    )


def _places(present: tuple, wanted: tuple) -> list[int]:
    """Where in the present order the wanted pairs stand; of equal ones the first that is not taken yet."""
    left = list(enumerate(present))
    places = []
    for pair in wanted:
        found = next(item for item in left if item[1] == pair)
        left.remove(found)
        places.append(found[0])
    return places
