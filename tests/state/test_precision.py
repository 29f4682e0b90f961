"""Precisions: what each keeps of hand-written numbers, how many bytes it takes, and that a file gives back the same."""

from dataclasses import replace

import pytest
import torch

from cedkv.errors import StateError
from cedkv.lm import generate, log_probs, read_demo_kv
from cedkv.metrics import kl
from cedkv.state import PRECISIONS, KVPrefix, with_precision
from tests.state.test_file import make
from tests.tiny import QUERY_TEXTS, text_tokens, tiny_lm

# KL (nats) that a precision may cost on tiny models with wide random weights, about five times the largest seen.
TOLERANCE = {"fp32": 0.0, "bf16": 2e-3, "fp16": 2e-5, "int8": 1e-2, "int4": 0.5}


def state_of(keys: torch.Tensor) -> KVPrefix:
    layers, _, slots, _ = keys.shape
    active = torch.ones(layers, slots, dtype=torch.bool)
    return KVPrefix(keys, -keys, torch.arange(slots), slots, active, "print")


def test_int8_has_one_scale_per_channel():
    """Channels of 127 and 1.27 keep their own resolution: steps of 1 and 0.01."""
    keys = torch.tensor([[127.0, 1.27], [3.4, 0.034], [-3.6, -0.036]])[None, None]
    read = with_precision(state_of(keys), "int8")
    expected = torch.tensor([[127.0, 1.27], [3.0, 0.03], [-4.0, -0.04]])[None, None]
    assert torch.allclose(read.keys, expected, rtol=5e-3)
    assert torch.allclose(read.values, -expected, rtol=5e-3)


def test_int4_has_one_scale_per_channel_and_eight_slots():
    """The ninth slot does not see the first one's size."""
    keys = torch.zeros(1, 1, 9, 2)
    keys[0, 0, :, 0] = torch.tensor([7.0, 3.4, -3.6, -7.0, 0.4, 1.0, 2.0, 0.0, 0.07])
    keys[0, 0, :, 1] = 70.0
    read = with_precision(state_of(keys), "int4").keys[0, 0]
    assert torch.allclose(read[:, 0], torch.tensor([7.0, 3.0, -4.0, -7.0, 0.0, 1.0, 2.0, 0.0, 0.07]), rtol=5e-3)
    assert torch.allclose(read[:, 1], torch.tensor(70.0), rtol=5e-3)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("slots", [0, 1, 7, 8, 17])
def test_a_file_gives_back_what_the_precision_keeps(tmp_path, precision, slots):
    draw = torch.Generator().manual_seed(1)
    written = state_of(torch.randn(3, 2, slots, 4, generator=draw))
    expected = with_precision(written, precision)
    written.save(tmp_path / "state.safetensors", precision)
    read = KVPrefix.load(tmp_path / "state.safetensors")
    assert torch.equal(read.keys, expected.keys)
    assert torch.equal(read.values, expected.values)
    assert read.keys.dtype == expected.keys.dtype
    assert read.keys.is_contiguous()


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_zeros_stay_zeros(precision):
    assert with_precision(state_of(torch.zeros(2, 2, 5, 4)), precision).keys.abs().max() == 0


def test_each_precision_is_smaller_than_the_one_before(tmp_path):
    state = state_of(torch.randn(8, 4, 64, 64))
    sizes = {}
    for precision in ("fp32", "bf16", "int8", "int4"):
        path = tmp_path / precision
        state.save(path, precision)
        sizes[precision] = path.stat().st_size / state.nbytes
    assert sizes["fp32"] == pytest.approx(1, abs=0.01)
    assert sizes["bf16"] == pytest.approx(1 / 2, abs=0.01)
    assert sizes["int8"] == pytest.approx(1 / 4 * (1 + 2 / 64), abs=0.01)
    assert sizes["int4"] == pytest.approx(1 / 8 + 2 / 8 / 4, abs=0.01)


def test_unknown_precisions_are_refused_by_name(tmp_path):
    for use in (lambda: with_precision(make(), "fp8"), lambda: make().save(tmp_path / "state", "fp8")):
        with pytest.raises(StateError, match="precision 'fp8' is unknown; use one of fp32, bf16, fp16, int8, int4"):
            use()
    assert not (tmp_path / "state").exists()


def test_numbers_too_large_for_half_precision_are_refused():
    keys = torch.full((1, 1, 1, 2), 1e6)
    with pytest.raises(StateError, match="'keys' has numbers too large for fp16"):
        with_precision(state_of(keys), "fp16")
    assert with_precision(state_of(keys), "int8").keys.max() == pytest.approx(1e6, rel=5e-3)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_tiny_models_answer_alike_behind_every_precision(tmp_path, precision):
    for architecture in ("llama", "qwen2", "gemma3_text"):
        lm = tiny_lm(architecture)
        state = read_demo_kv(lm, text_tokens(lm)).as_prefix()
        state.save(tmp_path / "state.safetensors", precision)
        read = KVPrefix.load(tmp_path / "state.safetensors", lm.fingerprint)
        queries = [lm.encode(text) for text in QUERY_TEXTS]
        apart = kl(log_probs(lm, queries, state), log_probs(lm, queries, read)).max().item()
        assert apart <= TOLERANCE[precision] + 1e-9, architecture
        if precision == "fp32":
            assert generate(lm, queries, read) == generate(lm, queries, state)


def test_other_fields_are_left_alone():
    state = make()
    read = with_precision(state, "int4")
    assert replace(read, keys=state.keys, values=state.values) == state
