"""The gists' keys and values, cut out of a cache and kept as a state."""

import pytest
import torch

from cedkv.compressors.gist import GistMemory, compress, document_tokens
from cedkv.errors import DemoError, StateError
from cedkv.lm import log_probs, read_demo_kv
from cedkv.lm.forward import open_cache
from cedkv.lm.gists import load_reader, save_reader
from cedkv.state import KVPrefix
from cedkv.state.cache import StateCache
from tests.gist.conftest import DOCUMENT, QUERY, random_reader
from tests.gist.test_gist_collator import forward, row
from tests.tiny import HEAD_DIM, KV_HEADS, LAYERS, tiny_lm


def compressed(reader, text=DOCUMENT) -> KVPrefix:
    return compress(reader, read_demo_kv(reader.lm, document_tokens(reader.lm, text)))


def test_extraction(reader):
    """What is injected again is, number for number, what the one masked pass has at the gists."""
    batch, prefix = row(reader), compressed(reader)
    _, kv = forward(reader, batch)
    gists = kv[..., batch["regions"][0] == 2, :]
    cache = open_cache(reader.lm, prefix).kv
    injected = torch.stack([torch.cat([layer.keys, layer.values]) for layer in cache.layers])
    torch.testing.assert_close(injected, gists, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
def test_shape_gqa(architecture):
    reader = random_reader(architecture)
    prefix = compressed(reader)
    assert prefix.keys.shape == prefix.values.shape == (LAYERS, KV_HEADS, len(reader.ids), HEAD_DIM)
    assert reader.lm.model.config.num_attention_heads > KV_HEADS


def test_slicing(reader):
    """Positions go on after the document, and unequal documents give prefixes of one size."""
    for text in (DOCUMENT, "7"):
        length = len(reader.lm.encode(text))
        prefix = compressed(reader, text)
        assert prefix.positions.tolist() == list(range(length, length + 5)) and prefix.query_start == length + 5
        assert prefix.slots == 5 and prefix.fingerprint == reader.lm.fingerprint


def test_value_preservation(reader, tmp_path):
    prefix = compressed(reader)
    prefix.save(tmp_path / "document.safetensors")
    again = KVPrefix.load(tmp_path / "document.safetensors", reader.lm.fingerprint)
    assert torch.equal(again.keys, prefix.keys) and torch.equal(again.values, prefix.values)
    with pytest.raises(StateError, match="another model|fingerprint"):
        KVPrefix.load(tmp_path / "document.safetensors", tiny_lm("qwen3").fingerprint)


def test_documents_are_kept(reader, tmp_path, monkeypatch):
    """Several documents, each read once; a document that is too long or empty is refused in one line."""
    folder = tmp_path / "adapter"
    save_reader(reader, folder)
    memory = GistMemory(load_reader(reader.lm, folder), StateCache(tmp_path / "cache"))
    first, second = memory.prefix(DOCUMENT), memory.prefix("another text")
    torch.testing.assert_close(first.values, compressed(reader).values, atol=1e-5, rtol=1e-5)
    assert len(memory.cache.entries()) == 2 and not torch.equal(first.values, second.values)
    monkeypatch.setattr("cedkv.compressors.gist.reading.compress", None)
    assert torch.equal(memory.prefix(DOCUMENT).values, first.values)
    with pytest.raises(DemoError, match="the document is empty"):
        memory.prefix(" \n")
    with pytest.raises(DemoError, match=r"\d+ tokens and 5 more are needed, the model's context is 512"):
        memory.prefix("seven " * 600)


def test_corrupting_the_document_after_the_gists_are_made_changes_nothing(reader):
    """Nothing of the document is left behind the gists."""
    document = read_demo_kv(reader.lm, document_tokens(reader.lm, DOCUMENT))
    prefix = compress(reader, document)
    before = log_probs(reader.lm, [reader.lm.encode(QUERY)], prefix)
    document.keys.normal_()
    document.values.normal_()
    assert torch.equal(log_probs(reader.lm, [reader.lm.encode(QUERY)], prefix), before)
