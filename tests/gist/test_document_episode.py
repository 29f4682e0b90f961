"""A document that teaches its own slots, and needles by their names."""

from dataclasses import replace

import pytest
import torch

from cedkv.compressors.gist import document_tokens
from cedkv.compressors.judging import score
from cedkv.compressors.views import VIEWS, DocumentDesk
from cedkv.config import load_config
from cedkv.episodes.documents import NEEDLES, document_episode, make_one
from cedkv.errors import ConfigError
from cedkv.methods.document import train_on_document
from tests.gist.test_baseline import ASKED
from tests.optim.trainings import SMALL
from tests.tiny import tiny_lm

QUICK = [*SMALL, "phase2.select.candidate_policy=all", "phase2.injection.positioning_mode=absolute"]


def test_its_queries_are_its_own_sentences_begun_again():
    lm = tiny_lm()
    tokens = document_tokens(lm, "The king sleeps. The sea is by the hill. Once")
    opening = lm.encode("\n\n")
    queries = document_episode(tokens, opening).on_train
    assert len({query.ids for query in queries}) == len(queries) > 4
    said = [lm.decode(query.ids[len(opening) :]) for query in queries]
    assert all(query.ids[: len(opening)] == tuple(opening) for query in queries)
    whole = ("The king sleeps.", " The sea is by the hill.", " Once")
    assert all(any(sentence.startswith(text) and text != sentence for sentence in whole) for text in said)
    assert document_episode(tokens, opening) == document_episode(tokens, opening)
    assert {query.ids for query in document_episode(tokens, opening, seed=1).on_train} == {q.ids for q in queries}


def test_a_sentence_without_an_end_begins_anew():
    lm = tiny_lm()
    episode = document_episode(document_tokens(lm, "seven " * 80), ())
    assert len(episode.on_train) <= 64 and max(len(query.ids) for query in episode.on_train) <= 24


def test_ced_is_trained_on_the_documents_own_keys_and_values():
    """Slots are mixtures of its tokens, as many as there are gists, standing right before the question."""
    lm = tiny_lm()
    trained = []

    def train(lm, tokens, slots):
        trained.append(len(tokens))
        return train_on_document(lm, tokens, slots, load_config(None, [*QUICK, "phase3.optim.steps=2"]))

    desk = DocumentDesk(lm, slots=5, train=train)
    prefix = VIEWS["ced"].prefix(desk, ASKED)
    document = desk.document(ASKED.context)
    rows = prefix.mixture.weights
    assert prefix.slots == 5 and prefix.query_start == len(document.tokens) and rows.shape[-1] == len(document.tokens)
    torch.testing.assert_close(rows.sum(-1), torch.ones_like(rows.sum(-1)))
    assert prefix.meta["method"] == "ced" and "template" not in prefix.meta
    assert VIEWS["ced"].prefix(desk, replace(ASKED, question="another?")) is prefix
    assert trained == [len(document.tokens)]
    desk.forget()
    assert VIEWS["ced"].prefix(desk, ASKED) is not prefix
    with pytest.raises(ConfigError, match="nothing here trains"):
        VIEWS["ced"].prefix(DocumentDesk(lm), ASKED)


@pytest.mark.parametrize("kind", NEEDLES)
def test_needles_by_their_names(kind):
    """The right answer scores 1 and a number that stands beside it does not."""
    encode = tiny_lm().encode
    question = make_one(replace(NEEDLES[kind], tokens=300, depth=0.5), "0", "eval", encode)
    numbers = [word.strip(".,") for word in question.context.split() if word.strip(".,").isdigit()]
    others = [number for number in numbers if number not in question.answers]
    assert question.about["kind"] == kind and set(question.answers) <= set(numbers)
    assert (len(question.answers), len(others)) == {
        "passkey": (1, 0), "distractors": (1, 2), "multi_key": (1, 2), "multi_value": (2, 0),
    }[kind]  # fmt: skip
    assert score(question, " and ".join(question.answers)) == 1
    assert score(question, others[0] if others else "7") == 0
    if kind == "multi_value":
        assert score(question, question.answers[1]) == 0.5
