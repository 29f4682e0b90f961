"""Select-KV: which spans may be chosen, which are, and what becomes of them."""

from collections.abc import Generator
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from cedkv.config import Config, SelectSettings, parse_config
from cedkv.episodes import Demonstration, build_episode, get_template
from cedkv.events import Done, Progress
from cedkv.lm import log_probs
from cedkv.methods import METHODS, Extraction, Workbench
from cedkv.methods.select import Scores, Selection, Span, candidate_spans, choose, random_trial, score_by_attention
from cedkv.metrics import kl
from cedkv.state import DemoTokens
from tests.tiny import ARCHITECTURES, PAIRS, plain_log_probs, tiny_lm
from tests.tolerance import FORWARD

SELECT_MODES = ("attention_diversity_span", "delimiter_span", "random_span", "causal_drop_span")

# Two demonstrations behind a bos token: `Q lift A lifted \n` twice.
ROLES = ("delimiter", "input", "delimiter", "output", "delimiter")
BLOCK = DemoTokens(
    ids=tuple(range(11)),
    texts=("<bos>", *("Q", " lift", "A", " lifted", "\n") * 2),
    roles=("delimiter", *ROLES * 2),
    demo=(-1, *(0,) * 5, *(1,) * 5),
)

TOKEN_ALIGNED = {"align": "token", "keep_sink": False}


def settings(**options) -> SelectSettings:
    return SelectSettings(**{**TOKEN_ALIGNED, **options})


def spans_of(**options) -> list[tuple[int, int, int]]:
    return [(span.start, span.end, span.anchor) for span in candidate_spans(BLOCK, settings(**options))]


def chosen(scores: list[float] | Scores, slots: int, **options) -> Selection:
    """What is taken when the candidates have these scores."""
    rules = settings(**options)
    scores = scores if isinstance(scores, Scores) else Scores(scores)
    return choose(BLOCK, candidate_spans(BLOCK, rules), scores, rules, slots)


def bench_of(yaml: str = "", architecture: str = "llama", template: str = "qa") -> Workbench:
    pairs = [Demonstration(*pair) for pair in PAIRS]
    episode = build_episode(
        tiny_lm(architecture), pairs[:4], pairs[4:], get_template(template), task="t", seed=0, on_train=2, on_eval=2
    )
    return Workbench(tiny_lm(architecture), episode, parse_config(yaml, "test"))


def extract(bench: Workbench, slots: int) -> Extraction:
    *progress, done = METHODS["select"].run(bench, slots)
    assert all(isinstance(event, Progress) for event in progress)
    assert isinstance(done, Done)
    return done.result


def returned(work: Generator) -> Scores:
    """What a scorer returns once its events are drained."""
    while True:
        try:
            next(work)
        except StopIteration as stop:
            return stop.value


def selected(bench: Workbench, slots: int) -> dict:
    return extract(bench, slots).artifacts["selection"]


def select_yaml(**options) -> str:
    select = ", ".join(f"{name}: {value}" for name, value in {**TOKEN_ALIGNED, **options}.items())
    return f"phase2: {{select: {{{select}}}, prefix: {{padding_mode: shrink_to_selected}}}}".replace("False", "false")


class TestCandidates:
    def test_policy_restricts_anchors_and_not_the_tokens_inside(self):
        spans = spans_of(span_len=3)
        anchors = [anchor for _, _, anchor in spans]
        assert anchors == [1, 2, 3, 5, 6, 7, 8, 10], "no output token and no bos token"
        assert (2, 5, 2) in spans, "the span reaches over the output token 4"

    def test_all_tokens_but_bos_are_anchors_without_the_policy(self):
        assert [anchor for _, _, anchor in spans_of(candidate_policy="all")] == list(range(1, 11))

    def test_delimiter_rule_starts_at_delimiters(self):
        for policy in ("all", "input_and_delimiter_only"):
            anchors = [anchor for *_, anchor in spans_of(mode="delimiter_span", candidate_policy=policy)]
            assert anchors == [1, 3, 5, 6, 8, 10]

    def test_a_span_grows_to_the_right(self):
        assert spans_of(span_len=4, center_policy="start")[:2] == [(1, 5, 1), (2, 6, 2)]

    def test_a_span_grows_both_ways_around_its_centre(self):
        assert spans_of(span_len=3, center_policy="center")[:3] == [(0, 3, 1), (1, 4, 2), (2, 5, 3)]

    def test_spans_end_with_the_block(self):
        assert spans_of(span_len=4)[-1] == (10, 11, 10)
        assert spans_of(span_len=100)[0] == (1, 11, 1)

    def test_spans_cut_to_the_same_tokens_count_once(self):
        spans = [(start, end) for start, end, _ in spans_of(span_len=9, center_policy="center")]
        assert len(set(spans)) == len(spans)

    def test_aligned_spans_are_the_demonstrations(self):
        assert spans_of(align="demo", span_len=2) == [(1, 6, 1), (6, 11, 6)]


