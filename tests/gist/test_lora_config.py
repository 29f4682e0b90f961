"""The adapter: what is trained, what is not, and that the answering model never notices."""

import json

import pytest
import torch

from cedkv.compressors.gist import compress, document_tokens
from cedkv.errors import ModelError
from cedkv.lm import log_probs, read_demo_kv
from cedkv.lm.gists import GistShape, load_reader, make_reader, save_reader
from tests.gist.conftest import DOCUMENT, QUERY, random_reader
from tests.gist.test_gist_collator import row
from tests.tiny import HEAD_DIM, KV_HEADS, LAYERS, tiny_lm

HIDDEN = 64


def test_trainable_parameters():
    rank, wide, narrow = 4, HIDDEN, KV_HEADS * HEAD_DIM
    of_layer = rank * (2 * (HIDDEN + wide) + 2 * (HIDDEN + narrow))
    reader = make_reader(tiny_lm(), GistShape(5, rank=rank))
    assert reader.trainable == LAYERS * of_layer + 5 * HIDDEN
    assert make_reader(tiny_lm(), GistShape(5, rank=rank, layers=2)).trainable == 2 * of_layer + 5 * HIDDEN
    whole = make_reader(tiny_lm(), GistShape(5, rank=rank, whole_embedding=True))
    assert whole.trainable == LAYERS * of_layer + (tiny_lm().vocab + 5) * HIDDEN


def test_gist_embedding_gradient():
    """The gradient reaches every gist's row and no other token's."""
    reader = random_reader()
    batch = row(reader)
    logits, _ = reader.run(batch["input_ids"], batch["position_ids"], batch["attention_mask"])
    logits.log_softmax(dim=-1)[0, -1, 7].backward()
    assert reader.rows.shape == (5, HIDDEN) and (reader.rows.grad.abs().sum(dim=1) > 0).all()
    reached = {name for name, parameter in reader.model.named_parameters() if parameter.grad is not None}
    assert reached and all("lora_" in name or "trainable_tokens_delta" in name for name in reached)
    assert all(parameter.grad is None for parameter in reader.lm.model.parameters())


def test_gists_are_embedded_as_peft_embeds_them():
    """Bit by bit, without the copy of the whole embedding that PEFT makes for it."""
    reader = random_reader()
    with torch.no_grad():
        reader.rows.add_(1)
    embed = reader.model.get_input_embeddings()
    ids = torch.tensor([[7, *reader.ids, 3]])
    assert torch.equal(embed(ids)[0], embed.token_adapter.get_merged_weights(["default"])[ids[0]])


@pytest.mark.parametrize("targets", [("q_proj", "v_proj"), ("q_proj", "k_proj", "v_proj", "o_proj")])
def test_lora_target_modules(targets):
    reader = make_reader(tiny_lm(), GistShape(5, rank=2, targets=targets))
    adapted = [name.partition(".lora_A")[0] for name, _ in reader.model.named_parameters() if ".lora_A" in name]
    named = {name.rpartition(".")[2] for name in adapted}
    assert named == set(targets)
    config = reader.model.peft_config["default"]
    assert (config.r, config.lora_alpha, config.lora_dropout) == (2, 32, 0.05)


def test_modules_that_are_not_there_are_named():
    with pytest.raises(ModelError, match="cannot be put on 'llama'"):
        make_reader(tiny_lm(), GistShape(5, targets=("w_proj",)))


def test_the_answering_model_is_bit_identical():
    lm, ids = tiny_lm(), [tiny_lm().encode(QUERY)]
    before = log_probs(lm, ids)
    reader = random_reader()
    assert torch.equal(log_probs(lm, ids), before)
    compress(reader, read_demo_kv(lm, document_tokens(lm, DOCUMENT)))
    assert torch.equal(log_probs(lm, ids), before)


def test_an_adapter_comes_back_and_knows_its_model(tmp_path, reader):
    save_reader(reader, tmp_path / "adapter", {"seed": 3})
    again = load_reader(reader.lm, tmp_path / "adapter")
    document = read_demo_kv(reader.lm, document_tokens(reader.lm, DOCUMENT))
    assert torch.equal(compress(again, document).values, compress(reader, document).values)
    assert again.fingerprint != reader.lm.fingerprint and again.trainable == 0
    assert json.loads((tmp_path / "adapter/gist.json").read_text())["seed"] == 3
    size = sum(file.stat().st_size for file in (tmp_path / "adapter").iterdir())
    assert size < 4 * reader.trainable + 20_000  # the embedding is not in it
    with pytest.raises(ModelError, match="was trained for .*llama.* load that model"):
        load_reader(tiny_lm("qwen3"), tmp_path / "adapter")
    with pytest.raises(ModelError, match="has no gists"):
        load_reader(reader.lm, tmp_path)
    (tmp_path / "adapter/adapter_model.safetensors").unlink()
    with pytest.raises(ModelError, match="cannot be read"):
        load_reader(reader.lm, tmp_path / "adapter")
