"""Text from users, files and tokenizers is shown literally."""

import pytest

from components.text import esc, number, plot_label, token, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<s>", "<bdi>&lt;s&gt;</bdi>"),
        ("<b>x</b>", "<bdi>&lt;b&gt;x&lt;/b&gt;</bdi>"),
        (" jump\n", "<bdi>␣jump⏎</bdi>"),
        ("a\tb\r", "<bdi>a⇥b␍</bdi>"),
        ("\"'&", "<bdi>&quot;&#x27;&amp;</bdi>"),
        ("🙂", "<bdi>🙂</bdi>"),
        ("שלום", "<bdi>שלום</bdi>"),
        ("\x07", "<bdi>␇</bdi>"),
    ],
)
def test_a_token_is_shown_literally(text, shown):
    assert token(text) == shown


def test_a_character_that_turns_the_text_around_is_spelled_out():
    assert visible("a\u202eb") == "a⟨U+202E⟩b"


def test_a_plot_label_is_escaped_shortened_and_no_formula():
    assert plot_label("<s>") == "&lt;s&gt;"
    assert plot_label("x" * 30) == "x" * 23 + "…"
    assert plot_label("$x$").replace("\u200d", "") == "$x$" and plot_label("$x$") != "$x$"


@pytest.mark.parametrize(
    ("value", "shown"), [(0.0, "0.00"), (0.126, "0.13"), (2e-7, "2e-07"), (-3.0, "-3.00"), (None, "–")]
)
def test_numbers_have_two_decimals_unless_they_would_vanish(value, shown):
    assert number(value) == shown


def test_quotes_are_escaped_for_attributes():
    assert esc('"><script>') == "&quot;&gt;&lt;script&gt;"
