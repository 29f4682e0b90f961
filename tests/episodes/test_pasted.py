"""Texts of every kind are read as a person would read them or refused with one line, and never silently otherwise."""

import json
import random
from pathlib import Path

import pytest

from cedkv.episodes import FORMATS, Demonstration, parse_demos, read_demos, read_demos_text
from cedkv.errors import DemoError

OWN = json.loads((Path(__file__).parent / "pasted_cases.json").read_text(encoding="utf-8"))
# A larger collection of public inputs, where it lies beside the project.
SHARED = Path(__file__).resolve().parents[3] / "shared/cases/pasted_demonstrations.json"
PAIRS = [("lift", "lifted"), ("walk", "walked"), ("jump high", "jumped high")]


def read(text: str, format: str | None = None) -> list[list[str]]:
    return [[demo.input, demo.output] for demo in parse_demos(text, format)]


def refusal(text: str, format: str | None = None) -> str:
    with pytest.raises(DemoError) as caught:
        parse_demos(text, format)
    assert "\n" not in str(caught.value)
    str(caught.value).encode("utf-8")
    return str(caught.value)


@pytest.mark.parametrize("case", [case for case in OWN.values() if "pairs" in case], ids=lambda case: case["text"][:30])
def test_a_text_is_read_as_a_person_reads_it(case):
    assert read(case["text"]) == case["pairs"]


@pytest.mark.parametrize(
    "case", [case for case in OWN.values() if "refused" in case], ids=lambda case: case["text"][:30]
)
def test_a_text_that_could_mean_something_else_is_refused(case):
    assert case["refused"] in refusal(case["text"])


@pytest.mark.parametrize("names", ["input,output", "source,target", "question,answer", "text,label"])
def test_columns_without_known_names_are_refused_with_names_that_are_read(names):
    rows = "\ncat,cats,easy\nbox,boxes,odd\nman,men,odd"
    told = refusal(f"word,plural,note{rows}")
    assert "its first line is 'word', 'plural', 'note'" in told
    assert all(repr(name) in told for name in names.split(","))
    assert read(f"{names},note{rows}") == [["cat", "cats"], ["box", "boxes"], ["man", "men"]]


def test_no_public_input_is_read_otherwise_than_it_should_be():
    cases = json.loads(SHARED.read_text(encoding="utf-8")) if SHARED.exists() else {}
    for name, case in cases.items():
        try:
            pairs = read(case["text"])
        except DemoError as error:
            assert "\n" not in str(error), name
            assert case["pairs"] is None, f"{name}: {error}"
        else:
            assert case["pairs"] in (None, pairs), name


@pytest.mark.parametrize(
    ("text", "format", "pairs"),
    [
        ("English,French\nsea,mer", "csv-header", [["sea", "mer"]]),
        ("English,French\nsea,mer", "csv-data", [["English", "French"], ["sea", "mer"]]),
        ("English: sea\nFrench: mer", "blocks", [["sea", "mer"]]),
        ("English: sea\nFrench: mer", "colon", [["English", "sea"], ["French", "mer"]]),
        ("big -> small,little", "arrow", [["big", "small,little"]]),
        ("big -> small,little", "csv", [["big -> small", "little"]]),
        ('[{"input": "a", "output": ["b", "c"]}]', "json-first", [["a", "b"]]),
        ('[{"input": "a", "output": ["b", "c"]}]', "json-lists", [["a", '["b", "c"]']]),
    ],
)
def test_the_format_decides_between_two_readings(text, format, pairs):
    assert format in refusal(text) or format == "csv"
    assert read(text, format) == pairs


def test_a_format_that_does_not_fit_or_exist_is_refused():
    assert "cannot be read as tab-separated columns" in refusal("lift -> lifted", "tsv")
    assert "no format is called 'tvs'; did you mean 'tsv'?" in refusal("lift -> lifted", "tvs")


def test_a_reading_says_what_was_read_and_what_was_left_out():
    reading = read_demos_text("id;text;label\n1;great;pos\n2;bad;neg")
    assert str(reading) == (
        "read 2 demonstrations as semicolon-separated columns, input from 'text', output from 'label'; "
        "first: 'great' -> 'pos'"
    )
    assert reading.as_dict() == {
        "format": "semicolon",
        "reading": str(reading),
        "count": 2,
        "warnings": ["left out: 'id'"],
    }
    asked = read_demos_text("Translate:\n\nsea => mer")
    assert asked.about == "Translate:"
    assert asked.warnings == ("the text above the demonstrations is no part of them: 'Translate:'",)


@pytest.mark.parametrize(
    ("text", "pairs", "warning"),
    [
        ("1. lift -> lifted\n2. walk -> walked\n4. go -> went", ["lift", "walk", "go"], "left out: 1, 2, 4"),
        ("3. lift,lifted\n4. walk,walked", ["lift", "walk"], "left out: 3, 4"),
        ("1. lift -> lifted\n1. walk -> walked", ["lift", "walk"], "left out: 1, 1"),
        ("9. May -> spring\n5. July -> summer", ["9. May", "5. July"], "part of the inputs: 9, 5"),
        (
            json.dumps({"system": "Past.", "conversations": [
                {"from": "human", "value": "lift"}, {"from": "gpt", "value": "lifted"}]}),
            ["lift"], "'Past.'",
        ),
        (
            json.dumps({"id": 1, "messages": [
                {"role": "developer", "content": [{"type": "text", "text": "Past."}]},
                {"role": "user", "content": [{"type": "text", "text": "lift"}]},
                {"role": "assistant", "content": "lifted", "weight": 1}]}),
            ["lift"], "'Past.'; left out: 'id', 'weight'",
        ),
        (
            json.dumps([{"instruction": "Past.", "input": "lift", "output": "lifted", "text": "Past. lift"}]),
            ["Past.\nlift"], "left out: 'text'",
        ),
        ('lift -> "lifted"\nwalk -> "walked"', ["lift", "walk"], "quotes around the sides are taken off"),
        ('"cat" -> "cat"\n"dog" -> "dog"', ["cat", "dog"], "quotes around the sides are taken off"),
        ('Q: "lift"\nA: lifted\n\nQ: "walk"\nA: walked', ["lift", "walk"], "quotes around the sides are taken off"),
        ("Verbs:\n\n| verb | past |\n|---|---|\n| lift | lifted |", ["lift"], "'Verbs:'"),
    ],
)  # fmt: skip
def test_what_is_left_out_is_told(text, pairs, warning):
    reading = read_demos_text(text)
    assert [demo.input for demo in reading.pairs] == pairs
    assert warning in "; ".join(reading.warnings)


