"""Why this answer, as HTML: its tokens to choose from, every slot's part in the chosen one, and a slot in detail."""

from collections import defaultdict
from math import exp

from cedkv.session.views import SlotMap, SlotPart, Why
from components.headline import empty_html
from components.slot_text import lit_text_html
from components.text import esc, number, percent, token
from components.theme import slot_mark

_NAMED_TOKENS = 2
_SINK = "mostly the first token of the text: heads that look for nothing else look there"
# A cell of a layer x head map, and the attention below which it is left blank.
_CELL, _BLANK = 10, 0.005
_KINDS = {
    "answer": (
        "why this answer",
        "without it: log p of the token",
        "how much likelier (right) or less likely (left) the token is once this slot alone is switched off",
    ),
    "text": (
        "which slot disturbs this text",
        "without it: Delta, nats",
        "how much less (left) or more (right) the state moves the model here once this slot alone is switched off",
    ),
}


def nothing_why_html(advice: str = "Press Compare: the student’s answer is explained token by token.") -> str:
    return empty_html("Why this answer?", advice)


def why_html(why: Why | None, chosen: int | None = None, slot: int | None = None) -> str:
    """The panel for one token and one slot, both from 0; those that tell most where none is given."""
    if why is None:
        return nothing_why_html("The student says nothing here, so there is nothing to explain.")
    chosen = why.first if chosen is None else min(max(chosen, 0), len(why.tokens) - 1)
    slot = why.strongest(chosen) if slot is None else min(max(slot, 0), len(why.without) - 1)
    title, change, meaning = _KINDS[why.kind]
    parts = why.parts(chosen)
    return (
        f'<div class="ck ck-why" data-at="{chosen}" data-slot="{slot}"><h3>{title}</h3>{_tokens(why, chosen)}'
        f'<p class="ck-why-says">{_sentence(why, chosen)}</p>'
        f'<div class="ck-scroll"><table><thead><tr><th class="num">slot</th><th>what it is</th>'
        f'<th title="share of attention, mean over layers and heads; what is missing to 1 goes to the query’s own '
        f'tokens">attention</th><th title="{esc(meaning)}">{change}'
        f"</th><th>heads that look at it most</th></tr></thead><tbody>{_rows(why, parts, slot)}</tbody></table></div>"
        '<p class="muted">Attention that no slot gets goes to the query’s own tokens. It is a hint; what happens '
        "without a slot is the proof. Arrow keys walk the tokens (left, right) and the slots (up, down).</p>"
        f"{_detail(why, chosen, slot)}</div>"
    )


def made_of(slots: SlotMap | None, slot: int) -> str:
    """A slot in words: the tokens with most of its weight, equal ones of several demonstrations counted together."""
    if slots is None:
        return "a free vector"
    row, whole = slots.weights[slot], sum(slots.weights[slot])
    if not whole:
        return "switched off"
    shares: dict[str, float] = defaultdict(float)
    demos: dict[str, set[int]] = defaultdict(set)
    for text, demo, weight in zip(slots.texts, slots.demo, row, strict=True):
        if weight > 0:
            shares[text] += weight / whole
            demos[text].add(demo)
    best = sorted(shares, key=lambda text: -shares[text])[:_NAMED_TOKENS]
    words = " · ".join(
        f'{token(text)} <span class="muted">{esc(percent(shares[text]))}'
        + (f" in {len(demos[text])} demonstrations" if len(demos[text]) > 1 else "")
        + "</span>"
        for text in best
    )
    return f'<span title="{_SINK}">sink</span>: {words}' if row[0] > whole / 2 else words


def _tokens(why: Why, chosen: int) -> str:
    most = max(why.measured[place] for place in why.telling) or 1
    buttons = "".join(
        f'<button class="ck-tok" data-why-token="{place}" aria-pressed="{str(place == chosen).lower()}" '
        f'title="{_value(why, place)}"{_heat(value / most) if why.kind == "text" else ""}>{token(text)}</button>'
        for place, (text, value) in enumerate(zip(why.tokens, why.measured, strict=True))
    )
    label = "tokens of the student's answer" if why.kind == "answer" else "tokens of the text, coloured by Delta"
    cut = f'<p class="muted">its first {len(why.tokens)} of {why.cut} tokens</p>' if why.cut else ""
    return f'<div class="ck-why-tokens" role="group" aria-label="{esc(label)}">{buttons}</div>{cut}'


