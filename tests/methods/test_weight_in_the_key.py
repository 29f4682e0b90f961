"""On the embedded model: a key with a weight does what a true bias in attention does, within the reported error."""

import pytest
import torch

from cedkv.config import load_config
from cedkv.episodes import episode_from_config
from cedkv.lm import log_probs
from cedkv.lm.weighing import MAX_ERROR
from cedkv.methods import Workbench
from cedkv.metrics import kl
from cedkv.slots.chunked import chunked_prefix, chunks_by_place
from tests.lm.biased import biased_log_probs


@pytest.fixture(scope="module")
def bench(lm) -> Workbench:
    config = load_config(None, ["episode.on_train=8", "phase2.eval.on_samples=8"])
    return Workbench(lm, episode_from_config(lm, config), config)


def test_every_head_of_the_embedded_model_carries_a_weight(bench):
    error = bench.directions.error
    assert error.mean() < 0.1
    assert error.max() < 0.25 < MAX_ERROR


def test_folded_into_keys_a_weight_is_the_bias(bench):
    chunks = chunks_by_place(bench.episode.tokens)
    plain, folded = (chunked_prefix(bench.lm, bench.demo_kv, chunks, bench.directions, weight) for weight in (0.0, 1.0))
    counts = torch.tensor([len(chunk) for chunk in chunks]).log()
    heads = bench.lm.model.config.num_attention_heads
    queries = [query.ids for query in bench.episode.on_eval[:4]]
    true = torch.stack([biased_log_probs(bench.lm, query, plain, counts.expand(heads, -1)) for query in queries])
    apart = {name: kl(true, log_probs(bench.lm, queries, prefix)).mean() for name, prefix in
             (("folded", folded), ("plain", plain))}  # fmt: skip
    assert apart["folded"] < 0.03
    assert apart["plain"] > 0.2
