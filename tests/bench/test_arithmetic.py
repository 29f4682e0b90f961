"""The arithmetic a step needs: by hand, and against what torch counts while the step really runs."""

import copy
from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from cedkv.bench.arithmetic import LayerShape, ModelShape, visible_pairs
from cedkv.errors import ModelError
from cedkv.lm import packed_logits, read_demo_kv
from tests.tiny import ARCHITECTURES, QUERY_TEXTS, text_tokens, tiny_lm

LINEARS = {"q_proj": (8, 8), "k_proj": (8, 4), "v_proj": (8, 4), "o_proj": (8, 8), "up_proj": (8, 10)}
WEIGHTS = 64 + 32 + 32 + 64 + 80
LAYER = LayerShape(LINEARS, heads=2, head_dim=4, window=None)


def test_a_row_sees_the_slots_and_its_own_text_so_far():
    # Three slots: the rows of a text of two see 4 and 5 keys, the one of a text of one sees 4.
    assert visible_pairs([2, 1], [2, 1], slots=3, window=None) == 4 + 5 + 4
    assert visible_pairs([2, 1], [1, 1], slots=3, window=None) == 5 + 4
    assert visible_pairs([2, 1], [2, 1], slots=3, window=4) == 4 + 4 + 4
    assert visible_pairs([2], [2], slots=0, window=None) == 1 + 2


def test_a_step_of_two_layers_by_hand():
    shape = ModelShape([LAYER, LAYER], hidden=8, vocab=20)
    tokens, reads, slots = 5, 2, 3
    pairs_all, pairs_read = (4 + 5 + 6) + (4 + 5), 6 + 5
    keys_values = 2 * tokens * (32 + 32)
    first = 2 * tokens * WEIGHTS + 2 * tokens * (64 + 80)  # backward: o_proj and up_proj only
    last = 2 * (keys_values + 2 * reads * (WEIGHTS - 64))
    attention = 4 * 2 * 4 * (pairs_all + 3 * pairs_read)
    head = 2 * 2 * reads * 8 * 20
    assert shape.step_flop([3, 2], [1, 1], [slots, slots]) == first + last + attention + head


def test_slots_that_a_layer_does_not_see_cost_it_nothing():
    shape = ModelShape([LAYER, LAYER], hidden=8, vocab=20)
    seen, unseen = (shape.step_flop([3], [1], [4, active]) for active in (4, 0))
    assert seen - unseen == 3 * 4 * 2 * 4 * 4, "three rounds of four slots for the one row read in the last layer"


def test_padding_would_be_counted_and_packing_has_none():
    shape = ModelShape([LAYER, LAYER], hidden=8, vocab=20)
    packed, padded = (shape.step_flop(lengths, [1, 1], [3, 3]) for lengths in ([9, 2], [9, 9]))
    assert packed < 0.7 * padded


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_linear_maps_are_what_torch_counts_in_a_real_step(architecture):
    lm = tiny_lm(architecture)
    if (
        architecture == "qwen3_moe"
    ):  # torch counts no grouped product, which all experts are one of unless told otherwise
        lm = replace(lm, model=copy.deepcopy(lm.model))
        lm.model.set_experts_implementation("eager")
    slots = read_demo_kv(lm, text_tokens(lm)).as_prefix()
    values = slots.values.clone().requires_grad_()
    queries = [lm.encode(text) for text in QUERY_TEXTS]
    lengths = [len(query) for query in queries]
    with FlopCounterMode(display=False) as counter:
        # Every row is read: the model's code then has no work in its last layer that the count leaves out.
        packed_logits(lm, queries, replace(slots, values=values), reads=lengths).sum().backward()
    counted = counter.get_flop_counts()["Global"]
    products = sum(flop for op, flop in counted.items() if op in (torch.ops.aten.mm, torch.ops.aten.addmm))

    shape = ModelShape.of(lm)
    without_attention = replace(shape, layers=[replace(layer, heads=0) for layer in shape.layers])
    assert without_attention.step_flop(lengths, lengths, [slots.slots] * lm.layers) == products


def test_a_token_costs_as_many_experts_as_its_router_chooses():
    layer = ModelShape.of(tiny_lm("qwen3_moe")).layers[0]
    assert layer.linears["router"] == (64, 2)
    assert (layer.linears["expert_gate_up"], layer.linears["expert_down"]) == ((64, 2 * 96), (2 * 48, 64))


def test_experts_that_are_kept_otherwise_are_refused_by_name():
    lm = tiny_lm("qwen3_moe")
    model = copy.deepcopy(lm.model)
    model.model.layers[0].mlp.experts = torch.nn.ModuleList([torch.nn.Linear(64, 64)])
    with pytest.raises(ModelError, match="Qwen3MoeSparseMoeBlock keeps its experts in a way"):
        ModelShape.of(replace(lm, model=model))


def test_windows_are_those_of_the_architecture():
    windows = {name: [layer.window for layer in ModelShape.of(tiny_lm(name)).layers] for name in ARCHITECTURES}
    assert windows["llama"] == [None] * 4
    assert windows["mistral"] == [24] * 4
    assert windows["gemma3_text"] == [16, None, 16, None]
