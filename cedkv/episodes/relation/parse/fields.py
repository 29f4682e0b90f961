"""Names of columns, keys and labels, and which of them is the input and which the output."""

import re
from collections.abc import Sequence

INPUTS = frozenset(
    [
        "input",
        "inputs",
        "input text",
        "source",
        "source text",
        "src",
        "text",
        "sentence",
        "question",
        "query",
        "prompt",
        "review",
        "content",
        "article",
        "document",
        "passage",
        "context",
        "premise",
        "hypothesis",
        "sentence1",
        "sentence2",
        "sentence 1",
        "sentence 2",
        "question1",
        "question2",
        "text1",
        "text2",
        "text a",
        "text b",
        "instruction",
        "problem",
        "utterance",
        "tweet",
        "title",
        "body",
        "choices",
        "options",
        "endings",
        "user",
        "human",
        "frage",
        "eingabe",
        "entrada",
        "pregunta",
        "entrée",
        "вопрос",
        "вход",
        "问题",
        "问",
        "输入",
        "句子",
        "質問",
        "入力",
    ]
)
OUTPUTS = frozenset(
    [
        "output",
        "outputs",
        "output text",
        "target",
        "target text",
        "targets",
        "tgt",
        "label",
        "labels",
        "label text",
        "answer",
        "answers",
        "completion",
        "response",
        "reply",
        "sentiment",
        "class",
        "category",
        "translation",
        "summary",
        "solution",
        "result",
        "expected",
        "expected output",
        "ideal",
        "gold",
        "emotion",
        "intent",
        "topic",
        "assistant",
        "ai",
        "bot",
        "correct answer",
        "final answer",
        "correct",
        "antwort",
        "ausgabe",
        "salida",
        "respuesta",
        "réponse",
        "sortie",
        "ответ",
        "выход",
        "答案",
        "答",
        "输出",
        "标签",
        "回答",
        "出力",
    ]
)
# Labels of blocks; as the first line of columns they could be a pair as well.
SHORT_INPUTS, SHORT_OUTPUTS = frozenset({"q", "x", "in", "i"}), frozenset({"a", "y", "out", "o"})
# What goes with a demonstration but is no side of it.
ASIDES = frozenset({"id", "explanation", "reason", "note", "source", "comment", "rationale"})
_HEADINGS = (
    SHORT_INPUTS
    | SHORT_OUTPUTS
    | frozenset(
        [
            "english",
            "french",
            "german",
            "spanish",
            "italian",
            "portuguese",
            "dutch",
            "russian",
            "chinese",
            "japanese",
            "korean",
            "latin",
            "greek",
            "turkish",
            "polish",
            "swedish",
            "danish",
            "finnish",
            "czech",
            "hungarian",
            "arabic",
            "hebrew",
            "hindi",
            "en",
            "fr",
            "de",
            "es",
            "it",
            "pt",
            "nl",
            "ru",
            "zh",
            "ja",
            "ko",
            "word",
            "term",
            "verb",
            "noun",
            "adjective",
            "adverb",
            "present",
            "present tense",
            "past",
            "past tense",
            "past participle",
            "singular",
            "plural",
            "country",
            "capital",
            "capital city",
            "city",
            "state",
            "currency",
            "continent",
            "language",
            "antonym",
            "synonym",
            "opposite",
            "definition",
            "meaning",
            "name",
            "first name",
            "last name",
            "person",
            "profession",
            "occupation",
            "author",
            "book",
            "company",
            "product",
            "animal",
            "sound",
            "young",
            "color",
            "colour",
            "fruit",
            "value",
            "key",
            "number",
            "symbol",
            "element",
            "abbreviation",
            "code",
            "base",
            "comparative",
            "superlative",
            "formula",
            "original",
            "corrected",
            "before",
            "after",
            "from",
            "to",
            "left",
            "right",
            "item",
            "type",
            "description",
            "date",
            "year",
            "amount",
            "price",
            "unit",
            "score",
            "rating",
        ]
    )
)


def normal(name: str) -> str:
    """A name as the lists here have it: `Expected_Output` is `expected output`."""
    return re.sub(r"[\s_-]+", " ", name.strip().strip("\"'*#")).strip().casefold()


def is_heading(name: str) -> bool:
    """Whether a cell is more often a column's name than data."""
    return normal(name) in _HEADINGS | INPUTS | OUTPUTS


def label_side(label: str) -> str | None:
    """`input` or `output` where a block's label says which."""
    if label in INPUTS | SHORT_INPUTS:
        return "input"
    return "output" if label in OUTPUTS | SHORT_OUTPUTS else None


def sides(names: Sequence[str]) -> tuple[list[int], list[int]]:
    """Where the names of inputs and of outputs are."""
    clean = [normal(name) for name in names]
    return [i for i, name in enumerate(clean) if name in INPUTS], [i for i, name in enumerate(clean) if name in OUTPUTS]


def named_sides(names: Sequence[str]) -> tuple[int, int] | None:
    """Places of the one input and the one output, None where there is not exactly one of each."""
    inputs, outputs = sides(names)
    return (inputs[0], outputs[0]) if len(inputs) == len(outputs) == 1 else None


def unclear(names: Sequence[str]) -> str:
    """Why names do not say what is the input and what the output, and what to do."""
    inputs, outputs = sides(names)
    for side, places in (("input", inputs), ("output", outputs)):
        if len(places) > 1:
            both = " and ".join(repr(names[i]) for i in places[:4])
            return f"{both} could each be the {side}; keep one, and name it {side!r}"
    listed = ", ".join(repr(name[:30]) for name in names[:6])
    return f"of {listed} it is not clear which is the input and which the output; name them 'input' and 'output'"


def left_out(names: Sequence[str], used: Sequence[int]) -> tuple[str, ...]:
    """A warning that names what is not read."""
    rest = [repr(name[:30]) for i, name in enumerate(names) if i not in used and name.strip()]
    return (f"left out: {', '.join(rest[:8])}",) if rest else ()
