"""The weighted multi-token loss against a naive loop, plain cross-entropy, and mistakes that must show."""

import math
import random

import pytest
import torch
import torch.multiprocessing as mp
from torch.nn.functional import cross_entropy

from cedkv.errors import NonFiniteError
from cedkv.wmtp.loss import horizon_losses, mtp_weighted_ce
from tests.shapes import unchecked

VOCAB = 11


def case(seed: int, batch: int = 2, tokens: int = 7, heads: int = 3, dtype=torch.float32):
    """Random logits, targets with holes, weights with zeros, and documents of random lengths."""
    draw = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(batch, tokens, heads, VOCAB, generator=draw)
    targets = torch.randint(VOCAB, (batch, tokens), generator=draw)
    targets[torch.rand(batch, tokens, generator=draw) < 0.2] = -100
    weights = torch.rand(batch, tokens, generator=draw) * (torch.rand(batch, tokens, generator=draw) > 0.3)
    documents = (torch.rand(batch, tokens, generator=draw) < 0.25).cumsum(1)
    return logits.to(dtype), targets, weights, documents


def naive(logits, targets, weights, horizon, documents=None) -> float:
    """Token by token, in Python's own numbers."""
    total, weight_sum = 0.0, 0.0
    batch, tokens = targets.shape
    for row in range(batch):
        for position in range(tokens):
            for head in range(horizon):
                ahead = position + head + 1
                if ahead >= tokens or targets[row, ahead] == -100:
                    continue
                if documents is not None and documents[row, ahead] != documents[row, position]:
                    continue
                scores = logits[row, position, head].double().tolist()
                top = max(scores)
                lse = top + math.log(sum(math.exp(score - top) for score in scores))
                weight = weights[row, ahead].item()
                total += weight * (lse - scores[targets[row, ahead]])
                weight_sum += weight
    return total / weight_sum if weight_sum else 0.0


@pytest.mark.parametrize("seed", range(100))
def test_it_is_the_naive_loop(seed):
    draw = random.Random(seed)
    batch, tokens, heads = draw.randint(1, 3), draw.randint(1, 9), draw.randint(1, 4)
    logits, targets, weights, documents = case(seed, batch, tokens, heads)
    documents = documents if seed % 2 else None
    horizon = draw.randint(1, heads)
    loss = mtp_weighted_ce(logits, targets, weights, horizon, documents=documents)
    assert loss.item() == pytest.approx(naive(logits, targets, weights, horizon, documents), abs=1e-5)


def test_one_head_and_uniform_weights_are_plain_cross_entropy():
    logits, targets, _, _ = case(0, heads=1)
    loss = mtp_weighted_ce(logits, targets, torch.ones(targets.shape), 1)
    plain = cross_entropy(logits[:, :-1, 0].flatten(0, 1), targets[:, 1:].flatten())
    assert torch.allclose(loss, plain)


def test_targets_shifted_beforehand_show():
    """A model that knows every next token: right targets cost nothing, targets shifted twice cost nats."""
    _, targets, _, _ = case(1, tokens=9)
    targets = targets.clamp(min=0)
    logits = torch.zeros(*targets.shape, 2, VOCAB)
    for head in range(2):
        known = torch.roll(targets, -1 - head, dims=1)
        logits[:, :, head].scatter_(2, known[..., None], 20.0)
    ones = torch.ones(targets.shape)
    assert mtp_weighted_ce(logits, targets, ones, 2) < 1e-6
    assert mtp_weighted_ce(logits, torch.roll(targets, -1, dims=1), ones, 2) > 5


def test_nothing_is_predicted_across_a_border():
    """Two documents in one row cost what they cost in rows of their own."""
    logits, targets, weights, _ = case(2, batch=1, tokens=8)
    packed = mtp_weighted_ce(logits, targets, weights, 3, documents=torch.tensor([[0] * 5 + [1] * 3]))
    alone = [horizon_losses(logits[:, part], targets[:, part], weights[:, part], 3) for part in (slice(5), slice(5, 8))]
    assert torch.allclose(packed, sum(loss.sum() for loss, _ in alone) / sum(sums.sum() for _, sums in alone))
    assert not torch.allclose(packed, mtp_weighted_ce(logits, targets, weights, 3))


