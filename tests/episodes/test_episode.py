"""Episodes: demonstrations, training queries and evaluation queries never meet, and a seed decides everything."""

import json
from itertools import combinations

import pytest

from cedkv.config import parse_config
from cedkv.episodes import Demonstration, Episode, build_episode, episode_from_config, get_template
from cedkv.episodes.relation import made_up
from cedkv.episodes.relation.build import QUERY_ROOM
from cedkv.episodes.relation.made_up import generated_inputs
from cedkv.errors import DemoError
from tests.tiny import ARCHITECTURES, PAIRS, tiny_lm

DEMOS = [Demonstration(*pair) for pair in PAIRS[:3]]
HELD_OUT = [Demonstration(f"word{i}", f"word{i}ed") for i in range(20)]
# Inputs so long that whatever a tiny model makes up is short enough to pass for one.
LONG = [Demonstration(f"{number} once upon a time there was a tall king by the sea", "sea") for number in range(3)]


def build(demos=DEMOS, held_out=HELD_OUT, *, architecture="llama", template="qa", **options) -> Episode:
    settings = {"task": "test", "seed": 0, "on_train": 6, "on_eval": 5, **options}
    return build_episode(tiny_lm(architecture), demos, held_out, get_template(template), **settings)


def from_yaml(text: str, architecture: str = "llama") -> Episode:
    return episode_from_config(tiny_lm(architecture), parse_config(text, "test"))


def inputs(episode: Episode) -> tuple[list[str], list[str], list[str]]:
    return tuple([item.input for item in part] for part in (episode.demos, episode.on_train, episode.on_eval))


def assert_disjoint(episode: Episode) -> None:
    parts = inputs(episode)
    for part in parts:
        assert len(set(part)) == len(part), "an input is there twice"
    for one, other in combinations(parts, 2):
        assert not set(one) & set(other)


@pytest.mark.parametrize("seed", range(5))
def test_demos_training_and_evaluation_are_disjoint(seed):
    episode = build(seed=seed)
    assert_disjoint(episode)
    assert [len(part) for part in inputs(episode)] == [3, 6, 5]
    assert episode.gold == "labels" and episode.on_train_source == "held_out"


def test_pairs_that_share_an_input_with_a_demonstration_are_left_out():
    episode = build(held_out=[*DEMOS, Demonstration("lift", "hove"), *HELD_OUT], on_train=100)
    assert_disjoint(episode)
    assert sorted(inputs(episode)[1] + inputs(episode)[2]) == sorted(pair.input for pair in HELD_OUT)


def test_held_out_pairs_with_one_input_count_once():
    twice = [*HELD_OUT, *(Demonstration(pair.input, "another") for pair in HELD_OUT)]
    for seed in range(5):
        assert_disjoint(build(held_out=twice, seed=seed, on_train=100))


def test_evaluation_queries_carry_their_answers_and_training_queries_none():
    episode = build()
    assert {(query.input, query.answer) for query in episode.on_eval} <= {
        (pair.input, f" {pair.output}") for pair in HELD_OUT
    }
    assert all(query.answer_ids for query in episode.on_eval)
    assert all(query.answer == "" and query.answer_ids == () for query in episode.on_train)


def test_a_seed_decides_the_draw():
    assert build(seed=3) == build(seed=3)
    assert inputs(build(seed=3))[1:] != inputs(build(seed=4))[1:]


def test_evaluation_does_not_depend_on_the_number_of_training_queries():
    assert build(on_train=2).on_eval == build(on_train=9).on_eval


def test_pasted_inputs_are_used_once_and_never_those_judged():
    judged = inputs(build())[2]
    pasted = ["new", "lift", judged[0], "  new ", "other", "", "   ", f" {judged[1]}", "other"]
    episode = build(on_source="pasted", pasted_inputs=pasted)
    assert inputs(episode)[2] == judged
    assert inputs(episode)[1] == ["new", "other"]


def test_pasted_inputs_alone_need_no_labels():
    """Without labelled pairs the teacher's own answers are the gold, and no query is both trained on and judged."""
    pasted = [f"word{i}" for i in range(10)]
    episode = build(held_out=[], on_source="pasted", pasted_inputs=pasted, on_eval=4)
    assert_disjoint(episode)
    assert episode.gold == "teacher" and episode.on_train_source == "pasted"
    assert set(inputs(episode)[1] + inputs(episode)[2]) <= set(pasted)
    assert all(query.answer_ids for query in episode.on_eval)


def test_training_does_not_depend_on_how_many_of_the_pasted_inputs_are_judged():
    """A state trained without a judge in mind can be judged later, on inputs it has not seen."""
    pasted = [f"word{i}" for i in range(12)]
    few, many = (build(held_out=[], on_source="pasted", pasted_inputs=pasted, on_eval=n) for n in (1, 6))
    assert inputs(few)[1] == inputs(many)[1] == pasted[:6]
    assert inputs(many)[2] == pasted[6:]


