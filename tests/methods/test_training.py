"""Training slots: what it lowers, what it tells, when it stops and what it keeps."""

import math
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from cedkv.events import StepTrace, Tick, Warned
from cedkv.lm import log_probs
from cedkv.methods import METHODS, run_method
from cedkv.methods.objective import batch_terms, on_targets
from cedkv.methods.ticks import StressEval
from cedkv.metrics import cvar, kl, tail_stats
from cedkv.optim.checkpoint import Checkpoint
from cedkv.optim.loop import Training, optimiser_of, run_training, take_step
from cedkv.slots.base import detached
from tests.optim.trainings import SLOTS, bench_with, ced, events_of, train, training_of
from tests.tolerance import forward


def mean_on_kl(training: Training, prefix) -> float:
    student = log_probs(training.objective.lm, training.objective.targets.ids, prefix, training.objective.targets.reads)
    return kl(torch.cat(training.objective.targets.teacher), student).mean().item()


def tick(training: Training, step: int, loss_on: float, stress_p99: float = 0.0) -> Tick:
    return Tick("ced", step, loss_on, 0.0, 0.0, stress_p99, stress_p99, {})


def scripted(training: Training, *values: float) -> Training:
    """The same training with the ticks' `L_on` (and, as pairs, their p99) given."""
    rows = iter(value if isinstance(value, tuple) else (value, 0.0) for value in values)
    training.objective.measure_state = lambda state, step: tick(training, step, *next(rows))
    return training


def best_state(training: Training):
    training.objective.load(training.best)
    return training.objective.prefix()


def test_a_packed_step_equals_separate_passes():
    training = training_of()
    off = training.objective.pool.sample(4)
    losses = batch_terms(training.objective.lm, training.objective.slots, training.objective.targets, off, 8, 0.5)

    prefix = detached(training.objective.slots.prefix(8))
    on = torch.cat([log_probs(training.objective.lm, [query], prefix) for query in training.objective.targets.ids])
    effect = torch.stack([kl(log_probs(training.objective.lm, [text.ids], prefix)[0], text.base[-1]) for text in off])
    assert_close(
        losses["L_on"], kl(torch.cat(training.objective.targets.teacher), on).mean(), atol=forward(), rtol=1e-4
    )
    assert_close(losses["L_off"], cvar(effect, 0.5), atol=forward(), rtol=1e-4)


def test_whole_answers_are_read_at_every_answer_token():
    """And its first token counts beside all that follows."""
    training = training_of("phase3.loss.on_tokens=all")
    targets = training.objective.targets
    assert max(targets.reads) > 2
    losses = batch_terms(
        training.objective.lm, training.objective.slots, targets, training.objective.pool.sample(2), 8, 1.0
    )
    prefix = detached(training.objective.slots.prefix(8))
    rows = [
        log_probs(training.objective.lm, [ids], prefix, [reads])
        for ids, reads in zip(targets.ids, targets.reads, strict=True)
    ]
    apart = [kl(teacher, row) for teacher, row in zip(targets.teacher, rows, strict=True)]
    by_hand = [answer[0] + answer[1:].mean() if len(answer) > 1 else answer[0] for answer in apart]
    assert_close(losses["L_on"], torch.stack(by_hand).mean(), atol=forward(), rtol=1e-4)


def test_only_the_mixture_gets_gradients_and_they_are_clipped():
    training = training_of("phase3.optim.clip=0.001")
    take_step(training.objective, optimiser_of(training.objective), 0, training.settings.clip)
    assert training.objective.slots.logits.grad.norm() == pytest.approx(0.001, rel=1e-3)
    assert all(parameter.grad is None for parameter in training.objective.lm.model.parameters())
    assert not training.objective.slots.demo_kv.values.requires_grad


def test_training_comes_nearer_to_the_teacher():
    training = training_of("phase3.optim.steps=16", "phase3.loss.lambda_off=0.01")
    before = mean_on_kl(training, detached(training.objective.slots.prefix(3)))
    list(run_training(training))
    assert mean_on_kl(training, best_state(training)) < 0.8 * before


