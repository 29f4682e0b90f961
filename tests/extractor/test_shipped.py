"""The extractor that ships, on the embedded model: a relation and a template that it has never seen."""

import pytest

from cedkv.compressors.extractor import load_extractor
from cedkv.compressors.shipped import shipped_extractor
from cedkv.config import load_config
from cedkv.events import Warned
from cedkv.methods import run_method
from cedkv.sweep.judging import TaskBench

TASK, TEMPLATE = "country-continent", "input_output"


@pytest.fixture(scope="module")
def folder(lm):
    found = shipped_extractor(lm.fingerprint)
    assert found is not None
    return found


def test_it_is_small_and_tells_no_path_of_the_machine_that_trained_it(folder):
    assert sum(file.stat().st_size for file in folder.iterdir()) < 20_000_000
    told = (folder / "extractor.json").read_text(encoding="utf-8")
    assert "/root" not in told and "/home" not in told and "/work" not in told


def test_it_says_what_it_was_trained_on_and_what_it_has_never_seen(lm, folder):
    notes = load_extractor(lm, folder).notes
    data = notes["data"]
    assert TASK in data["held_out_tasks"] and TEMPLATE in data["held_out_templates"]
    assert not set(notes["tasks"]) & {*data["held_out_tasks"], *data["judged_tasks"]}


def test_it_betters_the_closed_form_of_a_relation_and_a_template_it_has_never_seen(lm):
    """Nearer to the teacher and quieter on other text, at once."""
    sizes = ["phase2.eval.on_samples=16", "phase3.off_data.stress_samples=32"]
    bench = TaskBench(lm, load_config(None, [f"episode.task={TASK}", f"episode.template={TEMPLATE}", *sizes]))
    figures = {}
    for method in ("chunked", "amortised"):
        *events, done = run_method(method, bench.workbench, 8)
        assert not [event for event in events if isinstance(event, Warned)]
        figures[method] = bench.figures([done.result.prefix])
    closed, made = figures["chunked"], figures["amortised"]
    assert made["kl_to_teacher"] < closed["kl_to_teacher"] and made["accuracy"] >= closed["accuracy"]
    assert made["off_mean"] < 0.8 * closed["off_mean"]
