"""The diagnosis: curves whose ends are known, and words for what each shape of them means."""

import json

import pytest

from cedkv.config import load_config
from cedkv.episodes import episode_from_config
from cedkv.events import drain
from cedkv.files import dump_json
from cedkv.gate.bottleneck import find_bottlenecks
from cedkv.gate.diagnosed import read_diagnosis
from cedkv.gate.diagnosis import Reach, Ruler, by_layer, iter_diagnosis
from cedkv.methods import Workbench
from cedkv.methods.chunked import closed_form
from tests.gate.reports import SMALL
from tests.tiny import LAYERS, tiny_lm
from tests.tolerance import forward

REACH = Reach(slots=(2, 6), dial=(0.0, 1.0), bands=2, lambdas=(3.0,), queries=2, texts=9)
TRAINING = ["phase3.slots=4", "phase3.optim.steps=1", "phase3.optim.tick_every=1", "phase3.off_data.candidates=8"]


@pytest.fixture(scope="module")
def bench() -> Workbench:
    lm, config = tiny_lm("llama"), load_config(None, [*SMALL, *TRAINING])
    return Workbench(lm, episode_from_config(lm, config), config)


@pytest.fixture(scope="module")
def found(bench):
    return drain(iter_diagnosis(bench, REACH))


def test_the_ends_of_every_curve_are_known(found):
    references = found["references"]
    assert references["base"]["off_p99"] < forward() and references["base"]["kl"] > 0.01
    assert references["teacher"]["kl"] < forward() and references["teacher"]["agreement"] == 1
    assert {"neutral_token", "neutral_paragraph"} < references.keys()


def test_the_sink_alone_stands_beside_the_slots_and_knows_nothing_of_the_relation(bench, found):
    alone = found["references"]["sink_alone"]
    state = closed_form(bench, found["slots"], found["weight"])
    sinks = [slot for point in found["by_role"] if point["role"] == "sink" for slot in point["slots"]]
    assert alone == Ruler(bench, REACH).point(state.without([slot for slot in range(state.slots) if slot not in sinks]))
    assert alone["off_p99"] > 0 and alone["kl"] > forward()


def test_curves_stand_at_the_places_that_were_asked_for(found):
    assert [point["slots"] for point in found["by_slots"]] == sorted({2, 4, 6, found["places"]})
    assert [point["made"] for point in found["by_slots"]] == [point["slots"] for point in found["by_slots"]]
    assert [point["weight"] for point in found["by_weight"]] == [0, 1]
    assert [point["layers"] for point in found["by_layer"]] == [[0, 1], [2, 3]]
    assert sorted(slot for point in found["by_role"] for slot in point["slots"]) == [0, 1, 2, 3]
    assert found["by_role"][0]["role"] == "sink"
    assert [point["lambda_off"] for point in found["by_lambda"]] == [3]
    assert json.loads(json.dumps(found)) == found


def test_what_is_written_is_read_again(found, tmp_path):
    path = tmp_path / "diagnosis.json"
    path.write_text(dump_json(found))
    again = read_diagnosis(path)
    assert again["by_slots"][0]["kl"] == found["by_slots"][0]["kl"]
    assert {part: len(again[part]) for part in ("by_weight", "by_layer", "by_role")} == {
        part: len(found[part]) for part in ("by_weight", "by_layer", "by_role")
    }


def test_what_a_diagnosis_reads_is_neither_trained_on_nor_judged(bench):
    ruler = Ruler(bench, REACH)
    assert not set(ruler.queries) & {query.ids for query in ruler.trained_on}
    assert not set(ruler.queries) & {query.ids for query in bench.episode.on_eval}
    judged = {text.text for split in ("typical", "stress") for text in bench.episode.off_set(split, 200).texts}
    read = [bench.lm.decode(ids) for ids in ruler.off.ids]
    assert len(read) == REACH.texts and not judged & set(read)


def test_a_state_that_is_the_teacher_is_at_no_distance(bench):
    point = Ruler(bench, REACH).point(bench.teacher)
    assert point["kl"] < forward()
    assert point == pytest.approx(Ruler(bench, REACH).point(bench.teacher))


