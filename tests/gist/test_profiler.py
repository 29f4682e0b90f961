"""What a view costs, and the plan's criteria as verdicts."""

import json

import pytest

from cedkv.cli import main
from cedkv.compressors.judging import answering_times, profile, success_criteria
from cedkv.compressors.views import DocumentDesk
from cedkv.lm.gists import save_reader
from tests.gist.conftest import random_reader
from tests.gist.test_baseline import ASKED
from tests.tiny import tiny_lm, tiny_path

VIEWS = ("full", "gist")


@pytest.fixture(scope="module")
def rows() -> list[dict]:
    return profile(DocumentDesk(tiny_lm(), random_reader(), slots=5), [ASKED, ASKED], VIEWS, new_tokens=3)


def test_memory(rows):
    full, gist = rows
    assert full["view"] == "full" and full["tokens"] * gist["kv_bytes"] == 5 * full["kv_bytes"]


def test_ttft(rows):
    assert all(row["ttft_ms"] > 0 and row["seconds_to_prefix"] >= 0 for row in rows)
    assert answering_times(tiny_lm(), "once", None, 1)["tokens_per_second"] == 0  # nothing comes after the first


def test_throughput(rows):
    assert all(row["tokens_per_second"] > 0 for row in rows)


def test_criteria_report_what_was_measured():
    rows = [
        {"kind": kind, "view": view, "score": score}
        for kind, view, score in [
            ("passkey", "gist", 1.0), ("passkey", "gist", 0.0), ("theme", "gist", 0.8), ("theme", "retrieved", 0.5),
        ]
    ]  # fmt: skip
    costs = [("full", 100, 9.0), ("retrieved", 60, 10.0), ("gist", 10, 8.0)]
    profiled = [{"view": view, "kv_bytes": size, "ttft_ms": ms} for view, size, ms in costs]
    found = {row.name: (round(row.value, 6), row.passed) for row in success_criteria(rows, profiled)}
    assert found == {
        "passkey_gist": (0.5, False), "theme_gain": (0.3, True), "memory_saved": (0.9, True),
        "ttft_saved": (0.2, False),
    }  # fmt: skip
    assert success_criteria([], []) == []


def test_the_command_writes_rows_tables_and_verdicts(tmp_path, capsys):
    save_reader(random_reader(), tmp_path / "adapter")
    (tmp_path / "asked.jsonl").write_text(
        json.dumps(
            {"context": "a king. The key is 7.", "question": "\nThe key is", "answers": ["7"], "max_new_tokens": 2}
        )
    )
    out = tmp_path / "found.json"
    command = ["documents", "--model", str(tiny_path("llama")), "--adapter", str(tmp_path / "adapter")]
    command += ["--questions", str(tmp_path / "asked.jsonl"), "--views", "base", "full", "gist", "--out", str(out)]
    assert main(command) in (0, 1)
    found = json.loads(out.read_text())
    assert [row["view"] for row in found["rows"]] == ["base", "full", "gist"]
    assert {row["name"] for row in found["criteria"]} == {"memory_saved"} and found["adapter"]
    assert str(out) in capsys.readouterr().out