def test_each_step_tells_every_term_and_each_tick_the_real_metrics():
    bench = bench_with()
    seen = {"eval_accuracy": 0.25, "eval_kl": 2.0}
    _, events = train(replace(bench, observe=lambda state: seen))
    steps, ticks = events_of(events, StepTrace), events_of(events, Tick)
    assert [step.step for step in steps] == list(range(8))
    assert [step.top_k for step in steps] == [8, 8, 8, 8, 3, 3, 3, 3]
    for step in steps:
        assert all(math.isfinite(value) for value in (step.loss_on, step.loss_off, step.loss_str, step.lambda_off))
    assert [tick.step for tick in ticks] == [3, 7]
    for tick in ticks:
        assert (tick.eval_accuracy, tick.eval_kl) == (0.25, 2.0)
        assert sum(tick.role_mass.values()) == pytest.approx(1, abs=1e-5)
        assert [len(slots) for slots in tick.slot_role_mass] == [5] * 4
        assert torch.tensor(tick.slot_role_mass).sum(-1).allclose(torch.ones(4, 5))


def test_a_tick_measures_what_it_says():
    bench = bench_with("phase3.optim.steps=4")
    extraction, events = train(bench)
    (measured,) = events_of(events, Tick)
    state = extraction.prefix
    student = log_probs(bench.lm, bench.probes, state)
    texts = [bench.lm.encode(off.text) for off in bench.episode.off_set("stress", 12).texts]
    effect = kl(log_probs(bench.lm, texts, state), log_probs(bench.lm, texts))
    assert measured.train_kl == pytest.approx(kl(bench.teacher_on_probes, student).mean().item(), rel=1e-4)
    assert measured.stress_p99 == pytest.approx(tail_stats(effect).p99, rel=1e-4)


def test_a_tick_reads_the_first_texts_of_all_kinds_alike():
    """Of 24 stress texts, which come kind by kind in turn, nine: one of each kind."""
    few = ("phase3.off_data.stress_samples=24", "phase3.optim.tick_stress_samples=9")
    extraction, events = train(bench_with(*few, "phase3.optim.steps=4"))
    bench = bench_with(*few)
    read = bench.episode.off_set("stress", 24).texts[:9]
    assert len({off.bucket for off in read}) == 9
    ids = [bench.lm.encode(off.text) for off in read]
    effect = kl(log_probs(bench.lm, ids, extraction.prefix), log_probs(bench.lm, ids))
    (measured,) = events_of(events, Tick)
    assert measured.stress_p99 == pytest.approx(tail_stats(effect).p99, rel=1e-3)


@pytest.mark.parametrize(
    ("ticks", "taken"),
    [
        ([(0.3, 9.0), (0.3, 1.5)], 8),  # (L_on, p99) at steps 4, 8
        ([(0.3, 9.0), (0.3, 2.5), (0.3, 1.5)], 12),
        ([(0.3, 1.5), (0.3, 9.0)], 8),  # the louder last state is not kept
        ([(0.0, 9.0), (0.6, 1.5)], 8),  # nor is one that is near the teacher and too loud
    ],
)
def test_it_is_the_state_that_is_kept_which_has_to_be_quiet(ticks, taken):
    training = training_of(
        "phase3.optim.steps=8", "phase3.optim.tick_every=4", "phase3.optim.extend_to=16", "phase3.dual.target=1000",
        "phase3.thresholds.off_delta_p99_stress_max=1000",
    )  # fmt: skip
    scripted(training, *ticks)
    list(run_training(training))
    assert (training.done, training.wants_more) == (taken, False)
    quiet = [step for step, (_, p99) in zip((3, 7, 11), ticks, strict=False) if p99 == 1.5]
    assert [training.best_step] == quiet


@pytest.mark.parametrize(("allowed", "steps"), [(1e-6, 12), (100.0, 8)])
def test_a_training_that_may_goes_on_while_a_gate_would_fail_it(allowed, steps):
    extraction = ced(
        "phase3.optim.extend_to=12",
        "phase3.optim.tick_every=4",
        f"phase3.optim.extend_above={allowed}",
    )
    assert len(extraction.training["steps"]) == steps
    assert [row["step"] + 1 for row in extraction.training["ticks"]] == list(range(4, steps + 1, 4))


