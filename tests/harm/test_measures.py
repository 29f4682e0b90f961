"""The measures of harm: hand-computed on a tiny model, and nothing where nothing stands in front."""

import math

import pytest
import torch

from cedkv.config import HarmSettings
from cedkv.episodes.off import real_texts
from cedkv.harm import MEASURES, harm_of
from cedkv.harm.beside import Asked
from cedkv.harm.continued import greedy
from cedkv.harm.measures import result_of
from cedkv.harm.real_text import SETTLED, Told, every_position
from cedkv.metrics import kl
from tests.harm.conftest import LITTLE
from tests.tiny import plain_model, tiny_lm
from tests.tolerance import FORWARD, forward


@pytest.fixture(scope="module")
def figures(asked, demonstrations):
    nothing = demonstrations.without(list(range(demonstrations.slots)))
    return harm_of(asked, {"demonstrations": demonstrations, "base": None, "switched off": nothing})


@pytest.mark.parametrize("view", ["base", "switched off"])
def test_nothing_in_front_changes_nothing(figures, view):
    real = figures["real_text"][view]
    assert real["delta_max"] < forward() and real["all_positions"]["delta_max"] < forward()
    assert real["perplexity_ratio"] == pytest.approx(1, abs=1e-4)
    assert figures["foreign"][view]["delta_max"] < forward()
    assert figures["continued"][view]["same_first"] == {"1": 1, "4": 1, "8": 1}
    assert figures["continued"][view]["same_tokens"] == LITTLE.continued_tokens
    assert figures["choice"][view]["agreement"] == 1
    assert figures["choice"][view]["accuracy"] == figures["choice"][view]["base"]


def test_demonstrations_in_front_are_seen_by_every_measure(figures):
    assert figures["real_text"]["demonstrations"]["delta_mean"] > 0.01
    assert figures["foreign"]["demonstrations"]["delta_mean"] > 0.01
    assert figures["continued"]["demonstrations"]["same_tokens"] < LITTLE.continued_tokens


def test_every_position_is_the_models_own_on_the_whole_text(asked, demonstrations):
    lm, text = asked.lm, asked.lm.encode("once upon a time there was a tall king who lived by the sea")[:20]
    (told,) = result_of(every_position(asked, [text], {"it": demonstrations})).values()
    front = [*demonstrations.mixture.tokens.ids]
    with torch.no_grad():
        student = plain_model("llama")(torch.tensor([front + text])).logits[0, len(front) : -1].log_softmax(-1)
        base = plain_model("llama")(torch.tensor([text])).logits[0, :-1].log_softmax(-1)
    torch.testing.assert_close(told.delta, kl(student, base), **FORWARD)
    following = torch.tensor(text[1:])[:, None]
    torch.testing.assert_close(told.worse, (base - student).gather(1, following)[:, 0], **FORWARD)
    assert told.read.tolist() == list(range(1, len(text)))
    assert lm.bos == ()


def test_figures_leave_out_the_positions_that_are_not_asked_for():
    told = Told(
        torch.tensor([9.0, 1.0, 3.0]), torch.tensor([5.0, 0.0, math.log(4)]), torch.arange(3), torch.zeros(3).long()
    )
    figures = told.figures(torch.tensor([False, True, True]))
    assert figures["count"] == 2 and figures["delta_mean"] == 2
    assert figures["perplexity_ratio"] == pytest.approx(2)  # the exponential of the mean of 0 and log 4


def test_positions_after_the_eighth_are_counted(figures):
    real, all_read = figures["real_text"]["demonstrations"], LITTLE.real_pieces * LITTLE.real_tokens
    assert real["all_positions"]["count"] == all_read
    assert real["count"] == all_read - SETTLED * LITTLE.real_pieces
    assert sum(kind["count"] for kind in real["buckets"].values()) == real["count"]
    assert set(real["buckets"]) == {"prose", "manual", "licence", "code", "other_language"}


def test_a_continuation_is_greedy_and_of_one_length(asked, demonstrations):
    ids = [asked.lm.encode(piece.text)[:12] for piece in real_texts("judged", 2)]
    for view in (None, demonstrations):
        for query, row in zip(ids, greedy(asked.lm, ids, view, 5), strict=True):
            text = [*(view.mixture.tokens.ids if view else ()), *query]
            for token in row:
                if token < 0:
                    break
                assert token == plain_model("llama")(torch.tensor([text])).logits[0, -1].argmax()
                text.append(token)
            assert len(row) == 5


@pytest.mark.parametrize("name", MEASURES)
def test_what_is_not_asked_for_is_not_read(asked, name):
    amount, _ = MEASURES[name]
    only = HarmSettings(**{amount: getattr(LITTLE, amount)})
    assert list(harm_of(Asked(tiny_lm("llama"), asked.episode, only), {"base": None})) == [name]
    assert harm_of(Asked(tiny_lm("llama"), asked.episode, HarmSettings()), {"base": None}) == {}