def _heat(share: float) -> str:
    return f' style="background:rgb(224 112 44 / {0.6 * min(max(share, 0), 1):.3f})"'


def _value(why: Why, place: int) -> str:
    value = why.measured[place]
    if why.kind == "answer":
        return f"p {_chance(value)}, log p {value:.2f}"
    return f"Delta behind it {esc(number(value))} nats"


def _chance(log_p: float) -> str:
    return esc(percent(exp(log_p)))


def _sentence(why: Why, chosen: int) -> str:
    """What the chosen token depends on, in a sentence."""
    slot, said, value = why.strongest(chosen), token(why.tokens[chosen]), why.measured[chosen]
    without = why.without[slot][chosen]
    if why.kind == "answer":
        return (
            f"The student gives {said} <b>{_chance(value)}</b>; without slot {slot + 1} it would be "
            f"<b>{_chance(without)}</b>."
        )
    moved = f"Behind {said} the slots move what comes next by <b>{esc(number(value))}</b> nats; "
    if without >= value:
        return f"{moved}no slot alone is to blame: without any one of them it would be as much or more."
    return f"{moved}without slot {slot + 1} it would be <b>{esc(number(without))}</b>."


def _rows(why: Why, parts: list[SlotPart], chosen: int) -> str:
    most = max((abs(part.change) for part in parts), default=0) or 1
    return "".join(
        f'<tr class="{"chosen" if slot == chosen else ""}"><td class="num">'
        f'<button class="ck-tok" data-why-slot="{slot}" aria-pressed="{str(slot == chosen).lower()}">{slot + 1}'
        f"</button></td><td>{slot_mark(slot)}{made_of(why.slots, slot)}</td>"
        f"<td>{_bar(0, part.attention, esc(number(part.attention)))}</td>"
        f'<td>{_signed_bar(part.change, most)}</td><td class="mono muted">{_heads(part)}</td></tr>'
        for slot, part in enumerate(parts)
    )


def _bar(left: float, width: float, text: str, kind: str = "") -> str:
    return (
        f'<div class="ck-part {kind}"><span class="track"><span class="fill" '
        f'style="left:{left:.1%};width:{width:.1%}"></span></span><span class="num">{text}</span></div>'
    )


def _signed_bar(change: float, most: float) -> str:
    """To the left of the middle what falls without the slot, to the right what rises."""
    half = abs(change) / most / 2
    return _bar(0.5 - half if change < 0 else 0.5, half, f"{change:+.2f}", "signed")


def _heads(part: SlotPart) -> str:
    return " ".join(f"L{layer + 1}.h{head + 1}" for layer, head, share in part.heads if share > 2 * part.attention)


def _detail(why: Why, chosen: int, slot: int) -> str:
    lit = lit_text_html(why.slots, slot + 1) if why.slots else ""
    return (
        f'<div class="ck-why-detail"><div><h3>slot {slot + 1}: attention by layer and head</h3>'
        f"{_head_map(why.attention[chosen][slot])}</div>{lit}</div>"
    )


def _head_map(shares: list[list[float]]) -> str:
    """Layers from left to right, heads from top to bottom; the darkest cell has all the attention of its head."""
    layers, heads = len(shares), len(shares[0])
    cells = "".join(
        f'<rect x="{layer * _CELL}" y="{head * _CELL}" width="{_CELL - 1}" height="{_CELL - 1}" '
        f'fill-opacity="{share:.2f}"><title>layer {layer + 1}, head {head + 1}: {share:.2f}</title></rect>'
        for layer, row in enumerate(shares)
        for head, share in enumerate(row)
        if share >= _BLANK
    )
    width, height = layers * _CELL, heads * _CELL
    return (
        f'<svg class="ck-heads" viewBox="-1 -1 {width + 1} {height + 1}" role="img" '
        f'aria-label="attention by layer and head" style="max-width:{2 * width}px">'
        f'<rect class="ground" x="-1" y="-1" width="{width + 1}" height="{height + 1}"></rect>{cells}</svg>'
        f'<div class="ck-legend">{layers} layers from left to right, {heads} heads from top to bottom</div>'
    )
