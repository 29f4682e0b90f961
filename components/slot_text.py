"""Slots in words: the demonstrations coloured by them, what each takes, and what was done to one."""

from cedkv.session.views import SlotMap
from components.text import esc, number, token
from components.theme import slot_color, slot_mark, view_name

ALL_SLOTS = "all slots"
# The strongest shade behind a token: words have to be read on it, on a light and on a dark page.
FULL = 0.42

_COUNTS = "A slot stands for several tokens: its key carries the weight that so many tokens alike would have together."


def change_name(method: str, slot: int, factor: float, from_run: str, from_slot: int) -> str:
    """A change to a slot in words."""
    if from_run:
        return f"{view_name(method)}, slot {slot} from slot {from_slot} of {from_run}"
    return f"{view_name(method)}, slot {slot} " + (f"× {factor:g}" if factor else "switched off")


def demo_text_html(slots: SlotMap, slot: int) -> str:
    """The demonstration block token by token; the stronger the colour, the more the slot (0: all) takes from there.

    A slot is spread over its tokens, a tenth each or all on one, so each has its full colour where it takes most.
    """
    mass = slots.mass if slot == 0 else slots.weights[slot - 1]
    name = ALL_SLOTS if slot == 0 else f"slot {slot}"
    shades = [_shade(slots, slot or slot_of_token(slots, index), index) for index in range(len(mass))]
    parts = [_token(slots, index, weight, shades[index]) for index, weight in enumerate(mass)]
    legend = "in the colour of the slot that takes most" if slot == 0 else f"{slot_mark(slot - 1)} most weight"
    return (
        f'<div class="ck"><h3>the demonstrations, coloured by {esc(name)}</h3>'
        f'<div class="ck-demos">{"".join(parts)}</div>'
        f'<div class="ck-legend"><span>{legend}</span>'
        '<span><i class="input"></i>input</span><span><i class="output"></i>output</span>'
        "<span>no line: delimiter · a click chooses the token’s slot</span></div></div>"
    )


def _shade(slots: SlotMap, slot: int, index: int) -> str:
    """The colour that a slot (from 1; 0 for none) gives to a token."""
    row = slots.weights[slot - 1]
    return slot_color(slot - 1, FULL * row[index] / (max(row) or 1))


def slot_of_token(slots: SlotMap, token_index: int) -> int:
    """The slot (from 1) that takes most from a token, or 0 when none takes anything."""
    column = [row[token_index] for row in slots.weights]
    best = max(column, default=0)
    return column.index(best) + 1 if best > 0 else 0


def lit_text_html(slots: SlotMap, slot: int) -> str:
    """The demonstration block to look at, lit by one slot (from 1)."""
    row = slots.weights[slot - 1]
    shades = [_shade(slots, slot, index) for index in range(len(row))]
    parts = [_token(slots, index, weight, shades[index], "span") for index, weight in enumerate(row)]
    return f'<div><h3>the demonstrations, lit by slot {slot}</h3><div class="ck-demos">{"".join(parts)}</div></div>'


def slot_card_html(slots: SlotMap, slot: int, values_cosine: list[list[float]], most: int = 8) -> str:
    """One slot in words: its tokens with weights and roles, and the slot most like it. 0 lists every slot."""
    if slot == 0:
        return _all_slots_html(slots)
    row = slots.weights[slot - 1]
    heaviest = sorted((index for index, weight in enumerate(row) if weight > 0), key=lambda i: -row[i])[:most]
    tokens = "".join(
        f'<tr><td>{token(slots.texts[i])}</td><td class="num">{esc(number(row[i]))}</td><td>{esc(slots.roles[i])}</td>'
        f'<td class="muted">{_place(slots.demo[i])}</td></tr>'
        for i in heaviest
    )
    others = [(cosine, other) for other, cosine in enumerate(values_cosine[slot - 1]) if other != slot - 1]
    cosine, nearest = max(others, default=(0.0, 0))
    more = sum(weight > 0 for weight in row) - len(heaviest)
    rest = f'<p class="muted">and {more} more</p>' if more else ""
    counts = (
        f'<p class="muted" title="{_COUNTS}">counts as {slots.counts[slot - 1]:.1f} tokens in attention</p>'
        if slots.counts
        else ""
    )
    near = f"nearest: slot {nearest + 1}, cosine of values {esc(number(cosine))}" if others else "the only slot"
    state = (
        "" if slots.active[slot - 1] else '<div class="ck-note">switched off here: it is masked, nothing sees it</div>'
    )
    return (
        f'<div class="ck"><h3>{slot_mark(slot - 1)}slot {slot}</h3>{state}{counts}<table><thead><tr><th>token</th>'
        '<th class="num">weight</th>'
        f'<th>role</th><th></th></tr></thead><tbody>{tokens}</tbody></table>{rest}<p class="muted">{near}</p></div>'
    )


def _all_slots_html(slots: SlotMap) -> str:
    rows = []
    for index, row in enumerate(slots.weights):
        top = sorted((i for i, weight in enumerate(row) if weight > 0), key=lambda i: -row[i])[:3]
        tokens = " ".join(f'{token(slots.texts[i])} <span class="muted">{esc(number(row[i]))}</span>' for i in top)
        rows.append(
            f'<tr><td class="num">{slot_mark(index)}{index + 1}</td>'
            f"<td>{tokens or '<span class=muted>switched off</span>'}</td></tr>"
        )
    head = '<tr><th class="num">slot</th><th>heaviest tokens</th></tr>'
    return (
        f'<div class="ck"><h3>{ALL_SLOTS}</h3><table><thead>{head}</thead><tbody>{"".join(rows)}</tbody></table></div>'
    )


def _place(demo: int) -> str:
    return f"demonstration {demo + 1}" if demo >= 0 else "start of text"


def _token(slots: SlotMap, index: int, weight: float, color: str, tag: str = "button") -> str:
    text, role = slots.texts[index], slots.roles[index]
    shade = f' style="background:{color}"' if weight > 0 else ""
    title = f"token {index} · {esc(role)} · weight {weight:.3f}"
    last = index + 1 == len(slots.demo) or slots.demo[index + 1] != slots.demo[index]
    end = "<br>" if last and slots.demo[index] >= 0 else ""
    return f'<{tag} class="ck-tok {esc(role)}" data-token="{index}" title="{title}"{shade}>{token(text)}</{tag}>{end}'
