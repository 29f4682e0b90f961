"""Generation: transformers' own greedy text, the same in a batch as alone, and never at the prefix's cost."""

from collections import Counter

import pytest
import torch

from cedkv.lm import (
    LanguageModel,
    generate,
    load_model,
    log_probs,
    read_behind_each,
    read_demo_kv,
    read_queries,
    stream_tokens,
)
from cedkv.lm.forward import PACK_TOKENS
from tests.tiny import QUERY_TEXTS, plain_model, text_tokens, tiny_lm, tiny_path
from tests.tolerance import FORWARD

NEW_TOKENS = 8


def generated_ids(lm, queries, prefix=None, **options) -> list[list[int]]:
    *_, ids = stream_tokens(lm, read_queries(lm, queries, prefix), options.pop("max_new_tokens", NEW_TOKENS), **options)
    return ids


def plain_continuation(architecture: str, ids: list[int]) -> list[int]:
    out = plain_model(architecture).generate(torch.tensor([ids]), do_sample=False, max_new_tokens=NEW_TOKENS)
    return [token for token in out[0, len(ids) :].tolist() if token not in tiny_lm(architecture).stop_ids]


def test_greedy_base_equals_transformers_generate(architecture, tiny, queries):
    own = [plain_continuation(architecture, [*tiny.bos, *query]) for query in queries]
    assert generated_ids(tiny, queries) == own
    assert generate(tiny, queries, max_new_tokens=NEW_TOKENS) == [tiny.decode(ids) for ids in own]


def test_greedy_behind_the_demo_cache_equals_transformers_on_the_prompt(architecture, tiny, demo_kv, queries):
    own = [plain_continuation(architecture, [*demo_kv.tokens.ids, *query]) for query in queries]
    assert generated_ids(tiny, queries, demo_kv.as_prefix()) == own


@pytest.mark.parametrize("stop", [None, "e"])
def test_batch_equals_one_by_one(tiny, demo_kv, queries, stop):
    """With `stop` the queries end at different times; those that go on must not notice."""
    prefix = demo_kv.as_prefix()
    alone = [generate(tiny, [query], prefix, NEW_TOKENS, stop=stop)[0] for query in queries]
    assert generate(tiny, queries, prefix, NEW_TOKENS, stop=stop) == alone
    assert stop is None or len({len(text) for text in alone}) > 1


@pytest.mark.parametrize("order", [(None, "demos", "few"), ("few", None, "demos"), ("demos",), (None,)])
def test_one_query_behind_each_of_several_prefixes_is_each_prefix_alone(tiny, demo_kv, queries, order):
    """The compared views share a forward. Slots that a layer does not see stay hidden there, and only there."""
    demos = demo_kv.as_prefix()
    prefixes = {None: None, "demos": demos, "few": demos.with_injection_layers([tiny.layers - 1])}
    chosen = [prefixes[name] for name in order]
    together = read_behind_each(tiny, queries[0], chosen)
    alone = torch.cat([read_queries(tiny, queries[:1], prefix).logits for prefix in chosen])
    torch.testing.assert_close(together.logits, alone, **FORWARD)
    *_, ids = stream_tokens(tiny, together, NEW_TOKENS)
    assert ids == [generated_ids(tiny, queries[:1], prefix)[0] for prefix in chosen]


def test_more_queries_than_a_pack_holds_come_back_in_order(tiny, queries):
    texts = generate(tiny, queries, max_new_tokens=3)
    assert generate(tiny, queries * 30, max_new_tokens=3) == texts * 30


def test_every_step_adds_one_token(tiny, queries):
    lengths = [[len(row) for row in rows] for rows in stream_tokens(tiny, read_queries(tiny, queries[:2], None), 5)]
    assert lengths == [[1, 1], [2, 2], [3, 3], [4, 4], [5, 5]]


def test_a_token_costs_one_forward(tiny, queries):
    """The prompt's forward gives the first token, so there is none after the last."""
    calls = []
    counter = tiny.model.register_forward_hook(lambda *_: calls.append(1))
    generate(tiny, queries, max_new_tokens=5)
    counter.remove()
    assert len(calls) == 5


