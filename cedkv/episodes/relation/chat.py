"""Templates that the model's tokenizer brings: demonstrations as a conversation, in turns or all in one user turn."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cedkv.episodes.relation.parse import Demonstration
from cedkv.episodes.relation.template import CHATS, Template, get_template, tokenize_demos, trailing_spaces
from cedkv.errors import DemoError
from cedkv.lm import LanguageModel

# What stands for the texts of a conversation while its delimiters are read.
_MARKS = [f"mark{number}of5" for number in range(5)]
# How the demonstrations inside one user turn are written: `qa` without its blank line, of which tokenizers make one
# token where a text ends and two where it goes on.
_INSIDE = get_template("Q: {input}\nA: {output}\n")


@dataclass(frozen=True)
class _Turns:
    """The texts around what is said.

    lead : in front of the first user turn. before, between, after : around a user's and the assistant's turn.
    prompt : from a user's words to where the assistant starts.
    """

    lead: str
    before: str
    between: str
    after: str
    prompt: str


def template_for(lm: LanguageModel, name: str, opening: str = "", stop: str = "") -> Template:
    """A template by name or text for a model: one of `CHATS`, or what `get_template` gives.

    Raises
    ------
    DemoError
        The template is unknown, or a chat is asked of a model without a chat template that can be used.
    """
    if name not in CHATS:
        return get_template(name, opening, stop)
    turns = _read_turns(lm)
    end, gap = turns.after.strip() or turns.before.strip() or "\n", trailing_spaces(turns.between)
    if name == "chat":
        text = f"{turns.before}{{input}}{turns.between}{{output}}{turns.after}"
        lead, prompt, input_end = turns.lead, turns.prompt, turns.between.strip()
    else:
        text, input_end = _INSIDE.text, _INSIDE.input_end
        lead, prompt = turns.lead + turns.before, _INSIDE.prompt + turns.prompt
    return Template(text, name, lead, prompt.rstrip(" "), gap, input_end, (end,), opening, stop)


def noted_template(lm: LanguageModel, noted: Mapping[str, Any]) -> Template:
    """The template that a state or a report notes, as its queries were cut from it.

    Raises
    ------
    DemoError
        As `template_for`, or the template writes other text by now than its noted digest tells.
    """
    name, opening, stop = (str(noted.get(key) or "") for key in ("template", "opening", "stop"))
    template = template_for(lm, name, opening, stop)
    if noted.get("template_digest", template.digest) != template.digest:  # older ones note none
        raise DemoError(
            f"template {name!r} of {lm.id} writes other text than when this was made; put the model's former chat "
            "template back, or extract again"
        )
    return template


def check_conversation(lm: LanguageModel, template: Template, demos: Sequence[Demonstration]) -> None:
    """See that lead, demonstrations and query, each tokenised by itself, are the conversation token for token.

    Raises
    ------
    DemoError
        A demonstration holds a turn's end, the chat template changes what is said, or tokens reach across turns.
    """
    if template.name not in CHATS:
        return
    end = template.endings[0]
    if broken := [demo for demo in demos if end in demo.input + demo.output]:
        raise DemoError(f"demonstration {broken[0].input!r} holds {end!r}, which ends a turn; take it out")
    asked = demos[-1].input
    whole = lm.converse(_said(template, demos, asked), ask=True).rstrip(" ")
    blocks = ["".join(piece for _, piece in template.demo_pieces(demo)) for demo in demos]
    if whole != template.lead + "".join(blocks) + template.query(asked).rstrip(" "):
        changed = [text for demo in demos for text in (demo.input, demo.output) if text not in whole]
        raise DemoError(
            f"the chat template of {lm.id} changes what is said"
            f"{f' ({changed[0]!r:.60})' if changed else ''}; use a template of plain text"
        )
    block = tokenize_demos(lm, list(demos), template).ids
    if [*lm.bos, *lm.encode(whole)] != [*block, *lm.encode(template.query(asked).rstrip(" "))]:
        raise DemoError(
            f"the tokenizer of {lm.id} merges text across the turns of its chat template; use a template of plain text"
        )


def _said(template: Template, demos: Sequence[Demonstration], asked: str) -> list[str]:
    """What user and assistant say in turn."""
    if template.name == "chat":
        return [*(text for demo in demos for text in (demo.input, demo.output)), asked]
    shown = ["".join(piece for _, piece in _INSIDE.demo_pieces(demo)) for demo in demos]
    return ["".join(shown) + _INSIDE.query(asked)]


def _read_turns(lm: LanguageModel) -> _Turns:
    """The delimiters of a conversation, told from one of two answered questions and a third.

    Where an answered turn ends and the next begins is where a conversation that ends there goes another way.
    """
    opened, between, joint, again, rejoint, prompt = _around(lm, _MARKS, ask=True)
    ended = _around(lm, _MARKS[:2], ask=False)[-1]
    shared = os.path.commonprefix([lm.encode(ended), lm.encode(joint)])
    after = lm.decode(list(shared))
    before = joint.removeprefix(after)
    if (between, joint) != (again, rejoint) or not opened.endswith(before):
        raise _irregular(lm)
    return _Turns(opened.removesuffix(before), before, between, after, prompt)


def _around(lm: LanguageModel, said: Sequence[str], ask: bool) -> list[str]:
    """The pieces of a conversation around each of the texts that are said."""
    pieces = re.split("|".join(said), lm.converse(said, ask))
    if len(pieces) != len(said) + 1:
        raise _irregular(lm)
    return pieces


def _irregular(lm: LanguageModel) -> DemoError:
    return DemoError(
        f"the chat template of {lm.id} does not write every turn alike, so that demonstrations cannot be told apart; "
        "use a template of plain text"
    )