class TestChoosing:
    """Candidates with `span_len: 1` are the tokens 1, 2, 3, 5, 6, 7, 8 and 10, in this order."""

    RISING = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]

    def test_best_come_first_until_the_slots_are_filled(self):
        selection = chosen(self.RISING, slots=3, span_len=1)
        assert selection.tokens == [7, 8, 10]
        assert [span.anchor for span in selection.spans] == [10, 8, 7]
        assert selection.scores == [8.0, 7.0, 6.0]

    def test_equal_scores_are_taken_in_token_order(self):
        assert chosen([1.0] * 8, slots=3, span_len=1).tokens == [1, 2, 3]

    def test_budget_limits_the_spans(self):
        assert chosen(self.RISING, slots=9, span_len=1, span_budget=2).tokens == [8, 10]

    def test_sink_is_kept_and_takes_a_slot(self):
        assert chosen(self.RISING, slots=3, span_len=1, keep_sink=True).tokens == [0, 8, 10]
        assert chosen(self.RISING, slots=1, span_len=1, keep_sink=True).tokens == [0]

    @pytest.mark.parametrize(("distance", "tokens"), [(0, [7, 8, 10]), (1, [6, 8, 10]), (2, [3, 7, 10]), (4, [5, 10])])
    def test_centres_keep_their_distance(self, distance, tokens):
        """`min_span_distance` tokens lie between two centres."""
        assert chosen(self.RISING, slots=3, span_len=1, min_span_distance=distance).tokens[-3:] == tokens

    def test_a_span_is_trimmed_to_the_slots_left(self):
        scores = [0.0] * 8
        scores[0], scores[4] = 2.0, 1.0  # tokens 1 to 3, then 6 to 8
        assert chosen(scores, slots=5, span_len=3).tokens == [1, 2, 3, 6, 7]

    def test_overlapping_spans_do_not_pay_twice(self):
        scores = [2.0, 1.0, *[0.0] * 6]  # tokens 1 to 3, then 2 to 4
        assert chosen(scores, slots=4, span_len=3).tokens == [1, 2, 3, 4]

    def test_a_span_that_adds_nothing_is_not_counted(self):
        scores = [3.0, 2.0, 1.0, *[0.0] * 5]  # 1 to 5, then 2 to 6, then 3 to 7
        selection = chosen(scores, slots=5, span_len=5)
        assert selection.tokens == [1, 2, 3, 4, 5]
        assert [span.anchor for span in selection.spans] == [1]

    def test_alike_spans_count_less_than_different_ones(self):
        """The second best looks like the best, so the third best adds more: 3 * (1 - 0.9) < 1 * (1 - 0)."""
        similarity = torch.eye(8)
        similarity[7, 6] = similarity[6, 7] = 0.9
        scores = Scores([0.0] * 5 + [1.0, 3.0, 4.0], similarity)
        selection = chosen(scores, slots=2, span_len=1)
        assert selection.tokens == [7, 10]
        assert selection.scores == [4.0, 1.0]

    def test_a_span_is_compared_with_every_span_chosen(self):
        """Token 7 is unlike the first choice but like the second, so token 6 comes third: 2 * (1 - 0.9) < 1."""
        similarity = torch.eye(8)
        similarity[5, 6] = similarity[6, 5] = 0.9
        scores = Scores([0.0] * 4 + [1.0, 2.0, 3.0, 4.0], similarity)
        assert chosen(scores, slots=3, span_len=1).tokens == [6, 8, 10]

    @pytest.mark.parametrize(
        ("slots", "tokens"),
        [
            (10, list(range(1, 11))),
            (9, [1, 2, 3, 4, 6, 7, 8, 9, 10]),  # the second choice may lose its line break
            (8, [6, 7, 8, 9, 10]),  # but not its answer
            (5, [6, 7, 8, 9, 10]),
            (4, [6, 7, 8, 9]),
            (3, []),
        ],
    )
    def test_an_aligned_selection_never_cuts_an_answer(self, slots, tokens):
        assert chosen([1.0, 2.0], slots=slots, align="demo").tokens == tokens


