"""Looking inside a forward: the attention read is the one that happened, and what it predicts for another prefix."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from cedkv.lm import packed_logits, read_attention, read_demo_kv, read_demonstrations
from cedkv.lm.forward import READ_TOKENS, pack_slices
from cedkv.state import KVPrefix
from tests.tiny import LAYERS, plain_model, text_tokens
from tests.tolerance import FORWARD, forward


@pytest.fixture
def prefix(demo_kv) -> KVPrefix:
    return demo_kv.as_prefix()


@pytest.fixture
def short(prefix) -> KVPrefix:
    """Five slots right before the query, which no sliding window hides from a short one."""
    some = [0, 7, 12, 20, 31]
    return replace(
        prefix,
        keys=prefix.keys[:, :, some],
        values=prefix.values[:, :, some],
        positions=torch.arange(5),
        query_start=5,
        active=prefix.active[:, some],
        mixture=None,
    )


def test_attention_at_last_tokens_equals_plain_transformers(architecture, tiny, prefix, demo_kv, queries):
    seen = read_attention(tiny, queries, prefix).at_last_tokens()
    assert seen.shape == (LAYERS, 4, len(queries), prefix.slots)
    for index, query in enumerate(queries):
        with torch.no_grad():
            out = plain_model(architecture)(torch.tensor([[*demo_kv.tokens.ids, *query]]), output_attentions=True)
        reference = torch.stack([layer[0, :, -1, : prefix.slots] for layer in out.attentions])
        assert_close(seen[:, :, index], reference, **FORWARD)


def test_queries_over_several_packs_keep_their_order(tiny, prefix, queries):
    many = queries * 30
    assert len(list(pack_slices(many))) > 1
    once = read_attention(tiny, queries, prefix).at_last_tokens()
    assert_close(
        read_attention(tiny, many, prefix).at_last_tokens(), once.repeat(1, 1, 30, 1), atol=forward(), rtol=1e-4
    )


def test_a_tail_keeps_the_last_tokens_of_each_query(tiny, prefix, queries):
    many = queries * 30
    assert len(list(pack_slices(many))) > 1
    whole, tail = read_attention(tiny, many, prefix), read_attention(tiny, many, prefix, tail=2)
    ends = zip(many, whole.last.tolist(), strict=True)
    kept = [row for query, end in ends for row in range(end - min(len(query), 2) + 1, end + 1)]
    assert_close(tail.own_out, whole.own_out[:, :, kept], atol=forward(), rtol=1e-4)
    assert_close(tail.at_last_tokens(), whole.at_last_tokens(), atol=forward(), rtol=1e-4)


def test_outputs_are_what_the_layers_passed_on(tiny, prefix, queries):
    """Of every token in every layer: the input of the output projection, caught in the forward itself."""
    passed = []
    hooks = [
        layer.self_attn.o_proj.register_forward_pre_hook(lambda _module, inputs: passed.append(inputs[0][0]))
        for layer in tiny.model.model.layers
    ]
    packed_logits(tiny, queries, prefix)
    for hook in hooks:
        hook.remove()
    reading = read_attention(tiny, queries, prefix)
    outputs = reading.outputs(reading.prefix_scores, prefix.values)
    assert_close(outputs.transpose(1, 2).flatten(2), torch.stack(passed), atol=forward(), rtol=1e-4)


def test_scores_of_the_same_prefix_are_those_read(tiny, short, queries):
    reading = read_attention(tiny, queries[:2], short)
    assert_close(reading.scores_of(tiny, short), reading.prefix_scores, atol=forward(), rtol=1e-4)


def test_scores_of_another_prefix_are_those_it_would_get(tiny, prefix, short, queries):
    """In the first layer, where a query does not yet know what stands before it; the other prefix is shorter."""
    predicted = read_attention(tiny, queries[:2], prefix).scores_of(tiny, short)[0]
    assert_close(predicted, read_attention(tiny, queries[:2], short).prefix_scores[0], atol=forward(), rtol=1e-4)


def test_scores_hide_slots_that_are_switched_off(tiny, short, queries):
    reading = read_attention(tiny, queries[:2], short)
    active = short.active.clone()
    active[1, 2] = active[3, 0] = False
    hidden = reading.scores_of(tiny, short.with_active(active)) < -1e30
    assert torch.equal(hidden, (~active)[:, None, None].expand_as(hidden))


@pytest.mark.parametrize("times", [1, 140], ids=["at once", "in parts"])
def test_how_the_last_demonstration_attends_is_told_by_their_own_forward(tiny, times):
    """As if it were read behind the others, and nothing of what is read changes."""
    tokens = text_tokens(tiny, "Q: lift\nA: lifted\n\n" * times)
    assert (len(tokens) > READ_TOKENS) == (times > 1)
    start = len(tokens) - 6
    tokens = replace(tokens, demo=(*tokens.demo[:start], *[1] * 6))
    whole, reading = read_demonstrations(tiny, tokens, tail=4)
    assert_close(whole.keys, read_demo_kv(tiny, tokens).keys, atol=0, rtol=0)
    assert_close(whole.values, read_demo_kv(tiny, tokens).values, atol=0, rtol=0)
    before = replace(whole.as_prefix().without(list(range(start, len(tokens)))), query_start=start)
    again = read_attention(tiny, [tokens.ids[start:]], before, tail=4)
    assert reading.query_start == start
    for name in ("query", "own_lse", "own_out"):
        assert_close(getattr(reading, name), getattr(again, name), atol=forward(), rtol=1e-4)
    assert_close(reading.to_slots(), again.to_slots()[..., :start], atol=forward(), rtol=1e-4)


def test_a_long_demonstration_may_end_before_the_last_part(tiny):
    """Its own rows went by before; it is read again by whoever needs them."""
    tokens = text_tokens(tiny, "Q: lift\nA: lifted\n\n" * 140)
    last = len(tokens) - 2
    tokens = replace(tokens, demo=(0, *[1] * (last - 1), -1, -1))
    assert read_demonstrations(tiny, tokens, tail=4)[1] is not None
    assert read_demonstrations(tiny, tokens, tail=last)[1] is None


def test_one_demonstration_attends_to_no_other(tiny, demo_kv):
    assert read_demonstrations(tiny, demo_kv.tokens, tail=4)[1] is None