def test_test_pairs_are_judged_on_in_place_of_all_others():
    pairs = [Demonstration("lift", "taken"), Demonstration("word3", "w3"), Demonstration("new", "newer")]
    episode = build(test_pairs=[*pairs, pairs[1]], on_train=100)
    assert_disjoint(episode)
    assert [(query.input, query.answer) for query in episode.on_eval] == [("word3", " w3"), ("new", " newer")]
    assert sorted(inputs(episode)[1]) == sorted(pair.input for pair in HELD_OUT if pair.input != "word3")
    alone = build(held_out=[], test_pairs=pairs, on_source="pasted", pasted_inputs=["one", "new", "two"])
    assert alone.gold == "labels" and inputs(alone)[1:] == (["one", "two"], ["word3", "new"])
    assert len(build(test_pairs=HELD_OUT, on_eval=2).on_eval) == 2


def test_test_pairs_that_are_all_demonstrations_are_refused():
    with pytest.raises(DemoError, match="every test pair is a demonstration too"):
        build(test_pairs=[Demonstration("lift", "lifted")])


@pytest.mark.parametrize("pasted", [[], ["lift"], ["", "  "]])
def test_too_few_pasted_inputs_are_refused(pasted):
    with pytest.raises(DemoError, match="on_source 'pasted' gives 0 queries besides the demonstrations"):
        build(on_source="pasted", pasted_inputs=pasted)


@pytest.mark.parametrize("template", ["qa", "{input} -> {output}\n"])
def test_generated_inputs_are_new_distinct_and_decided_by_the_seed(template):
    lm, shape = tiny_lm("llama"), get_template(template)
    tokens = build(LONG, [], template=template, on_source="generated").tokens
    exclude = {demo.input for demo in LONG}
    made = generated_inputs(lm, tokens, shape, exclude, count=12, seed=0)
    assert len(set(made)) == len(made) == 12, "a tiny model hardly ever says the same twice"
    assert not set(made) & exclude
    assert all(text == text.strip() and text and "\n" not in text for text in made)
    assert generated_inputs(lm, tokens, shape, exclude, count=12, seed=0) == made
    others = generated_inputs(lm, tokens, shape, exclude | set(made[:5]), count=12, seed=0)
    assert not set(others) & set(made[:5])


def test_inputs_that_are_too_long_are_not_waited_for_and_others_are_the_same(monkeypatch):
    lm, shape, tokens = tiny_lm("llama"), get_template("qa"), build(LONG, [], on_source="generated").tokens
    rooms, real = [], made_up.generate
    monkeypatch.setattr(made_up, "generate", lambda *given, **named: rooms.append(named) or real(*given, **named))
    soon = generated_inputs(lm, tokens, shape, set(), count=12, seed=0)
    monkeypatch.setattr(made_up, "_SPARE", made_up._MAX_INPUT_TOKENS)
    assert generated_inputs(lm, tokens, shape, set(), count=12, seed=0) == soon
    assert rooms[0]["max_new_tokens"] < rooms[-1]["max_new_tokens"] == made_up._MAX_INPUT_TOKENS


def test_another_seed_makes_up_other_inputs():
    first, second = (inputs(build(LONG, [], seed=seed, on_train=4, on_eval=2)) for seed in (0, 1))
    assert first[0] == second[0]
    assert first[1:] != second[1:]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_episode_from_nothing_but_demonstrations(architecture):
    episode = build(LONG, [], architecture=architecture, on_train=4, on_eval=3)
    assert_disjoint(episode)
    assert episode.gold == "teacher" and episode.on_train_source == "generated"
    assert episode.on_train and episode.on_eval


def test_generated_training_inputs_are_never_evaluation_inputs():
    episode = build(LONG, HELD_OUT, on_source="generated", on_train=8)
    assert_disjoint(episode)
    assert {query.input for query in episode.on_eval} <= {pair.input for pair in HELD_OUT}


@pytest.mark.parametrize("held_out", [HELD_OUT, []])
def test_the_model_makes_up_further_training_queries(held_out):
    plain, more = (build(LONG, held_out, made_up=count) for count in (0, 8))
    assert_disjoint(more)
    assert more.on_eval == plain.on_eval
    assert more.on_train_source == f"{plain.on_train_source}+made_up"
    trained = inputs(more)[1]
    assert set(inputs(plain)[1]) < set(trained) and len(trained) == len(plain.on_train) + 8
    of_plain = [text in inputs(plain)[1] for text in trained]
    assert of_plain != sorted(of_plain, reverse=True), "both kinds are among the first, which alone are read in places"


