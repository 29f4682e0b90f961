"""Answers behind gists: the same in one pass as in two, the same greedily, and smaller."""

import pytest
import torch

from cedkv.compressors.gist import compress, document_tokens, with_document
from cedkv.lm import generate, log_probs, read_demo_kv
from tests.gist.conftest import DOCUMENT, QUERY, random_reader
from tests.gist.test_gist_collator import forward, row


def both_ways(reader, control="gist"):
    """The query's next-token log-probabilities: one masked pass, and gists cut out first."""
    batch = row(reader, control=control)
    logits, _ = forward(reader, batch)
    one = logits[0, batch["regions"][0] == 3].log_softmax(dim=-1)
    document = read_demo_kv(reader.lm, document_tokens(reader.lm, DOCUMENT))
    prefix = (
        with_document(document, compress(reader, document))
        if control == "full"
        else compress(reader, document, control)
    )
    query = reader.lm.encode(QUERY)
    return one, log_probs(reader.lm, [query], prefix, [len(query)])


@pytest.mark.parametrize(("architecture", "sink"), [("llama", True), ("llama", False), ("qwen3", True)])
def test_consistency(architecture, sink):
    """One masked pass equals two passes to 1e-4."""
    one, two = both_ways(random_reader(architecture, sink=sink))
    torch.testing.assert_close(one, two, atol=1e-4, rtol=0)


@pytest.mark.parametrize("control", ["blind", "full"])
def test_consistency_of_the_controls(reader, control):
    torch.testing.assert_close(*both_ways(reader, control), atol=1e-4, rtol=0)


def test_the_adapter_is_off_behind_the_gists(reader):
    """A broken variant: with the adapter on the query too, the passes would not agree."""
    batch = row(reader)
    reader.model.eval()
    with torch.no_grad():
        everywhere = reader.model(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            position_ids=batch["position_ids"],
        ).logits[..., : reader.lm.vocab]
    one, _ = both_ways(reader)
    assert (everywhere[0, batch["regions"][0] == 3].log_softmax(-1) - one).abs().max() > 1e-2


def test_generation(reader):
    """Greedy text behind the prefix is the masked pass's own, token by token."""
    lm, query = reader.lm, reader.lm.encode(QUERY)
    prefix = compress(reader, read_demo_kv(lm, document_tokens(lm, DOCUMENT)))
    batch, ids = row(reader), list(query)
    for _ in range(4):
        regions = torch.cat([batch["regions"], torch.full((1, len(ids) - len(query)), 3)], dim=1)
        longer = rebuilt(reader, batch, ids[len(query) :], regions)
        ids.append(int(forward(reader, longer)[0][0, -1].argmax()))
    assert generate(lm, [query], prefix, 4)[0] == lm.decode(ids[len(query) :])


def rebuilt(reader, batch, more, regions):
    from cedkv.compressors.gist import gist_mask

    return {
        "input_ids": torch.cat([batch["input_ids"], torch.tensor([more], dtype=torch.long)], dim=1),
        "position_ids": torch.arange(regions.shape[1])[None],
        "attention_mask": gist_mask(regions, sink=reader.shape.sink),
    }


def test_memory_saving(reader):
    document = read_demo_kv(reader.lm, document_tokens(reader.lm, DOCUMENT))
    whole, prefix = document.as_prefix(), compress(reader, document)
    assert prefix.nbytes * whole.slots == whole.nbytes * prefix.slots and prefix.slots < whole.slots
