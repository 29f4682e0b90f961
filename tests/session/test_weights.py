"""Token weights of demonstrations, slots and texts: each is what its scorer says of losses read one by one."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from cedkv.episodes import Demonstration, get_template, tokenize_demos
from cedkv.errors import CedKVError
from cedkv.lm import log_probs, read_demo_kv
from cedkv.optim.weights import SCORERS
from cedkv.optim.weights.rho1 import kept
from cedkv.session.weights import MOST_TOKENS, weigh_demonstrations, weigh_text
from cedkv.state import Mixture
from cedkv.wmtp.answers import SOFT
from components.weights_text import weights_html
from tests.tiny import PAIRS, text_tokens, tiny_lm


@pytest.fixture(scope="module")
def lm():
    return tiny_lm("llama")


@pytest.fixture(scope="module")
def whole(lm):
    demos = [Demonstration(*pair) for pair in PAIRS[:4]]
    return read_demo_kv(lm, tokenize_demos(lm, demos, get_template("qa"))).as_prefix()


@pytest.fixture(scope="module")
def weighed(lm, whole):
    return weigh_demonstrations(lm, whole)


def read_alone(lm, ids, prefix=None) -> list[float]:
    """Losses of all tokens but the first, each from a forward of its own."""
    return [-log_probs(lm, [ids[:at]], prefix)[0, ids[at]].item() for at in range(1, len(ids))]


def test_rho1_weighs_a_token_by_what_the_demonstrations_before_it_spare(lm, whole, weighed):
    tokens = whole.mixture.tokens
    every = read_alone(lm, tokens.ids)
    excess = []
    for start, end in tokens.demo_spans():
        alone = read_alone(lm, tokens.ids[start:end])
        excess += [loss - told for loss, told in zip(alone, every[start : end - 1], strict=True)]
    wanted = kept(torch.tensor(excess), SOFT)
    found = [weight for weight in weighed.weights["rho1-excess-v1"] if weight is not None]
    assert found == pytest.approx((wanted / wanted.mean()).tolist(), abs=1e-3)
    assert max(found) > 1.2 * min(found)


def test_every_scorer_weighs_the_same_tokens_with_mean_one(whole, weighed):
    firsts = {start for start, _ in whole.mixture.tokens.demo_spans()}
    assert weighed.weights.keys() == SCORERS.keys() and weighed.tokens == whole.mixture.tokens.texts
    for weights in weighed.weights.values():
        assert {place for place, weight in enumerate(weights) if weight is None} == firsts
        known = [weight for weight in weights if weight is not None]
        assert sum(known) / len(known) == pytest.approx(1, abs=1e-4) and min(known) >= 0
    assert weighed.weights["uniform"][1] == 1


def test_the_critic_tells_tokens_of_outputs_from_all_others(whole, weighed):
    weights, roles = weighed.weights["critic-delta-v1"], whole.mixture.tokens.roles
    still = {round(w, 4) for w, role in zip(weights, roles, strict=True) if w is not None and role == "input"}
    told = {round(w, 4) for w, role in zip(weights, roles, strict=True) if role == "output"}
    assert len(still) == 1 and len(told) > 2


def test_a_slot_weighs_what_it_is_made_of(lm, whole):
    tokens = len(whole.mixture.tokens)
    weights = torch.zeros(*whole.mixture.weights.shape[:2], 3, tokens)
    weights[:, :, 0, 5], weights[:, :, 1, [5, 9]], weights[:, :, 2, 0] = 1.0, torch.tensor([0.25, 0.75]), 1.0
    three = replace(
        whole, keys=whole.keys[:, :, :3], values=whole.values[:, :, :3], positions=torch.arange(3), query_start=3,
        active=whole.active[:, :3], mixture=Mixture(weights, whole.mixture.tokens),
    )  # fmt: skip
    weighed = weigh_demonstrations(lm, three)
    told = weighed.weights["rho1-excess-v1"]
    assert weighed.slots["rho1-excess-v1"][:2] == pytest.approx((told[5], 0.25 * told[5] + 0.75 * told[9]))
    assert weighed.slots["rho1-excess-v1"][2] is None, "nothing in front predicts the first token"


def test_a_block_without_outputs_is_weighed_by_those_that_need_none(lm):
    weighed = weigh_demonstrations(lm, read_demo_kv(lm, text_tokens(lm)).as_prefix())
    assert {name for name, scorer in SCORERS.items() if "values" in scorer.needs}.isdisjoint(weighed.weights)
    assert "rho1-excess-v1" in weighed.weights


def test_a_text_is_weighed_behind_all_demonstrations(lm, whole):
    run = SimpleNamespace(id="a", methods=["select"], teacher=whole)
    ids = lm.encode("Q: rain\nA: rained")
    weighed = weigh_text(lm, run, "Q: rain\nA: rained")
    excess = [loss - told for loss, told in zip(read_alone(lm, ids), read_alone(lm, ids, whole), strict=True)]
    wanted = kept(torch.tensor(excess), SOFT)
    assert weighed.weights["rho1-excess-v1"][1:] == pytest.approx((wanted / wanted.mean()).tolist(), abs=1e-3)
    assert "critic-delta-v1" not in weighed.weights and not weighed.slots


@pytest.mark.parametrize(
    ("text", "named"), [("a", "no token that another one predicts"), ("word " * 400, "give a part")]
)
def test_a_text_that_cannot_be_weighed_is_refused(lm, whole, text, named):
    run = SimpleNamespace(id="a", methods=["select"], teacher=whole)
    with pytest.raises(CedKVError, match=named):
        weigh_text(lm, run, text)
    assert MOST_TOKENS < 400


def test_a_state_that_does_not_say_what_it_is_made_of_is_refused(lm, whole):
    with pytest.raises(CedKVError, match="does not say what it is made of"):
        weigh_demonstrations(lm, replace(whole, mixture=None))


def test_tokens_are_shown_as_text_once_for_every_scorer(weighed):
    shown = weights_html(replace(weighed, tokens=("<b>", *weighed.tokens[1:])))
    assert shown.count("&lt;b&gt;") == len(SCORERS) and "<b>" not in shown
    assert all(name in shown for name in SCORERS) and shown.count("<tr>") == 1 + len(weighed.slots["uniform"])
