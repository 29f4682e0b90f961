"""Scorers of token weights: what every one promises, and what each of them means."""

import re
from dataclasses import replace

import pytest
import torch

from cedkv.errors import ConfigError
from cedkv.optim.weights import SCORERS, ScorerSettings, TokenBatch, find_scorer

EVERY = pytest.mark.parametrize("scorer", SCORERS.values(), ids=SCORERS)
HARD, SOFT = ScorerSettings(share=0.5), ScorerSettings(share=0.5, selection="soft", temperature=0.5)


def batch_of(seed: int = 0, rows: int = 3, tokens: int = 11, dtype=torch.float32) -> TokenBatch:
    """Texts of different lengths, padded on the right, their first tokens not predicted."""
    draw = torch.Generator().manual_seed(seed)
    targets = torch.randint(50, (rows, tokens), generator=draw)
    targets[:, 0] = -100
    for row in range(rows):
        targets[row, tokens - 2 * row :] = -100
    losses = [4 * torch.rand(rows, tokens, generator=draw) for _ in range(2)]
    values = torch.rand(rows, tokens, generator=draw)
    return TokenBatch(targets, *(tensor.to(dtype) for tensor in (*losses, values)))


def turned(batch: TokenBatch, change) -> TokenBatch:
    return TokenBatch(*(change(tensor) for tensor in vars(batch).values()))


def padded_left(batch: TokenBatch) -> TokenBatch:
    """The same texts, pushed to the right."""
    ends = [int((row != -100).nonzero().max()) + 1 for row in batch.targets]
    length = batch.targets.shape[1]
    return turned(batch, lambda t: torch.stack([row.roll(length - end) for row, end in zip(t, ends, strict=True)]))


@EVERY
def test_its_card_says_what_it_is(scorer):
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", scorer.key) and SCORERS[scorer.key] is scorer
    assert scorer.category in ("reference", "critic", "combined", "control") and scorer.version


