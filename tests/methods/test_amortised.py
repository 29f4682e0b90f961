"""Amortised slots: an extractor corrects the closed form, and one that has learnt nothing is the closed form."""

import json
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from cedkv.cli import main
from cedkv.compressors import shipped
from cedkv.compressors.extractor import (
    KINDS,
    Extractor,
    extracted,
    load_extractor,
    save_extractor,
    shape_for,
    token_kinds,
)
from cedkv.errors import ConfigError, ModelError
from cedkv.events import StepTrace, Warned
from cedkv.lm import log_probs
from cedkv.methods import Extraction, run_method
from cedkv.methods.cached import extraction_key
from cedkv.methods.chunked import closed_form
from cedkv.slots.chunked import chunked_prefix, chunks_by_place
from cedkv.slots.least import LeastSlots
from cedkv.state import KVPrefix
from tests.optim.trainings import bench_with, events_of
from tests.slots.test_chunked import block
from tests.tiny import text_tokens, tiny_lm, tiny_path


def drawn(seed: int = 0, size: float = 0.5) -> Extractor:
    """An extractor of the tiny model whose corrections are by chance, in the table and in what reads a place."""
    net, draw = Extractor(shape_for(tiny_lm(), 8), seed), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for numbers in (*net.tables, net.out.weight):
            numbers.copy_(size * torch.randn(numbers.shape, generator=draw))
    return net


def extract(slots: int, *overrides: str) -> tuple[Extraction, list]:
    *events, done = run_method("amortised", bench_with(*overrides), slots)
    return done.result, events


def named(folder) -> str:
    return f"phase3.amortised.extractor={folder}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("extractor") / "drawn"
    save_extractor(drawn(), tiny_lm(), path)
    return path


@pytest.mark.parametrize("slots", [3, 8, 9, 24])
def test_an_extractor_that_has_learnt_nothing_is_the_closed_form_bit_for_bit(slots, tmp_path):
    save_extractor(Extractor(shape_for(tiny_lm(), 8)), tiny_lm(), tmp_path / "untrained")
    closed, made = closed_form(bench_with(), slots, 0.8), extract(slots, named(tmp_path / "untrained"))[0].prefix
    assert torch.equal(made.keys, closed.keys)
    assert torch.equal(made.values, closed.values)
    assert torch.equal(made.mixture.log_bias, closed.mixture.log_bias)


def test_a_model_without_an_extractor_has_the_closed_form_and_is_told_so():
    extraction, events = extract(8)
    assert torch.equal(extraction.prefix.keys, closed_form(bench_with(), 8, 0.8).keys)
    assert "no extractor ships" in events_of(events, Warned)[0].message


@pytest.mark.parametrize("slots", [3, 9, 24])
def test_what_was_corrected_can_be_read_from_the_state(slots, folder, tmp_path):
    """Keys and values are the mixture, its log-bias along the model's direction, and its gain: no more, no less."""
    bench, prefix = bench_with(), extract(slots, named(folder))[0].prefix
    prefix.save(tmp_path / "state.safetensors")
    prefix = KVPrefix.load(tmp_path / "state.safetensors", bench.lm.fingerprint)
    mixture, vectors = prefix.mixture, (bench.demo_kv.keys, bench.demo_kv.values)
    keys, values = (mixture.weights.expand(*those.shape[:2], -1, -1) @ those for those in vectors)
    along = bench.directions.at(bench.lm, prefix.positions, prefix.query_start)
    assert_close(prefix.keys, keys + mixture.log_bias[..., None] * along)
    assert_close(prefix.values, values * mixture.value_gain[..., None])
    assert prefix.meta["extractor"] == json.loads((folder / "extractor.json").read_text())["sha256"]
    assert (prefix.mixture.value_gain != 1).all()


@pytest.mark.parametrize("demos", [1, 5, 17])
@pytest.mark.parametrize("template", ["qa", "{input} so {output}, yes\n"])
def test_any_number_of_demonstrations_in_any_template(demos, template, folder):
    extraction, _ = extract(8, named(folder), f"episode.demos={demos}", f"episode.template={json.dumps(template)}")
    assert extraction.prefix.keys.isfinite().all()


def test_every_token_has_a_kind_and_the_sink_is_the_first():
    tokens = block("dQ d: ia ib ic d; dA d: o[ oc oat o] d.", "dQ d: id ie if d; dA d: o[ og ohi o] d.")
    one = "before last, input first, input rest, input last, between first, between rest, between last, output fixed, "
    one += "output first, output last, output fixed, after last"
    assert token_kinds(tokens) == ["sink", *one.split(", "), "before first", *one.split(", ")]
    assert set(token_kinds(text_tokens(tiny_lm()))) <= set(KINDS)


