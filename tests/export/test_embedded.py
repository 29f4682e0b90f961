"""The embedded model behind every way out: plain transformers, PEFT, a folder and each precision."""

import pytest
import torch
from peft import PeftModel

from cedkv.lm import LanguageModel, generate, log_probs, read_demo_kv
from cedkv.lm.export import generate_inputs, load_peft, save_peft
from cedkv.lm.load import load_model
from cedkv.metrics import kl
from cedkv.state import KVPrefix, with_precision
from cedkv.state.hub import load_folder, save_folder
from tests.tiny import text_tokens

QUERIES = ["Q: rain\nA:", "Q: play\nA:", "The capital of France is"]
# KL in nats; rounding moves the embedded model about a tenth as far.
TOLERANCE = {"fp32": 0.0, "bf16": 1e-2, "fp16": 1e-3, "int8": 5e-2, "int4": 1.0}


@pytest.fixture(scope="module")
def state(lm: LanguageModel) -> KVPrefix:
    return read_demo_kv(lm, text_tokens(lm)).as_prefix()


@pytest.fixture(scope="module")
def queries(lm: LanguageModel) -> list[list[int]]:
    return [lm.encode(text) for text in QUERIES]


def apart(lm: LanguageModel, queries: list[list[int]], one: KVPrefix, other: KVPrefix) -> float:
    return kl(log_probs(lm, queries, one), log_probs(lm, queries, other)).max().item()


@torch.no_grad()
def test_plain_generate_says_what_the_engine_says(lm, state, queries):
    out = lm.model.generate(**generate_inputs(state, lm.model, queries[:1]), max_new_tokens=6, do_sample=False)
    new = out[0, len(queries[0]) :].tolist()
    assert lm.decode([token for token in new if token not in lm.stop_ids]) == generate(lm, queries[:1], state, 6)[0]


@torch.no_grad()
def test_peft_and_a_folder_give_the_same_logits(lm, state, queries, tmp_path):
    save_peft(state, tmp_path / "adapter", lm.model)
    read = load_peft(tmp_path / "adapter", lm.model)
    assert apart(lm, queries, state, read) < 1e-5
    save_folder(state, tmp_path / "shared")
    assert apart(lm, queries, state, load_folder(tmp_path / "shared", lm.fingerprint)) == pytest.approx(0, abs=1e-9)
    adapted = PeftModel.from_pretrained(load_model(device="cpu").model, tmp_path / "adapter").eval()
    ids = torch.tensor([queries[0]])
    logits = adapted(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, -1].log_softmax(-1)
    assert kl(log_probs(lm, queries[:1], state)[0], logits).item() < 1e-5


@pytest.mark.parametrize("precision", TOLERANCE)
def test_every_precision_answers_alike(lm, state, queries, precision):
    assert apart(lm, queries, state, with_precision(state, precision)) <= TOLERANCE[precision] + 1e-9
