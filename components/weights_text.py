"""Token weights as HTML: the same tokens once for every scorer, the darker the heavier, and what the slots weigh."""

from collections.abc import Iterator

from cedkv.session.views import Weighed, Weights
from components.headline import empty_html
from components.slot_text import FULL
from components.text import esc, number, token
from components.theme import slot_mark

# What a scorer goes by, in a line; one of another package is shown under its own name.
_SAYS = {
    "rho1-excess-v1": "how much likelier the demonstrations in front make a token",
    "critic-delta-v1": "how much a token changes what is expected of the answer",
    "rho1-critic": "both of them, multiplied",
    "uniform": "control: every token alike",
    "shuffled": "control: the weights of rho1, dealt out at random",
    "random-matched": "control: as many tokens as rho1 keeps, at random",
}
_CONTROLS = ("uniform", "shuffled", "random-matched")


def nothing_weights_html() -> str:
    return empty_html(
        "Which tokens matter?", "Weigh the demonstrations of this run, or a text: each scorer colours the same tokens."
    )


def weights_html(weighed: Weighed) -> str:
    """Scorers side by side, controls folded away, and a table of slots where there are any."""
    told = [name for name in weighed.weights if name not in _CONTROLS]
    controls = [name for name in weighed.weights if name in _CONTROLS]
    return (
        f'<div class="ck">{_grid(weighed, told)}<p class="muted">The darker, the heavier; 1 is the mean of all tokens. '
        "With <code>phase3.loss.token_weights</code> a training weighs the tokens of answers so.</p>"
        f"{_slots(weighed)}<details><summary>controls: what weighting must be better than</summary>"
        f"{_grid(weighed, controls)}</details></div>"
    )


def _grid(weighed: Weighed, names: list[str]) -> str:
    columns = "".join(
        f'<section><h3>{esc(name)}</h3><p class="muted">{esc(_SAYS.get(name, ""))}</p>'
        f'<div class="ck-demos">{"".join(_tokens(weighed, weighed.weights[name]))}</div></section>'
        for name in names
    )
    return f'<div class="ck-side-by-side">{columns}</div>'


def _tokens(weighed: Weighed, weights: Weights) -> Iterator[str]:
    top = max((weight for weight in weights if weight), default=0) or 1
    for place, (text, weight) in enumerate(zip(weighed.tokens, weights, strict=True)):
        shade = f' style="background:rgb(34 128 120 / {FULL * weight / top:.3f})"' if weight else ""
        title = "nothing in front predicts it" if weight is None else f"weight {esc(number(weight))}"
        ends = place + 1 == len(weights) or weighed.demo[place + 1] != weighed.demo[place]
        yield f'<span class="ck-tok" title="{title}"{shade}>{token(text)}</span>{"<br>" if ends else ""}'


def _slots(weighed: Weighed) -> str:
    if not weighed.slots:
        return ""
    head = "".join(f'<th class="num">{esc(name)}</th>' for name in weighed.slots)
    rows = "".join(
        f'<tr><td class="num">{slot_mark(slot)}{slot + 1}</td>'
        + "".join(f'<td class="num">{"—" if score is None else esc(number(score))}</td>' for score in scores)
        + "</tr>"
        for slot, scores in enumerate(zip(*weighed.slots.values(), strict=True))
    )
    return (
        '<h3>what the slots are made of weighs</h3><div class="ck-scroll"><table><thead><tr><th class="num">slot</th>'
        f"{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )
