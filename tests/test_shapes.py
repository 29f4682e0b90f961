"""The shapes in the engine's signatures are checked while tests run (tests/conftest.py)."""

import pytest
import torch
from jaxtyping import TypeCheckError

from cedkv.lm import log_probs
from cedkv.metrics import kl
from cedkv.slots.mixture import MixtureSlots
from cedkv.state import KVPrefix
from tests.tiny import tiny_lm


def test_a_tensor_of_another_shape_is_refused():
    rows = torch.zeros(2, 3).log_softmax(-1)
    assert kl(rows, rows).shape == (2,)
    with pytest.raises(TypeCheckError, match="kl"):
        kl(rows, rows[0])


def test_an_axis_has_one_size_in_a_call():
    with pytest.raises(TypeCheckError, match="prefix"):
        log_probs(tiny_lm(), [[1, 2]], "a prefix")


def test_classes_are_checked_too():
    with pytest.raises(TypeCheckError):
        KVPrefix.load(3)
    assert MixtureSlots.__init__.__wrapped__
