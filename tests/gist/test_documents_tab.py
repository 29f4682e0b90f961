"""The Documents tab's engine and page: every view answers or says why it cannot, and nothing of a text is HTML."""

import json

import gradio as gr
import pytest

from cedkv.calibration import CALIBRATING
from cedkv.compressors.judged import read_grid
from cedkv.compressors.judging import accuracy_table
from cedkv.compressors.views import VIEWS
from cedkv.config import load_config
from cedkv.errors import CedKVError, ConfigError, DemoError, OutputError
from cedkv.events import Progress, StepTrace, drain
from cedkv.harm import YARDSTICKS
from cedkv.lm.gists import load_reader, save_reader
from cedkv.methods.document import iter_train_on_document
from cedkv.session.documents import DocumentAnswer, Documents
from cedkv.session.going import Going, Stop
from cedkv.session.limits import LimitError, Limits
from cedkv.session.service import Service
from cedkv.session.store import SessionStore
from components.tabs.documents import answers_html, build, mask_html, stage_words
from components.tabs.documents_figures import VIEW_TITLES, needle_heatmaps, off_html
from tests.gist.conftest import DOCUMENT, random_reader
from tests.gist.test_document_episode import QUICK
from tests.tiny import tiny_path


@pytest.fixture
def documents(tmp_path, monkeypatch) -> Documents:
    save_reader(random_reader(), tmp_path / "adapter")
    monkeypatch.setattr("cedkv.session.documents.gist_adapter", lambda: tmp_path / "adapter")
    limits = Limits()
    return Documents(Service(limits, SessionStore(tmp_path / "sessions", limits, [])))


def config():
    return load_config(None, [f"run.model.id={tiny_path('llama')}", "run.runtime.device=cpu"])


def asked(documents: Documents, train: Stop | None = None) -> dict[str, DocumentAnswer]:
    """Answers by view."""
    found = documents.iter_document(config(), DOCUMENT, "The pass key is", train)
    return {item.view: item for item in found if isinstance(item, DocumentAnswer)}


def test_every_view_answers_with_what_it_costs(documents):
    answers = asked(documents)
    assert [*answers, "ced"] == list(VIEW_TITLES) == list(VIEWS)
    assert not any(answer.missing for answer in answers.values())
    assert answers["gist"].slots == answers["select"].slots == 5 < answers["full"].slots
    assert answers["base"].kv_bytes == 0 < answers["gist"].kv_bytes < answers["full"].kv_bytes
    assert all(answer.ttft_ms > 0 for answer in answers.values())
    assert [view for view in answers if answers[view].for_others] == ["full", "gist", "select", "chunked"]
    assert answers["retrieved"].passages and "48291" in answers["retrieved"].passages[0][0].text


def test_a_model_that_is_calibrated_first_is_said_to_be_once(documents, monkeypatch, tmp_path):
    monkeypatch.setenv("CEDKV_CACHE", str(tmp_path / "cache"))
    asking = documents.iter_document(config(), DOCUMENT, "The pass key is")
    assert next(asking) == Progress(CALIBRATING, 0, 1)
    assert isinstance(next(asking), DocumentAnswer)
    again = Documents(documents.service).iter_document(config(), DOCUMENT, "The pass key is")
    assert isinstance(next(again), DocumentAnswer)  # the fit is kept


def test_what_is_missing_is_said_and_the_rest_answers(documents, monkeypatch, tmp_path):
    monkeypatch.setattr("cedkv.session.documents.gist_adapter", lambda: tmp_path / "nowhere")
    answers = asked(documents)
    assert "has no gists" in answers["gist"].missing and not answers["full"].missing
    html = answers_html(list(answers.values()))
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
    html = answers_html([DocumentAnswer("full", "<b>bold</b>")], going="more to come")
    assert "&lt;b&gt;bold" in html and "<b>" not in html and "more to come" in html
    assert mask_html().startswith("<svg") and "context" in mask_html()


def test_the_gists_effect_on_other_text_stands_beside_a_paragraphs(documents):
    off = drain(documents.iter_off(config(), DOCUMENT, ("full", "gist")))
    assert list(off) == [*YARDSTICKS, "full", "gist"]
    html = off_html(off, slots=5)
    gist, paragraph = (off[name]["delta_p99"] for name in ("gist", "neutral_paragraph"))
    than = "no more than" if gist <= paragraph else "more than"
    assert f"<b>{gist:.2f}</b>: {than} behind an ordinary paragraph of 5 tokens ({paragraph:.2f})" in html
    assert html.count('class="mark"') == 4 and "full context" in html and "a line break" in html
    assert "Behind the gists" not in off_html({name: off[name] for name in YARDSTICKS}, slots=5)


