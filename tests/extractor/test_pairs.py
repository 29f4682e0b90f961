"""An extractor that starts from a pair log: its table is what trainings found, kind by kind of place."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from cedkv.compressors.extractor import KINDS, load_extractor
from cedkv.errors import ConfigError
from cedkv.events import drain
from cedkv.extractor.pairs import start_from_pairs
from cedkv.extractor.stages import iter_extractor, make_lesson
from cedkv.lm import read_demo_kv
from cedkv.methods.pairs import PairError, PairLog
from cedkv.state import KVPrefix, Mixture
from tests.extractor.test_training import config_of
from tests.tiny import KV_HEADS, LAYERS, text_tokens, tiny_lm

WEIGHT = 0.8


def found(task: str, delimiters: float, gain: float = 1.0, template: str = "qa", **changed) -> KVPrefix:
    """What a training might have found: a slot of two delimiters, one of two inputs, the latter as the closed form."""
    lm = tiny_lm("llama")
    tokens = replace(text_tokens(lm).take(range(5)), roles=("delimiter",) * 3 + ("input",) * 2, demo=(0,) * 5)
    weights = torch.tensor([[0, 0.5, 0.5, 0, 0], [0, 0, 0, 0.9, 0.1]]).expand(LAYERS, KV_HEADS, -1, -1)
    closed = WEIGHT * torch.tensor(2.0).log()
    bias = (closed + torch.tensor([delimiters, 0.0])).expand(LAYERS, KV_HEADS, -1)
    gains = torch.tensor([gain, 1.0]).expand(LAYERS, KV_HEADS, -1)
    whole = read_demo_kv(lm, tokens).as_prefix()
    meta = {"task": task, "template": template, "episode": task + template, "method": "ced", "settings": {}}
    return replace(
        whole, keys=whole.keys[:, :, :2], values=whole.values[:, :, :2], positions=torch.arange(2), query_start=2,
        active=whole.active[:, :2], mixture=Mixture(weights, tokens, log_bias=bias, value_gain=gains),
        meta={**whole.meta, **meta}, **changed,
    )  # fmt: skip


def started(folder, *overrides: str):
    config = config_of(f"data.pairs={folder}", f"weight={WEIGHT}", *overrides)
    lesson = make_lesson(tiny_lm("llama"), config)
    return lesson.net, lesson.pairs


def test_a_kind_that_many_trainings_correct_alike_starts_there_and_others_at_the_closed_form(tmp_path):
    """Ridge regression by hand: n slots half of one kind and half of another give each n/2 / (n/2 + 1) of half."""
    for number in range(8):
        PairLog(tmp_path).put(found(f"task {number}", delimiters=-1.0, gain=0.7))
    net, pairs = started(tmp_path)
    assert pairs == 8
    kinds = [KINDS.index(f"before {part}") for part in ("rest", "last")]
    # Both kinds are half of each such slot: A'A = 2 everywhere, and (2 2; 2 2) + 1 solves to 4/5 of the half for each.
    assert_close(net.log_bias[..., kinds], torch.full((LAYERS, KV_HEADS, 2), -0.8), atol=1e-4, rtol=0)
    assert_close(net.gain[..., kinds], torch.full((LAYERS, KV_HEADS, 2), 0.8 * -0.3), atol=1e-4, rtol=0)
    others = [index for index in range(len(KINDS)) if index not in kinds]
    assert net.log_bias[..., others].abs().max() < 1e-5 and net.within.abs().max() == 0


def test_what_is_held_out_and_another_models_have_no_part(tmp_path):
    log = PairLog(tmp_path)
    log.put(found("singular-plural", delimiters=-1.0))
    alone, _ = started(tmp_path)
    log.put(found("capitalize", delimiters=5.0))
    log.put(found("singular-plural", delimiters=5.0, template="{input} | {output}\n"))
    log.put(found("first-letter", delimiters=5.0, fingerprint="of another model"))
    held_out = ("data.tasks=[singular-plural]", "data.held_out_tasks=[capitalize]",
                r'data.held_out_templates=["{input} | {output}\n"]')  # fmt: skip
    net, pairs = started(tmp_path, *held_out)
    assert pairs == 1 and torch.equal(net.log_bias, alone.log_bias)
    assert started(tmp_path)[1] == 3  # they would have had, were they not named


def test_a_log_with_nothing_to_learn_from_is_refused(tmp_path):
    PairLog(tmp_path).put(found("capitalize", -1.0))
    with pytest.raises(ConfigError, match="has no pair of"):
        started(tmp_path, "data.tasks=[singular-plural]", "data.held_out_tasks=[capitalize]")
    with pytest.raises(PairError, match=r"has no index\.jsonl"):
        started(tmp_path / "nothing")


def test_without_a_log_it_starts_as_the_closed_form():
    lm, config = tiny_lm("llama"), config_of()
    net = make_lesson(lm, config).net
    assert start_from_pairs(net, lm, config) == 0 and not any(table.any() for table in net.tables)


def test_the_folder_says_how_many_pairs_it_started_from_and_not_where_they_are(tmp_path):
    lm = tiny_lm("llama")
    PairLog(tmp_path / "log").put(found("singular-plural", -1.0))
    report = drain(iter_extractor(config_of(f"data.pairs={tmp_path / 'log'}"), tmp_path / "out"))
    notes = load_extractor(lm, tmp_path / "out/extractor").notes
    assert report["pairs"] == notes["pairs"] == 1 and str(tmp_path) not in str(notes)