def test_what_is_ignored_has_no_part_in_it():
    logits, targets, weights, _ = case(3)
    changed = logits.clone()
    for row, position in (targets == -100).nonzero().tolist():
        weights[row, position] = math.nan
        if position:
            changed[row, position - 1, 0] = math.inf
    assert torch.equal(mtp_weighted_ce(logits, targets, weights, 1), mtp_weighted_ce(changed, targets, weights, 1))


def test_gradients():
    logits, targets, weights, documents = case(4, heads=2)
    logits = logits.double().requires_grad_()

    def loss(logits):
        return mtp_weighted_ce(logits, targets, weights, 2, documents=documents)

    # The loss itself is fp32, so finite differences are no finer than this.
    assert torch.autograd.gradcheck(loss, logits, eps=1e-2, atol=2e-3)
    loss(logits).backward()
    assert logits.grad[:, -1].abs().sum() == 0
    token = (targets[:, 1:] != -100) & (weights[:, 1:] == 0)
    assert token.any() and logits.grad[:, :-1, 0][token].abs().sum() == 0


def test_bfloat16_is_summed_in_float32():
    logits, targets, weights, _ = case(5, batch=8, tokens=64, dtype=torch.bfloat16)
    logits = logits * 30
    loss = mtp_weighted_ce(logits, targets, weights, 3)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(naive(logits.float(), targets, weights, 3), rel=1e-5)


def test_nothing_to_predict_costs_nothing_and_has_a_gradient():
    logits, targets, weights, _ = case(6)
    logits.requires_grad_()
    loss = mtp_weighted_ce(logits, torch.full_like(targets, -100), weights, 3)
    loss.backward()
    assert loss == 0 and logits.grad.abs().sum() == 0


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"logits": torch.zeros(2, 7, VOCAB)}, r"logits have shape \[2, 7, 11\]"),
        ({"targets": torch.zeros(2, 6, dtype=torch.long)}, r"targets have shape \[2, 6\], logits \[2, 7, 3, 11\]"),
        ({"weights": torch.zeros(7)}, r"weights have shape \[7\].*must be \[2, 7\]"),
        ({"documents": torch.zeros(1, 7)}, r"documents have shape \[1, 7\]"),
        ({"horizon": 4}, "horizon 4 does not fit logits of 3 heads"),
        ({"horizon": 0}, "horizon 0 does not fit"),
    ],
)
def test_shapes_that_do_not_fit_are_named(change, named):
    logits, targets, weights, documents = case(7)
    given = {"logits": logits, "targets": targets, "weights": weights, "horizon": 3, "documents": documents}
    with unchecked(), pytest.raises(ValueError, match=named):
        mtp_weighted_ce(**{**given, **change})


def test_what_is_not_finite_is_named():
    logits, targets, weights, _ = case(8)
    targets = targets.clamp(min=0)
    broken = logits.clone()
    broken[0, 1, 2, 3] = math.nan
    with pytest.raises(NonFiniteError, match=r"logits of head 2 \[2, 7, 3, 11\]"):
        mtp_weighted_ce(broken, targets, weights, 3)
    weights[1, 3] = math.inf
    with pytest.raises(NonFiniteError, match=r"weights \[2, 7\] read by head 0"):
        mtp_weighted_ce(logits, targets, weights, 1)


def _rank(rank: int, store: str, results) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    logits, targets, weights, _ = case(9, batch=4)
    own = slice(0, 1) if rank == 0 else slice(1, 4)
    results.put(mtp_weighted_ce(logits[own], targets[own], weights[own], 3).item())
    torch.distributed.destroy_process_group()


def test_ranks_share_one_normaliser(tmp_path):
    """The mean over ranks, as data-parallel training takes it of gradients, is the loss of all texts together."""
    context = mp.get_context("spawn")
    results = context.SimpleQueue()
    mp.spawn(_rank, (str(tmp_path / "store"), results), nprocs=2)
    logits, targets, weights, _ = case(9, batch=4)
    together = mtp_weighted_ce(logits, targets, weights, 3).item()
    assert (results.get() + results.get()) / 2 == pytest.approx(together, rel=1e-6)
