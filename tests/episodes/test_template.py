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
    assert "(qa, arrow, input_output, colon)" in str(caught.value)


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