@pytest.mark.parametrize("mode", SELECT_MODES)
@pytest.mark.parametrize("align", ["token", "demo"])
@pytest.mark.parametrize("slots", [1, 5, 12])
def test_every_rule_fills_at_most_the_slots(mode, align, slots):
    extraction = extract(bench_of(select_yaml(mode=mode, align=align, keep_sink="true")), slots)
    tokens = extraction.artifacts["selection"]["tokens"]
    assert 1 <= len(tokens) == extraction.prefix.slots <= slots
    assert tokens == sorted(set(tokens))
    assert tokens[0] == 0, "the sink is kept"
    assert all(tokens.count(token) == 1 for token in tokens)


@pytest.mark.parametrize("mode", SELECT_MODES)
def test_anchors_are_never_outputs_under_the_policy(mode):
    bench = bench_of(select_yaml(mode=mode, span_len=2, span_budget=6))
    roles = bench.episode.tokens.roles
    spans = selected(bench, 12)["spans"]
    assert spans
    assert all(roles[span["anchor"]] != "output" for span in spans)


@pytest.mark.parametrize("mode", SELECT_MODES)
def test_selection_is_the_same_every_time(mode):
    first, again = (extract(bench_of(select_yaml(mode=mode)), 8) for _ in range(2))
    assert first.artifacts == again.artifacts
    assert torch.equal(first.prefix.keys, again.prefix.keys)


def test_random_spans_follow_the_seed():
    picks = [
        selected(bench_of(f"run: {{seed: {seed}}}\nphase2: {{select: {{mode: random_span}}}}"), 9) for seed in range(6)
    ]
    assert len({str(pick["tokens"]) for pick in picks}) > 1


def test_random_trials_are_repeatable_and_differ():
    bench = bench_of(select_yaml(mode="causal_drop_span"))
    trials = [random_trial(bench, 6, trial) for trial in range(5)]
    again = [random_trial(bench, 6, trial) for trial in range(5)]
    rows = [trial.mixture.weights.argmax(-1)[0, 0].tolist() for trial in trials]
    assert rows == [trial.mixture.weights.argmax(-1)[0, 0].tolist() for trial in again]
    assert len({str(row) for row in rows}) > 1
    assert all(trial.slots == 6 for trial in trials)


