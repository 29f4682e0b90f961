"""The shapes in the engine's signatures are checked while tests run (tests/conftest.py)."""

from dataclasses import replace

import pytest
import torch
from jaxtyping import Float, TypeCheckError, jaxtyped
from torch import Tensor

from cedkv.compressors.gist.mask import gist_mask
from cedkv.evaluation import OnView
from cedkv.harm.beside import require_finite
from cedkv.lm import log_probs
from cedkv.methods.objective import OnTargets, on_loss
from cedkv.metrics import kl
from cedkv.serve.llama_cpp import interleaved
from cedkv.session.slots import _at
from cedkv.slots.mixture import cap_mass
from cedkv.state import KVPrefix
from cedkv.wmtp.loss import weighted_mean
from tests.shapes import check_tensors


def rows(*shape: int) -> torch.Tensor:
    return torch.zeros(shape).log_softmax(-1)


def state() -> KVPrefix:
    keys = torch.zeros(2, 1, 3, 4)
    return KVPrefix(keys, keys, torch.arange(3), 3, torch.ones(2, 3, dtype=torch.bool), "print")


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


@pytest.mark.parametrize(
    ("broken", "named"),
    [
        (lambda: replace(state(), active=torch.ones(2, 1, dtype=torch.bool)), "active"),
        (lambda: state().with_active(torch.ones(2, 3)), "active"),
        (lambda: cap_mass(rows(2, 3).exp(), torch.ones(1, dtype=torch.bool), 0.5), "capped"),
        (lambda: on_loss(rows(2, 3), rows(2, 3), [1, 1], torch.ones(1)), "weights"),
        (lambda: _at(torch.zeros(3), None, None), "values"),
        (lambda: weighted_mean(torch.ones(2), torch.ones(1)), "weights"),
        (lambda: OnView(rows(2, 3), torch.zeros(2), torch.ones(1, dtype=torch.bool)), "correct"),
        (lambda: require_finite(torch.zeros(2, 2), "real text"), "delta"),
        (lambda: gist_mask(torch.ones(1, 3)), "regions"),
        (lambda: interleaved(torch.arange(4)), "keys"),
    ],
    ids=["state", "state, kind", "slots", "methods", "session", "wmtp", "evaluation", "harm", "compressors", "serve"],
)
def test_every_room_refuses_what_torch_alone_would_take(broken, named):
    with pytest.raises(TypeCheckError, match=f"parameter '{named}'"):
        broken()


def test_what_comes_back_in_another_shape_is_looked_at_though_the_arguments_are_known():
    made = iter([torch.zeros(2), torch.zeros(2), torch.zeros(3), torch.zeros(2)])

    @jaxtyped(typechecker=check_tensors)
    def doubled(rows: Float[Tensor, " rows"], times: int = 2) -> Float[Tensor, " rows"]:
        return next(made)

    assert len(doubled(torch.ones(2))) == len(doubled(rows=torch.ones(2))) == 2
    with pytest.raises(TypeCheckError, match="return value"):
        doubled(torch.ones(2))
    with pytest.raises(TypeCheckError, match="rows"):
        doubled(torch.ones(2, 2))
    assert len(doubled(torch.ones(2))) == 2


def test_tensors_of_a_list_may_differ_where_the_signature_says_so():
    """Two of a list's tensors, chosen by chance, are looked at in every call: a name would have to fit both."""
    for _ in range(32):
        OnTargets([(1,), (2,)], [2, 3], [rows(2, 4), rows(3, 4)], [torch.zeros(3), torch.zeros(4)])
    with pytest.raises(TypeCheckError, match="teacher"):
        OnTargets([(1,)], [2], [torch.zeros(4)])
