import math

import pytest
import torch
import torch.nn.functional as F
from torch.distributions import Categorical, kl_divergence

from cedkv.metrics import TailStats, cvar, kl, off_summary, rel_kl, tail_stats

HALVES = torch.tensor([0.5, 0.5]).log()
QUARTERS = torch.tensor([0.25, 0.75]).log()


def random_log_probs(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).log_softmax(-1)


def test_kl_of_a_hand_computed_pair_is_in_nats():
    assert kl(HALVES, QUARTERS).item() == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2 / 3), abs=1e-6)


def test_kl_has_a_direction():
    forward, swapped = kl(HALVES, QUARTERS).item(), kl(QUARTERS, HALVES).item()
    assert forward == pytest.approx(0.143841, abs=1e-5)
    assert swapped == pytest.approx(0.130812, abs=1e-5)


def test_kl_of_a_distribution_to_itself_is_zero():
    log_p = random_log_probs(4, 1000, seed=0)
    assert kl(log_p, log_p).tolist() == [0.0] * 4


def test_kl_agrees_with_torch_and_keeps_every_batch_axis():
    log_p, log_q = random_log_probs(2, 3, 50, seed=1), random_log_probs(2, 3, 50, seed=2)
    ours = kl(log_p, log_q)
    assert ours.shape == (2, 3)
    torch.testing.assert_close(ours, kl_divergence(Categorical(logits=log_p), Categorical(logits=log_q)))
    torch.testing.assert_close(ours, F.kl_div(log_q, log_p, log_target=True, reduction="none").sum(-1))


def test_kl_counts_impossible_tokens_of_p_as_nothing_in_value_and_gradient():
    log_p = torch.tensor([0.0, -math.inf, -math.inf], requires_grad=True)
    log_q = torch.tensor([math.log(0.25), math.log(0.75), -math.inf], requires_grad=True)
    divergence = kl(log_p, log_q)
    divergence.backward()
    assert divergence.item() == pytest.approx(math.log(4))
    # d/dlog_p = p (log p - log q + 1), d/dlog_q = -p
    assert log_p.grad.tolist() == pytest.approx([math.log(4) + 1, 0.0, 0.0])
    assert log_q.grad.tolist() == [-1.0, 0.0, 0.0]


def test_the_textbook_formula_breaks_where_kl_does_not():
    log_p, log_q = torch.tensor([0.0, -math.inf]), HALVES
    assert (log_p.exp() * (log_p - log_q)).sum().isnan()
    assert kl(log_p, log_q).item() == pytest.approx(math.log(2))


def test_kl_is_infinite_where_q_rules_out_what_p_allows():
    assert kl(HALVES, torch.tensor([0.0, -math.inf])).item() == math.inf


def test_kl_gradient_through_student_logits_is_q_minus_p():
    log_p = random_log_probs(7, seed=3)
    logits = torch.randn(7, generator=torch.Generator().manual_seed(4)).requires_grad_()
    kl(log_p, logits.log_softmax(-1)).backward()
    torch.testing.assert_close(logits.grad, logits.detach().softmax(-1) - log_p.exp())


def test_kl_computes_half_precision_inputs_in_fp32():
    log_p, log_q = random_log_probs(50, seed=5).bfloat16(), random_log_probs(50, seed=6).bfloat16()
    assert kl(log_p, log_q).dtype == torch.float32
    assert kl(log_p, log_q).item() == kl(log_p.float(), log_q.float()).item()


def test_rel_kl_is_one_at_the_base_and_zero_at_the_teacher():
    ratio = rel_kl(torch.tensor([2.0, 0.0, 0.5]), torch.tensor([2.0, 2.0, 2.0]))
    assert ratio.tolist() == pytest.approx([1.0, 0.0, 0.25], abs=1e-6)


def test_rel_kl_is_finite_when_base_and_teacher_agree():
    assert rel_kl(torch.tensor(0.0), torch.tensor(0.0)).item() == 0.0
    assert rel_kl(torch.tensor(1e-6), torch.tensor(0.0)).item() == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("fraction", "expected"),
    [(0.2, 5.0), (0.4, 4.5), (0.41, 4.0), (1.0, 3.0), (0.001, 5.0)],
)
def test_cvar_is_the_mean_of_the_largest_values_rounded_up_to_whole_ones(fraction, expected):
    assert cvar(torch.tensor([3.0, 1.0, 5.0, 2.0, 4.0]), fraction).item() == expected