def test_the_embedded_model_makes_up_inputs_of_the_same_kind(lm):
    tokens = build_episode(
        lm,
        [Demonstration(*pair) for pair in PAIRS[:5]],
        [Demonstration(*pair) for pair in PAIRS[5:]],
        get_template("qa"),
        task="test",
        seed=0,
        on_train=1,
        on_eval=1,
    ).tokens
    exclude = {source for source, _ in PAIRS}
    made = generated_inputs(lm, tokens, get_template("qa"), exclude, count=4, seed=0)
    assert len(made) == 4
    assert not set(made) & exclude
    assert all(len(text.split()) <= 4 for text in made)


def test_demonstrations_longer_than_the_context_are_refused_with_counts():
    lm = tiny_lm("llama")
    demos = [Demonstration(f"word{i} " + "king " * 20, "x") for i in range(30)]
    tokens = sum(len(lm.encode(f"Q: {demo.input}\nA: x\n\n")) for demo in demos)
    assert tokens + QUERY_ROOM > lm.context
    with pytest.raises(DemoError) as caught:
        build(demos)
    assert str(caught.value) == (
        f"the 30 demonstrations have {tokens} tokens, but llama takes 512 including {QUERY_ROOM} for the query; "
        "use fewer or shorter ones"
    )


@pytest.mark.parametrize(
    "options",
    [
        {"test_pairs": [Demonstration("king " * 600, "x")]},
        {"test_pairs": [Demonstration("short", "king " * 600)]},
        {"held_out": [], "on_source": "pasted", "pasted_inputs": ["short", "king " * 600], "on_train": 1},
        {"on_source": "pasted", "pasted_inputs": ["king " * 600]},
    ],
)
def test_a_query_that_the_model_cannot_read_behind_the_demonstrations_is_refused(options):
    with pytest.raises(
        DemoError, match=r"query '(king|short).*' behind .* do not fit into the 512 that llama takes; use"
    ):
        build(**options)


def test_episode_of_a_shipped_task():
    episode = from_yaml(
        "episode: {task: plural-singular, demos: 4, on_train: 7, template: arrow}\n"
        "run: {seed: 2}\nphase2: {eval: {on_samples: 9}}"
    )
    assert_disjoint(episode)
    assert (episode.task, episode.seed) == ("plural-singular", 2)
    assert [len(part) for part in inputs(episode)] == [4, 7, 9]
    assert all(query.text.endswith(" ->" + episode.opening) for query in episode.on_eval)


def test_seed_of_the_config_draws_other_demonstrations():
    one, other = (from_yaml(f"episode: {{demos: 5}}\nrun: {{seed: {seed}}}") for seed in (0, 1))
    assert inputs(one)[0] != inputs(other)[0]
    assert one == from_yaml("episode: {demos: 5}")


@pytest.fixture
def task_file(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps([{"input": pair.input, "output": pair.output} for pair in HELD_OUT]), encoding="utf-8")
    return path


def test_episode_of_a_task_file(task_file):
    episode = from_yaml(f"episode: {{task_file: '{task_file}', demos: 5}}")
    assert_disjoint(episode)
    assert episode.task == "mine"
    assert {demo.input for demo in episode.demos} <= {pair.input for pair in HELD_OUT}


def test_a_demonstrations_file_is_taken_whole_and_in_order(task_file, tmp_path):
    path = tmp_path / "demos.txt"
    path.write_text("\ufefflift -> lifted\r\nwalk -> walked\r\nword3 -> word3ed", encoding="utf-8")
    episode = from_yaml(
        f"episode: {{demos_file: '{path}', task_file: '{task_file}', demos: 1}}\nphase2: {{eval: {{on_samples: 4}}}}"
    )
    assert inputs(episode)[0] == ["lift", "walk", "word3"]
    assert_disjoint(episode)
    assert "word3" not in inputs(episode)[1] + inputs(episode)[2]


def test_a_demonstrations_file_alone_takes_no_queries_from_the_default_task(tmp_path):
    path = tmp_path / "verbs.txt"
    path.write_text("\n".join(f"{demo.input} -> {demo.output}" for demo in LONG), encoding="utf-8")
    episode = from_yaml(f"episode: {{demos_file: '{path}', on_train: 3}}")
    assert (episode.task, episode.gold) == ("verbs", "teacher")
    assert_disjoint(episode)


def test_a_demonstrations_file_that_cannot_be_read_is_named(tmp_path):
    binary = tmp_path / "binary.txt"
    binary.write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "none.txt", tmp_path, binary):
        with pytest.raises(DemoError, match="cannot be read") as caught:
            from_yaml(f"episode: {{demos_file: '{path}'}}")
        assert str(path) in str(caught.value)


def test_off_texts_of_an_episode_are_frozen_by_seed():
    episode, other = build(seed=1), build(seed=2)
    assert episode.off_set("stress", 16) == episode.off_set("stress", 16)
    assert episode.off_set("stress", 16) != other.off_set("stress", 16)