def test_a_tick_tells_the_first_tokens_kl_apart_from_the_loss_of_whole_answers():
    """The state's own `train_kl` is the first token's, so a tick's is too; the best state is chosen by the loss."""
    bench = bench_with("phase3.optim.steps=4", "phase3.loss.on_tokens=all")
    extraction, events = train(bench)
    (measured,) = events_of(events, Tick)
    targets, state = on_targets(bench), extraction.prefix
    apart = kl(torch.cat(targets.teacher), log_probs(bench.lm, targets.ids, state, targets.reads)).split(targets.reads)
    assert any(len(rows) > 1 for rows in apart)
    first = [rows[0].item() for rows in apart]
    whole = [rows[0].item() + (rows[1:].mean().item() if len(rows) > 1 else 0.0) for rows in apart]
    assert measured.train_kl == pytest.approx(sum(first) / len(first), rel=1e-4)
    assert measured.loss_on == pytest.approx(sum(whole) / len(whole), rel=1e-4)


def test_every_query_is_trained_on_before_any_comes_again(monkeypatch):
    training = training_of("phase3.optim.on_batch=2")
    queries, seen = training.objective.targets.ids, []

    def watched(lm, slots, on, *rest):
        seen.extend(on.ids)
        return batch_terms(lm, slots, on, *rest)

    monkeypatch.setattr("cedkv.methods.objective.batch_terms", watched)
    list(run_training(training))
    assert len(seen) == 2 * training.settings.steps
    rounds = [seen[start : start + len(queries)] for start in range(0, len(seen), len(queries))]
    assert all(sorted(some) == sorted(queries) for some in rounds if len(some) == len(queries))
    assert len(set(rounds[-1])) == len(rounds[-1])
    assert len(rounds) > 1
    assert rounds[0] != queries


def test_the_same_seed_gives_the_same_prefix_bit_for_bit():
    first, again, other = ced(), ced(), ced("run.seed=1")
    assert torch.equal(first.prefix.values, again.prefix.values)
    assert torch.equal(first.prefix.mixture.weights, again.prefix.mixture.weights)
    assert not torch.equal(first.prefix.values, other.prefix.values)


def test_a_training_that_is_asked_to_stop_does_so_after_the_step_and_keeps_the_best_state():
    """An extraction that is cancelled in its sixth step ends with the state of the tick before."""
    told = []
    stopping = replace(bench_with(), stop=lambda: len(events_of(told, StepTrace)) == 6)
    for event in METHODS["ced"].run(stopping, 5):
        told.append(event)
    extraction = told[-1].result
    assert [step.step for step in events_of(told, StepTrace)] == [0, 1, 2, 3, 4, 5]
    assert extraction.training["stopped"] == "step 6: cancelled"
    assert not extraction.complete
    (measured,) = events_of(told, Tick)
    student = log_probs(stopping.lm, stopping.probes, extraction.prefix)
    assert measured.train_kl == pytest.approx(kl(stopping.teacher_on_probes, student).mean().item(), rel=1e-4)


def test_the_best_tick_is_kept_and_not_the_last():
    training = scripted(training_of("phase3.optim.topk_schedule=[3]", "phase3.optim.tick_every=2"), 3.0, 1.0, 2.0, 2.5)
    states = []
    for event in run_training(training):
        if isinstance(event, Tick):
            states.append(detached(training.objective.slots.prefix(3)))
    assert torch.equal(best_state(training).values, states[1].values)
    assert not torch.equal(best_state(training).values, states[3].values)


def test_harm_above_the_bound_counts_against_a_state_and_below_it_does_not():
    training = training_of("phase3.optim.topk_schedule=[3]", "phase3.optim.tick_every=2")
    bound = training.objective.dual.bound
    training = scripted(training, (1.0, bound - 1), (0.9, bound), (0.1, bound + 2), (0.95, 0.0))
    list(run_training(training))
    assert training.values == pytest.approx([1.0, 0.9, 2.1, 0.95])
    assert training.best_value == pytest.approx(0.9)