def test_the_order_of_demonstrations_changes_nothing():
    """Chunks are sets: with the demonstrations' keys and values in another order, the slots are the same."""
    bench, net = bench_with(), drawn()
    tokens = bench.episode.tokens
    first, *others = (range(*span) for span in tokens.demo_spans())
    order = [*first, *(token for span in reversed(others) for token in span)]
    demo_kv = bench.demo_kv
    other = replace(
        demo_kv, keys=demo_kv.keys[:, :, order], values=demo_kv.values[:, :, order], tokens=tokens.take(order)
    )
    prefixes = []
    for block_kv in (demo_kv, other):
        places = chunks_by_place(block_kv.tokens)
        chunks = [places[0], tuple(sorted(places[1] + places[2])), *places[3:]]
        closed = chunked_prefix(bench.lm, block_kv, chunks, bench.directions, 0.8)
        prefixes.append(extracted(net, bench.lm, closed, block_kv, bench.directions))
    assert_close(prefixes[0].keys, prefixes[1].keys, atol=1e-4, rtol=1e-4)
    assert_close(prefixes[0].values, prefixes[1].values, atol=1e-4, rtol=1e-4)


def test_another_extractor_is_another_cache_entry(folder, tmp_path):
    save_extractor(drawn(seed=1), tiny_lm(), tmp_path / "other")
    keys = set()
    for each in (folder, tmp_path / "other"):
        bench = bench_with()
        config = bench_with(named(each)).config
        keys.add(extraction_key(bench.lm, bench.episode, "amortised", 8, config))
        # The same folder with other numbers is told apart, too.
        save_extractor(drawn(seed=2), tiny_lm(), tmp_path / "other")
        keys.add(extraction_key(bench.lm, bench.episode, "amortised", 8, config))
    assert len(keys) == 2


def test_an_extractor_of_another_model_is_refused(folder):
    with pytest.raises(ModelError, match="was trained for .* of fingerprint .*; load that model or train"):
        load_extractor(tiny_lm("qwen2"), folder)


@pytest.mark.parametrize("harm", ["one byte", "cut", "no notes", "other shape", "missing"])
def test_a_damaged_extractor_is_refused_in_one_line(harm, tmp_path):
    folder = tmp_path / "extractor"
    save_extractor(drawn(), tiny_lm(), folder)
    numbers, notes = folder / "extractor.safetensors", folder / "extractor.json"
    content, said = numbers.read_bytes(), json.loads(notes.read_text())
    if harm == "one byte":
        numbers.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif harm == "cut":
        numbers.write_bytes(content[: len(content) // 2])
    elif harm == "no notes":
        notes.write_text("[1")
    elif harm == "other shape":
        notes.write_text(json.dumps({**said, "shape": {**said["shape"], "width": 16}}))
    else:
        numbers.unlink()
    with pytest.raises(ModelError, match="extractor") as refused:
        load_extractor(tiny_lm(), folder)
    assert "\n" not in str(refused.value)


def test_a_damaged_extractor_is_one_line_on_the_command_line(tmp_path, capsys):
    model = f"run.model.id={tiny_path('llama')}"
    settings = ["--set", model, "--set", named(tmp_path)]
    assert main(["extract", "--method", "amortised", *settings, "--out", str(tmp_path / "s.safetensors")]) == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert line.startswith("cedkv: error: extractor") and "cannot be read" in line


@pytest.mark.parametrize("slots", [3, 9])
def test_refining_goes_on_from_the_extractors_slots(slots, folder):
    """Before its first step it is what the extractor made; then it takes as many steps as are asked for."""
    bench = bench_with()
    start = extract(slots, named(folder))[0].prefix
    slots_to_train = LeastSlots.warm_start(bench.lm, start, bench.demo_kv, bench.directions, bench.config.phase3.least)
    assert_close(
        log_probs(bench.lm, bench.probes, slots_to_train.prefix(0)), log_probs(bench.lm, bench.probes, start),
        atol=1e-4, rtol=1e-4,
    )  # fmt: skip
    refined, events = extract(slots, named(folder), "phase3.amortised.refine_steps=2")
    assert refined.method == "amortised" and len(events_of(events, StepTrace)) == 2
    assert not torch.equal(refined.prefix.keys, start.keys)


def test_refining_heeds_what_is_free(folder):
    refine = ("phase3.amortised.refine_steps=1", named(folder))
    with pytest.raises(ConfigError, match=r"phase3\.least: .* or refine_steps=0"):
        extract(5, *refine, "phase3.least={weight: false, gain: false, within_chunks: none}")
    refined, _ = extract(5, *refine, "phase3.least={weight: false, gain: false, within_chunks: none, selective: true}")
    assert refined.prefix.mixture.selective is not None


def test_what_ships_is_found_by_the_models_fingerprint(folder, monkeypatch):
    monkeypatch.setattr(shipped, "_ADAPTERS", folder.parent)
    folder.rename(folder.with_name("extractor_drawn"))
    found = shipped.shipped_extractor(tiny_lm().fingerprint)
    (folder.parent / "extractor_drawn").rename(folder)
    assert found == folder.parent / "extractor_drawn" and shipped.shipped_extractor("another") is None
