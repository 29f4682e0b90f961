"""Pasted demonstrations: every shape people paste, and one clear line for what cannot be read."""

import json

import pytest

from cedkv.episodes import Demonstration, parse_demos
from cedkv.errors import DemoError
from tests.growth import grows_with_its_size

TWO = [Demonstration("lift", "lifted"), Demonstration("walk", "walked")]

FORMATS = {
    "arrow": "lift -> lifted\nwalk -> walked",
    "fat arrow": "lift => lifted\nwalk => walked\n",
    "unicode arrow": "lift → lifted\nwalk → walked",
    "arrows of several kinds": "lift->lifted\nwalk=>walked",
    "blank lines between": "\n\nlift -> lifted\n\n   \nwalk -> walked\n\n",
    "spaces around": "   lift   ->\tlifted  \n\twalk -> walked\t",
    "tab": "lift\tlifted\nwalk\twalked",
    "questions and answers": "Q: lift\nA: lifted\n\nQ: walk\nA: walked\n",
    "questions in small letters": "q : lift\n\na : lifted\nq: walk\na: walked",
    "inputs and outputs": "Input: lift\nOutput: lifted\nInput: walk\nOutput: walked",
    "indented questions": "  Q: lift\n  A: lifted\n  Q: walk\n  A: walked",
    "csv": "lift,lifted\nwalk,walked",
    "csv with header": "input,output\nlift,lifted\nwalk,walked",
    "csv with header in other case": "\n Input , Output \nlift, lifted\nwalk, walked",
    "quoted csv": '"lift","lifted"\n"walk", "walked"\n',
    "csv with another column": "lift,lifted,1\nwalk,walked,2",
    "json": '[{"input": "lift", "output": "lifted"}, {"input": "walk", "output": "walked"}]',
    "json over several lines": '[\n {"input": "lift",\n"output": " lifted"},\n{"input": "walk", "output": "walked"}\n]',
    "jsonl": '{"input": "lift", "output": "lifted"}\n\n{"output": "walked", "input": "walk"}\n',
    "json with lists of one": '[{"input": "lift", "output": ["lifted"]}, {"input": "walk", "output": ["walked"]}]',
}


def refusal(text: str) -> str:
    with pytest.raises(DemoError) as caught:
        parse_demos(text)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"], ids=["unix", "windows", "old mac"])
@pytest.mark.parametrize("text", FORMATS.values(), ids=FORMATS)
def test_every_format_gives_the_same_pairs(text, newline):
    assert parse_demos(text.replace("\n", newline)) == TWO
    assert parse_demos("\ufeff" + text.replace("\n", newline)) == TWO, "a byte order mark is no part of the first input"


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ('a -> "b -> c"', [("a", "b -> c")]),
        ("up → ↑\ndown → ↓", [("up", "↑"), ("down", "↓")]),
        ("[1, 2, 3] -> 3\n[4] -> 1", [("[1, 2, 3]", "3"), ("[4]", "1")]),
        ("{x} => y", [("{x}", "y")]),
        ("a, b -> b, a", [("a, b", "b, a")]),
        ("see Q: here -> there", [("see Q: here", "there")]),
        ('[{"input": "a -> b", "output": "c\\td"}]', [("a -> b", "c\td")]),
        ("Q: what is 1 -> 2?\nA: an arrow, of course", [("what is 1 -> 2?", "an arrow, of course")]),
        ("Q: one\ntwo\nA: three\nfour\n\nQ: five\nA: six", [("one\ntwo", "three\nfour"), ("five", "six")]),
        ('"hello, world","say ""bye"""', [("hello, world", 'say "bye"')]),
        ('"two\nlines",b\nc,d', [("two\nlines", "b"), ("c", "d")]),
        ("naïve -> 素朴な 🙂", [("naïve", "素朴な 🙂")]),
        ("a\u2028b -> c\x85d", [("a\u2028b", "c\x85d")]),
        ('[{"input": 1, "output": 2.5}]', [("1", "2.5")]),
        ("don't -> do not", [("don't", "do not")]),
        ('cat -> "cat"\ndog -> "dog"', [("cat", '"cat"'), ("dog", '"dog"')]),
        ("`cat`: cat\n`dog`: dog", [("`cat`", "cat"), ("`dog`", "dog")]),
        ("Q: cat\nA: “cat”\n\nQ: dog\nA: “dog”", [("cat", "“cat”"), ("dog", "“dog”")]),
    ],
)
def test_data_that_looks_like_a_format_stays_data(text, pairs):
    """Quotes and line ends inside a value belong to it."""
    assert [(demo.input, demo.output) for demo in parse_demos(text)] == pairs


