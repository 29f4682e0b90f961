"""Rows that are found again: by content, after a crash, and with several processes at one file."""

import multiprocessing

import pytest

import cedkv.ledger
from cedkv.errors import OutputError
from cedkv.ledger import Ledger, row_key


@pytest.fixture
def ledger(tmp_path) -> Ledger:
    return Ledger(tmp_path / "deep" / "rows.jsonl")


def test_a_row_is_found_again_and_the_later_one_counts(ledger):
    assert ledger.rows() == {}
    ledger.put("a", {"accuracy": 0.5})
    ledger.put("b", {"accuracy": 0.25})
    ledger.put("a", {"accuracy": 0.75, "task": "Häuser"})
    assert ledger.rows() == {"a": {"accuracy": 0.75, "task": "Häuser"}, "b": {"accuracy": 0.25}}


def test_a_key_names_settings_and_code_whatever_their_order(monkeypatch):
    key = row_key(settings={"a": 1, "b": 2}, model="x")
    assert key == row_key(model="x", settings={"b": 2, "a": 1})
    assert key != row_key(settings={"a": 1, "b": 3}, model="x")
    monkeypatch.setattr(cedkv.ledger, "code_fingerprint", lambda: "other code")
    assert key != row_key(settings={"a": 1, "b": 2}, model="x")


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_a_torn_last_line_is_not_there_and_harms_no_later_row(ledger, cut):
    ledger.put("a", {"n": 1})
    ledger.put("b", {"n": 2})
    ledger.path.write_bytes(ledger.path.read_bytes()[:-cut])
    # Cut by the newline alone the row is whole.
    assert set(ledger.rows()) == ({"a", "b"} if cut == 1 else {"a"})
    ledger.put("c", {"n": 3})
    assert {"a", "c"} <= set(ledger.rows())
    assert ledger.rows()["c"] == {"n": 3}


def test_a_file_of_something_else_is_refused_and_stays(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("my notes\nof today\n", encoding="utf-8")
    with pytest.raises(OutputError, match="holds no rows"):
        Ledger(path).rows()
    assert path.read_text(encoding="utf-8") == "my notes\nof today\n"


def test_a_number_that_is_none_is_not_written(ledger):
    with pytest.raises(ValueError):
        ledger.put("a", {"n": float("nan")})
    assert ledger.rows() == {}


def add_rows(path, name: str, count: int) -> None:
    for number in range(count):
        Ledger(path).put(f"{name}{number}", {"by": name, "number": number, "padding": "x" * 500})


def test_several_processes_may_add_at_once(ledger):
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=add_rows, args=(ledger.path, name, 50)) for name in "abc"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    rows = ledger.rows()
    assert len(rows) == 150
    assert rows["b49"] == {"by": "b", "number": 49, "padding": "x" * 500}


def test_a_folder_that_cannot_be_written_is_an_output_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        Ledger(tmp_path / "file" / "rows.jsonl").put("a", {})
