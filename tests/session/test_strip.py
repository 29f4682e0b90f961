"""Instant slots of several sizes and weights, and demonstrations one by one: each number is that of a reading alone."""

import pytest
import torch

from cedkv.config import parse_config
from cedkv.episodes import Demonstration, episode_from_config, get_template, make_query, tokenize_demos
from cedkv.errors import CedKVError, ConfigError
from cedkv.evaluation import Judge
from cedkv.lm import log_probs, read_demo_kv
from cedkv.methods import Workbench
from cedkv.methods.chunked import closed_form
from cedkv.metrics import kl
from cedkv.session import strip as module
from cedkv.session.examine import iter_examine
from cedkv.session.strip import Strip, iter_strip
from components.demo_rows import demo_rows_html, reordered
from components.sizes import places_html, sizes_figure
from tests.tiny import PAIRS, tiny_lm

CONFIG = parse_config("episode: {demos: 4, on_train: 4}\nphase2: {eval: {on_samples: 3}}\nphase3: {slots: 13}", "test")
SIZES, WEIGHTS = (12, 16), (0.0, 0.8)


@pytest.fixture(scope="module")
def lm():
    return tiny_lm("llama")


@pytest.fixture(scope="module")
def strips(lm):
    """Of a few sizes: to merge a tiny tokenizer's many places into one slot takes longer than all else."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SIZES", SIZES)
        patch.setattr(module, "WEIGHTS", WEIGHTS)
        return [strip for strip in iter_strip(lm, CONFIG) if isinstance(strip, Strip)]


@pytest.fixture(scope="module")
def examined(lm):
    return list(iter_examine(lm, CONFIG, PAIRS[:4]))


def test_a_strip_grows_by_every_size_and_every_weight_and_ends_with_its_yardsticks(strips):
    last = strips[-1]
    assert last.done and not any(strip.done for strip in strips[:-1])
    assert [slots for slots, _ in last.sizes()] == [12, 13, 16]
    assert [weight for _, weight in last.weights()] == sorted(WEIGHTS) and set(last.points) == set(last.places)
    assert last.yardsticks.keys() == {"teacher", "select"} and (last.queries, last.gold) == (3, "labels")
    assert last.yardsticks["teacher"].kl == pytest.approx(0, abs=1e-6)
    assert [len(strip.points) for strip in strips[:-1]] == list(range(len(last.points) + 1))


def test_a_point_is_what_the_state_does_that_its_click_opens(lm, strips):
    slots, weight = 16, CONFIG.phase3.chunked.weight
    config = strips[-1].config_at(slots, weight)
    assert (config.phase3.slots, config.phase3.chunked.weight) == (slots, weight) and config.episode == CONFIG.episode
    episode = episode_from_config(lm, config)
    bench = Workbench(lm, episode, config)
    judge = Judge(lm, episode, bench.teacher, {"stress": episode.off_set("stress", 24)})
    state = closed_form(bench, slots, weight)
    point = strips[-1].points[slots, weight]
    view = judge.on_view(state)
    assert point.accuracy == view.accuracy
    assert point.kl == pytest.approx(kl(judge.teacher_on.first, view.first).mean().item(), abs=1e-5)
    assert point.off == pytest.approx(torch.quantile(judge.delta_off(state, "stress"), 0.99).item(), abs=1e-4)


def test_a_state_of_other_demonstrations_or_another_model_has_no_place_on_it(strips):
    strip = strips[-1]
    at = strip.config_at(12, 0.8)
    assert strip.place_of(at) == (12, 0.8)
    for other in ("episode: {task: antonym}", "run: {seed: 4}", "run: {model: {id: another}}"):
        changed = parse_config(other, "test")
        assert strip.place_of(at.model_copy(update={"episode": changed.episode, "run": changed.run})) is None
    with pytest.raises(ConfigError, match="99 slots at weight 0.8 were not measured"):
        strip.config_at(99, 0.8)


def test_the_strip_is_drawn_with_its_yardsticks_and_a_ring_around_what_is_shown(strips):
    strip = strips[-1]
    figure = sizes_figure(strip, (12, strip.weight))
    points = [trace for trace in figure.data if trace.name == "chunked slots"]
    assert len(points) == 6 and list(points[0].x) == ["12", "13", "16"]
    assert list(points[1].y) == [strip.points[place].kl for place in strip.sizes()]
    assert tuple(points[3].customdata[0]) == (13, 0.0)
    rings = [trace for trace in figure.data if trace.name == "shown now"]
    assert [list(ring.x) for ring in rings] == [["12"]] * 3
    lines = [shape.y0 for shape in figure.layout.shapes]
    assert len(lines) == 10 and lines.count(strip.yardsticks["select"].off) == 2
    html = places_html(strip)
    assert html.count("data-slots") == 3 + 2 and "first token" in html and "measuring" not in html


def test_each_demonstration_is_read_behind_the_others_alone(lm, examined):
    rows = examined[-1].rows
    demos = [Demonstration(*pair) for pair in PAIRS[:4]]
    template = get_template("qa").fitted(lm, demos)
    query = make_query(lm, template, *PAIRS[1])
    asked, answer = query.ids, list(query.answer_ids)
    prefix = read_demo_kv(lm, tokenize_demos(lm, [demos[0], *demos[2:]], template)).as_prefix()
    said = log_probs(lm, [[*asked, *answer[:-1]]], prefix, [len(answer)])
    alone = said.gather(1, torch.tensor(answer)[:, None]).mean().item()
    assert rows[1].log_prob == pytest.approx(alone, abs=1e-3)
    assert rows[1].right == (said.argmax(-1).tolist() == answer)
    assert all(row.influence is not None for row in rows) and examined[0].rows[0].influence is None


def test_orders_begin_with_the_present_one_and_change_what_the_teacher_says(examined):
    now, backwards, *shuffled = examined[-1].orders
    assert now.places == (0, 1, 2, 3) and backwards.places == (3, 2, 1, 0) and len(shuffled) == 2
    assert examined[-1].done and abs(now.log_prob - backwards.log_prob) > 1e-4


def test_rows_show_what_is_odd_and_keep_it_where_they_are_moved(examined):
    pairs = [list(pair) for pair in PAIRS[:4]]
    moved = reordered(pairs, [3, 0, 1, 2])
    assert moved[0] == pairs[3] and sorted(moved) == sorted(pairs) and reordered(pairs, [0, 0, 1, 2]) == pairs
    shown = demo_rows_html([tuple(pair) for pair in moved], examined[-1])
    assert shown.count("data-row") == 4 and "the model itself does not say this" in shown
    assert 'data-order="[1, 2, 3, 0]"' in shown  # from here back to as they were
    hostile = demo_rows_html([("<img src=x>", "y"), ("<img src=x>", "y")])
    assert "<img" not in hostile and "row 2 repeats row 1" in hostile


@pytest.mark.parametrize("count", [2, 41])
def test_too_few_or_too_many_to_examine_are_refused(lm, count):
    with pytest.raises(CedKVError, match=f"{count} demonstrations: from 3 to 40"):
        next(iter_examine(lm, CONFIG, [(f"x{n}", "y") for n in range(count)]))
