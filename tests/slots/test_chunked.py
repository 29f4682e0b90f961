"""Chunks: what stands at one place of the template; and the slots that are their means."""

import pytest
import torch
from torch.testing import assert_close

from cedkv.episodes.relation.parse import Demonstration
from cedkv.episodes.relation.template import get_template, tokenize_demos
from cedkv.lm import read_demo_kv
from cedkv.lm.weighing import WeightDirections
from cedkv.slots import merging
from cedkv.slots.chunked import chunked_prefix, chunks_by_place
from cedkv.slots.merging import fitted_chunks, split_chunks
from cedkv.state import DemoTokens
from cedkv.state.words import slot_words
from tests.tiny import HEAD_DIM, KV_HEADS, LAYERS, PAIRS, tiny_lm

FIELDS = {"i": "input", "o": "output", "d": "delimiter"}


def block(*demos: str) -> DemoTokens:
    """Tokens from demonstrations written as words with a role in front, such as `dQ: ilift d-> olifted`."""
    words = [(number, word) for number, demo in enumerate(demos) for word in demo.split()]
    texts = tuple(word[1:] for _, word in words)
    ids = tuple(sum(ord(char) * 31**place for place, char in enumerate(text)) for text in texts)
    return DemoTokens(ids, texts, tuple(FIELDS[word[0]] for _, word in words), tuple(number for number, _ in words))


def texts_of(tokens: DemoTokens) -> list[str]:
    return [" ".join(tokens.texts[token] for token in chunk) for chunk in chunks_by_place(tokens)]


def test_each_delimiter_is_a_place_and_the_sink_is_alone():
    tokens = block("dQ d: ilift d; dA d: olifted d.", "dQ d: iwalk d; dA d: owalked d.")
    assert texts_of(tokens) == ["Q", "Q", ": :", "lift walk", "; ;", "A A", ": :", "lifted walked", ". ."]


def test_a_field_of_several_tokens_has_a_first_a_last_and_the_rest():
    tokens = block("ia ib ic id d> oe", "if ig d> oh oi", "ij d> ok")
    assert texts_of(tokens) == ["a", "f", "b c", "d g j", "> > >", "h", "e i k"]


def test_brackets_of_answers_are_places_of_their_own():
    """In two groups (rest, last) the bracket that an answer begins with would be mixed with what is inside."""
    tokens = block("icat d> o[ oc oat o]", "ipuppy d> o[ op ou oppy o]", "iox d> o[ oox o]")
    assert texts_of(tokens) == ["cat", "puppy ox", "> > >", "[ [ [", "c p", "u", "at ppy ox", "] ] ]"]


def test_commas_between_words_are_places_and_part_the_words():
    tokens = block("dx ia i, ib i, ic d> oc", "dx ie if i, ig i, ih d> oh")
    assert texts_of(tokens) == ["x", "x", "e", "a f", ", ,", "b g", ", ,", "c h", "> >", "c h"]


def test_every_token_is_in_one_chunk(tiny_block):
    chunks = chunks_by_place(tiny_block.tokens)
    assert sorted(token for chunk in chunks for token in chunk) == list(range(len(tiny_block.tokens)))
    assert chunks[0] == (0,)


@pytest.fixture(scope="module")
def tiny_block():
    lm = tiny_lm("llama")
    demos = [Demonstration(*pair) for pair in PAIRS[:5]]
    return read_demo_kv(lm, tokenize_demos(lm, demos, get_template("qa")))


@pytest.mark.parametrize("slots", [2, 7])
def test_a_document_has_no_places_and_is_chunked_by_its_keys(tiny_block, slots):
    tokens = tiny_block.tokens
    count = len(tokens)
    text = DemoTokens(tokens.ids, tokens.texts, ("input",) * count, (-1,) * count)
    document = type(tiny_block)(tiny_block.keys, tiny_block.values, text, tiny_block.fingerprint)
    assert chunks_by_place(text) == [(0,), tuple(range(1, count))]
    chunks = fitted_chunks(tiny_lm("llama"), document, chunks_by_place(text), slots, 1.0)
    assert len(chunks) == slots and chunks[0] == (0,)
    assert sorted(token for chunk in chunks for token in chunk) == list(range(count))
    assert fitted_chunks(tiny_lm("llama"), document, chunks, 1, 1.0) == [tuple(range(count))]


def directions(error: float = 0.0) -> WeightDirections:
    draw = torch.Generator().manual_seed(0)
    fitted = torch.randn(LAYERS, KV_HEADS, HEAD_DIM, generator=draw)
    return WeightDirections(fitted, torch.full((LAYERS, KV_HEADS), error))


def test_a_slot_is_the_mean_of_its_chunk_and_counts_as_its_tokens(tiny_block):
    lm, chunks = tiny_lm("llama"), chunks_by_place(tiny_block.tokens)
    prefix = chunked_prefix(lm, tiny_block, chunks, directions(), weight=1.0)
    along = directions().at(lm, prefix.positions, prefix.query_start)
    for slot, chunk in enumerate(chunks):
        bias = torch.tensor(len(chunk)).log()
        assert_close(prefix.values[:, :, slot], tiny_block.values[:, :, list(chunk)].mean(2))
        mean = tiny_block.keys[:, :, list(chunk)].mean(2)
        assert_close(prefix.keys[:, :, slot], mean + bias * along[:, :, slot], atol=1e-5, rtol=0.0)
        assert_close(prefix.mixture.log_bias[:, :, slot], bias.expand(LAYERS, KV_HEADS))
    assert_close(prefix.mixture.weights.sum(-1), torch.ones(1, 1, len(chunks)))


