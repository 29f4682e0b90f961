"""The mask, number by number, and what it does to a real model: who changes whom."""

from dataclasses import replace

import pytest
import torch

from cedkv.compressors.gist import CONTROLS, IGNORED, GistDataCollator, Region, compress, document_tokens, gist_mask
from cedkv.lm import log_probs, read_demo_kv
from tests.gist.conftest import DOCUMENT, QUERY
from tests.tiny import plain_model

C, G, Q, P = Region.CONTEXT, Region.GIST, Region.QUERY, Region.PAD
LEAST = torch.finfo(torch.float32).min


def seen(regions, **options) -> list[str]:
    """A mask of one row as text: who (down) sees whom (across)."""
    mask = gist_mask(torch.tensor([regions]), **options)[0, 0]
    return ["".join("x" if value == 0 else "." for value in row) for row in mask.tolist()]


def test_attention_mask_generation():
    assert seen([C, C, G, G, Q, Q]) == ["x.....", "xx....", "xxx...", "xxxx..", "..xxx.", "..xxxx"]
    assert seen([C, C, G, G, Q, Q], sink=True) == ["x.....", "xx....", "..x...", "xxxx..", "..xxx.", "..xxxx"]
    assert seen([C, C, Q, Q]) == ["x...", "xx..", "xxx.", "xxxx"]  # no gist: plainly causal
    assert seen([C, G, Q], control="full") == ["x..", "xx.", "xxx"]
    assert seen([C, G, Q], control="blind") == ["x..", ".x.", ".xx"]
    assert seen([P, C, G, Q]) == ["x...", ".x..", ".xx.", "..xx"]
    mask = gist_mask(torch.tensor([[C, G, Q]]), dtype=torch.bfloat16)
    assert mask.dtype == torch.bfloat16 and mask.min() == torch.finfo(torch.bfloat16).min
    assert gist_mask(torch.tensor([[C, G, Q]])).unique().tolist() == [LEAST, 0]


def row(reader, document=DOCUMENT, query=QUERY, control="gist"):
    encode = reader.lm.encode
    collate = GistDataCollator(reader.ids, reader.lm.encode("\n")[0], control, reader.shape.sink)
    return collate([{"context": encode(document), "query": encode(query)}])


@torch.no_grad()
def forward(reader, batch):
    """Logits, and keys and values of all layers, of a whole row in one pass."""
    logits, cache = reader.run(
        batch["input_ids"], batch["position_ids"], batch["attention_mask"], reads=batch["input_ids"].shape[1]
    )
    return logits, torch.stack([torch.cat([layer.keys, layer.values]) for layer in cache.layers])


def changed_context(batch, reader):
    """The same row with another token in its context."""
    other = {**batch, "input_ids": batch["input_ids"].clone()}
    other["input_ids"][0, 4] = reader.lm.encode("k")[0]
    assert not torch.equal(other["input_ids"], batch["input_ids"])
    return other


def effects(reader, control):
    """What another context token moves: the query's logits, and the gists' keys and values."""
    batch = row(reader, control=control)
    (one, kv), (two, other_kv) = forward(reader, batch), forward(reader, changed_context(batch, reader))
    query, gist = batch["regions"][0] == Q, batch["regions"][0] == G
    return (one - two)[:, query].abs().max().item(), (kv - other_kv)[..., gist, :].abs().max().item()


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("control", CONTROLS)
def test_each_control_lets_through_what_it_should(reader, control, attention):
    """Gists read the context and pass it on; blind ones do not; with the full view the query sees it itself."""
    model = reader.model.get_base_model()
    kept = model.config._attn_implementation
    model.set_attn_implementation(attention)
    try:
        query, gists = effects(reader, control)
    finally:
        model.set_attn_implementation(kept)
    assert (query > 0, gists > 0) == {"gist": (True, True), "full": (True, True), "blind": (False, False)}[control]


def test_query_cannot_see_context(reader):
    """With the gists' own states held still, another context moves no logit of the query by a bit."""
    lm, ids = reader.lm, [reader.lm.encode(QUERY)]
    prefix = compress(reader, read_demo_kv(lm, document_tokens(lm, DOCUMENT)))
    batch = row(reader)
    blocked = batch["attention_mask"][0, 0][batch["regions"][0] == Q][:, batch["regions"][0] == C]
    assert (blocked == LEAST).all()
    longer = compress(reader, read_demo_kv(lm, document_tokens(lm, DOCUMENT)), control="blind")
    shorter = compress(reader, read_demo_kv(lm, document_tokens(lm, DOCUMENT[:-8])), control="blind")
    torch.testing.assert_close(longer.values, shorter.values)
    assert not torch.allclose(prefix.values, longer.values)
    still = log_probs(lm, ids, longer)
    torch.testing.assert_close(still, log_probs(lm, ids, shorter), atol=1e-4, rtol=0)


def test_query_can_see_gist(reader):
    batch = row(reader)
    visible = batch["attention_mask"][0, 0][batch["regions"][0] == Q][:, batch["regions"][0] == G]
    assert (visible == 0).all()
    lm = reader.lm
    prefix = compress(reader, read_demo_kv(lm, document_tokens(lm, DOCUMENT)))
    louder = replace(prefix, values=prefix.values * 1.5)
    ids = [lm.encode(QUERY)]
    assert (log_probs(lm, ids, prefix) - log_probs(lm, ids, louder)).abs().max() > 1e-3


def test_gist_can_see_context(reader):
    batch = row(reader)
    sees = batch["attention_mask"][0, 0][batch["regions"][0] == G][:, batch["regions"][0] == C] == 0
    assert not sees[0].any() and sees[1:].all()  # the first is the sink
    plain = gist_mask(batch["regions"])[0, 0][batch["regions"][0] == G][:, batch["regions"][0] == C]
    assert (plain == 0).all()


def test_batch_processing(reader):
    """Rows of unequal length answer as each does alone, and labels stand at the answers."""
    encode, collate = reader.lm.encode, GistDataCollator(reader.ids, 3, sink=True)
    features = [
        {"context": encode(DOCUMENT), "query": encode(QUERY), "answer": encode(" 48291")},
        {"context": encode("7"), "query": encode(QUERY), "answer": encode(" 7")},
    ]
    batch = collate(features)
    assert batch["attention_mask"].shape == (2, 1, *batch["input_ids"].shape[1:], batch["input_ids"].shape[1])
    together, _ = forward(reader, batch)
    for index, feature in enumerate(features):
        alone = collate([feature])
        width = alone["input_ids"].shape[1]
        assert batch["position_ids"][index, -width:].tolist() == list(range(width))
        torch.testing.assert_close(together[index, -width:], forward(reader, alone)[0][0], atol=1e-4, rtol=0)
        answer = len(feature["answer"])
        assert batch["labels"][index, -answer:].tolist() == feature["answer"]
        assert (batch["labels"][index, :-answer] == IGNORED).all()


def test_no_gist_is_the_model_itself(reader):
    """Without gists a row is what transformers' own causal forward makes of it."""
    encode = reader.lm.encode
    batch = GistDataCollator((), 3)([{"context": encode(DOCUMENT), "query": encode(QUERY)}])
    logits, _ = forward(reader, batch)
    with torch.no_grad():
        torch.testing.assert_close(logits, plain_model("llama")(batch["input_ids"]).logits, atol=1e-4, rtol=1e-4)