def curve(**changed):
    """A diagnosis with nothing in the way, but for what is changed."""
    fine = {"agreement": 1.0, "kl": 0.05, "off_mean": 0.3, "off_p99": 2.0}
    alike = {"effective_rank_values": 7.0, "near_copies": [], "made": 8}
    found = {
        "slots": 8,
        "weight": 0.8,
        "places": 9,
        "references": {"base": {**fine, "agreement": 0.0, "kl": 6.0}, "neutral_paragraph": {**fine, "off_p99": 2.6}},
        "by_slots": [{"slots": slots, **fine, **alike} for slots in (4, 8, 16)],
        "by_weight": [{"weight": weight, **fine} for weight in (0.0, 0.5, 1.0)],
        "by_layer": [{"layers": [2 * band, 2 * band + 1], **fine, "kl": 1.0} for band in range(LAYERS)],
        "by_role": [],
        "by_lambda": [],
    }
    for name, points in changed.items():
        for index, point in points.items():
            found[name][index].update(point)
    return found


BAD = {"kl": 0.9, "agreement": 0.4}


@pytest.mark.parametrize(
    ("changed", "name", "option"),
    [
        ({}, "none", "chunked"),
        ({"references": {"base": {"agreement": 0.95}}}, "demonstrations", "change the first token"),
        ({"by_slots": {1: BAD}}, "expressiveness", "phase3.slots=16"),
        ({"by_slots": {1: BAD, 2: BAD}}, "weight", "phase3.chunked.weight=1"),
        ({"by_slots": {1: BAD, 2: BAD}, "by_weight": {2: BAD}}, "expressiveness", "thorough"),
        ({"by_slots": {1: {"near_copies": [[1, 2]]}}}, "collapse", "within_chunks"),
        ({"by_slots": {1: {"effective_rank_values": 2.2}}}, "collapse", "phase3.slots=2"),
        ({"by_slots": {1: {"off_p99": 3.0}}, "by_weight": {2: {"off_p99": 3.4}}}, "trade-off", "weight=0:"),
        ({"by_slots": {1: {"off_p99": 3.0}}, "by_weight": {0: BAD, 1: BAD, 2: BAD}}, "trade-off", "ced"),
        (
            {"by_layer": {0: {"kl": 0.05, "off_p99": 1.5}, 1: {"kl": 0.06, "off_p99": 1.6}}},
            "layers",
            "injection=[4,5,6,7]",
        ),
    ],
)
def test_every_shape_has_its_words(changed, name, option):
    first, *_ = find_bottlenecks(curve(**changed))
    assert first.name == name
    assert option in first.option


@pytest.mark.parametrize(
    ("here", "weights", "words"),
    [
        (3.0, {2: {"off_p99": 2.5}, 0: {"off_p99": 3.4}, 1: {"off_p99": 3.2}}, "less weight is no quieter"),
        (3.0, {0: {**BAD, "off_p99": 1.0}, 1: {"off_p99": 3.2}}, "less weight is quieter but no longer good"),
        (3.0, {0: {**BAD, "off_p99": 1.0}, 1: {"off_p99": 2.2}}, "less weight is quieter and still good"),
    ],
)
def test_less_weight_is_said_to_be_what_less_weight_is(here, weights, words):
    """A heavier state that happens to be quieter is no lighter one."""
    (finding,) = find_bottlenecks(curve(by_slots={1: {"off_p99": here}}, by_weight=weights))
    assert finding.words.endswith(f"; {words}.")


def test_bands_are_of_the_layers_that_see_the_slots(bench):
    state = closed_form(bench, 4, 1.0).with_injection_layers([1, 3])
    assert [point["layers"] for point in by_layer(Ruler(bench, REACH), state, 3)] == [[1], [3]]


def test_a_training_that_is_quieter_than_any_weight_is_named():
    found = curve(by_slots={1: {"off_p99": 3.0}})
    point = {"agreement": 1.0, "kl": 0.04, "off_mean": 0.2, "off_p99": 1.2}
    (finding,) = find_bottlenecks({**found, "by_lambda": [{"lambda_off": 6.0, **point}]})
    assert "phase3.loss.lambda_off=6" in finding.option
