"""How a demonstration becomes text, and what each of its tokens is: input, output or delimiter."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from cedkv.episodes.relation.parse import Demonstration
from cedkv.errors import DemoError
from cedkv.lm import LanguageModel
from cedkv.state import DemoTokens

TEMPLATES = {
    "qa": "Q: {input}\nA: {output}\n\n",
    "arrow": "{input} -> {output}\n",
    "input_output": "Input: {input}\nOutput: {output}\n\n",
    "colon": "{input}: {output}\n",
}


# Templates that `chat.py` reads from the model's tokenizer.
CHATS = ("chat", "chat-one-turn")


@dataclass(frozen=True)
class Template:
    """A demonstration's text, with `{input}` before `{output}`, and how queries and answers are cut from it.

    name : what reports and states note, and what gives the template again.
    lead : text in front of the first demonstration, and of a query alone: the system turn of a chat.
    prompt : what follows a query's input, up to where the answer starts. Spaces there belong to the answer's token.
    gap : those spaces.
    input_end : what ends an input that the model makes up.
    endings : what may end an answer, the shortest first.
    opening : white space that ends every query because the tokenizer splits it off the answer.
    stop : what ends an answer; given, or the first of the endings, a newline in most templates.
    """

    text: str
    name: str
    lead: str
    prompt: str
    gap: str
    input_end: str
    endings: tuple[str, ...]
    opening: str = ""
    stop: str = ""

    def __post_init__(self) -> None:
        if not self.stop:
            object.__setattr__(self, "stop", self.endings[0])

    @property
    def digest(self) -> str:
        """Tells apart templates of one name: chats whose text the model's folder has, and may have otherwise later."""
        return hashlib.sha256(json.dumps([self.text, self.lead, self.prompt]).encode()).hexdigest()[:16]

    @property
    def parts(self) -> tuple[str, str, str]:
        """The delimiters before the input, between input and output, and after the output."""
        before, rest = self.text.split("{input}")
        between, after = rest.split("{output}")
        return before, between, after

    def demo_pieces(self, demo: Demonstration) -> list[tuple[str, str]]:
        """The demonstration's text as (role, piece) in order; the pieces joined are the text."""
        before, between, after = self.parts
        return [
            ("delimiter", before),
            ("input", demo.input),
            ("delimiter", between),
            ("output", demo.output),
            ("delimiter", after),
        ]

    def query(self, text: str) -> str:
        """What asks for an answer, behind the demonstrations or behind the lead alone.

        Spaces in front of the answer that the tokenizer makes a token of their own, the `opening`, end the query: what
        is judged first is the answer.
        """
        return self.parts[0] + text + self.prompt + self.opening

    def answer(self, output: str) -> str:
        """The text that should follow `query`, up to where an answer ends."""
        return self.gap.removeprefix(self.opening) + (self.cut(output) or output)

    def cut(self, text: str) -> str:
        """A given or generated answer up to what ends it."""
        return text.split(self.stop)[0]

    def fitted(self, lm: LanguageModel, demos: Sequence[Demonstration]) -> "Template":
        """The template with the opening and the stop that the outputs of these demonstrations need.

        The opening is what the tokenizer splits off every one of them; where it does so for some only, nothing is
        moved, and the query is the beginning of any demonstration. The stop is the shortest ending that stands in none
        of them.
        """
        fits = [end for end in self.endings if not any(end in demo.output for demo in demos)]
        plain = replace(self, opening="", stop=(*fits, self.endings[-1])[0])
        split_off = [_split_off(lm, plain.query(demo.input), plain.answer(demo.output)) for demo in demos]
        return replace(plain, opening=os.path.commonprefix(split_off))