def hurt_by_removing(bench: Workbench, span: Span) -> float:
    """KL to the teacher of a forward whose prompt really lacks the span's tokens, the others in place."""
    teacher, gone = bench.teacher, set(span.tokens)
    stay = [token for token in range(teacher.slots) if token not in gone]
    lacking = replace(
        teacher,
        keys=teacher.keys[:, :, stay],
        values=teacher.values[:, :, stay],
        positions=teacher.positions[stay],
        active=teacher.active[:, stay],
    )
    queries = [query.ids for query in bench.episode.on_train]
    return kl(log_probs(bench.lm, queries, teacher), log_probs(bench.lm, queries, lacking)).mean().item()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_causal_drop_picks_the_span_whose_removal_hurts_most(architecture):
    bench = bench_of(select_yaml(mode="causal_drop_span", span_len=3, span_budget=1), architecture)
    candidates = candidate_spans(bench.episode.tokens, bench.config.phase2.select)
    hurts = [hurt_by_removing(bench, span) for span in candidates]
    worst = candidates[max(range(len(hurts)), key=hurts.__getitem__)]
    (span,) = selected(bench, 12)["spans"]
    assert (span["start"], span["end"]) == (worst.start, worst.end)
    assert span["score"] == pytest.approx(max(hurts), rel=1e-3)
    assert max(hurts) > 2 * sorted(hurts)[len(hurts) // 2], "the case must have a clear winner"


def test_causal_drop_spares_a_sink_that_is_kept_anyway():
    """Token 0 belongs to the first demonstration here; removing both would measure the sink and not the span."""
    bench = bench_of(select_yaml(mode="causal_drop_span", align="demo", keep_sink="true", span_budget=256))
    first, *_ = bench.episode.tokens.demo_spans()
    assert first[0] == 0
    scores = {span["start"]: span["score"] for span in selected(bench, len(bench.episode.tokens))["spans"]}
    assert scores[0] == pytest.approx(hurt_by_removing(bench, Span(1, first[1], 1)), rel=1e-3)
    assert scores[0] != pytest.approx(hurt_by_removing(bench, Span(0, first[1], 0)), rel=1e-2)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_attention_rule_picks_what_the_queries_look_at(architecture):
    """With single tokens and a budget of one, the winner is the most attended allowed token but the sink."""
    bench = bench_of(select_yaml(span_len=1, span_budget=1, candidate_policy="all"), architecture)
    mass = bench.teacher_attention.mean(dim=(0, 1, 2))
    mass[0] = 0
    (span,) = selected(bench, 5)["spans"]
    assert span["start"] == mass.argmax()
    assert span["score"] == pytest.approx(mass.max().item(), rel=1e-4)


def test_attention_to_the_sink_counts_for_no_span():
    """The sink takes attention whatever the demonstration around it says."""
    bench = bench_of(select_yaml(align="demo"))
    candidates = candidate_spans(bench.episode.tokens, bench.config.phase2.select)
    scores = returned(score_by_attention(bench, candidates))
    mass = bench.teacher_attention.mean(dim=(0, 1, 2))
    assert candidates[0].start == 0
    assert mass[0] > 1e-3
    assert scores.values[0] == pytest.approx(mass[1 : candidates[0].end].sum().item(), rel=1e-4)
    assert scores.values[1] == pytest.approx(mass[candidates[1].start : candidates[1].end].sum().item(), rel=1e-4)


def test_attention_is_read_in_the_scoring_layers_only():
    bench = bench_of("phase2: {layer_scope: {selection: [2]}, select: {align: token, span_len: 1, span_budget: 1}}")
    mass = bench.teacher_attention[2].mean(dim=(0, 1))
    allowed = torch.tensor([role != "output" for role in bench.episode.tokens.roles])
    allowed[0] = False
    (span,) = selected(bench, 5)["spans"]
    assert span["start"] == (mass * allowed).argmax()


def test_aligned_selection_takes_whole_demonstrations():
    bench = bench_of(select_yaml(align="demo"))
    spans = bench.episode.tokens.demo_spans()
    selection = selected(bench, spans[0][1] + spans[1][1])
    assert {(span["start"], span["end"]) for span in selection["spans"]} <= set(spans)
    assert selection["spans"]


@pytest.mark.parametrize("positioning", ["compact", "absolute"])
def test_copied_slots_are_the_demonstrations_own(positioning):
    bench = bench_of(
        f"phase2: {{injection: {{positioning_mode: {positioning}}}, prefix: {{padding_mode: shrink_to_selected}}}}"
    )
    extraction = extract(bench, 12)
    tokens, prefix, count = extraction.artifacts["selection"]["tokens"], extraction.prefix, len(bench.episode.tokens)
    assert torch.equal(prefix.keys, bench.demo_kv.keys[:, :, tokens])
    assert torch.equal(prefix.values, bench.demo_kv.values[:, :, tokens])
    assert prefix.mixture.weights.argmax(-1)[0, 0].tolist() == tokens
    assert prefix.query_start == (len(tokens) if positioning == "compact" else count)
    assert prefix.positions.tolist() == list(range(prefix.query_start - len(tokens), prefix.query_start))


def test_selecting_everything_is_the_teacher():
    bench = bench_of(select_yaml(align="demo", span_budget=256))
    prefix = extract(bench, len(bench.episode.tokens)).prefix
    assert prefix.slots == len(bench.episode.tokens)
    queries = [query.ids for query in bench.episode.on_eval]
    assert_close(log_probs(bench.lm, queries, prefix), log_probs(bench.lm, queries, bench.teacher), **FORWARD)


@pytest.mark.parametrize("positioning", ["compact", "absolute"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_reprefill_equals_the_selected_tokens_as_a_prompt(architecture, positioning):
    bench = bench_of(
        "phase2: {select: {source: reprefill}, prefix: {padding_mode: shrink_to_selected}, "
        f"injection: {{positioning_mode: {positioning}}}}}",
        architecture,
    )
    extraction = extract(bench, 20)
    ids = [bench.episode.tokens.ids[token] for token in extraction.artifacts["selection"]["tokens"]]
    assert len(ids) < len(bench.episode.tokens)
    queries = [query.ids for query in bench.episode.on_eval]
    reference = torch.stack([plain_log_probs(architecture, [*ids, *query]) for query in queries])
    assert_close(log_probs(bench.lm, queries, extraction.prefix), reference, **FORWARD)
    copied = extract(replace(bench, config=Config()), 20).prefix
    assert (log_probs(bench.lm, queries, copied) - reference).abs().max() > 0.1, "copies know the whole block"


def test_padding_fills_up_to_the_slots_asked_for():
    padded = extract(bench_of("phase2: {select: {span_budget: 1}}"), 16)
    count = len(padded.artifacts["selection"]["tokens"])
    assert count < 16 == padded.prefix.slots
    assert padded.prefix.active.tolist() == [[True] * count + [False] * (16 - count)] * padded.prefix.active.shape[0]


def test_injection_scope_restricts_the_layers_that_see_the_slots():
    prefix = extract(bench_of("phase2: {layer_scope: {injection: last_1}, select: {span_budget: 1}}"), 12).prefix
    assert prefix.active.any(dim=1).tolist() == [False, False, False, True]
    top = extract(bench_of("phase2: {layer_scope: {injection: top25}}"), 12).prefix
    assert top.active.any(dim=1).sum() == 1