def test_what_reads_gists_is_made_of_the_model_in_a_turn(documents, monkeypatch):
    turns, taken = documents.service.turns, []
    monkeypatch.setattr(
        "cedkv.session.documents.load_reader", lambda *given: taken.append(turns._taken) or load_reader(*given)
    )
    next(documents.iter_off(config(), DOCUMENT, ("gist",)))
    assert taken == [True]


@pytest.fixture
def quick(monkeypatch) -> list[int]:
    """Trainings of four quick steps, and how many steps each takes."""
    monkeypatch.setattr("cedkv.methods.document._SETTINGS", [*QUICK, "phase3.optim.steps=4"])
    taken: list[int] = []

    def train(*given, **options):
        taken.append(0)
        for event in iter_train_on_document(*given, **options):
            taken[-1] += isinstance(event, StepTrace)
            yield event

    monkeypatch.setattr("cedkv.session.documents.iter_train_on_document", train)
    return taken


def test_others_use_the_model_between_the_steps_of_a_training_on_a_document(documents, quick):
    told = []
    for item in documents.iter_document(config(), DOCUMENT, "The pass key is", Stop()):
        if isinstance(item, Progress) and item.stage.startswith("training on"):
            with documents.service.turns.short():  # which would wait for ever in the training's own turn
                told.append(stage_words(item))
    assert told == [f"training on this document: {step} of 4" for step in (1, 2, 3, 4)]
    assert item.view == "ced" and item.slots == 5 and item.for_others
    assert "ced" in drain(documents.iter_off(config(), DOCUMENT, ("ced",)))
    assert asked(documents, Stop())["ced"].slots == 5 and quick == [4]  # the slots are kept


def test_a_training_on_a_document_that_was_stopped_answers_with_what_it_has_and_is_made_anew(documents, quick):
    stop = Stop()
    stop.set()
    assert asked(documents, stop)["ced"].slots == 5
    asked(documents, Stop())
    assert quick == [1, 4]


def test_a_training_on_a_document_has_the_time_of_a_run(documents, quick):
    documents.going = Going(Limits(run_seconds=0))
    answers = asked(documents, Stop())
    assert "more than the 0 s that this deployment allows" in answers["ced"].missing and not answers["full"].missing


def test_trained_slots_that_are_no_longer_kept_are_not_made_by_who_reads_other_text(documents):
    with pytest.raises(ConfigError, match="no longer kept; ask again"):
        drain(documents.iter_off(config(), DOCUMENT, ("ced",)))


def test_the_tab_is_built_before_there_is_an_engine():
    with gr.Blocks():
        parts = build(None)
    ids = [part.elem_id for part in vars(parts).values() if getattr(part, "elem_id", None)]
    assert {"document-off", "judged-file", "needle-heatmaps", "train-document"} < set(ids) and len(set(ids)) == len(ids)
    assert parts.train.value is False and not parts.heatmaps.visible


def judged() -> dict:
    """What the command writes of two kinds, of which one has no depth."""
    rows = [
        {"kind": "passkey", "view": view, "tokens": tokens, "depth": depth, "score": score}
        for view, tokens, depth, score in [
            ("full", 64, 0.0, 1.0), ("full", 64, 1.0, 1.0), ("full", 128, 0.0, 1.0), ("gist", 64, 0.0, 1.0),
            ("gist", 64, 0.0, 0.0), ("gist", 128, 0.0, 0.0),
        ]
    ]  # fmt: skip
    rows.append({"kind": "theme", "view": "gist", "tokens": 64, "score": 1.0})
    return {"grid": accuracy_table(rows, "kind", "view", "tokens", "depth")}


def test_a_runs_needles_by_depth_and_length(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps(judged()))
    rows = read_grid(tmp_path / "run.json")
    assert {row["kind"] for row in rows} == {"passkey"}
    full, gist = needle_heatmaps(rows, "passkey").data
    assert list(full.x) == ["64", "128"] and list(full.y) == ["0%", "100%"]
    assert [list(row) for row in full.z] == [[1.0, 1.0], [1.0, None]]
    assert [list(row) for row in gist.z] == [[0.5, 0.0], [None, None]] and gist.customdata[0][0] == 2
    assert (full.zmin, full.zmax) == (0, 1) == (gist.zmin, gist.zmax)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is no documents.json that cedkv has written"),
        ('{"grid": [{"view": "gist"}]}', "is no documents.json that cedkv has written"),
        ('{"grid": [{"depth": 0.5, "view": 3}]}', "is no documents.json that cedkv has written"),
        (json.dumps({"grid": judged()["grid"][-1:]}), "holds no needles at a depth"),
    ],
)
def test_another_file_is_refused_in_one_line(tmp_path, content, message):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(OutputError, match=message) as raised:
        read_grid(tmp_path / "run.json", "run.json")
    assert str(raised.value).startswith("'run.json'") and "\n" not in str(raised.value)
