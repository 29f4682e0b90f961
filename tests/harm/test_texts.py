"""What harm is measured on: real pieces with their licences, other relations' queries, questions."""

from importlib.resources import files
from itertools import islice

import pytest

from cedkv.config import load_config
from cedkv.episodes import Episode, get_template
from cedkv.episodes.off import ordinary_text, real_stream, real_texts
from cedkv.episodes.relation.foreign import BUCKETS, foreign_questions, foreign_stream
from cedkv.errors import ConfigError
from cedkv.methods import Workbench
from cedkv.methods.pool import HardPool
from tests.tiny import tiny_lm

QA = get_template("qa")
DATA = files("cedkv.episodes.off").joinpath("data")


def test_no_source_of_real_text_is_both_judged_and_trained_on():
    judged, pool = real_texts("judged"), real_texts("pool")
    assert not {piece.source for piece in judged} & {piece.source for piece in pool}
    assert not {piece.text for piece in judged} & {piece.text for piece in pool}
    assert ordinary_text() not in "".join(piece.text for piece in judged)


def test_every_piece_of_real_text_has_its_licence():
    told = DATA.joinpath("real_text_licences.txt").read_text(encoding="utf-8")
    for piece in (*real_texts("judged"), *real_texts("pool")):
        assert piece.kind == "licence" or f"\n{piece.licence}: " in told, piece.source


def test_the_first_pieces_are_of_all_kinds_and_always_the_same():
    first = real_texts("judged", 10)
    assert len({piece.kind for piece in first}) == 5
    assert real_texts("judged", 40)[:10] == first
    assert len({piece.language for piece in real_texts("judged")}) >= 10


def test_the_stream_of_real_text_repeats_by_seed_and_never_within():
    one, other = (list(islice(real_stream(seed), 200)) for seed in (3, 4))
    assert one == list(islice(real_stream(3), 200)) != other
    assert len({off.text for off in one}) == 200
    pool = [piece.text for piece in real_texts("pool")]
    assert all(any(off.text in piece for piece in pool) for off in one[:20])


def test_foreign_queries_are_never_the_relations_own():
    inputs = ["lift", "walk", "bake", "Berlin"]
    texts = list(islice(foreign_stream("stress", 0, "present-past", inputs, QA), 80))
    assert {off.bucket for off in texts} == set(BUCKETS)
    alone = [off.text for off in texts if off.bucket == "same_format"]
    assert all(text.startswith("Q: ") and text.endswith("\nA:") and text.count("Q:") == 1 for text in alone)
    assert not any(f"Q: {given}\n" in text for given in inputs for text in alone)
    shown = [off.text for off in texts if off.bucket == "same_format_shown"]
    assert all(text.count("Q: ") == 4 and text.endswith("\nA:") for text in shown)
    other = [off.text for off in texts if off.bucket.startswith("other")]
    assert not any(text.startswith("Q: ") for text in other)


def test_foreign_queries_of_training_are_never_judged():
    judged, pool = (
        {off.text.splitlines()[-2] for off in islice(foreign_stream(split, 0, "antonym", [], QA), 200)
         if off.bucket.startswith("same")}
        for split in ("stress", "pool")
    )  # fmt: skip
    # Different tasks may share an input, so a few queries look alike.
    assert len(judged & pool) <= 0.1 * min(len(judged), len(pool))


def test_a_question_offers_the_right_answer_once():
    lm = tiny_lm("llama")
    questions = foreign_questions(lm, "present-past", QA, 12)
    assert len(questions) == 12
    for question in questions:
        assert len(set(question.options)) == len(question.options) == 4
        assert question.task != "present-past"
    assert {question.right for question in questions} >= {0, 1, 2}
    assert questions[:5] == foreign_questions(lm, "present-past", QA, 5)


def test_hard_texts_can_be_mined_from_every_kind(episode):
    lm = tiny_lm("llama")
    made = list(islice(episode.pool_stream(), 6))
    assert made == list(islice(episode.off_streams("pool")["made"], 6))
    mixed = list(islice(episode.pool_stream(("made", "real_text", "foreign")), 9))
    assert mixed[0] == made[0] and mixed[2].bucket in BUCKETS
    config = load_config(None, ["phase3.off_data.pool_kinds=[real_text, foreign]"])
    kinds = config.phase3.off_data.pool_kinds
    pool = HardPool.open(lm, episode, 8, kinds=kinds)
    pool.refill(Workbench(lm, episode, config).teacher, 12)
    assert {text.off.bucket for text in pool.texts} <= {
        *BUCKETS,
        "prose",
        "manual",
        "licence",
        "code",
        "other_language",
    }


def test_kinds_that_an_episode_has_none_of_are_refused(episode):
    plain = Episode("a document", episode.tokens, (), "held_out", (), "labels", 0)
    with pytest.raises(ConfigError, match="kind foreign: this episode has made, real_text"):
        next(plain.pool_stream(("foreign",)))