def get_template(name: str, opening: str = "", stop: str = "") -> Template:
    """A template by name, or a custom one given as its text; `opening` and `stop` as a state or report noted them.

    Those that a tokenizer brings, `CHATS`, come from `template_for`.

    Raises
    ------
    DemoError
        The name is unknown, or the text lacks `{input}` or `{output}` or has them in the wrong order.
    """
    text = TEMPLATES.get(name, name)
    if text.count("{input}") != 1 or text.count("{output}") != 1 or text.index("{input}") > text.index("{output}"):
        raise DemoError(
            f"template {name!r} is neither a name ({', '.join((*TEMPLATES, *CHATS))}) nor a text with {{input}} before "
            "{output}"
        )
    before, rest = text.split("{input}")
    between, after = rest.split("{output}")
    if not between:
        raise DemoError(f"template {name!r} has nothing between {{input}} and {{output}}; put a delimiter there")
    return Template(
        text=text,
        name=text,
        lead="",
        prompt=between.rstrip(" "),
        gap=trailing_spaces(between),
        # The delimiter between input and output, as far as it ends the input: its first line or word.
        input_end=(between.strip(" ") or between)[0],
        endings=_endings(before, after.strip(" ")),
        opening=opening,
        stop=stop,
    )


def _endings(before: str, after: str) -> tuple[str, ...]:
    """What may end an answer: the first character after the output, all of them, those up to the next input."""
    return (after[0], after, (after + before).strip(" ")) if after else ("\n",)


def trailing_spaces(text: str) -> str:
    """The spaces at the end of a text."""
    return text[len(text.rstrip(" ")) :]


def tokenize_demos(lm: LanguageModel, demos: list[Demonstration], template: Template) -> DemoTokens:
    """Tokenise the demonstration block once, the lead and each demonstration by itself, and give every token its role.

    A token that the tokenizer merged across a boundary takes the role `output` if it holds any character of the
    output, else `input` if it holds any of the input: what could copy an answer is never called a delimiter.
    Spaces in front of a word do not count as characters of either. What leads is delimiters of no demonstration.
    """
    ids = [*lm.bos, *lm.encode(template.lead)]
    roles, owners = ["delimiter"] * len(ids), [-1] * len(ids)
    for index, demo in enumerate(demos):
        pieces = template.demo_pieces(demo)
        encoded = lm.tokenizer(
            "".join(piece for _, piece in pieces), add_special_tokens=False, return_offsets_mapping=True
        )
        character_roles = [role for role, piece in pieces for _ in piece]
        ids += encoded["input_ids"]
        roles += [_role(character_roles[start:end]) for start, end in encoded["offset_mapping"]]
        owners += [index] * len(encoded["input_ids"])
    return DemoTokens(tuple(ids), tuple(lm.decode([i]) for i in ids), tuple(roles), tuple(owners))


def demos_in(lm: LanguageModel, tokens: DemoTokens, template: Template) -> list[Demonstration] | None:
    """The demonstrations that tokens were made of; None where the template does not give the same tokens again."""
    before, between, after = template.parts
    demos = []
    for start, end in tokens.demo_spans():
        text = lm.decode(tokens.ids[start:end]).removeprefix(before).removesuffix(after)
        given, _, answer = text.partition(between)
        demos.append(Demonstration(given, answer))
    return demos if demos and tokenize_demos(lm, demos, template) == tokens else None


def answer_tokens(lm: LanguageModel, question: str, answer: str) -> list[int]:
    """The tokens with which an answer continues a question.

    A tokenizer that merges across the boundary gives no clean split; then the answer is tokenised by itself.
    """
    asked, whole = lm.encode(question), lm.encode(question + answer)
    return whole[len(asked) :] if whole[: len(asked)] == asked else lm.encode(answer)


def leading_blanks(lm: LanguageModel, ids: Sequence[int]) -> int:
    """How many tokens at the beginning are white space and nothing else."""
    return next((place for place, token in enumerate(ids) if lm.decode([token]).strip()), 0)


def _split_off(lm: LanguageModel, question: str, answer: str) -> str:
    """The white space at the beginning of an answer that the tokenizer makes tokens of their own."""
    ids = answer_tokens(lm, question, answer)
    blanks = ids[: leading_blanks(lm, ids)]
    space = answer[: len(answer) - len(answer.lstrip())]
    ends = (space[:end] for end in range(len(space), 0, -1))
    return next((end for end in ends if answer_tokens(lm, question, end) == blanks), "")


def _role(characters: list[str]) -> str:
    return next((role for role in ("output", "input") if role in characters), "delimiter")
