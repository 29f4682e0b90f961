"""Neutral prefixes: what anything in front of a text costs, whatever it says."""

from itertools import cycle, islice

from cedkv.episodes.off import ordinary_text
from cedkv.lm import LanguageModel, read_demo_kv
from cedkv.state import DemoTokens, KVPrefix

YARDSTICKS = ("neutral_token", "neutral_paragraph")


def yardsticks(lm: LanguageModel, tokens: int) -> dict[str, KVPrefix]:
    """The prefixes by their names in `YARDSTICKS`: a line break, and an ordinary paragraph of so many tokens.

    In front of either stands what the tokenizer puts in front of every text, and nothing else. The paragraph counts
    with it, as a block of demonstrations does.
    """
    paragraph = islice(cycle(lm.encode(ordinary_text())), max(tokens - len(lm.bos), 1))
    texts = {"neutral_token": lm.encode("\n")[-1:], "neutral_paragraph": list(paragraph)}
    return {name: plain_prefix(lm, texts[name]) for name in YARDSTICKS}


def plain_prefix(lm: LanguageModel, ids: list[int]) -> KVPrefix:
    """Any text as a prefix: its own cache, as if it stood in front."""
    ids = [*lm.bos, *ids]
    texts, roles = tuple(lm.decode([token]) for token in ids), ("delimiter",) * len(ids)
    return read_demo_kv(lm, DemoTokens(tuple(ids), texts, roles, (-1,) * len(ids))).as_prefix()
