"""Full context and the other views at equal slots."""

from dataclasses import replace

import pytest
import torch

from cedkv.compressors.judging import accuracy_table, iter_judging
from cedkv.compressors.views import VIEWS, DocumentDesk, equal_runs
from cedkv.episodes.documents import Question
from cedkv.errors import ConfigError, DemoError
from cedkv.events import Progress, drain
from cedkv.lm import forward, log_probs, read_demo_kv
from tests.gist.conftest import DOCUMENT, QUERY, random_reader
from tests.tiny import text_tokens, tiny_lm

ASKED = Question(DOCUMENT, QUERY, ("48291",), max_new_tokens=4, about={"kind": "passkey", "tokens": 90})


@pytest.fixture(scope="module")
def desk() -> DocumentDesk:
    return DocumentDesk(tiny_lm(), random_reader(), slots=5)


def test_full_context_inference(desk):
    """Behind the document's own cache a query is answered as behind its text; a long one is read in parts."""
    lm, query = desk.lm, desk.lm.encode(QUERY)
    whole = log_probs(lm, [[*lm.encode(DOCUMENT), *query]])
    assert (log_probs(lm, [query], VIEWS["full"].prefix(desk, ASKED)) - whole).abs().max() < 1e-3


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "phi3", "gemma3_text"])
def test_a_block_read_in_parts_is_the_block(monkeypatch, architecture):
    lm = tiny_lm(architecture)
    whole = read_demo_kv(lm, text_tokens(lm))
    monkeypatch.setattr(forward, "READ_TOKENS", 7)
    parts = read_demo_kv(lm, text_tokens(lm))
    torch.testing.assert_close(parts.keys, whole.keys, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(parts.values, whole.values, atol=1e-4, rtol=1e-3)


def test_passkey_accuracy(desk):
    """A row for every view and question, scored by the text that is generated."""
    views = ("base", "full", "gist", "blind", "select")
    told = []
    rows = drain(iter_judging(desk, [ASKED, ASKED], views), told.append)
    assert [row["view"] for row in rows] == [*views, *views] and isinstance(told[0], Progress)
    for row in rows:
        assert row["score"] == float("48291" in row["answer"].split()) and row["answers"] == ["48291"]
    table = accuracy_table(rows, "view")
    assert [row["view"] for row in table] == list(views) and {row["count"] for row in table} == {2}


def test_memory(desk):
    """Views at equal slots have equal bytes; base has none."""
    prefixes = {view: VIEWS[view].prefix(desk, ASKED) for view in ("full", "gist", "blind", "select", "chunked")}
    assert {prefix.slots for view, prefix in prefixes.items() if view != "full"} == {5}
    a_token = prefixes["full"].nbytes / prefixes["full"].slots
    assert prefixes["gist"].nbytes == prefixes["select"].nbytes == prefixes["chunked"].nbytes == 5 * a_token
    assert VIEWS["base"].prefix(desk, ASKED) is None


def test_select_takes_the_sink_and_short_keys(desk):
    document = desk.document(DOCUMENT)
    chosen = VIEWS["select"].prefix(desk, ASKED).mixture.weights[0, 0].argmax(dim=-1).tolist()
    lengths = document.keys.norm(dim=-1).mean(dim=(0, 1))
    others = [token for token in range(1, len(document.tokens)) if token not in chosen]
    assert chosen[0] == 0 and max(lengths[chosen[1:]]) <= min(lengths[others])


def test_equal_runs():
    assert equal_runs(7, 4) == [(0,), (1, 2), (3, 4), (5, 6)]
    assert equal_runs(3, 25) == [(0,), (1,), (2,)] and equal_runs(1, 5) == [(0,)]


def test_gists_read_a_document_once(desk):
    """Until another is asked about: the gists and the gists beside the document are one reading, the blind another."""
    gist, both = (VIEWS[view].prefix(desk, ASKED) for view in ("gist", "both"))
    assert VIEWS["gist"].prefix(desk, replace(ASKED, question="another?")) is gist
    assert both.slots == desk.document(DOCUMENT).keys.shape[2] + gist.slots
    assert torch.equal(both.keys[:, :, -gist.slots :], gist.keys)
    assert not torch.equal(VIEWS["blind"].prefix(desk, ASKED).keys, gist.keys)
    VIEWS["full"].prefix(desk, replace(ASKED, context="another document"))
    assert VIEWS["gist"].prefix(desk, ASKED) is not gist


def test_a_view_without_gists_is_refused():
    with pytest.raises(ConfigError, match="there are no gists"):
        VIEWS["gist"].prefix(DocumentDesk(tiny_lm()), ASKED)


def test_a_document_that_is_too_long_is_told_before_any_question_is_asked(monkeypatch):
    desk = DocumentDesk(tiny_lm(), slots=4)
    long = desk.lm.decode(desk.lm.encode("word " * desk.lm.context)[: desk.lm.context - 8])
    questions = [Question(DOCUMENT, QUERY, ("x",)), Question(long, QUERY, ("x",))]
    monkeypatch.setattr("cedkv.compressors.judging._row", lambda *_: pytest.fail("a question was asked"))
    with pytest.raises(DemoError, match="the document has"):
        drain(iter_judging(desk, questions, ["full"]))
