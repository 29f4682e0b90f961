"""How a demonstration becomes text, and what each of its tokens is: input, output or delimiter."""

from dataclasses import dataclass

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


@dataclass(frozen=True)
class Template:
    """A demonstration's text, with `{input}` before `{output}`."""

    text: str

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
        """The demonstration's text up to where the answer starts. Spaces there belong to the answer's token."""
        before, between, _ = self.parts
        return before + text + between.rstrip(" ")

    def answer(self, output: str) -> str:
        """The text that should follow `query`."""
        between = self.parts[1]
        return between[len(between.rstrip(" ")) :] + output

    @property
    def stop(self) -> str:
        """What ends a generated answer: the first character after the output, a newline in most templates."""
        return (self.parts[2].strip(" ") or "\n")[0]


def get_template(name: str) -> Template:
    """A template by name, or a custom one given as its text.

    Raises
    ------
    DemoError
        The name is unknown, or the text lacks `{input}` or `{output}` or has them in the wrong order.
    """
    text = TEMPLATES.get(name, name)
    if text.count("{input}") != 1 or text.count("{output}") != 1 or text.index("{input}") > text.index("{output}"):
        raise DemoError(
            f"template {name!r} is neither a name ({', '.join(TEMPLATES)}) nor a text with {{input}} before {{output}}"
        )
    if not text.split("{input}")[1].split("{output}")[0]:
        raise DemoError(f"template {name!r} has nothing between {{input}} and {{output}}; put a delimiter there")
    return Template(text)


def tokenize_demos(lm: LanguageModel, demos: list[Demonstration], template: Template) -> DemoTokens:
    """Tokenise the demonstration block once, each demonstration by itself, and give every token its role.

    A token that the tokenizer merged across a boundary takes the role `output` if it holds any character of the
    output, else `input` if it holds any of the input: what could copy an answer is never called a delimiter.
    Spaces in front of a word do not count as characters of either.
    """
    ids, roles, owners = list(lm.bos), ["delimiter"] * len(lm.bos), [-1] * len(lm.bos)
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


def _role(characters: list[str]) -> str:
    return next((role for role in ("output", "input") if role in characters), "delimiter")