def test_the_bound_is_a_share_of_the_demonstrations_own_harm_and_never_more_than_the_gate_allows():
    lax, allowed = "phase3.dual.target=2", "phase3.thresholds.off_delta_p99_stress_max"
    share = training_of(lax, f"{allowed}=1000").objective.dual.bound
    stress = StressEval(bench := bench_with(), "")
    assert share == pytest.approx(2 * stress.p99(bench.teacher), rel=1e-4)
    assert training_of(lax, f"{allowed}={share / 2}").objective.dual.bound == pytest.approx(share / 2)


def test_an_early_stop_gives_its_reason():
    stopping = ["phase3.optim.early_stop=true", "phase3.optim.patience=2", "phase3.optim.tick_every=1"]
    training = scripted(training_of(*stopping), 5.0, 3.0, 3.0, 2.99, 1.0)
    list(run_training(training))
    assert training.stopped == "step 4: 2 ticks without improvement"
    assert len(training.objective.trace) == 4


def test_early_stop_is_off_unless_asked_for():
    training = scripted(training_of("phase3.optim.tick_every=1"), *[3.0] * 8)
    list(run_training(training))
    assert (training.stopped, len(training.objective.trace)) == ("", 8)


def poison_targets(training: Training) -> None:
    for row in training.objective.targets.teacher:
        row.fill_(math.nan)


def poison_pool(training: Training) -> None:
    for text in training.objective.pool.texts:
        text.base.fill_(math.nan)


def poison_gradient(training: Training) -> None:
    training.objective.slots.logits.register_hook(lambda gradient: gradient * math.inf)


@pytest.mark.parametrize(
    ("poison", "term"), [(poison_targets, "L_on"), (poison_pool, "L_off"), (poison_gradient, "the gradient")]
)
def test_numbers_that_are_not_finite_stop_the_training_and_the_last_good_state_is_kept(poison, term):
    training = training_of(
        "phase3.optim.topk_schedule=[3]", "phase3.optim.tick_every=2", "phase3.off_data.refill_every=8"
    )
    good = []

    def measure(state, step):
        good.append(state)
        poison(training)
        return tick(training, step, loss_on=1.0)

    training.objective.measure_state = measure
    *_, last = run_training(training)
    assert isinstance(last, Warned)
    assert f"step 2: {term} is " in last.message
    assert training.stopped in last.message
    assert len(training.objective.trace) == 2
    assert torch.equal(best_state(training).values, good[0].values)
    assert training.objective.slots.logits.isfinite().all()


def test_a_state_whose_answers_are_no_numbers_is_never_the_best():
    training = training_of("phase3.optim.topk_schedule=[3]", "phase3.optim.tick_every=2")
    stress, good = training.objective.measure_state, []

    def measure(state, step):
        good.append(state)
        broken = state.values if step < 3 else state.values + math.inf
        return stress(state.with_tensors(state.keys, broken), step)

    training.objective.measure_state = measure
    *_, last = run_training(training)
    assert isinstance(last, Warned)
    assert training.stopped == "step 3: Delta on the stress eval is not finite; lower phase3.optim.lr or use float32"
    assert torch.equal(best_state(training).values, good[0].values)
    assert len(training.objective.ticks) == 1


def test_a_training_that_stopped_still_gives_its_extraction():
    extraction = ced("phase3.optim.early_stop=true", "phase3.optim.patience=1", "phase3.optim.tick_every=1",
                     "phase3.optim.lr=1e-9")  # fmt: skip
    assert extraction.training["stopped"] == "step 2: 1 ticks without improvement"
    assert extraction.complete
    assert len(extraction.training["steps"]) == 2
    assert extraction.prefix.values.isfinite().all()


