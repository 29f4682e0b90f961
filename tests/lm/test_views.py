"""The three views are one forward: each must say what transformers itself says for the same tokens."""

import pytest
import torch
from torch.testing import assert_close

from cedkv.lm import generate, load_model, log_probs, packed_logits, read_demo_kv
from cedkv.lm.architectures import ARCHITECTURES as SUPPORTED
from cedkv.lm.forward import PACK_TOKENS, pack_slices
from tests.tiny import ARCHITECTURES, plain_log_probs, text_tokens, tiny_path
from tests.tolerance import FORWARD, forward


def test_every_supported_architecture_is_tested():
    assert set(ARCHITECTURES) == set(SUPPORTED)


def test_base_equals_plain_transformers(architecture, tiny, queries):
    reference = torch.stack([plain_log_probs(architecture, [*tiny.bos, *query]) for query in queries])
    assert_close(log_probs(tiny, queries), reference, **FORWARD)


def test_demo_cache_equals_the_demonstrations_in_the_prompt(tiny, demo_kv, queries):
    """The demonstrations are longer than the sliding windows, so old slots must leave the view as tokens would."""
    prompts = [[*demo_kv.tokens.ids[len(tiny.bos) :], *query] for query in queries]
    assert_close(log_probs(tiny, queries, demo_kv.as_prefix()), log_probs(tiny, prompts), **FORWARD)


def test_demo_cache_equals_plain_transformers(architecture, tiny, demo_kv, queries):
    reference = torch.stack([plain_log_probs(architecture, [*demo_kv.tokens.ids, *query]) for query in queries])
    teacher = log_probs(tiny, queries, demo_kv.as_prefix())
    assert_close(teacher, reference, **FORWARD)
    assert (teacher - log_probs(tiny, queries)).abs().max() > 1, "the demonstrations must change these answers"


def test_packed_queries_equal_queries_alone(tiny, demo_kv, queries):
    prefix = demo_kv.as_prefix()
    for view in (None, prefix):
        alone = torch.cat([log_probs(tiny, [query], view) for query in queries])
        assert_close(log_probs(tiny, queries, view), alone, **FORWARD)


def test_queries_over_several_packs_keep_their_order(tiny, queries):
    many = [query for query in queries for _ in range(30)]
    assert len(list(pack_slices(many))) > 1
    assert_close(log_probs(tiny, many), log_probs(tiny, queries).repeat_interleave(30, dim=0), **FORWARD)


def test_reads_are_the_last_rows_of_each_query(architecture, tiny, queries):
    rows = log_probs(tiny, queries[:2], None, reads=[3, 1])
    first = [plain_log_probs(architecture, [*tiny.bos, *queries[0][:end]]) for end in (-2, -1, len(queries[0]))]
    assert_close(rows, torch.stack([*first, plain_log_probs(architecture, [*tiny.bos, *queries[1]])]), **FORWARD)


def test_reads_follow_their_queries_over_several_packs(tiny, queries):
    """Each query reads one row more than the one before, and every row equals the same row read alone."""
    many = (queries[:3] * 30)[:80]
    reads = [1 + index % 3 for index in range(len(many))]
    assert len(list(pack_slices(many))) > 1
    alone = {(i, n): log_probs(tiny, [queries[i]], None, reads=[n]) for i in range(3) for n in (1, 2, 3)}
    expected = torch.cat([alone[index % 3, count] for index, count in enumerate(reads)])
    assert_close(log_probs(tiny, many, None, reads=reads), expected, **FORWARD)


@pytest.mark.parametrize(
    ("lengths", "slices"),
    [
        ([], []),
        ([3], [(0, 1)]),
        ([4, 4, 4], [(0, 2), (2, 3)]),
        ([4, 6, 1], [(0, 2), (2, 3)]),
        ([2, 99, 2], [(0, 1), (1, 2), (2, 3)]),
        ([99, 1, 1], [(0, 1), (1, 3)]),
    ],
)
def test_packs_fill_up_to_the_limit_and_a_long_query_goes_alone(lengths, slices):
    cut = pack_slices([[0] * length for length in lengths], pack_tokens=10)
    assert [(part.start, part.stop) for part in cut] == slices


def test_a_query_longer_than_a_pack_is_not_cut(architecture, tiny):
    query = (tiny.encode("once upon a time there was a tall king. ") * 60)[: PACK_TOKENS + 5]
    # The tiny models were made for 512 tokens; rotary embedding itself goes on beyond.
    assert_close(log_probs(tiny, [query])[0], plain_log_probs(architecture, [*tiny.bos, *query]), **FORWARD)


@pytest.mark.parametrize(("dtype", "tolerance"), [("bfloat16", 0.25), ("float16", 0.03)])
def test_half_precision_keeps_the_teacher_identity(architecture, dtype, tolerance):
    half = load_model(str(tiny_path(architecture)), dtype=dtype, device="cpu")
    kv = read_demo_kv(half, text_tokens(half))
    queries = [half.encode(text) for text in ("Q: rain\nA:", "Q: play\nA:")]
    prompts = [[*kv.tokens.ids[len(half.bos) :], *query] for query in queries]
    teacher = log_probs(half, queries, kv.as_prefix())
    assert half.dtype == kv.keys.dtype == getattr(torch, dtype)
    assert teacher.dtype == torch.float32
    assert_close(teacher, log_probs(half, prompts), atol=tolerance, rtol=0.0)
    assert (teacher - log_probs(half, queries)).abs().max() > 10 * tolerance


def test_a_state_in_another_precision_is_injected_in_the_models(tiny, demo_kv, queries):
    prefix = demo_kv.as_prefix()
    stored = type(prefix)(**{**vars(prefix), "keys": prefix.keys.half(), "values": prefix.values.half()})
    logits = packed_logits(tiny, queries, stored)
    assert logits.dtype == torch.float32
    assert_close(logits, packed_logits(tiny, queries, prefix), atol=0.05, rtol=0.0)


def test_embedded_demo_cache_equals_the_prompt(lm):
    tokens = text_tokens(lm)
    queries = [lm.encode("Q: rain\nA:"), lm.encode("Q: play\nA:"), lm.encode("The capital of France is")]
    kv = read_demo_kv(lm, tokens)
    assert kv.keys.shape == kv.values.shape == (30, 3, len(tokens), 64)
    teacher = log_probs(lm, queries, kv.as_prefix())
    prompts = log_probs(lm, [[*tokens.ids, *query] for query in queries])
    assert_close(teacher, prompts, atol=forward(layers=30, width=1536), rtol=0.0)
    assert generate(lm, queries[:2], kv.as_prefix(), max_new_tokens=4, stop="\n") == [" rained", " played"]


def test_queries_behind_a_prefix_each_answer_as_one_by_one(tiny, demo_kv, queries):
    """Different prefixes, and none, side by side in one pack: nobody sees another's."""
    whole = demo_kv.as_prefix()
    other = read_demo_kv(tiny, text_tokens(tiny, "Q: lift\nA: lifted\n\n")).as_prefix()
    prefixes = [(whole, None, other, whole.without([2, 5]))[index % 4] for index in range(len(queries))]
    pairs = list(zip(queries, prefixes, strict=True))
    one_by_one = torch.stack([log_probs(tiny, [query], prefix)[0] for query, prefix in pairs])
    assert_close(log_probs(tiny, queries, prefixes), one_by_one, **FORWARD)
    assert generate(tiny, queries, prefixes, 4) == [generate(tiny, [query], prefix, 4)[0] for query, prefix in pairs]
    with pytest.raises(ValueError, match="zip"):
        log_probs(tiny, queries, prefixes[:2])
