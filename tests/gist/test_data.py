"""Made documents and files of questions."""

import json

import pytest

from cedkv.episodes.documents import (
    Needles,
    make_needles,
    make_themes,
    read_document,
    read_questions,
    sentences,
    split_passages,
)
from cedkv.episodes.documents.themes import THEMES
from cedkv.errors import ConfigError, DemoError


def words(text: str) -> list[int]:
    return [len(word) for word in text.split()]


def test_a_needle_is_in_its_document_once_and_at_its_depth():
    for depth, place in ((0.0, 0), (1.0, -1)):
        for question in make_needles(Needles(tokens=60, depth=depth), 4, 0, "eval", words):
            value = question.answers[0]
            parts = [part for part in question.context.split(". ") if value in part]
            assert len(parts) == 1 and 5 <= len(value) <= 7
            inside = question.context.index(value) / len(question.context)
            assert inside < 0.4 if place == 0 else inside > 0.6
            assert question.query.endswith("The pass key is") and value in question.note
            assert 30 <= len(words(question.context)) <= 60


def test_a_blank_that_is_a_token_of_its_own_belongs_to_the_query():
    (question,) = make_needles(Needles(tokens=400), 1, 0, "eval", lambda text: list(map(ord, text)))
    assert question.query.endswith("The pass key is ")


def test_splits_share_nothing_and_seeds_repeat():
    train, judged = (make_needles(Needles(tokens=60), 12, 1, split, words) for split in ("train", "eval"))
    assert train == make_needles(Needles(tokens=60), 12, 1, "train", words)
    assert train != make_needles(Needles(tokens=60), 12, 2, "train", words)
    assert not set(sentences("train")) & set(sentences("eval")) and len(sentences("train")) > 100
    assert not {q.answers for q in train} & {q.answers for q in judged}
    assert not any(sentence in q.context for q in train for sentence in sentences("eval"))


def test_several_needles():
    (keyed,) = make_needles(Needles(tokens=90, keys=3), 1, 0, "eval", words)
    assert keyed.about["kind"] == "multi_key" and keyed.query.count("the number of the") == 1
    assert sum(word.strip(".").isdigit() for word in keyed.context.split()) == 3
    (several,) = make_needles(Needles(tokens=90, values=2), 1, 0, "eval", words)
    assert len(several.answers) == 2 and all(value in several.context for value in several.answers)
    (hidden,) = make_needles(Needles(tokens=90, distractors=2), 1, 0, "eval", words)
    assert sum(any(c.isdigit() for c in word) for word in hidden.context.split()) >= 3
    with pytest.raises(ConfigError, match="leave no room for prose"):
        make_needles(Needles(tokens=8), 1, 0, "eval", words)


def test_themes():
    for question in make_themes(60, 5, 0, words):
        (theme,) = question.answers
        assert any(thing in question.context for thing in THEMES[theme]) and theme not in question.context
        assert all(name in question.question for name in THEMES) and len(words(question.context)) <= 60


def test_passages_overlap_and_know_where_they_are_from():
    text = " ".join(f"word{number}" for number in range(40))
    passages = split_passages(text, words, tokens=10, overlap=3, source="a.txt")
    assert all(text[p.start : p.end] == p.text and p.source == "a.txt" for p in passages)
    assert all(len(words(p.text)) <= 10 for p in passages) and passages[-1].end == len(text)
    assert [b.text.split()[0] for b in passages[1:]] == [a.text.split()[-3] for a in passages[:-1]]
    assert [p.text for p in split_passages("one", words)] == ["one"]
    long = split_passages("a bb ccc", lambda text: [0] * 50, tokens=10, overlap=3)
    assert [p.text.strip() for p in long] == ["a", "bb", "ccc"]
    for text, overlap, message in ((" ", 3, "is empty"), ("a", 10, "smaller than a passage")):
        with pytest.raises(DemoError, match=message):
            split_passages(text, words, tokens=10, overlap=overlap)


ROW = {"context": "a b", "input": "what?", "answers": ["b"]}


def test_files_of_questions(tmp_path):
    more = {**ROW, "question": "which?", "answer_prefix": " It is", "max_new_tokens": 3, "task": "niah"}
    (tmp_path / "b.jsonl").write_text(json.dumps(more) + "\n\n")
    (tmp_path / "a.jsonl").write_text(json.dumps(ROW))
    first, second = read_questions(tmp_path)
    assert (first.question, first.max_new_tokens, first.about) == ("what?", 32, {"kind": "a"})
    assert (second.query, second.max_new_tokens, second.about) == ("which? It is", 3, {"kind": "niah"})


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: not valid JSON"),
        ("[]", "line 2: a row is an object of fields, not list"),
        (json.dumps({**ROW, "context": " "}), "line 2: 'context' is missing or empty"),
        (json.dumps({"context": "a", "answers": ["b"]}), "line 2: 'input' is missing or empty"),
        (json.dumps({**ROW, "answers": []}), "line 2: 'answers' must be"),
        (json.dumps({**ROW, "max_new_tokens": True}), "line 2: 'max_new_tokens' = True is no whole number"),
    ],
)
def test_rows_that_cannot_be_used_are_named(tmp_path, line, message):
    file = tmp_path / "rows.jsonl"
    file.write_text(f"{json.dumps(ROW)}\n{line}\n")
    with pytest.raises(DemoError, match=message):
        read_questions(file)


def test_files_that_are_no_documents(tmp_path):
    for content, message in ((b"\xff\xfe\x00", "no text"), (b"a\0b", "a binary file"), (b" \n", "empty")):
        (tmp_path / "file").write_bytes(content)
        with pytest.raises(DemoError, match=f"^document 'file' is {message}"):
            read_document(tmp_path / "file")
    with pytest.raises(DemoError, match="'none' cannot be read"):
        read_document(tmp_path / "none")
    with pytest.raises(DemoError, match="has no .jsonl files"):
        read_questions(tmp_path)