@pytest.mark.parametrize("text", ["", "   ", "\n\t \r\n", "\ufeff\n", "[]", "input,output\n", "[ ]"])
def test_nothing_pasted_is_said_so(text):
    assert refusal(text) == "the demonstrations are empty; paste lines such as 'lift -> lifted'"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lift -> lifted\n\nwalk", "line 3 of the demonstrations, 'walk', has only one side; write 'input -> output'"),
        (
            "lift\tlifted\nwalk",
            "line 2 of the tab-separated columns, 'walk', has only one column; give an input and an output",
        ),
        (
            "lift,lifted\nwalk",
            "line 2 of the comma-separated columns, 'walk', has only one column; give an input and an output",
        ),
        (
            '"two\nlines",b\nc',
            "line 3 of the comma-separated columns, 'c', has only one column; give an input and an output",
        ),
        (
            "\nlift lifted",
            "the first demonstration, 'lift lifted', has only one side; write 'input -> output' on each line",
        ),
        ("Q: lift\nA: lifted\nQ: walk", "block 2 of the demonstrations, 'walk', has no 'A:' line"),
        (
            "Q: lift A: lifted",
            "block 1 of the demonstrations, 'lift A: lifted', has no 'A:' line; give each label a line of its own",
        ),
        (
            "a -> b -> c",
            "line 1 of the demonstrations has several arrows: it could be 'a' -> 'b -> c' or 'a -> b' -> 'c'; put a "
            "side that holds an arrow in double quotes",
        ),
        ("My list\nQ: a\nA: b", "the demonstrations start with 'My list', not with a label such as 'Q:'; remove it"),
        ("-> lifted", "demonstration 1 ('' -> 'lifted') has no input; give both sides"),
        ("lift -> lifted\nwalk ->  ", "demonstration 2 ('walk' -> '') has no output; give both sides"),
        ("lift,", "demonstration 1 ('lift' -> '') has no output; give both sides"),
        ("Q: lift\nA:", "demonstration 1 ('lift' -> '') has no output; give both sides"),
        ('[{"input": "", "output": "x"}]', "demonstration 1 ('' -> 'x') has no input; give both sides"),
        ('{"input": "x", "output": null}', "demonstration 1 ('x' -> '') has no output; give both sides"),
        ('[{"input": "x", "output": []}]', "demonstration 1 ('x' -> '') has no output; give both sides"),
        ("a -> b\nc -> d\na -> e", "demonstrations 1 and 3 have the same input 'a'; keep one of them"),
        ("a,b\n a ,c", "demonstrations 1 and 2 have the same input 'a'; keep one of them"),
        (
            '[{"input": "a"}]',
            'demonstration 1 of the list is not an object with "input" and "output": of \'input\' it is not '
            "clear which is the input and which the output; name them 'input' and 'output'",
        ),
        (
            '[{"input": "a", "output": "b"}, "c"]',
            'demonstration 2 of the list, "c", is not an object with "input" and "output"',
        ),
        ("[1]", 'demonstration 1 of the list, 1, is not an object with "input" and "output"'),
    ],
)
def test_what_cannot_be_read_is_named(text, message):
    assert refusal(text) == message


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('[{"input": "a", "output": "b"}', 1),
        ('[\n{"input": "a",\n"output" "b"}]', 3),
        ('{"input": "a", "output": "b"}\n\n{"input": "c" "output": "d"}', 3),
    ],
)
def test_broken_json_is_named_with_its_line(text, line):
    message = refusal(text)
    assert message.startswith("the demonstrations look like JSON but are not: ")
    assert message.endswith(f" in line {line}")


FILLERS = (" ", "\n", "\t", "Q", "\n ")
HOSTILE = {
    **{f"question and {filler!r}": lambda size, filler=filler: "Q: a" + filler * size + "b" for filler in FILLERS},
    **{f"a letter and {filler!r}": lambda size, filler=filler: "a" + filler * size + "b" for filler in FILLERS},
    "a rule": lambda size: "-" * size + "\nQ",
    "labels": lambda size: "\n".join(f"label {chr(97 + i % 26)}{chr(97 + i // 26 % 26)}: y" for i in range(size // 10)),
}


@pytest.mark.parametrize("paste", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_paste_costs_no_more_than_its_length(paste):
    assert grows_with_its_size(lambda size: refusal(paste(size)), 10_000)


def test_what_is_nested_or_wide_without_end_is_refused():
    assert "nested too deeply" in refusal("[" * 100_000)
    assert "cannot be read: field larger" in refusal('a,"' + "x" * 200_000)


def test_what_is_written_as_json_is_read_back():
    pairs = [Demonstration(f'in "{i}", \\ -> \n', f"out\t{i} → é") for i in range(20)]
    for indent in (None, 2):
        text = json.dumps([vars(pair) for pair in pairs], indent=indent)
        assert parse_demos(text) == [Demonstration(pair.input.strip(), pair.output) for pair in pairs]
