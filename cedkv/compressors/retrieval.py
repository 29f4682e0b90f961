"""Retrieval: the passages of a document that are nearest to a question, and a prefix of each question's own.

What people do today instead of compressing. Passages are found by meaning (a sentence model and an exact index), put
in front of the question in the document's order, and read by the frozen model.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from cedkv.compressors.gist.reading import document_tokens
from cedkv.episodes.documents import Passage, split_passages
from cedkv.extras import extra
from cedkv.lm import LanguageModel, read_demo_kv
from cedkv.state import KVPrefix

TOP_K = 3
PASSAGE_TOKENS, OVERLAP = 64, 16
Embed = Callable[[Sequence[str]], Float[Tensor, "texts dims"]]


@dataclass(frozen=True)
class PassageIndex:
    """Passages and a faiss index of their embeddings: inner products of unit vectors, searched exactly."""

    passages: list[Passage]
    embed: Embed
    index: Any

    def nearest(self, question: str, count: int = TOP_K) -> list[tuple[Passage, float]]:
        """The passages nearest to a question and their cosines, the nearest first."""
        scores, found = self.index.search(_rows(self.embed, [question]), min(count, len(self.passages)))
        return [(self.passages[place], float(score)) for place, score in zip(found[0], scores[0], strict=True)]

    def prompt(self, question: str, count: int = TOP_K) -> str:
        """The nearest passages in the document's order, a blank line between two of them."""
        chosen = {(passage.source, passage.start): passage for passage, _ in self.nearest(question, count)}
        return "\n\n".join(chosen[place].text.strip() for place in sorted(chosen))


def index_passages(passages: Sequence[Passage], embed: Embed) -> PassageIndex:
    """Embed passages and put them into an index.

    Raises
    ------
    ConfigError
        faiss is not installed.
    """
    faiss = extra("faiss", "rag")
    rows = _rows(embed, [passage.text for passage in passages])
    index = faiss.IndexFlatIP(rows.shape[1])
    index.add(rows)
    return PassageIndex(list(passages), embed, index)


def index_document(
    lm: LanguageModel, text: str, embed: Embed, tokens: int = PASSAGE_TOKENS, overlap: int = OVERLAP, source: str = ""
) -> PassageIndex:
    """The passages of one document; raises what `split_passages` and `index_passages` raise."""
    return index_passages(split_passages(text, lm.encode, tokens, overlap, source), embed)


def retrieved_view(
    lm: LanguageModel, index: PassageIndex, questions: Sequence[str], count: int = TOP_K
) -> list[KVPrefix]:
    """A prefix for every question: its own passages as the frozen model reads them (a `View`)."""
    prompts = [index.prompt(question, count) for question in questions]
    return [read_demo_kv(lm, document_tokens(lm, prompt)).as_prefix() for prompt in prompts]


def _rows(embed: Embed, texts: Sequence[str]) -> np.ndarray:
    return np.ascontiguousarray(embed(texts).cpu().numpy(), dtype=np.float32)
