"""Showing other people's text literally: escaped, with white space and control characters made visible."""

import html
import unicodedata
from typing import Any

_PICTURES = {"\n": "⏎", "\t": "⇥", "\r": "␍"}
# Characters that change how their neighbours are laid out are spelled out instead of obeyed.
_BIDI_CONTROLS = {"RLO", "LRO", "RLE", "LRE", "PDF", "RLI", "LRI", "FSI", "PDI"}


def esc(value: Any) -> str:
    """Any value as text inside HTML."""
    return html.escape(str(value), quote=True)


def visible(text: str) -> str:
    """Text with line breaks, tabs, control and bidirectional-override characters shown as signs."""
    return "".join(_sign(character) for character in text)


def token(text: str) -> str:
    """A token's text inside HTML: a space is a sign too, and writing direction stays inside."""
    return f"<bdi>{esc(visible(text).replace(' ', '␣'))}</bdi>"


def plot_label(text: str, most: int = 24) -> str:
    """A token's text as a Plotly label, which understands a few HTML tags and would swallow `<s>`."""
    shown = visible(text).replace(" ", "␣")
    shown = shown if len(shown) <= most else shown[: most - 1] + "…"
    # Plotly hands a label between dollar signs to MathJax; a zero-width joiner keeps it from looking like one.
    return esc(shown).replace("$", "$\u200d")


def number(value: float | None, digits: int = 2) -> str:
    """A number as the page prints it: two decimals, one more where those show nothing, else that it is small."""
    if value is None:
        return "–"
    if not value or abs(value) >= 10**-digits:
        return f"{value:.{digits}f}"
    least = 10 ** -(digits + 1)
    if abs(value) >= least:
        return f"{value:.{digits + 1}f}"
    return f"<{least:.{digits + 1}f}" if value > 0 else f">-{least:.{digits + 1}f}"


def exact_number(value: float) -> str:
    """The same where a number may be a tolerance, of which even the size of a tiny one matters."""
    return f"{value:.2g}" if value and abs(value) < 0.01 else number(value)


def percent(share: float) -> str:
    """A share in whole percents that says neither nothing nor all where it is only nearly so."""
    if 0 < share < 0.005:
        return "<1%"
    # The whole of several rounded parts is not always quite 1.
    return ">99%" if 0.995 <= share < 0.9995 else f"{share:.0%}"


def _sign(character: str) -> str:
    if character in _PICTURES:
        return _PICTURES[character]
    if ord(character) < 32:
        return chr(0x2400 + ord(character))
    if ord(character) == 127 or unicodedata.bidirectional(character) in _BIDI_CONTROLS:
        return f"⟨U+{ord(character):04X}⟩"
    return character
