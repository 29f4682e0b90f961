"""Templates: a demonstration's text, its queries and answers, and what each of its tokens is."""

import pytest

from cedkv.episodes import TEMPLATES, Demonstration, demos_in, get_template, make_query, tokenize_demos
from cedkv.errors import DemoError
from tests.tiny import ARCHITECTURES, PAIRS, tiny_lm

DEMOS = [Demonstration(*pair) for pair in PAIRS[:3]]
MANY = [*TEMPLATES, "{input}=>{output}\n", "<{input}>  becomes  <{output}>; ", "{input}\t{output}\n"]


def rolled(architecture: str, template: str, source: str, target: str) -> list[tuple[str, str]]:
    """Token texts and roles of one demonstration."""
    tokens = tokenize_demos(tiny_lm(architecture), [Demonstration(source, target)], get_template(template))
    return list(zip(tokens.texts, tokens.roles, strict=True))


@pytest.mark.parametrize(
    ("name", "query", "answer", "stop"),
    [
        ("qa", "Q: lift\nA:", " lifted", "\n"),
        ("arrow", "lift ->", " lifted", "\n"),
        ("input_output", "Input: lift\nOutput:", " lifted", "\n"),
        ("colon", "lift:", " lifted", "\n"),
        ("{input}=>{output};", "lift=>", "lifted", ";"),
        ("say {input}\t{output} |", "say lift\t", "lifted", "|"),
        ("{input}   {output}", "lift", "   lifted", "\n"),
    ],
)
def test_query_and_answer_make_up_the_demonstration(name, query, answer, stop):
    """A space in front of the answer belongs to the answer's first token, not to the query's end."""
    template = get_template(name)
    assert (template.query("lift"), template.answer("lifted"), template.stop) == (query, answer, stop)
    text = "".join(piece for _, piece in template.demo_pieces(Demonstration("lift", "lifted")))
    assert text.startswith(query + answer)


@pytest.mark.parametrize(
    "name",
    ["q", "", "{input}", "{output}", "{output} {input}", "{input} {input} {output}", "{input} {output} {output}"],
)
def test_text_that_is_no_template_is_refused(name):
    with pytest.raises(DemoError, match="is neither a name") as caught:
        get_template(name)
    assert repr(name) in str(caught.value)
    assert "(qa, arrow, input_output, colon, chat, chat-one-turn)" in str(caught.value)


def test_input_and_output_need_a_delimiter_between():
    with pytest.raises(DemoError, match="has nothing between {input} and {output}"):
        get_template("{input}{output}\n")


def test_roles_of_the_default_template():
    assert rolled("llama", "qa", "lift", "lifted") == [
        ("Q", "delimiter"),
        (":", "delimiter"),
        (" lift", "input"),
        ("\n", "delimiter"),
        ("A", "delimiter"),
        (":", "delimiter"),
        (" lifted", "output"),
        ("\n\n", "delimiter"),
    ]


def test_a_token_merged_from_delimiter_and_output_is_output():
    """What could copy an answer is never called a delimiter."""
    assert rolled("llama", "{input}=>{output}\n", "hey", "!") == [
        ("hey", "input"),
        ("=>!", "output"),
        ("\n", "delimiter"),
    ]
    assert rolled("llama", "{input}, un{output}\n", "lock", "lock")[2] == (" unlock", "output")
    assert rolled("llama", "Q: {input}e{output}\n", "walk", "d")[2] == (" walked", "output"), "input and all"


def test_a_token_merged_from_delimiter_and_input_is_input():
    assert rolled("llama", "Q: {input}ed -> {output}\n", "walk", "x")[:4] == [
        ("Q", "delimiter"),
        (":", "delimiter"),
        (" walked", "input"),
        (" ->", "delimiter"),
    ]


