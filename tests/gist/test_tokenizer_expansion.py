"""Gist tokens in tokenizer and embeddings, whether input and output embeddings are tied or not."""

import copy

import pytest
import torch

from cedkv.errors import ModelError
from cedkv.lm.gists import add_gist_tokens, gist_names, grow_embeddings, make_reader
from tests.gist.conftest import random_reader
from tests.tiny import plain_model, tiny_lm


@pytest.mark.parametrize("count", [10, 25, 50])
def test_expansion(count):
    tokenizer = copy.deepcopy(tiny_lm().tokenizer)
    before = len(tokenizer)
    ids = add_gist_tokens(tokenizer, count)
    assert ids == tuple(range(before, before + count))
    assert gist_names(count)[0] == "<GIST_0>" and gist_names(count)[-1] == f"<GIST_{count - 1}>"
    text = "the king" + "".join(gist_names(count)) + "the sea"
    encoded = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert [token for token in encoded if token >= before] == list(ids)
    assert tokenizer.decode(list(ids)).replace(" ", "") == "".join(gist_names(count))


@pytest.mark.parametrize("architecture", ["llama", "qwen3"])  # tied and untied
def test_vocab_size_change(architecture):
    lm = tiny_lm(architecture)
    before = lm.model.get_input_embeddings().weight.clone()
    reader = random_reader(architecture)
    model = reader.model.get_base_model()
    assert model.config.vocab_size == lm.vocab + 5 == len(reader.tokenizer)
    assert len(lm.tokenizer) == lm.vocab == lm.model.config.vocab_size
    assert torch.equal(lm.model.get_input_embeddings().weight, before)


@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
def test_embedding_layer_resize(architecture):
    model = copy.deepcopy(plain_model(architecture))
    before, tied = model.get_input_embeddings().weight.clone(), model.config.tie_word_embeddings
    grow_embeddings(model, before.shape[0] + 7)
    rows, output = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    assert rows.shape[0] == output.shape[0] == before.shape[0] + 7
    assert torch.equal(rows[:-7], before) and (rows is output) == tied == (architecture == "llama")
    grow_embeddings(model, before.shape[0])  # rows to spare are kept
    assert model.get_input_embeddings().weight.shape[0] == before.shape[0] + 7


def test_a_tokenizer_that_has_gists_is_refused(reader):
    with pytest.raises(ModelError, match="'<GIST_0>' already"):
        add_gist_tokens(copy.deepcopy(reader.tokenizer), 3)


def test_a_model_whose_layers_slide_is_refused(reader):
    with pytest.raises(ModelError, match="sliding layers"):
        make_reader(tiny_lm("gemma3_text"), reader.shape)
