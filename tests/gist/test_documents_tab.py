"""The Documents tab's engine and page: every view answers or says why it cannot, and nothing of a text is HTML."""

import pytest

from cedkv.config import load_config
from cedkv.errors import CedKVError, DemoError
from cedkv.lm.gists import save_reader
from cedkv.session.documents import DocumentAnswer, Documents
from cedkv.session.limits import LimitError, Limits
from cedkv.session.service import Service
from cedkv.session.store import SessionStore
from components.tabs.documents import VIEW_TITLES, answers_html, mask_html
from tests.gist.conftest import DOCUMENT, random_reader
from tests.tiny import tiny_path


@pytest.fixture
def documents(tmp_path, monkeypatch) -> Documents:
    save_reader(random_reader(), tmp_path / "adapter")
    monkeypatch.setattr("cedkv.session.documents.gist_adapter", lambda: tmp_path / "adapter")
    limits = Limits()
    return Documents(Service(limits, SessionStore(tmp_path / "sessions", limits, [])))


def config():
    return load_config(None, [f"run.model.id={tiny_path('llama')}", "run.runtime.device=cpu"])


def test_every_view_answers_with_what_it_costs(documents):
    answers = {answer.view: answer for answer in documents.iter_document(config(), DOCUMENT, "The pass key is")}
    assert list(answers) == list(VIEW_TITLES)
    assert not any(answer.missing for answer in answers.values())
    assert answers["gist"].slots == answers["select"].slots == 5 < answers["full"].slots
    assert answers["base"].kv_bytes == 0 < answers["gist"].kv_bytes < answers["full"].kv_bytes
    assert all(answer.ttft_ms > 0 for answer in answers.values())
    assert answers["retrieved"].passages and "48291" in answers["retrieved"].passages[0][0].text


def test_what_is_missing_is_said_and_the_rest_answers(documents, monkeypatch, tmp_path):
    monkeypatch.setattr("cedkv.session.documents.gist_adapter", lambda: tmp_path / "nowhere")
    answers = {answer.view: answer for answer in documents.iter_document(config(), DOCUMENT, "The pass key is")}
    assert "has no gists" in answers["gist"].missing and not answers["full"].missing
    html = answers_html(list(answers.values()), going=False)
    assert "has no gists" in html and "full context" in html


@pytest.mark.parametrize(
    ("document", "question", "error", "message"),
    [
        (" ", "what?", DemoError, "the document is empty"),
        (DOCUMENT, " ", CedKVError, "the question is empty"),
        ("seven " * 600, "what?", DemoError, "the model's context is 512"),
        (DOCUMENT, "a" * 5000, LimitError, "characters in the query"),
    ],
)
def test_bad_input_is_one_clear_line(documents, document, question, error, message):
    with pytest.raises(error, match=message) as raised:
        next(documents.iter_document(config(), document, question))
    assert "\n" not in str(raised.value)


def test_a_text_is_never_html():
    html = answers_html([DocumentAnswer("full", "<b>bold</b>")], going=True)
    assert "&lt;b&gt;bold" in html and "<b>" not in html and "more to come" in html
    assert mask_html().startswith("<svg") and "context" in mask_html()
