"""The look of the page: one colour per view wherever it appears, and a theme that loads nothing from elsewhere."""

from collections.abc import Iterable
from pathlib import Path

import gradio as gr

from cedkv.labels import COLORS, LABELS, REFERENCE_LABELS

VIEW_COLORS = {**COLORS, "student": COLORS["ced"], "random": "#b7a26a", "changed": "#b8552a"}
# Slots have hues of their own, the same wherever a slot is named (after Paul Tol's muted scheme).
_SLOT_HUES = (
    "51 34 136", "136 204 238", "68 170 153", "17 119 51", "153 153 51", "221 204 119", "204 102 119", "136 34 85",
    "170 68 153", "102 153 204", "180 120 60", "110 110 130",
)  # fmt: skip
VIEW_NAMES = {
    **LABELS,
    **REFERENCE_LABELS,
    "student": "student",
    "random": "random",
    "state": "saved state",
    "few_shot_random": "few-shot, random",
    "changed": "student, slot changed",
}
STYLE = Path(__file__).with_name("style.css")

_SANS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "DejaVu Sans", "sans-serif")
_MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace")


def view_color(view: str, student: str) -> str:
    """The colour of a view; the run's own method is the student."""
    return VIEW_COLORS["student"] if view == student else VIEW_COLORS.get(view, VIEW_COLORS["student"])


def slot_color(slot: int, alpha: float = 1.0) -> str:
    """The colour of a slot, from 0."""
    return f"rgb({_SLOT_HUES[slot % len(_SLOT_HUES)]} / {alpha:.3g})"


def slot_mark(slot: int) -> str:
    """A small field of a slot's colour, to stand before its number."""
    return f'<i class="ck-slot" style="background:{slot_color(slot)}"></i>'


def yardstick_name(view: str) -> str:
    """What is read of a view where it is one of several things that might stand in front of a text."""
    return "demonstrations" if view == "teacher" else view_name(view)


def view_name(view: str) -> str:
    """What is read of a view; a method of another package says so itself."""
    if view in VIEW_NAMES:
        return VIEW_NAMES[view]
    from cedkv.methods import METHODS  # brings torch, without which the page can be there

    return METHODS[view].label if view in METHODS else view


def view_choices(views: Iterable[str]) -> list[tuple[str, str]]:
    """Options of a widget: what is read of each view, and the view."""
    return [(view_name(view), view) for view in views]


def theme() -> gr.themes.Base:
    """Calm and dense: small text, thin borders. Controls are neutral: colours belong to views and verdicts."""
    return gr.themes.Base(
        primary_hue=gr.themes.colors.slate,
        neutral_hue=gr.themes.colors.slate,
        font=_SANS,
        font_mono=_MONO,
        text_size=gr.themes.sizes.text_sm,
        spacing_size=gr.themes.sizes.spacing_sm,
        radius_size=gr.themes.sizes.radius_sm,
    ).set(
        button_primary_background_fill="#2f3843",
        button_primary_background_fill_hover="#1c2127",
        button_primary_text_color="#ffffff",
        button_primary_background_fill_dark="#d5dae0",
        button_primary_background_fill_hover_dark="#ffffff",
        button_primary_text_color_dark="#12161b",
        color_accent="#55606d",
        slider_color="#55606d",
        slider_color_dark="#97a1ad",
        body_text_color_subdued="#59626d",
        body_text_color_subdued_dark="#97a1ad",
        block_shadow="none",
        block_border_width="0px",
        block_background_fill="transparent",
        block_background_fill_dark="transparent",
        background_fill_secondary="#f4f5f6",
        background_fill_secondary_dark="#161b21",
        input_background_fill="#ffffff",
        input_background_fill_dark="#161b21",
        input_background_fill_focus="#ffffff",
        input_background_fill_focus_dark="#1b2129",
        input_border_width="1px",
        input_border_color="#d3d8de",
        input_border_color_dark="#323a44",
        input_border_color_focus="#55606d",
        input_border_color_focus_dark="#97a1ad",
        input_placeholder_color="#636d79",
        input_placeholder_color_dark="#8c96a3",
        button_secondary_background_fill="#ffffff",
        button_secondary_background_fill_dark="#1b2129",
        button_secondary_background_fill_hover="#eef0f2",
        button_secondary_background_fill_hover_dark="#252c35",
        button_secondary_border_color="#c8ced5",
        button_secondary_border_color_dark="#3a434e",
        button_border_width="1px",
        button_large_text_size="13px",
        button_large_padding="7px 14px",
        block_label_text_color="#59626d",
        block_label_text_color_dark="#97a1ad",
        block_info_text_color="#59626d",
        block_info_text_color_dark="#97a1ad",
        block_padding="6px 2px",
        layout_gap="12px",
        body_background_fill="#fcfcfb",
        body_background_fill_dark="#0f1318",
    )
