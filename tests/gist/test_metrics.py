"""What counts as an answer."""

import pytest

from cedkv.compressors.judging import score
from cedkv.episodes.documents import Question
from cedkv.metrics import exact_match
from cedkv.metrics.extraction import extracted_passkey, passkey_correct, values_found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (" 48291. Remember it.", "48291"),
        ("The pass key is 48291", "48291"),
        ("the key is A7B, not 12", "A7B"),
        (" no number at all", None),
    ],
)
def test_passkey_extraction(text, found):
    assert extracted_passkey(text) == found


def test_exact_match():
    assert exact_match([" 48291\nThe", "4829"], ["48291", "48291"]) == [True, False]


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("48291", True),
        ("(48291)", True),
        ("482910", False),  # a digit too many
        ("148291", False),
        ("4829", False),
        ("12 or 48291", False),  # the first number counts
        ("PASSKEY", False),  # the word itself is no pass key
        ("PASSKEY 48291", True),
        ("", False),
    ],
)
def test_edge_cases(text, right):
    assert passkey_correct(text, ["48291"]) == right


def test_several_values_and_themes():
    assert values_found("first 12, then 34", ["12", "34"]) == 1
    assert values_found("first 12", ["12", "34"]) == values_found("34", ["12", "34"]) == 0.5
    assert values_found("the sea", ["sea shore"]) == 0
    theme = Question("c", "q", ("sailing", "ships"), about={"kind": "theme"})
    assert score(theme, " sailing.") == score(theme, "Ships") == 1 and score(theme, "sail") == 0
    several = Question("c", "q", ("12", "34"), about={"kind": "multi_value"})
    assert score(several, "12") == 0.5
    assert score(Question("c", "q", ("12",), about={"kind": "passkey"}), "123") == 0
