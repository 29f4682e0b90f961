"""JSON that can be written down again, and what is refused because it could not."""

import json

import pytest

from cedkv.files import check_writable_again, dump_json, parse_json

DIGITS = "9" * 4400


@pytest.mark.parametrize("value", [None, 1.5, "😀 é", {"a": ["b", {"c": 10**4000}]}, float("nan")])
def test_what_can_be_written_again_passes(value):
    check_writable_again(value)


def test_what_was_written_is_read_again():
    value = {"half": "no", "whole": "😀", "number": 3}
    assert parse_json(dump_json(value)) == value


@pytest.mark.parametrize("value", ["\ud800", {"\udc80": 1}, [["x\udfff"]]])
def test_half_a_character_is_refused_wherever_it_stands(value):
    with pytest.raises(ValueError, match=r"'\\ud.*half of a character"):
        check_writable_again(value)
    with pytest.raises(ValueError, match="half of a character"):
        parse_json(json.dumps(value))


@pytest.mark.parametrize("text", [DIGITS, f'{{"a": [{DIGITS}]}}', "[" * 100_000])
def test_numbers_and_nesting_without_end_are_refused(text):
    with pytest.raises((ValueError, RecursionError)):
        parse_json(text)


def test_a_number_that_only_its_parser_can_hold_and_a_loop_are_refused():
    loop: list = []
    loop.append(loop)
    for value in (int("f" * 5000, 16), loop):
        with pytest.raises(ValueError, match="thousands of digits, or a value holds itself"):
            check_writable_again({"a": value})
