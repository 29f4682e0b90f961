"""Few-shot, the honest rival: whole demonstrations within S tokens, chosen greedily by the distance to the teacher."""

from dataclasses import replace

import pytest

from cedkv.config import load_config
from cedkv.episodes import episode_from_config
from cedkv.events import Progress, drain
from cedkv.lm import log_probs, read_demo_kv
from cedkv.methods import METHODS, Workbench, run_method
from cedkv.methods.few_shot import few_shot_trial
from cedkv.metrics import kl
from cedkv.state import KVPrefix
from tests.optim.trainings import bench_with, events_of
from tests.tolerance import FORWARD

JUDGES = 8
MANY = "episode.on_train=10"


def lengths(bench: Workbench) -> list[int]:
    """Tokens of each demonstration."""
    return [end - start for start, end in bench.episode.tokens.demo_spans()]


def opening(bench: Workbench) -> int:
    """Tokens in front of the first demonstration, which every prompt has."""
    return bench.episode.tokens.demo.count(-1)


def room_for(bench: Workbench, count: int) -> int:
    """The fewest tokens into which any `count` of the demonstrations fit."""
    return opening(bench) + sum(sorted(lengths(bench))[-count:])


def chosen(bench: Workbench, slots: int) -> tuple[KVPrefix, list[int]]:
    extraction = drain(METHODS["few_shot"].run(bench, slots))
    return extraction.prefix, extraction.artifacts["few_shot"]["demos"]


def prompt_of(bench: Workbench, demos: list[int]) -> KVPrefix:
    """An ordinary prompt of some demonstrations in this order, read by itself."""
    tokens = bench.episode.tokens
    spans = tokens.demo_spans()
    front = [index for index, demo in enumerate(tokens.demo) if demo == -1]
    return read_demo_kv(
        bench.lm, tokens.take([*front, *(i for demo in demos for i in range(*spans[demo]))])
    ).as_prefix()


def distance(bench: Workbench, prefix: KVPrefix) -> float:
    """KL(teacher || prompt) on the first training queries, nats."""
    queries = bench.train_ids[:JUDGES]
    return kl(log_probs(bench.lm, queries, bench.teacher), log_probs(bench.lm, queries, prefix)).mean().item()


@pytest.mark.parametrize("count", [1, 2, 3])
def test_what_is_chosen_fits_into_as_many_tokens_and_is_whole(count):
    bench = bench_with(MANY)
    slots = room_for(bench, count)
    prefix, demos = chosen(bench, slots)
    assert prefix.slots == opening(bench) + sum(lengths(bench)[demo] for demo in demos) <= slots
    assert 1 <= len(demos) == len(set(demos)) <= len(lengths(bench))
    tokens = prefix.mixture.tokens
    spans = bench.episode.tokens.demo_spans()
    whole = [bench.episode.tokens.ids[slice(*spans[demo])] for demo in demos]
    assert tokens.ids[opening(bench) :] == sum(whole, ())


def test_one_more_token_decides_whether_a_demonstration_fits():
    bench = bench_with(MANY)
    shortest = min(lengths(bench))
    least = opening(bench) + shortest
    (only,) = chosen(bench, least)[1]
    assert lengths(bench)[only] == shortest
    assert chosen(bench, least - 1)[1] == []


def test_each_demonstration_is_the_one_that_comes_nearest_to_the_teacher():
    """Grown greedily by hand: of all that still fit, the one with the least KL; of all prompts on the way, the best."""
    bench = bench_with(MANY)
    slots = room_for(bench, 3)
    grown, stages = [], []
    while candidates := [
        demo
        for demo in range(len(lengths(bench)))
        if demo not in grown and opening(bench) + sum(lengths(bench)[d] for d in [*grown, demo]) <= slots
    ]:
        grown = min(([*grown, demo] for demo in candidates), key=lambda demos: distance(bench, prompt_of(bench, demos)))
        stages.append((distance(bench, prompt_of(bench, grown)), grown))
    prefix, demos = chosen(bench, slots)
    assert len(stages) >= 3
    assert demos == min(stages)[1]
    assert distance(bench, prefix) == pytest.approx(min(stages)[0], abs=FORWARD["atol"])


def test_it_is_judged_on_training_queries_alone():
    """Other evaluation queries change nothing, other training queries do."""
    bench = bench_with(MANY)
    slots = room_for(bench, 2)
    episode = bench.episode
    unseen = replace(bench, episode=replace(episode, on_eval=episode.on_eval[:1]))
    assert chosen(unseen, slots)[1] == chosen(bench, slots)[1]
    picks = {
        tuple(chosen(replace(bench, episode=replace(episode, on_train=(query,))), slots)[1])
        for query in episode.on_train
    }
    assert len(picks) > 1


def test_the_last_chosen_stands_nearest_to_the_query():
    bench = bench_with(MANY)
    prefix, demos = chosen(bench, room_for(bench, 3))
    assert len(demos) > 1
    numbers = [demo for demo in prefix.mixture.tokens.demo if demo != -1]
    assert list(dict.fromkeys(numbers)) == demos
    assert (prefix.positions == prefix.positions.sort().values).all()
    ordered = log_probs(bench.lm, bench.train_ids, prompt_of(bench, demos))
    assert (log_probs(bench.lm, bench.train_ids, prefix) - ordered).abs().max() <= FORWARD["atol"]
    turned = log_probs(bench.lm, bench.train_ids, prompt_of(bench, demos[::-1]))
    assert (turned - ordered).abs().max() > 100 * FORWARD["atol"]


def test_where_none_fits_the_prompt_is_what_stands_in_front_of_the_first():
    bench = bench_with(MANY)
    prefix, demos = chosen(bench, 1)
    assert demos == []
    assert prefix.slots == opening(bench)
    alone = log_probs(bench.lm, bench.train_ids)
    assert (log_probs(bench.lm, bench.train_ids, prefix) - alone).abs().max() <= FORWARD["atol"]


def test_random_prompts_fit_too_and_differ_by_trial():
    bench = bench_with(MANY)
    slots = room_for(bench, 2)
    trials = [few_shot_trial(bench, slots, trial) for trial in range(6)]
    assert all(prefix.slots <= slots for prefix in trials)
    assert len({prefix.mixture.tokens.ids for prefix in trials}) > 1
    assert few_shot_trial(bench, slots, 3).mixture.tokens.ids == trials[3].mixture.tokens.ids
    assert all(opening(bench) + min(lengths(bench)) <= prefix.slots for prefix in trials)


def test_it_tells_how_far_it_is():
    bench = bench_with(MANY)
    events = list(METHODS["few_shot"].run(bench, room_for(bench, 1)))
    first = [event for event in events_of(events, Progress) if event.stage == "few-shot: demonstration 1"]
    assert [event.done for event in first] == list(range(1, first[0].total + 1))


def test_on_the_embedded_model_two_demonstrations_teach_what_none_does_not(lm):
    config = load_config(None, ["episode.demos=4", "episode.on_train=8", "phase2.eval.on_samples=8"])
    bench = Workbench(lm, episode_from_config(lm, config), config)
    two = drain(run_method("few_shot", bench, room_for(bench, 2)))
    assert len(two.artifacts["few_shot"]["demos"]) >= 2
    base, nothing = kl(bench.teacher_on_probes, log_probs(lm, bench.probes)).mean().item(), distance(bench, two.prefix)
    assert nothing < base / 2
