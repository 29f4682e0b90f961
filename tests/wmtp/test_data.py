"""The texts that ship: right and wrong solutions, a held-out split, an order that a step alone decides."""

import re

from cedkv.optim.schedule import batch_order
from cedkv.wmtp.data import KINDS, encode_text, make_texts
from tests.tiny import tiny_lm


def test_sums_are_right_and_their_wrong_solutions_are_wrong():
    for text in make_texts(["sums"], 60, seed=0):
        first, sign, second, result = re.fullmatch(r" (\d+) ([+-]) (\d+) = (\d+)\n", text.solution).groups()
        assert eval(f"{first}{sign}{second}") == int(result)
        assert f"has {first} " in text.prompt and f" {second} " in text.prompt
        assert text.wrong != text.solution and text.wrong.startswith(f" {first} {sign} {second} =")


def test_what_is_held_out_is_never_trained_on():
    def decided_by(text):
        return text.solution if text.kind == "sums" else text.prompt.split(" that ")[1]

    for kind in KINDS:
        trained = {decided_by(text) for text in make_texts([kind], 80, 0)}
        assert trained.isdisjoint(decided_by(text) for text in make_texts([kind], 20, 0, held_out=True))


def test_texts_are_by_seed_and_kinds_by_turns():
    kinds = list(KINDS)
    assert make_texts(kinds, 12, 3) == make_texts(kinds, 12, 3) != make_texts(kinds, 12, 4)
    assert [text.kind for text in make_texts(kinds, 4, 3)] == kinds * 2
    assert make_texts(kinds, 12, 3)[:6] == make_texts(kinds, 6, 3)


def test_the_border_is_a_tokens():
    lm = tiny_lm()
    text = make_texts(["sums"], 1, 0)[0]
    right, wrong = (encode_text(lm.encode, lm.bos, text, wrong) for wrong in (False, True))
    assert lm.decode(list(right.ids[right.solution :])) == text.solution
    assert lm.decode(list(wrong.ids)) == text.prompt + text.wrong
    assert right.solution == wrong.solution


def test_every_text_comes_once_before_any_comes_again():
    seen = [index for step in range(5) for index in batch_order(10, 4, step, seed=1)]
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))
    assert seen[:10] != seen[10:]
    assert batch_order(10, 4, 3, seed=1) == seen[12:16]
    assert len(batch_order(3, 8, 0, seed=1)) == 8
