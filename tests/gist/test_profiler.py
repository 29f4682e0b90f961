"""What a view costs, and the plan's criteria as verdicts."""

import json

import pytest
import torch

import cedkv.probe
from cedkv.cli import main
from cedkv.compressors.criteria import success_criteria
from cedkv.compressors.memory import peak_memory
from cedkv.compressors.off_effect import iter_off_effect
from cedkv.compressors.profile import answering_times, iter_profile
from cedkv.compressors.views import VIEWS, DocumentDesk
from cedkv.episodes.documents import NEEDLES
from cedkv.episodes.off import PLAIN, sample_off
from cedkv.events import drain
from cedkv.harm import YARDSTICKS, yardsticks
from cedkv.lm.gists import save_reader
from cedkv.probe import OffProbe
from tests.gist.conftest import random_reader
from tests.gist.test_baseline import ASKED
from tests.tiny import tiny_lm, tiny_path


@pytest.fixture(scope="module")
def desk() -> DocumentDesk:
    return DocumentDesk(tiny_lm(), random_reader(), slots=5)


@pytest.fixture(scope="module")
def rows(desk) -> list[dict]:
    return drain(iter_profile(desk, [ASKED, ASKED], ("full", "gist"), new_tokens=3))


def test_memory(rows):
    full, gist = rows
    assert full["view"] == "full" and full["tokens"] * gist["kv_bytes"] == 5 * full["kv_bytes"]
    assert all(row["making_mb"] >= 0 and row["answering_mb"] >= row["kv_bytes"] / 2**20 for row in rows)


def test_a_peak_is_what_the_work_itself_takes():
    """Memory that is given back before the work ends counts; what was had and freed before it does not."""
    taken = bytearray(96 << 20)
    del taken
    with peak_memory(torch.device("cpu")) as peak:
        taken = bytearray(32 << 20)
        del taken
    assert 30 < peak.mb < 64
    with peak_memory(torch.device("meta")) as unknown:
        pass
    assert unknown.mb is None


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
    off = {"gist": {"delta_p99": 2.5}, "neutral_paragraph": {"delta_p99": 2.0}}
    costs = [("full", 100, 9.0), ("retrieved", 60, 10.0), ("gist", 10, 8.0)]
    profiled = [{"view": view, "kv_bytes": size, "ttft_ms": ms} for view, size, ms in costs]
    found = {row.name: (round(row.value, 6), row.passed) for row in success_criteria(rows, profiled, off)}
    assert found == {
        "passkey_gist": (0.5, False), "theme_gain": (0.3, True), "memory_saved": (0.9, True),
        "ttft_saved": (0.2, False), "off_p99_gist": (2.5, False),
    }  # fmt: skip
    assert success_criteria([], []) == []
    (as_quiet,) = success_criteria([], [], {**off, "gist": off["neutral_paragraph"]})
    assert as_quiet.passed and as_quiet.threshold == 2.0


def test_off_effect_is_that_of_the_prefix_beside_a_paragraph_of_as_many_tokens(desk):
    found = drain(iter_off_effect(desk, [ASKED, ASKED], ("base", "full", "gist"), texts=9))
    assert list(found) == [*YARDSTICKS, "full", "gist"]
    texts = sample_off("stress", 9, 0, PLAIN).texts
    probe = OffProbe(desk.lm, [text.text for text in texts])
    prefixes = {"gist": VIEWS["gist"].prefix(desk, ASKED), **yardsticks(desk.lm, 5)}
    assert prefixes["neutral_paragraph"].slots == prefixes["gist"].slots
    for name, prefix in prefixes.items():
        assert found[name]["delta_max"] == pytest.approx(probe.delta(prefix).max().item(), abs=1e-5)
    assert found["gist"]["count"] == 18 and found["neutral_paragraph"]["count"] == 9
    assert set(found["gist"]["buckets"]) == {text.bucket for text in texts}


def test_an_event_comes_before_each_reading_of_other_text(desk, monkeypatch):
    read, known = [], []
    for name in ("log_probs", "delta_of"):
        real = getattr(cedkv.probe, name)
        monkeypatch.setattr(cedkv.probe, name, lambda *given, real=real: read.append(1) or real(*given))
    *told, _ = (known.append(len(read)) or event for event in iter_off_effect(desk, [ASKED], ("base", "gist"), texts=9))
    assert [(event.done, event.total) for event in told] == [(place, 5) for place in range(5)]
    assert known == [0, 1, 2, 3, 3, 4]  # base, two yardsticks, a view that is the base, and gists


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
    command += ["--off-texts", "8"]
    assert main(command) in (0, 1)
    found = json.loads(out.read_text())
    assert [row["view"] for row in found["rows"]] == ["base", "full", "gist"]
    assert {row["name"] for row in found["criteria"]} == {"memory_saved", "off_p99_gist"} and found["adapter"]
    assert set(found["off"]) == {*YARDSTICKS, "full", "gist"} and found["slots"] == 5
    told = capsys.readouterr().out
    assert str(out) in told and "neutral_paragraph" in told and "answering MiB" in told


def test_only_costs_at_given_lengths(tmp_path):
    out = tmp_path / "costs.json"
    command = ["documents", "--model", str(tiny_path("llama")), "--views", "base", "full", "--out", str(out)]
    assert main([*command, "--profile", "200", "300"]) == 0
    found = json.loads(out.read_text())
    assert not found["rows"] and not found["off"] and not found["criteria"]
    lengths = {view: [row["tokens"] for row in found["profile"] if row["view"] == view] for view in ("base", "full")}
    assert lengths["base"] == lengths["full"] == sorted(lengths["full"]) and len(set(lengths["full"])) == 2


def test_all_kinds_of_questions_are_asked_by_name(tmp_path):
    out = tmp_path / "asked.json"
    command = ["documents", "--model", str(tiny_path("llama")), "--views", "base", "--out", str(out)]
    command += ["--off-texts", "0", "--kinds", *NEEDLES, "--themes", "1"]
    command += ["--tokens", "300", "--count", "1", "--depths", "2"]
    assert main(command) == 0
    found = json.loads(out.read_text())
    assert [(row["kind"], row["count"]) for row in found["scores"]] == [*((kind, 2) for kind in NEEDLES), ("theme", 1)]
    depths = [(row["kind"], row["depth"]) for row in found["grid"]]
    assert depths == [*((kind, depth) for kind in NEEDLES for depth in (0, 1)), ("theme", None)]


@pytest.mark.parametrize(("option", "what"), [("--views", "view"), ("--kinds", "kind of needles")])
def test_an_unknown_name_is_told_with_those_there_are(option, what, capsys):
    assert main(["documents", option, "haystack"]) == 2
    told = capsys.readouterr().err
    assert f"{what} 'haystack' is unknown; known are" in told and told.count("\n") == 1