def test_without_a_weight_the_keys_are_plain_means(tiny_block):
    lm, chunks = tiny_lm("llama"), chunks_by_place(tiny_block.tokens)
    plain = chunked_prefix(lm, tiny_block, chunks, directions(), weight=0.0)
    deaf = chunked_prefix(lm, tiny_block, chunks, directions(error=1.0), weight=1.0)
    assert_close(deaf.keys, plain.keys)
    assert deaf.mixture.log_bias.count_nonzero() == plain.mixture.log_bias.count_nonzero() == 0


@pytest.mark.parametrize("slots", [1, 2, 3, 6, 9, 14, 200])
def test_chunks_come_in_any_number(tiny_block, slots):
    tokens = len(tiny_block.tokens)
    chunks = fitted_chunks(tiny_lm("llama"), tiny_block, chunks_by_place(tiny_block.tokens), slots, 1.0)
    assert len(chunks) == min(slots, tokens)
    assert sorted(token for chunk in chunks for token in chunk) == list(range(tokens))
    assert chunks == fitted_chunks(tiny_lm("llama"), tiny_block, chunks_by_place(tiny_block.tokens), slots, 1.0)
    if slots > 1:
        assert chunks[0] == (0,)


def test_the_cheapest_merge_is_that_of_two_halves_of_one_place(tiny_block):
    """A chunk cut in two equal slots changes nothing when it is one again; two different places would."""
    lm = tiny_lm("llama")
    same = tiny_block.tokens.ids.index(tiny_block.tokens.ids[1], 2)
    alike = tiny_block.keys.clone(), tiny_block.values.clone()
    for vectors in alike:
        vectors[:, :, same] = vectors[:, :, 1]
        vectors[:, :, 20:] *= 3
    twins = type(tiny_block)(*alike, tiny_block.tokens, tiny_block.fingerprint)
    rest = [token for token in range(1, len(twins.tokens)) if token not in (1, same)]
    chunks = [(0,), (1,), (same,), tuple(rest[:20]), tuple(rest[20:])]
    merged = merging._merged(lm, twins, chunks, 4, 1.0, merging._read_again(lm, twins))
    assert (1, same) in merged


def test_a_merge_keeps_what_it_would_cost_most_to_lose(tiny_block):
    """Merging down one by one never merges the sink while another pair is left."""
    lm = tiny_lm("llama")
    chunks = fitted_chunks(lm, tiny_block, chunks_by_place(tiny_block.tokens), 3, weight=1.0)
    assert chunks[0] == (0,)
    assert len(chunks) == 3


def test_what_a_merge_costs_is_the_distance_of_the_outputs_it_leaves(tiny_block):
    """Attention written out for one pair after the other: its two slots gone, and their mean in their stead."""
    lm, chunks = tiny_lm("llama"), chunks_by_place(tiny_block.tokens)
    reading = merging._read_again(lm, tiny_block)
    ends = merging._ends(tiny_block.tokens, reading.query.shape[2])
    attended = merging._Attended(lm, tiny_block, reading, chunks, weight=0.7)
    wanted = merging._outputs(attended)
    pairs = torch.combinations(torch.arange(len(chunks)))
    costs = merging.merge_costs(attended, pairs, wanted, ends)
    values = attended.per_head(attended.values)
    assert len(ends) == 2 and ends[1] < ends[0]
    for pair, cost in zip(pairs, costs, strict=True):
        shares, parts = attended.merged(pair[None])
        kept = [slot for slot in range(len(chunks)) if slot not in pair.tolist()]
        mean = (values[:, :, pair] * parts[0, :, None]).sum(2)
        summed = attended.shares[..., kept] @ values[:, :, kept] + shares * mean[:, :, None]
        summed = summed + attended.own[..., None] * reading.own_out
        left = summed / (attended.shares[..., kept].sum(-1) + shares[..., 0] + attended.own)[..., None]
        off, given = (left - wanted).square(), (wanted - reading.own_out).square()
        by_hand = sum((off[:, :, -end:].mean((1, 2, 3)) / given[:, :, -end:].mean((1, 2, 3))).mean() for end in ends)
        assert cost.item() == pytest.approx(by_hand.item(), rel=1e-3, abs=1e-7)


def test_a_chunk_is_split_by_its_keys(tiny_block):
    """Two kinds of token thrown together come apart again."""
    ids = tiny_block.tokens.ids
    kinds = [[token for token, id in enumerate(ids) if id == kind and token] for kind in {ids[1], ids[4]}]
    mixed = tuple(sorted(kinds[0] + kinds[1]))
    keys = tiny_block.keys.clone()
    keys[:, :, kinds[0]] += 5.0
    apart = type(tiny_block)(keys, tiny_block.values, tiny_block.tokens, tiny_block.fingerprint)
    assert {tuple(kind) for kind in kinds} == set(split_chunks(apart, [mixed], 2))


def test_slots_are_told_in_words(tiny_block):
    lm, chunks = tiny_lm("llama"), chunks_by_place(tiny_block.tokens)
    prefix = chunked_prefix(lm, tiny_block, chunks, directions(), weight=1.0)
    words = [slot_words(prefix, slot) for slot in range(prefix.slots)]
    assert words[0] == '"Q" of demonstration 1, counts as 1.0 token'
    assert words[1] == 'mean of the four "Q", counts as 4.0 tokens'
    assert 'mean of the five "A", counts as 5.0 tokens' in words
    assert any(text.startswith("mean of five output tokens") for text in words)
    half = chunked_prefix(lm, tiny_block, chunks, directions(), weight=0.5)
    assert slot_words(half, 1) == 'mean of the four "Q", counts as 2.0 tokens'
