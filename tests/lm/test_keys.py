"""Keys are stored before rotary embedding: rotated to their places they are the model's own, moved they still fit."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close
from transformers import DynamicCache

from cedkv.lm import log_probs, read_demo_kv
from cedkv.lm.architectures import rotated_layers
from cedkv.lm.rope import rotate_keys
from tests.tiny import HEAD_DIM, KV_HEADS, LAYERS, plain_model, text_tokens, tiny_lm
from tests.tolerance import FORWARD


@pytest.fixture
def own_cache(architecture, demo_kv) -> DynamicCache:
    """The cache that transformers fills for the demonstrations; without the config it keeps all tokens."""
    cache = DynamicCache()
    with torch.no_grad():
        plain_model(architecture)(torch.tensor([demo_kv.tokens.ids]), past_key_values=cache)
    return cache


def test_rotated_keys_and_values_are_the_models_own(tiny, demo_kv, own_cache):
    keys = rotate_keys(tiny, demo_kv.keys, torch.arange(len(demo_kv.tokens)))
    assert_close(keys, torch.stack([layer.keys[0] for layer in own_cache.layers]), **FORWARD)
    assert_close(demo_kv.values, torch.stack([layer.values[0] for layer in own_cache.layers]), **FORWARD)


def test_stored_keys_are_not_rotated(tiny, demo_kv, own_cache):
    """At position 0 rotation does nothing (but scale, under yarn); everywhere else stored keys must differ.

    Except in layers without rotary embedding: there they are the model's own.
    """
    rotated = torch.stack([layer.keys[0] for layer in own_cache.layers])
    turned = torch.tensor(rotated_layers(tiny.model.config))
    difference = (demo_kv.keys - rotated)[:, :, 1:].abs().amax(dim=(1, 3))
    assert turned.any() and difference[turned].min() > 0.05
    assert_close(demo_kv.keys[~turned], rotated[~turned], **FORWARD)


def test_the_same_token_at_two_places_has_the_same_first_layer_key(tiny):
    """In layer 0 a key knows only its token, so before rotation its place cannot show."""
    kv = read_demo_kv(tiny, text_tokens(tiny, "walk walk walk walk"))
    walks = [index for index, text in enumerate(kv.tokens.texts) if text == " walk"]
    assert len(walks) == 3
    for other in walks[1:]:
        assert_close(kv.keys[0, :, other], kv.keys[0, :, walks[0]], **FORWARD)


def test_shapes_follow_grouped_query_attention(demo_kv):
    assert demo_kv.keys.shape == demo_kv.values.shape == (LAYERS, KV_HEADS, len(demo_kv.tokens), HEAD_DIM)


def test_moving_prefix_and_query_together_changes_nothing(tiny, demo_kv, queries):
    prefix = demo_kv.as_prefix()
    moved = replace(prefix, positions=prefix.positions + 5, query_start=prefix.query_start + 5)
    assert_close(log_probs(tiny, queries, moved), log_probs(tiny, queries, prefix), **FORWARD)


def test_moving_the_prefix_alone_changes_the_answer(tiny, demo_kv, queries):
    prefix = demo_kv.as_prefix()
    apart = replace(prefix, query_start=prefix.query_start + 5)
    assert (log_probs(tiny, queries, apart) - log_probs(tiny, queries, prefix)).abs().max() > 0.1


def test_the_order_in_which_slots_are_stored_is_irrelevant(tiny, demo_kv, queries):
    """A slot's place is its position; sliding windows and rotation must not read it off the cache index."""
    prefix = demo_kv.as_prefix()
    order = torch.randperm(prefix.slots, generator=torch.Generator().manual_seed(0))
    shuffled = replace(
        prefix,
        keys=prefix.keys[:, :, order],
        values=prefix.values[:, :, order],
        positions=prefix.positions[order],
    )
    assert_close(log_probs(tiny, queries, shuffled), log_probs(tiny, queries, prefix), **FORWARD)


def test_reading_demonstrations_leaves_no_hook_behind(tiny, demo_kv):
    module = tiny.key_source.module
    assert all(not getattr(layer.self_attn, module)._forward_hooks for layer in tiny.model.model.layers)


def test_hooks_are_removed_when_the_forward_fails():
    lm = tiny_lm("llama")
    tokens = text_tokens(lm)
    with pytest.raises(IndexError):
        read_demo_kv(lm, replace(tokens, ids=(10**6,) * len(tokens)))
    assert all(not layer.self_attn.k_proj._forward_hooks for layer in lm.model.model.layers)
