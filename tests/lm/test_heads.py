"""Further heads on a causal LM: the model stays what it is until it is trained, and is another one afterwards."""

import pytest
import torch
from safetensors.torch import load_file

from cedkv.errors import ModelError
from cedkv.lm import log_probs
from cedkv.lm.adapters import LoraShape, adapted, load_trained, save_trained, with_lora
from cedkv.lm.heads import MTPWrapper
from tests.tiny import ARCHITECTURES, QUERY_TEXTS, tiny_lm

IDS = torch.randint(2, 300, (2, 9), generator=torch.Generator().manual_seed(0))


def moved(module: torch.nn.Module, seed: int = 0) -> None:
    """As if trained: every parameter that may change does."""
    draw = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=draw)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.no_grad()
def test_the_first_head_is_the_model_to_the_bit_and_the_others_start_there(architecture):
    model = tiny_lm(architecture).model
    wrapper = MTPWrapper(model, 3)
    plain = model(input_ids=IDS).logits
    logits = wrapper(IDS)
    assert logits.shape == (2, 9, 3, model.config.vocab_size)
    assert torch.equal(logits[:, :, 0], plain)
    assert torch.allclose(logits[:, :, 2], plain, atol=1e-4)
    moved(wrapper.heads)
    logits = wrapper(IDS)
    assert torch.equal(logits[:, :, 0], plain)
    assert not torch.allclose(logits[:, :, 1], logits[:, :, 2], atol=1e-2)
    assert wrapper(IDS, horizon=2).shape[2] == 2
    assert torch.equal(model(input_ids=IDS).logits, plain)


def test_what_a_model_does_to_its_logits_is_done_to_all_heads():
    """A soft cap bounds every head's logits."""
    model = tiny_lm("gemma3_text").model
    before, model.config.final_logit_softcapping = model.config.final_logit_softcapping, 0.5
    try:
        with torch.no_grad():
            assert MTPWrapper(model, 3)(IDS).abs().amax(dim=(0, 1, 3)).tolist() <= [0.5] * 3
    finally:
        model.config.final_logit_softcapping = before


def test_generation_is_the_models_own():
    model = tiny_lm().model
    wrapper = MTPWrapper(model, 4)
    moved(wrapper.heads)
    asked = {"max_new_tokens": 6, "do_sample": False, "attention_mask": torch.ones_like(IDS)}
    assert torch.equal(wrapper.generate(IDS, **asked), model.generate(IDS, **asked))


def test_an_adapter_starts_as_nothing_and_leaves_the_model_alone():
    lm = tiny_lm()
    before = {name: tensor.clone() for name, tensor in lm.model.state_dict().items()}
    model = with_lora(lm, LoraShape(rank=4, layers=2))
    with torch.no_grad():
        assert torch.allclose(model(input_ids=IDS).logits, lm.model(input_ids=IDS).logits, atol=1e-5)
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert trained and all("lora" in name and (".layers.2." in name or ".layers.3." in name) for name in trained)
    moved(model)
    assert not any("lora" in name for name, _ in lm.model.named_modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in lm.model.state_dict().items())


def test_what_was_trained_is_saved_and_is_a_model_of_its_own(tmp_path):
    lm, folder = tiny_lm(), tmp_path / "trained"
    wrapper = MTPWrapper(with_lora(lm, LoraShape(rank=4, layers=2)), 3)
    moved(wrapper)
    save_trained(wrapper, folder)
    assert "lm_head" not in "".join(load_file(folder / "adapter_model.safetensors"))
    with torch.no_grad():
        logits = wrapper(IDS)
        assert torch.equal(load_trained(lm, folder)(IDS), logits)
    trained = adapted(lm, folder)
    assert trained.fingerprint != lm.fingerprint
    assert trained.fingerprint == adapted(lm, folder).fingerprint
    with torch.no_grad():
        assert torch.allclose(trained.model(input_ids=IDS).logits, logits[:, :, 0], atol=1e-4)
    queries = [lm.encode(text) for text in QUERY_TEXTS]
    assert not torch.allclose(log_probs(trained, queries), log_probs(lm, queries), atol=1e-2)
    moved(wrapper, seed=1)
    save_trained(wrapper, folder)
    assert adapted(lm, folder).fingerprint != trained.fingerprint


def test_a_folder_without_an_adapter_is_refused(tmp_path):
    with pytest.raises(ModelError, match="cannot be put on"):
        load_trained(tiny_lm(), tmp_path)