@EVERY
@pytest.mark.parametrize("settings", [HARD, SOFT], ids=["hard", "soft"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_are_finite_not_negative_and_one_in_the_mean(scorer, settings, dtype):
    for seed in range(5):
        batch = batch_of(seed, dtype=dtype)
        weights = scorer.setup(settings)(batch)["weights"]
        assert weights.shape == batch.targets.shape
        assert (weights.device, weights.dtype) == (batch.loss.device, dtype)
        assert torch.isfinite(weights).all() and (weights >= 0).all()
        assert weights[~batch.valid].abs().sum() == 0
        assert weights[batch.valid].float().mean().item() == pytest.approx(1, abs=1e-5 if dtype.itemsize == 4 else 5e-3)


@EVERY
def test_it_is_deterministic_and_has_no_gradient(scorer):
    batch = batch_of()
    batch = replace(batch, loss=batch.loss.clone().requires_grad_())
    with torch.no_grad():
        first, second = (scorer.setup(HARD)(batch)["weights"] for _ in range(2))
    assert torch.equal(first, second) and not first.requires_grad


@EVERY
def test_it_reads_only_what_it_says_it_needs(scorer):
    batch = batch_of()
    kept = {"reference": "reference_loss", "values": "values"}
    bare = replace(batch, **{name: None for need, name in kept.items() if need not in scorer.needs})
    assert torch.equal(scorer.setup(HARD)(bare)["weights"], scorer.setup(HARD)(batch)["weights"])


@EVERY
@pytest.mark.parametrize("settings", [HARD, SOFT], ids=["hard", "soft"])
def test_the_side_of_the_padding_and_what_is_in_it_do_not_matter(scorer, settings):
    batch = batch_of()
    right, left = scorer.setup(settings)(batch)["weights"], scorer.setup(settings)(padded_left(batch))["weights"]
    assert torch.equal(padded_left(replace(batch, loss=right)).loss, left)
    wild = replace(batch, loss=batch.loss.masked_fill(~batch.valid, 1e9))
    assert torch.equal(scorer.setup(settings)(wild)["weights"], right)


@EVERY
def test_odd_batches(scorer):
    batch = batch_of(rows=1, tokens=4)
    alike = turned(batch, lambda t: torch.ones_like(t) if t.is_floating_point() else t)
    weights = scorer.setup(replace(HARD, share=1.0))(alike)["weights"]
    assert weights[alike.valid].tolist() == [1.0, 1.0, 1.0]
    none = replace(batch, targets=torch.full_like(batch.targets, -100))
    assert scorer.setup(HARD)(none)["weights"].abs().sum() == 0


def one_row(**columns) -> TokenBatch:
    targets = torch.tensor([columns.pop("targets")])
    given = {name: torch.tensor([column]) for name, column in columns.items()}
    return TokenBatch(targets, **{"loss": torch.zeros(targets.shape), **given})


def test_rho1_keeps_what_the_reference_knows_better():
    """Excess 2, -3, 1, 0.5: of four tokens a half is kept. Signed: what the reference finds harder comes last."""
    batch = one_row(
        targets=[-100, 5, 6, 7, 8], loss=[9.0, 3.0, 1.0, 2.0, 0.5], reference_loss=[0.0, 1.0, 4.0, 1.0, 0.0]
    )
    assert SCORERS["rho1-excess-v1"].setup(HARD)(batch)["weights"].tolist() == [[0, 2, 0, 2, 0]]
    soft = SCORERS["rho1-excess-v1"].setup(SOFT)(batch)["weights"][0]
    excess = torch.tensor([2.0, -3.0, 1.0, 0.5])
    expected = ((excess - 1.0) / 0.5).sigmoid()
    assert torch.allclose(soft[1:], expected / expected.mean())


def test_critic_weighs_the_token_that_decides():
    """V rises at the third token alone: deltas 0, .8, 0 have mean .8/3, and it is sqrt(2) deviations above."""
    batch = one_row(targets=[-100, 5, 6, 7], values=[0.1, 0.1, 0.9, 0.9])
    told = SCORERS["critic-delta-v1"].setup(ScorerSettings())(batch)
    raw = torch.tensor([-(0.5**0.5), 2**0.5, -(0.5**0.5)]).exp()
    assert torch.allclose(told["weights"][0, 1:], raw / raw.mean(), atol=1e-4)
    assert told["delta"].tolist() == pytest.approx([0, 0.8, 0])


def test_combined_is_the_product_of_both():
    batch = batch_of()
    rho1, critic, both = (
        SCORERS[key].setup(SOFT)(batch)["weights"][batch.valid]
        for key in ("rho1-excess-v1", "critic-delta-v1", "rho1-critic")
    )
    assert torch.allclose(both, rho1 * critic / (rho1 * critic).mean(), atol=1e-5)


def test_controls_keep_the_weights_and_lose_the_tokens():
    """Shuffled has the very weights of rho1 in other places; random-matched keeps as many tokens."""
    batch = batch_of(rows=8, tokens=32)
    rho1, shuffled, matched = (
        SCORERS[key].setup(HARD)(batch)["weights"][batch.valid]
        for key in ("rho1-excess-v1", "shuffled", "random-matched")
    )
    assert torch.equal(rho1.sort().values, shuffled.sort().values) and not torch.equal(rho1, shuffled)
    assert (matched > 0).sum() == (rho1 > 0).sum()
    for key in ("shuffled", "random-matched"):
        first, second = (SCORERS[key].setup(replace(HARD, seed=seed))(batch)["weights"] for seed in (0, 1))
        assert not torch.equal(first, second)


def test_a_mistyped_scorer_is_named():
    with pytest.raises(ConfigError, match="'rho1-excess-v2' is unknown; did you mean 'rho1-excess-v1'"):
        find_scorer("rho1-excess-v2")
