"""Neutral prefixes: what anything in front of a text costs, whatever it says."""

from collections.abc import Callable
from itertools import cycle, islice

from cedkv.episodes.off import ordinary_text
from cedkv.lm import LanguageModel, read_demo_kv
from cedkv.state import DemoTokens, KVPrefix

# The tokens of each, of a model and for so many tokens of demonstrations.
_TOKENS: dict[str, Callable[[LanguageModel, int], list[int]]] = {
    "neutral_token": lambda lm, tokens: lm.encode("\n")[-1:],
    "neutral_paragraph": lambda lm, tokens: list(
        islice(cycle(lm.encode(ordinary_text())), max(tokens - len(lm.bos), 1))
    ),
}
YARDSTICKS = tuple(_TOKENS)


def yardsticks(lm: LanguageModel, tokens: int) -> dict[str, KVPrefix]:
    """All of them by their names."""
    return {name: yardstick(name, lm, tokens) for name in YARDSTICKS}


def yardstick(name: str, lm: LanguageModel, tokens: int) -> KVPrefix:
    """One of `YARDSTICKS`: a line break, or an ordinary paragraph of so many tokens.

    In front of either stands what the tokenizer puts in front of every text, and nothing else. The paragraph counts
    with it, as a block of demonstrations does.
    """
    return plain_prefix(lm, _TOKENS[name](lm, tokens))


def plain_prefix(lm: LanguageModel, ids: list[int]) -> KVPrefix:
    """Any text as a prefix: its own cache, as if it stood in front."""
    ids = [*lm.bos, *ids]
    texts, roles = tuple(lm.decode([token]) for token in ids), ("delimiter",) * len(ids)
    return read_demo_kv(lm, DemoTokens(tuple(ids), texts, roles, (-1,) * len(ids))).as_prefix()
