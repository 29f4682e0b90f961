"""Slots as tokens of a prompt: the engine's log-probabilities, whatever the positions; slices and blocks."""

import pytest
import torch
from transformers import DynamicCache

from cedkv.lm import log_probs
from cedkv.lm.rope import rotate
from cedkv.serve.vllm_connector.errors import Refused
from cedkv.serve.vllm_connector.placing import cache_places, own_heads, placed_keys, turn_by
from cedkv.serve.vllm_connector.state import read_state
from tests.export.test_plain_transformers import state_of
from tests.serve.conftest import with_gaps
from tests.tiny import QUERY_TEXTS, plain_model, tiny_lm
from tests.tolerance import FORWARD

# Served ones, of which qwen2 has yarn and llama has llama3 scaling, each under a model without a window.
SERVED = ("llama", "qwen2", "qwen3")
PLACES = {
    "compact": lambda name: state_of(name),
    "absolute": lambda name: state_of(name, "absolute"),
    "with gaps": lambda name: with_gaps(state_of(name)),
}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("architecture", SERVED)
@torch.no_grad()
def test_a_prompt_behind_placed_slots_says_what_the_engine_says(tmp_path, architecture, place):
    """As vLLM has it: slots are tokens 0 to S-1 with the query right behind, in one plain cache."""
    lm, model, prefix = tiny_lm(architecture), plain_model(architecture), place(architecture)
    prefix.save(tmp_path / "it.safetensors")
    state = read_state(tmp_path / "it.safetensors")
    keys = placed_keys(state, lambda keys, positions: rotate(model, keys, positions))
    for text in QUERY_TEXTS:
        ids = lm.encode(text)
        cache = DynamicCache([(key[None], value[None]) for key, value in zip(keys, state.values, strict=True)])
        positions = torch.arange(state.slots, state.slots + len(ids))[None]
        mask = torch.ones(1, state.slots + len(ids), dtype=torch.long)
        rows = model(torch.tensor([ids]), attention_mask=mask, position_ids=positions, past_key_values=cache)
        expected = log_probs(lm, [ids], prefix)[0]
        assert torch.allclose(rows.logits[0, -1].log_softmax(-1), expected, **FORWARD), text


@pytest.mark.parametrize("architecture", SERVED)
def test_a_turn_from_a_table_of_cosines_is_the_models_own(architecture):
    """The table as vLLM's `get_rope` keeps it: cosines, then sines, of positions from 0."""
    model, prefix = plain_model(architecture), state_of(architecture)
    cos, sin = model.model.rotary_emb(prefix.keys, torch.arange(64)[None])
    half = cos.shape[-1] // 2
    turn = turn_by(torch.cat([cos[0, :, :half], sin[0, :, :half]], dim=-1), halves=True)
    positions = torch.tensor([-60, -31, -7, -1, 0, 1, 30, 63])
    assert torch.allclose(turn(prefix.keys, positions), rotate(model, prefix.keys, positions), **FORWARD)


def test_a_turn_of_neighbours_is_by_hand():
    quarter = turn_by(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), halves=False)
    assert quarter(torch.tensor([[[[3.0, 4.0]]]]), torch.tensor([1])).tolist() == [[[[-4.0, 3.0]]]]
    assert quarter(torch.tensor([[[[3.0, 4.0]]]]), torch.tensor([-1])).tolist() == [[[[4.0, -3.0]]]]


@pytest.mark.parametrize(
    ("kv_heads", "ranks", "expected"),
    [
        (8, 1, [range(8)]),
        (8, 2, [range(4), range(4, 8)]),
        (2, 2, [range(1), range(1, 2)]),
        (2, 8, [range(1)] * 4 + [range(1, 2)] * 4),
        (1, 2, [range(1), range(1)]),
    ],
)
def test_each_rank_takes_its_own_heads(kv_heads, ranks, expected):
    heads = [list(range(kv_heads))[own_heads(kv_heads, rank, ranks)] for rank in range(ranks)]
    assert heads == [list(own) for own in expected]


def test_slots_go_on_over_the_border_of_a_block():
    assert cache_places([7, 3, 9], 0, 9, 4).tolist() == [28, 29, 30, 31, 12, 13, 14, 15, 36]
    assert cache_places([7, 3, 9], 4, 6, 4).tolist() == [12, 13]


def test_slots_too_far_from_the_query_are_refused():
    """A file says where they lie; the table of turns knows as many positions as the model."""
    turn = turn_by(torch.zeros(32, 8), halves=True)
    assert turn(torch.ones(1, 1, 2, 8), torch.tensor([-31, 31])).shape == (1, 1, 2, 8)
    with pytest.raises(Refused, match="further from the query than the 32 positions"):
        turn(torch.ones(1, 1, 2, 8), torch.tensor([-1_000_000, 0]))
