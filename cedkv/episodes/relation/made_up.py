"""ON queries from nothing but demonstrations: the model itself makes up inputs of the same kind."""

from cedkv.episodes.relation.template import Template
from cedkv.lm import LanguageModel, generate, read_demo_kv
from cedkv.state import DemoTokens

_SAMPLES = 48
_ROUNDS = 6
_MAX_INPUT_TOKENS = 24
# An input may have so many tokens more than the longest that was demonstrated. Sampling waits for those, for what ends
# an input, and for some to spare, as the model need not write a text in the fewest tokens.
_LONGER, _SPARE = 3, 4


def generated_inputs(
    lm: LanguageModel, tokens: DemoTokens, template: Template, exclude: set[str], count: int, seed: int
) -> list[str]:
    """Sample inputs (temperature 1) by letting the model go on where the next demonstration would start.

    Inputs are distinct, never one of `exclude` (the demonstrations and the evaluation inputs), and may be fewer
    than `count` when the model keeps repeating itself. Tried in the project's first prototype (FACTS).
    """
    opening = lm.encode(template.parts[0].rstrip(" "))
    if opening:
        prefix = read_demo_kv(lm, tokens).as_prefix()
    else:  # the template starts with the input itself: go on from the block's last token
        opening = [tokens.ids[-1]]
        prefix = read_demo_kv(lm, tokens.take(range(len(tokens) - 1))).as_prefix()
    end = len(lm.encode(template.input_end))
    room = min(_MAX_INPUT_TOKENS, tokens.longest("input") + _LONGER + end + _SPARE)
    found: dict[str, None] = {}
    for round_ in range(_ROUNDS):
        texts = generate(
            lm,
            [opening] * _SAMPLES,
            prefix,
            max_new_tokens=room,
            temperature=1.0,
            seed=seed * _ROUNDS + round_,
            stop=template.input_end,
        )
        for text in (text.strip() for text in texts):
            if text and text not in exclude and _looks_like_an_input(text, tokens, lm):
                found.setdefault(text)
        if len(found) >= count:
            break
    return list(found)[:count]


def _looks_like_an_input(text: str, tokens: DemoTokens, lm: LanguageModel) -> bool:
    """No line break, and not much longer than the longest demonstrated input."""
    return "\n" not in text and len(lm.encode(" " + text)) <= tokens.longest("input") + _LONGER