def test_end_of_text_ends_a_query_and_is_not_shown():
    """Whatever the generation config names as end of text counts, beside the tokenizer's own."""
    lm = load_model(str(tiny_path("llama")), device="cpu")
    queries = [lm.encode(text) for text in QUERY_TEXTS]
    free = generated_ids(lm, queries)
    ending = free[0][2]
    lm = LanguageModel(lm.model, lm.tokenizer, lm.id, lm.fingerprint)
    lm.model.generation_config.eos_token_id = [ending]
    assert lm.stop_ids == {ending, lm.tokenizer.eos_token_id}
    assert generated_ids(lm, queries) == [row[: row.index(ending)] if ending in row else row for row in free]


def test_stop_is_cut_off_with_what_follows(lm):
    query = [lm.encode("Q: rain\nA:")]
    prefix = read_demo_kv(lm, text_tokens(lm)).as_prefix()
    assert generate(lm, query, prefix, 8, stop="\n") == [" rained"]
    assert generate(lm, query, prefix, 8)[0].startswith(" rained\n")


def test_stop_inside_a_token_cuts_the_token(tiny, queries):
    free = generate(tiny, queries, max_new_tokens=NEW_TOKENS)
    letter = Counter(letter for text in free for letter in set(text) if letter.isascii()).most_common(1)[0][0]
    assert generate(tiny, queries, max_new_tokens=NEW_TOKENS, stop=letter) == [text.split(letter)[0] for text in free]


def test_a_stop_of_several_tokens_ends_where_it_is_complete(lm):
    """The demonstrations' answers end in a blank line, which stands in them as two tokens."""
    query = [lm.encode("Q: rain\nA:")]
    prefix = read_demo_kv(lm, text_tokens(lm)).as_prefix()
    *_, ids = stream_tokens(lm, read_queries(lm, query, prefix), 12, stop="\n\n")
    assert (lm.decode(ids[0]), lm.decode(ids[0][-1:])) == (" rained\n\n", "\n")
    assert generate(lm, query, prefix, 12, stop="\n\n") == [" rained"]


def test_sampling_is_decided_by_the_seed(tiny, queries):
    first, again, other = (generate(tiny, queries, max_new_tokens=6, temperature=1.0, seed=seed) for seed in (3, 3, 4))
    assert first == again
    assert first != other


def test_cold_sampling_is_greedy(tiny, queries):
    assert generate(tiny, queries, max_new_tokens=4, temperature=1e-4) == generate(tiny, queries, max_new_tokens=4)


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_samples_follow_the_models_distribution(temperature):
    """400 first tokens: each likely token as often as it is probable, within four sigma."""
    lm, draws = tiny_lm("gemma3_text"), 400
    query = lm.encode(QUERY_TEXTS[3])
    sampled = generated_ids(lm, [query] * draws, max_new_tokens=1, temperature=temperature, seed=1)
    probabilities = (log_probs(lm, [query])[0] / temperature).softmax(-1)
    counts = torch.bincount(torch.tensor([row[0] for row in sampled]), minlength=len(probabilities))
    sigma = (draws * probabilities * (1 - probabilities)).sqrt()
    likely = probabilities > 0.03
    assert likely.sum() >= 2
    assert ((counts - draws * probabilities).abs() < 4 * sigma)[likely].all()


def test_packs_of_one_call_draw_independently():
    """The broken variant: a generator seeded anew for every pack makes each pack repeat the first one's draws."""
    lm = tiny_lm("llama")
    query = lm.encode(QUERY_TEXTS[2])
    per_pack = PACK_TOKENS // len(query)
    texts = generate(lm, [query] * (2 * per_pack), max_new_tokens=4, temperature=1.0, seed=0)
    assert len(set(texts[:per_pack])) > per_pack // 2
    assert texts[:per_pack] != texts[per_pack:]


def test_fifty_calls_leave_the_prefix_untouched(demo_kv, tiny, queries):
    prefix = demo_kv.as_prefix()
    tensors = {name: getattr(prefix, name) for name in ("keys", "values", "positions", "active")}
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    first = generate(tiny, queries, prefix, max_new_tokens=2)
    for _ in range(50):
        assert generate(tiny, queries, prefix, max_new_tokens=2) == first
    for name, tensor in before.items():
        assert getattr(prefix, name) is tensors[name]
        assert torch.equal(tensors[name], tensor), f"{name} changed"
