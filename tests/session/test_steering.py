"""A mixing desk for slots: what it does to a state, and what stays of it when it is kept."""

from types import SimpleNamespace

import pytest
import torch

from cedkv.errors import CedKVError
from cedkv.session.keep import keep_mixed
from cedkv.session.reproduce import command_line
from cedkv.session.runs import Run
from cedkv.session.slots import Mix
from cedkv.state import KVPrefix
from components.example import FOLDER

RUN = Run(next(FOLDER.glob("20*")))


@pytest.fixture(scope="module")
def prefix() -> KVPrefix:
    return RUN.prefix("ced")


def test_a_mix_multiplies_values_and_masks_what_is_muted(prefix):
    factors = (1.0, 0.0, 2.0, 0.5, *[1.0] * 4)
    mixed = Mix(factors).apply(prefix)
    assert torch.equal(mixed.keys, prefix.keys) and not mixed.active[:, 1].any()
    for slot, factor in enumerate(factors):
        if factor:
            assert torch.equal(mixed.values[:, :, slot], prefix.values[:, :, slot] * factor)
            assert torch.equal(mixed.active[:, slot], prefix.active[:, slot])
    assert Mix((1.0,) * 8).apply(prefix) is prefix


@pytest.mark.parametrize("factors", [(1.0,) * 7, (-1.0, *[1.0] * 7), (float("nan"), *[1.0] * 7), (11.0, *[1.0] * 7)])
def test_what_is_no_mix_of_these_slots_is_refused(prefix, factors):
    with pytest.raises(CedKVError, match=f"{len(factors)} factors for 8 slots"):
        Mix(factors).apply(prefix)


def test_a_kept_mix_is_a_run_of_its_own_with_a_verified_file(prefix, tmp_path):
    lm = SimpleNamespace(id="SmolLM2-135M-Instruct", fingerprint=prefix.fingerprint)
    kept = keep_mixed(lm, RUN, Mix((0.0, *[1.0] * 7)), tmp_path)
    state = KVPrefix.load(kept.state_file("ced"), prefix.fingerprint)
    assert not state.active[:, 0].any() and torch.equal(state.values[:, :, 1:], prefix.values[:, :, 1:])
    assert state.meta["slot_factors"] == kept.report["slot_factors"] == [0.0, *[1.0] * 7]
    assert kept.student == "ced" and not kept.judged and kept.report["episode"] == RUN.report["episode"]
    assert "--state state.safetensors" in command_line(kept) and "extract" not in command_line(kept)