@pytest.mark.parametrize("source", ["fixed_stress", "hard_pool"])
def test_dual_ascent_reads_the_source_it_is_given(source):
    settings = ["phase3.policy_mode=debug", f"phase3.off_data.dual_metric_source={source}", "phase3.optim.tick_every=4"]
    training = training_of(*settings, "phase3.optim.steps=4")
    list(run_training(training))
    pool = tail_stats(training.objective.pool.delta(detached(training.objective.slots.prefix(3)))).p99
    stress = training.objective.ticks[0].stress_p99
    assert pool != pytest.approx(stress, rel=1e-3)
    assert training.objective.dual.trace[0]["metric"] == pytest.approx(
        stress if source == "fixed_stress" else pool, abs=forward()
    )


@pytest.mark.parametrize("source", ["fixed_stress", "hard_pool"])
def test_the_constraint_is_measured_on_the_source_it_is_given(source):
    settings = [
        "phase3.policy_mode=debug",
        f"phase3.off_data.off_constraint_source={source}",
        "phase3.dual.target=0.01",
    ]
    training = training_of(*settings, "phase3.optim.steps=4")
    list(run_training(training))
    pool = tail_stats(training.objective.pool.delta(detached(training.objective.slots.prefix(3)))).p99
    (measured,) = training.objective.ticks
    harm = measured.stress_p99 if source == "fixed_stress" else pool
    assert training.values == pytest.approx([measured.loss_on + harm - training.objective.dual.bound], rel=1e-4)


def test_lambda_rises_while_the_constraint_is_violated_and_weighs_the_off_term():
    training = training_of("phase3.dual.target=0.01", "phase3.dual.eta=2.0")
    list(run_training(training))
    assert [step.lambda_off for step in training.objective.trace[:4]] == [0.5] * 4
    raised = training.objective.dual.trace[0]["lambda_off"]
    assert raised > 0.5
    assert [step.lambda_off for step in training.objective.trace[4:]] == [raised] * 4


def test_a_state_leaves_with_what_was_measured_of_it():
    bench = bench_with()
    events = list(run_method("ced", bench, SLOTS))
    extraction, ticks = events[-1].result, events_of(events, Tick)
    kept = next(tick for tick in ticks if tick.step == extraction.training["best_step"])
    metrics = extraction.prefix.meta["metrics"]
    assert metrics["off_p99"] == kept.stress_p99
    assert metrics["train_kl"] == pytest.approx(kept.train_kl, rel=1e-4)


def test_the_total_weighs_the_terms():
    training = training_of("phase3.loss={lambda_on: 2.0, lambda_off: 0.5, lambda_str: 0.1, tail_fraction: 0.5}")
    losses = training.objective.losses(0)
    terms = losses.terms
    assert_close(losses.total, 2.0 * terms["L_on"] + 0.5 * terms["L_off"] + 0.1 * terms["L_str"])


def test_a_training_that_is_taken_up_again_ends_bit_for_bit_where_the_whole_one_does(tmp_path):
    """Cut in its third step of eight, between two fills of the pool and before the first tick; then run again."""
    whole = training_of()
    events = list(run_training(whole))
    kept = Checkpoint(tmp_path / "training.safetensors", "the same settings", every=1)
    cut = replace(training_of(), checkpoint=kept)
    for event in run_training(cut):
        if isinstance(event, StepTrace) and event.step == 2:
            break  # the step's update is made, but not yet kept
    resumed = replace(training_of(), checkpoint=kept)
    rest = list(run_training(resumed))
    assert [step.step for step in events_of(rest, StepTrace)] == [2, 3, 4, 5, 6, 7]
    assert resumed.values == whole.values
    assert resumed.best_step == whole.best_step
    for name, tensor in whole.best.items():
        assert torch.equal(resumed.best[name], tensor)
    losses = [(step.loss_on, step.loss_off, step.loss_str) for step in events_of(events, StepTrace)]
    assert [(step.loss_on, step.loss_off, step.loss_str) for step in resumed.objective.trace] == losses
    assert resumed.objective.dual.trace == whole.objective.dual.trace
    assert [text.off for text in resumed.objective.pool.texts] == [text.off for text in whole.objective.pool.texts]
