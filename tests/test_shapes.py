"""The shapes in the engine's signatures are checked while tests run (tests/conftest.py)."""

import pytest
import torch
from jaxtyping import TypeCheckError

from cedkv.lm import log_probs
from cedkv.metrics import kl


def rows(*shape: int) -> torch.Tensor:
    return torch.zeros(shape).log_softmax(-1)


def test_a_tensor_of_another_shape_is_refused():
    assert kl(rows(2, 3), rows(2, 3)).shape == (2,)
    with pytest.raises(TypeCheckError, match="log_q"):
        kl(rows(2, 3), rows(3))  # torch alone would broadcast it


def test_an_axis_has_one_size_in_a_call():
    with pytest.raises(TypeCheckError, match="log_q"):
        kl(rows(2, 3), rows(2, 1))


def test_a_tensor_of_another_kind_is_refused():
    with pytest.raises(TypeCheckError, match="log_p"):
        kl(torch.zeros(2, 3, dtype=torch.int64), rows(2, 3))
    assert log_probs.__wrapped__, "every function of a room is checked"