def test_every_byte_of_a_split_character_has_the_characters_role():
    tokens = tokenize_demos(tiny_lm("llama"), [Demonstration("naïve", "日本")], get_template("arrow"))
    of_role = {
        role: tiny_lm("llama").decode([i for i, r in zip(tokens.ids, tokens.roles, strict=True) if r == role])
        for role in ("input", "output")
    }
    assert of_role["input"] == "naïve"
    assert of_role["output"].strip() == "日本"


@pytest.mark.parametrize("template", MANY)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_token_texts_joined_are_the_demonstrations(architecture, template):
    lm = tiny_lm(architecture)
    tokens = tokenize_demos(lm, DEMOS, get_template(template))
    demos = "".join(template_text(template, demo) for demo in DEMOS)
    assert "".join(tokens.texts[len(lm.bos) :]) == demos
    assert lm.decode(list(tokens.ids[len(lm.bos) :])) == demos


@pytest.mark.parametrize("template", MANY)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_demonstrations_can_be_told_from_their_tokens(architecture, template):
    lm, demos = tiny_lm(architecture), [*DEMOS, Demonstration("日本", "Q: é")]
    tokens = tokenize_demos(lm, demos, get_template(template))
    assert demos_in(lm, tokens, get_template(template)) == demos


def test_demonstrations_are_not_told_by_a_template_that_did_not_make_the_tokens():
    lm = tiny_lm("llama")
    tokens = tokenize_demos(lm, DEMOS, get_template("qa"))
    assert demos_in(lm, tokens, get_template("arrow")) is None
    assert demos_in(lm, tokens.take([]), get_template("qa")) is None


def template_text(template: str, demo: Demonstration) -> str:
    text = TEMPLATES.get(template, template)
    return text.replace("{input}", demo.input).replace("{output}", demo.output)


@pytest.mark.parametrize("template", MANY)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_roles_name_the_right_text(architecture, template):
    """Of each role, joined: inputs and outputs with no more than a space before them, delimiters without either."""
    lm = tiny_lm(architecture)
    tokens = tokenize_demos(lm, DEMOS, get_template(template))
    for index, (start, end) in enumerate(tokens.demo_spans()):
        joined = {
            role: "".join(tokens.texts[i] for i in range(start, end) if tokens.roles[i] == role)
            for role in ("input", "output")
        }
        assert joined["input"].strip("< >;=") == DEMOS[index].input
        assert joined["output"].strip("< >;=") == DEMOS[index].output


def test_a_bos_token_belongs_to_no_demonstration():
    lm = tiny_lm("gemma3_text")
    tokens = tokenize_demos(lm, DEMOS, get_template("qa"))
    assert tokens.ids[0] == lm.bos[0]
    assert (tokens.roles[0], tokens.demo[0], tokens.texts[0]) == ("delimiter", -1, "<bos>")
    assert tokens.ids.count(lm.bos[0]) == 1
    assert tokens.demo_spans()[0][0] == 1


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_demonstrations_are_numbered_in_order_without_gaps(architecture):
    lm = tiny_lm(architecture)
    tokens = tokenize_demos(lm, DEMOS, get_template("qa"))
    spans = tokens.demo_spans()
    assert spans[0][0] == len(lm.bos)
    assert spans[-1][1] == len(tokens)
    assert all(end == start for (_, end), (start, _) in zip(spans, spans[1:], strict=False))
    assert [tokens.demo[start] for start, _ in spans] == [0, 1, 2]


@pytest.mark.parametrize("template", MANY)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_answer_tokens_continue_the_query(architecture, template):
    lm, shape = tiny_lm(architecture), get_template(template)
    query = make_query(lm, shape, "rain", "rained")
    assert list(query.ids + query.answer_ids) == lm.encode(query.text + query.answer)
    assert lm.decode(list(query.answer_ids)) == shape.answer("rained")
    assert not set(query.ids) & set(lm.bos)


