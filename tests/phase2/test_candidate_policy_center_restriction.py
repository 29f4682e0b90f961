"""`candidate_policy` restricts where a span starts or has its centre, never the tokens inside it."""

import pytest

from cedkv.config import SelectSettings
from cedkv.methods import extract
from cedkv.methods.select import candidate_spans
from cedkv.state import DemoTokens

# Two demonstrations `a : b ;` after a beginning-of-text token.
TOKENS = DemoTokens(
    ids=tuple(range(9)),
    texts=("<s>", "a", ":", "b", ";", "c", ":", "d", ";"),
    roles=("delimiter", "input", "delimiter", "output", "delimiter", "input", "delimiter", "output", "delimiter"),
    demo=(-1, 0, 0, 0, 0, 1, 1, 1, 1),
)
OUTPUTS = {3, 7}


def anchors(**settings) -> list[int]:
    return [span.anchor for span in candidate_spans(TOKENS, SelectSettings(**settings))]


@pytest.mark.parametrize("center_policy", ["start", "center"])
def test_no_span_starts_or_has_its_centre_on_an_output(center_policy):
    policy = {"candidate_policy": "input_and_delimiter_only", "center_policy": center_policy, "span_len": 3}
    assert anchors(**policy) == [1, 2, 4, 5, 6, 8]


def test_without_the_restriction_outputs_are_centres_too():
    assert anchors(candidate_policy="all", span_len=3) == [1, 2, 3, 4, 5, 6, 7, 8]


@pytest.mark.parametrize("center_policy", ["start", "center"])
def test_the_tokens_inside_a_span_are_not_restricted(center_policy):
    settings = SelectSettings(center_policy=center_policy, span_len=3)
    inside = {token for span in candidate_spans(TOKENS, settings) for token in span.tokens}
    assert inside >= OUTPUTS


def test_a_span_grows_to_the_right_of_its_start_or_to_both_sides_of_its_centre():
    right = {span.anchor: (span.start, span.end) for span in candidate_spans(TOKENS, SelectSettings(span_len=3))}
    both_sides = SelectSettings(span_len=3, center_policy="center")
    both = {span.anchor: (span.start, span.end) for span in candidate_spans(TOKENS, both_sides)}
    assert right[2] == (2, 5)
    assert both[2] == (1, 4)
    assert right[8] == (8, 9), "a span ends with the block"


def test_the_beginning_of_text_is_never_a_centre():
    assert 0 not in anchors(candidate_policy="all")


def test_delimiter_spans_start_on_delimiters_only():
    assert anchors(mode="delimiter_span", candidate_policy="all") == [2, 4, 6, 8]


@pytest.mark.parametrize("mode", ["attention_diversity_span", "random_span", "causal_drop_span"])
def test_the_spans_that_are_really_chosen_keep_to_the_policy(bench_with, mode):
    bench = bench_with(f"phase2.select.mode={mode}", "phase2.select.center_policy=center")
    chosen = extract(bench.lm, bench.episode, "select", 16, bench.config).artifacts["selection"]
    roles = bench.episode.tokens.roles
    assert chosen["spans"]
    assert all(roles[span["anchor"]] in ("input", "delimiter") for span in chosen["spans"])
