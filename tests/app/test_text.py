"""Text from users, files and tokenizers is shown literally."""

import pytest

from components.text import esc, exact_number, number, percent, plot_label, token, visible


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
    ("value", "shown"),
    [
        (0.0, "0.00"),
        (0.126, "0.13"),
        (0.008, "0.008"),
        (2e-7, "<0.001"),
        (-2e-7, ">-0.001"),
        (-3.0, "-3.00"),
        (None, "–"),
    ],
)
def test_numbers_have_two_decimals_and_say_that_they_are_small_where_those_would_vanish(value, shown):
    assert number(value) == shown


def test_a_tolerance_keeps_its_size():
    assert [exact_number(value) for value in (0.5, 0.0, 1e-4, 2e-7)] == ["0.50", "0.00", "0.0001", "2e-07"]


@pytest.mark.parametrize(
    ("share", "shown"), [(0.0, "0%"), (0.002, "<1%"), (0.126, "13%"), (0.997, ">99%"), (0.99998, "100%")]
)
def test_a_percent_says_neither_nothing_nor_all_where_it_is_only_nearly_so(share, shown):
    assert percent(share) == shown


def test_quotes_are_escaped_for_attributes():
    assert esc('"><script>') == "&quot;&gt;&lt;script&gt;"