def test_an_answer_that_merges_into_the_query_is_tokenised_alone():
    lm = tiny_lm("llama")
    query = make_query(lm, get_template("{input}=>{output}\n"), "hey", "!")
    assert lm.encode("hey=>!")[: len(query.ids)] != list(query.ids), "the case must really merge"
    assert lm.decode(list(query.ids)) == "hey=>"
    assert query.answer_ids == tuple(lm.encode("!"))


def test_a_query_without_an_answer_has_none():
    query = make_query(tiny_lm("llama"), get_template("qa"), "rain")
    assert (query.input, query.text, query.answer, query.answer_ids) == ("rain", "Q: rain\nA:", "", ())


DIGITS = [Demonstration("seven", "7"), Demonstration("two", "2")]
WORDS = [Demonstration("lift", "lifted"), Demonstration("walk", "walked")]


def test_a_blank_that_the_tokenizer_splits_off_every_answer_ends_the_query():
    lm = tiny_lm("llama")
    assert [lm.decode([token]) for token in lm.encode("A: 7")] == ["A", ":", " ", "7"], "the case must really split"
    fitted = get_template("qa").fitted(lm, DIGITS)
    query = make_query(lm, fitted, "nine", "9")
    assert (fitted.opening, query.text, query.answer) == (" ", "Q: nine\nA: ", "9")
    assert (query.blanks, query.asked_ids) == (0, query.ids)
    assert [lm.decode([token]) for token in (*query.ids[-1:], query.first_id)] == [" ", "9"]


def test_answers_that_merge_with_their_blank_move_nothing():
    lm = tiny_lm("llama")
    fitted = get_template("qa").fitted(lm, WORDS)
    assert fitted == get_template("qa")
    query = make_query(lm, fitted, "jump", "jumped")
    assert (query.blanks, lm.decode(list(query.answer_ids))) == (0, " jumped")


def test_where_only_some_answers_split_the_blank_is_given_but_never_judged():
    """A word after a blank of its own would be no demonstration's beginning, so the query stays as it is."""
    lm = tiny_lm("llama")
    fitted = get_template("qa").fitted(lm, [*DIGITS, *WORDS])
    digit, word = make_query(lm, fitted, "nine", "9"), make_query(lm, fitted, "jump", "jumped")
    assert fitted.opening == "" and digit.text == "Q: nine\nA:"
    assert (digit.blanks, lm.decode([digit.first_id])) == (1, "9")
    assert digit.asked_ids == (*digit.ids, *lm.encode(" "))
    assert (word.blanks, word.first_id) == (0, word.answer_ids[0])


def test_several_spaces_leave_the_answer_the_one_it_merges_with():
    lm = tiny_lm("llama")
    template = get_template("{input} ->   {output}\n")
    query = make_query(lm, template.fitted(lm, WORDS), "jump", "jumped")
    assert query.blanks == 0 and lm.decode([query.first_id]).strip()
    assert query.text + query.answer == "jump ->   jumped"


@pytest.mark.parametrize(
    ("template", "outputs", "stop"),
    [
        ("qa", ["one"], "\n"),
        ("qa", ["one", "one\ntwo"], "\n\n"),
        ("qa", ["a\n\nb"], "\n\nQ:"),
        ("arrow", ["one\ntwo"], "\n"),
        ("<{input}> becomes <{output}>; ", ["a"], ">"),
        ("<{input}> becomes <{output}>; ", ["a>b"], ">;"),
    ],
)
def test_what_ends_an_answer_is_the_shortest_ending_that_no_demonstration_holds(template, outputs, stop):
    demos = [Demonstration(str(number), output) for number, output in enumerate(outputs)]
    assert get_template(template).fitted(tiny_lm("llama"), demos).stop == stop


def test_a_given_answer_ends_where_a_generated_one_does():
    lm = tiny_lm("llama")
    lines = get_template("qa").fitted(lm, [Demonstration("x", "a\nb")])
    assert make_query(lm, lines, "y", "c\nd").answer == " c\nd"
    assert make_query(lm, get_template("qa"), "y", "c\nd").answer == " c"