def test_cvar_counts_the_tail_exactly_despite_binary_fractions():
    assert 0.07 * 100 > 7
    assert cvar(torch.arange(100.0), 0.07).item() == pytest.approx(sum(range(93, 100)) / 7)


def test_cvar_of_everything_is_the_mean_and_never_falls_as_the_tail_narrows():
    values = torch.randn(40, generator=torch.Generator().manual_seed(7))
    tails = [cvar(values, fraction).item() for fraction in (1.0, 0.5, 0.25, 0.1, 0.01)]
    assert tails[0] == pytest.approx(values.mean().item(), abs=1e-6)
    assert tails == sorted(tails)
    assert tails[-1] == values.max().item()


def test_cvar_sends_gradient_to_the_tail_only():
    values = torch.tensor([1.0, 4.0, 2.0, 3.0], requires_grad=True)
    cvar(values, 0.5).backward()
    assert values.grad.tolist() == [0.0, 0.5, 0.0, 0.5]


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.1, math.nan])
def test_cvar_refuses_a_fraction_outside_its_range(fraction):
    with pytest.raises(ValueError, match="tail_fraction"):
        cvar(torch.ones(3), fraction)


def test_cvar_refuses_no_values():
    with pytest.raises(ValueError, match="no values"):
        cvar(torch.ones(0), 0.5)


def test_tail_stats_interpolate_the_99th_percentile_linearly():
    # rank 0.99 * (5 - 1) = 3.96 lies 96 % of the way from 3 to 13
    assert tail_stats(torch.tensor([13.0, 0.0, 2.0, 1.0, 3.0])) == TailStats(
        count=5, mean=pytest.approx(3.8), p99=pytest.approx(12.6), max=13.0
    )


def test_tail_stats_of_one_value_are_that_value():
    assert tail_stats(torch.tensor([0.5])) == TailStats(count=1, mean=0.5, p99=0.5, max=0.5)


def test_tail_stats_accept_values_that_carry_a_graph_or_half_precision():
    assert tail_stats(torch.tensor([1.0, 3.0], requires_grad=True)).mean == 2.0
    assert tail_stats(torch.tensor([1.0, 3.0], dtype=torch.bfloat16)).p99 == pytest.approx(2.98)


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_tail_stats_name_the_first_value_that_is_not_finite(broken):
    with pytest.raises(ValueError, match=r"delta\[2\]"):
        tail_stats(torch.tensor([0.0, 1.0, broken, broken]))


def test_tail_stats_refuse_no_values():
    with pytest.raises(ValueError, match="no values"):
        tail_stats(torch.ones(0))


def test_the_statistics_of_delta_have_the_reports_names():
    stats = TailStats(count=2, mean=1.0, p99=1.9, max=2.0)
    assert stats.as_delta() == {"count": 2, "delta_mean": 1.0, "delta_p99": 1.9, "delta_max": 2.0}


def test_off_summary_splits_by_bucket_in_order_of_appearance():
    summary = off_summary(torch.tensor([1.0, 4.0, 3.0]), ["prose", "code", "prose"])
    assert summary["count"] == 3
    assert summary["delta_max"] == 4.0
    assert list(summary["buckets"]) == ["prose", "code"]
    assert summary["buckets"]["prose"] == tail_stats(torch.tensor([1.0, 3.0])).as_delta()
    assert summary["buckets"]["code"] == tail_stats(torch.tensor([4.0])).as_delta()


def test_off_summary_names_a_broken_value_by_its_place_among_all_texts():
    with pytest.raises(ValueError, match=r"delta\[2\]"):
        off_summary(torch.tensor([1.0, 2.0, math.nan]), ["prose", "prose", "code"])


def test_off_summary_refuses_bucket_names_that_do_not_match_the_values():
    with pytest.raises(ValueError, match="2 bucket names were given for 3 values"):
        off_summary(torch.ones(3), ["prose", "code"])