def test_lines_between_blocks_stay_in_an_answer_that_has_them_too():
    whole = "Question: 2 + 2\nAnswer:\n{}\n\nQuestion: 3 + 3\nAnswer:\n{}"
    for first, second in (("4", "6"), ("4\n5\n6", "7\n8"), ("<p>\n4\n</p>", "<p>\n6\n</p>"), ("an odd\ncase", "6")):
        assert read(whole.format(first, second)) == [["2 + 2", first], ["3 + 3", second]]


@pytest.mark.parametrize("number", ["9" * 4400, "1e3", "2.50", "-0"])
def test_a_number_in_json_keeps_its_digits(number):
    assert read(f'[{{"input": "a", "output": {number}}}]') == [["a", number]]


def test_a_file_of_another_encoding_is_read_or_refused(tmp_path):
    file = tmp_path / "demos.txt"
    file.write_bytes("lift -> gehört".encode("latin-1"))
    with pytest.raises(DemoError, match="byte 11 is not UTF-8; save the file as UTF-8"):
        read_demos(str(file))
    file.write_bytes("lift -> gehört".encode("utf-16"))
    assert read_demos(str(file)).pairs == (Demonstration("lift", "gehört"),)


def csv_cell(text: str, separator: str) -> str:
    return '"' + text.replace('"', '""') + '"' if any(c in text for c in f'{separator}"\n') else text


def columns(separator: str):
    def write(pairs):
        rows = [("output", "id", "input"), *((y, str(i + 5), x) for i, (x, y) in enumerate(pairs))]
        return "\n".join(separator.join(csv_cell(cell, separator) for cell in row) for row in rows)

    return write


WRITERS = {
    "json": lambda pairs: json.dumps([{"output": y, "input": x} for x, y in pairs], indent=1),
    "json lines": lambda pairs: "\n".join(json.dumps({"question": x, "answer": y}) for x, y in pairs),
    "json pairs": lambda pairs: json.dumps(pairs),
    "json chats": lambda pairs: "\n".join(
        json.dumps({"messages": [{"role": "user", "content": x}, {"role": "assistant", "content": y}]})
        for x, y in pairs
    ),
    "yaml": lambda pairs: "\n".join(
        f"- input: {json.dumps(x, ensure_ascii=False)}\n  output: {json.dumps(y, ensure_ascii=False)}" for x, y in pairs
    ),
    "csv": columns(","),
    "semicolon": columns(";"),
    "tab": columns("\t"),
    "table": lambda pairs: "\n".join(
        f"| {x} | {y} |".replace("\\|", "|") for x, y in [("input", "output"), ("---", "---"), *pairs]
    ),
    "blocks": lambda pairs: "\n\n".join(f"Sentence: {x}\nLabel: {y}" for x, y in pairs),
    "separated blocks": lambda pairs: "\n###\n".join(f"Input: {x}\nOutput: {y}" for x, y in pairs),
    "arrows": lambda pairs: "\n".join(f"{i}. {x} --> {y}" for i, (x, y) in enumerate(pairs, start=1)),
}
WORDS = [
    "lift",
    "über",
    "跳了",
    "קטן",
    "3",
    "2,5",
    "a:b",
    "(x)",
    "it's",
    "50%",
    "e.g.",
    "x=1",
    "and,",
    "so;",
    "no",
    "🙂",
    "v1.0",
]


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_what_is_written_in_a_format_is_read_back(write):
    draw = random.Random(0)
    for _ in range(60):
        sides = [" ".join(draw.choices(WORDS, k=draw.randint(1, 4))) for _ in range(8)]
        pairs = [(f"{i}x {side}", other) for i, (side, other) in enumerate(zip(sides[::2], sides[1::2], strict=True))]
        assert read(write(pairs)) == [list(pair) for pair in pairs], write(pairs)


def test_damaged_texts_are_refused_and_never_break_the_reader():
    draw = random.Random(1)
    pieces = ["\n", "\t", ",", ";", "|", ":", "->", '"', "'", "{", "}", "[", "]", "Q:", "A:", "- ", "---", "#", "\\",
              "\ud83d",               "\0", "`", "```\n", "&a ", "*a", "!!python/object ",
              "%", "@", "\u2028", "1.", " "]  # fmt: skip
    texts = [write(PAIRS) for write in WRITERS.values()]
    outcomes = set()
    for _ in range(600):
        text = draw.choice(texts)
        for _ in range(draw.randint(1, 6)):
            at = draw.randrange(len(text) + 1)
            text = text[:at] + draw.choice([*pieces, ""]) + text[at + draw.choice([0, 0, 1, 5]) :]
        for format in (None, draw.choice(list(FORMATS))):
            try:
                outcomes.add(len(parse_demos(text, format)) > 0)
            except DemoError as error:
                str(error).encode("utf-8")
                outcomes.add("\n" in str(error))
    assert outcomes == {True, False}, "some are still read, no message has two lines"
