"""Chat templates: demonstrations as a conversation that is the tokenizer's own, token for token."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from cedkv.config import Config
from cedkv.episodes import (
    CHATS,
    Demonstration,
    RelationEpisode,
    build_episode,
    demos_in,
    make_query,
    template_for,
    tokenize_demos,
)
from cedkv.episodes.relation.made_up import generated_inputs
from cedkv.errors import DemoError
from cedkv.evaluation import Judge
from cedkv.gate.plumbing import check_plumbing
from cedkv.lm import LanguageModel, generate, log_probs, read_demo_kv
from cedkv.methods import Workbench, extract
from tests.tiny import ARCHITECTURES, CHATML, PAIRS, chat_lm, plain_log_probs, tiny_lm
from tests.tolerance import FORWARD

DEMOS = [Demonstration(*pair) for pair in PAIRS[:3]]
OTHERS = [Demonstration(*pair) for pair in PAIRS[3:]]
# Brackets instead of turn tokens and a blank before answers; turns that only the next one ends; a thought in the last.
BRACKETS = (
    "<bos>{% for message in messages %}{% if message['role'] == 'user' %}[INST] {{ message['content'] }}[/INST]"
    "{% else %} {{ message['content'] }}<eos>{% endif %}{% endfor %}"
)
OPEN_ENDED = (
    "{% for message in messages %}{{ '<bos>' + message['role'] + '\\n' + message['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<bos>assistant\\n' }}{% endif %}"
)
THOUGHTFUL = CHATML.replace("'<bos>assistant\\n'", "'<bos>assistant\\n<think>\\n\\n</think>\\n\\n'")
DATED = CHATML.replace("You help.", "Today is ' + strftime_now('%d %b %Y') + '.")
# Ends a conversation with one more token than a turn.
SEALED = CHATML + "{% if not add_generation_prompt %}{{ '<eos>' }}{% endif %}"
STYLES = {
    "chatml": CHATML, "brackets": BRACKETS, "open": OPEN_ENDED, "thoughtful": THOUGHTFUL, "dated": DATED,
    "sealed": SEALED,
}  # fmt: skip


def messages(name: str, demos: list[Demonstration], asked: str) -> list[dict[str, str]]:
    """The conversation as a user of the tokenizer would write it."""
    if name == "chat-one-turn":
        shown = "".join(f"Q: {demo.input}\nA: {demo.output}\n" for demo in demos)
        return [{"role": "user", "content": f"{shown}Q: {asked}\nA:"}]
    said = [(("user", demo.input), ("assistant", demo.output)) for demo in demos]
    turns = [*(turn for pair in said for turn in pair), ("user", asked)]
    return [{"role": role, "content": content} for role, content in turns]


def conversation(lm: LanguageModel, name: str, demos: list[Demonstration], asked: str) -> list[int]:
    """Its tokens, from one call of the tokenizer."""
    turns = messages(name, demos, asked)
    return lm.tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)


def chat_episode(lm: LanguageModel, name: str = "chat", **options) -> RelationEpisode:
    settings = {"task": "test", "seed": 0, "on_train": 2, "on_eval": 3, **options}
    return build_episode(lm, DEMOS, OTHERS, template_for(lm, name), **settings)


@pytest.mark.parametrize("name", CHATS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_block_and_query_are_the_conversation_token_for_token(architecture, name):
    lm = chat_lm(architecture)
    template = template_for(lm, name)
    block, query = tokenize_demos(lm, DEMOS, template), make_query(lm, template, "rain", "rained")
    assert [*block.ids, *query.ids] == conversation(lm, name, DEMOS, "rain")
    assert [*block.lead().ids, *query.ids] == conversation(lm, name, [], "rain")
    assert lm.decode(list(query.answer_ids)) == "rained"


@pytest.mark.parametrize("name", CHATS)
@pytest.mark.parametrize("style", [style for style in STYLES if style != "dated"])
def test_every_way_to_write_turns_is_read(style, name):
    lm = chat_lm("llama", STYLES[style])
    template, query = template_for(lm, name), chat_episode(lm, name).on_eval[0]
    assert [*tokenize_demos(lm, DEMOS, template).ids, *query.ids] == conversation(lm, name, DEMOS, query.input)
    assert demos_in(lm, tokenize_demos(lm, DEMOS, template), template) == DEMOS


def test_a_date_in_the_system_turn_is_the_same_every_day():
    assert template_for(chat_lm("llama", DATED), "chat").lead == "<bos>system\nToday is 26 Jul 2024.<eos>\n"


@pytest.mark.parametrize(
    ("style", "stop", "gap"), [("chatml", "<eos>", ""), ("brackets", "<eos>", " "), ("open", "<bos>user", "")]
)
def test_an_answer_ends_where_the_turn_does(style, stop, gap):
    template = template_for(chat_lm("llama", STYLES[style]), "chat")
    assert (template.stop, template.answer(f"lifted{stop}")) == (stop, f"{gap}lifted")


def test_roles_of_turns():
    lm = chat_lm("llama")
    tokens = tokenize_demos(lm, DEMOS[:1], template_for(lm, "chat"))
    texts = list(zip(tokens.texts, tokens.roles, tokens.demo, strict=True))
    start = tokens.demo_spans()[0][0]
    assert "".join(tokens.texts[:start]) == "<bos>system\nYou help.<eos>\n"
    assert {(role, demo) for _, role, demo in texts[:start]} == {("delimiter", -1)}
    assert texts[start] == ("<bos>", "delimiter", 0)
    assert texts[-2:] == [("<eos>", "delimiter", 0), ("\n", "delimiter", 0)]


@pytest.mark.parametrize("name", CHATS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_roles_name_the_right_text_and_turn_tokens_are_delimiters(architecture, name):
    lm = chat_lm(architecture)
    tokens = tokenize_demos(lm, DEMOS, template_for(lm, name))
    for index, (start, end) in enumerate(tokens.demo_spans()):
        joined = {
            role: "".join(tokens.texts[i] for i in range(start, end) if tokens.roles[i] == role)
            for role in ("input", "output")
        }
        assert {role: text.strip() for role, text in joined.items()} == {
            "input": DEMOS[index].input,
            "output": DEMOS[index].output,
        }
    special = lm.tokenizer.all_special_ids
    assert {role for token, role in zip(tokens.ids, tokens.roles, strict=True) if token in special} == {"delimiter"}


@pytest.mark.parametrize("name", CHATS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_views_are_conversations_in_plain_transformers(architecture, name):
    """The teacher answers the whole conversation, the base the one without demonstrations but with the system turn."""
    lm = chat_lm(architecture)
    episode = chat_episode(lm, name)
    judge = Judge(lm, episode, read_demo_kv(lm, episode.tokens).as_prefix(), {})
    for view, demos in ((judge.teacher_on, DEMOS), (judge.base_on, [])):
        prompts = [conversation(lm, name, demos, query.input) for query in episode.on_eval]
        assert_close(view.first, torch.stack([plain_log_probs(architecture, ids) for ids in prompts]), **FORWARD)
    bare = log_probs(lm, [query.ids for query in episode.on_eval])
    assert (bare - judge.base_on.first).abs().max() > 1, "what leads must change these answers"


@pytest.mark.parametrize("name", CHATS)
def test_answers_of_the_base_follow_the_lead(name):
    lm = chat_lm("llama")
    episode = chat_episode(lm, name)
    judge = Judge(lm, episode, read_demo_kv(lm, episode.tokens).as_prefix(), {})
    prompts = [conversation(lm, name, [], query.input) for query in episode.on_eval]
    assert judge.answers(None) == generate(lm, prompts, None, judge.answer_room, stop="<eos>")


@pytest.mark.parametrize("name", CHATS)
def test_plumbing_of_a_chat_is_sound(name):
    lm = chat_lm("qwen3")
    bench = Workbench(lm, chat_episode(lm, name), Config())
    student = extract(lm, bench.episode, "select", 8, bench.config).prefix
    rows = list(check_plumbing(Judge(lm, bench.episode, bench.teacher, {}), student))
    assert [row.name for row in rows if not row.passed] == []


@pytest.mark.parametrize("name", CHATS)
def test_a_report_and_a_state_name_the_template_so_that_it_can_be_read_again(name):
    lm = chat_lm("llama")
    episode = chat_episode(lm, name)
    noted = [episode.describe()[key] for key in ("template", "opening", "stop")]
    assert noted[0] == name and template_for(lm, *noted) == episode.template
    meta = extract(lm, episode, "select", 4).prefix.meta
    assert [meta[key] for key in ("template", "opening", "stop")] == noted


@pytest.mark.parametrize("name", CHATS)
def test_inputs_are_made_up_in_a_user_turn(name):
    lm = chat_lm("llama")
    demos = [Demonstration(f"{number} once upon a time there was a tall king", "sea") for number in range(3)]
    template = template_for(lm, name)
    made = generated_inputs(lm, tokenize_demos(lm, demos, template), template, set(), count=6, seed=0)
    assert len(set(made)) == 6
    assert not any("<eos>" in text or "\n" in text for text in made)


@pytest.mark.parametrize("name", CHATS)
def test_near_format_texts_look_like_turns(name):
    lm = chat_lm("llama")
    texts = [text.text for text in chat_episode(lm, name).off_set("stress", 64).texts if text.bucket == "near_format"]
    assert any({"chat": "<bos>user\n", "chat-one-turn": "Q: "}[name] in text for text in texts)


def refusal(lm: LanguageModel, demos: list[Demonstration] = DEMOS) -> str:
    with pytest.raises(DemoError) as caught:
        build_episode(lm, demos, OTHERS, template_for(lm, "chat"), task="t", seed=0, on_train=1, on_eval=1)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_tokenizer_without_a_chat_template_is_refused():
    assert refusal(tiny_lm("llama")) == (
        "the tokenizer of llama has no chat template; use an instruct model or a template of plain text"
    )


@pytest.mark.parametrize(
    ("chat_template", "message"),
    [
        ("{{ raise_exception('roles must be tools') }}", "cannot be used: roles must be tools"),
        ("{{ 1 / 0 }}", "cannot be used: division by zero"),
        ("{% for", "cannot be used: "),
        ("hello", "does not write every turn alike"),
        ("{{ messages[-1]['content'] }}", "does not write every turn alike"),
        ("{% for message in messages %}<bos>{{ loop.index }} {{ message['content'] }}<eos>{% endfor %}", "every turn"),
        (CHATML.replace("'<bos>' + message['role']", "loop.index0 ~ message['role']"), "every turn"),
        (CHATML.replace("message['content']", "message['content'] | upper"), "does not write every turn alike"),
        (CHATML.replace("message['content']", "message['content'] | replace('walk', 'run')"), "changes what is said"),
        ("{% for message in messages %}{{ message['content'] + '\n\n' }}{% endfor %}", "merges text across"),
    ],
)
def test_a_chat_template_that_cannot_be_followed_is_refused(chat_template, message):
    assert message in refusal(chat_lm("llama", chat_template))


def test_what_the_chat_template_trims_is_named():
    trimming = chat_lm("llama", CHATML.replace("message['content']", "message['content'] | trim"))
    assert "changes what is said (' lift')" in refusal(trimming, [replace(DEMOS[0], input=" lift"), *DEMOS[1:]])


def test_a_demonstration_cannot_end_its_own_turn():
    assert "demonstration 'walk' holds '<eos>', which ends a turn" in refusal(
        chat_lm("llama"), [DEMOS[0], Demonstration("walk", "walked<eos>")]
    )
