"""Real text at every position: how far each next-token distribution moves, and how much worse the text is told.

A text's first tokens are told badly by a model that has nothing in front of them, and anything in front changes that;
so figures are those of the positions after the eighth token, and those of all positions stand beside them.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cedkv.episodes.off import real_texts
from cedkv.events import Progress
from cedkv.harm.beside import Asked, Views, beside_base, require_finite
from cedkv.metrics import kl, tail_stats
from cedkv.report import OffScores, Tail

# Tokens after which a text speaks for itself.
SETTLED = 8


@dataclass(frozen=True)
class Told:
    """What one prefix does at each position of several texts, one after another.

    delta : `KL(student || base)` of the next token, nats.
    worse : by how many nats more the token that really follows surprises the student.
    read : tokens of the text that were read before.
    text : which text.
    """

    delta: Float[Tensor, " positions"]
    worse: Float[Tensor, " positions"]
    read: Int[Tensor, " positions"]
    text: Int[Tensor, " positions"]

    def figures(self, chosen: Bool[Tensor, " positions"]) -> Tail:
        """Statistics of some positions; `perplexity_ratio` is the student's perplexity over the base's."""
        ratio = self.worse[chosen].mean().exp().item()
        return {**tail_stats(self.delta[chosen]).as_delta(), "perplexity_ratio": ratio}


def real_text(asked: Asked, views: Views) -> Generator[Progress, None, dict[str, OffScores]]:
    """The figures of `Told` after the eighth token, with those of `all_positions` and of each kind of text."""
    pieces = real_texts("judged", asked.settings.real_pieces)
    ids = [asked.lm.encode(piece.text)[: asked.settings.real_tokens + 1] for piece in pieces]
    told = yield from every_position(asked, ids, views)
    return {name: _figures(view, [piece.kind for piece in pieces]) for name, view in told.items()}


def every_position(
    asked: Asked, texts: Sequence[Sequence[int]], views: Views
) -> Generator[Progress, None, dict[str, Told]]:
    """Read whole texts. The first token is given, each other one is told from those before it."""
    queries, reads = [text[:-1] for text in texts], [len(text) - 1 for text in texts]
    found: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in views}
    for part, base, behind in beside_base(asked.lm, queries, views, reads):
        following = torch.tensor([token for text in texts[part] for token in text[1:]], device=base.device)[:, None]
        for name, student in behind.items():
            delta = kl(student, base)
            require_finite(delta, "real text")
            worse = (base - student).gather(1, following)[:, 0]
            found[name].append((delta.cpu(), worse.cpu()))
        yield Progress("reading real text", part.stop, len(texts))
    read = torch.cat([torch.arange(1, count + 1) for count in reads])
    text = torch.repeat_interleave(torch.arange(len(reads)), torch.tensor(reads))
    return {
        name: Told(torch.cat([delta for delta, _ in rows]), torch.cat([worse for _, worse in rows]), read, text)
        for name, rows in found.items()
    }


def _figures(told: Told, kinds: Sequence[str]) -> OffScores:
    settled, every = told.read > SETTLED, torch.ones_like(told.read, dtype=torch.bool)
    of_kind = {kind: torch.tensor([each == kind for each in kinds])[told.text] for kind in dict.fromkeys(kinds)}
    return {
        **told.figures(settled),
        "all_positions": told.figures(every),
        "buckets": {kind: told.figures(settled & chosen) for kind, chosen in of_kind.items()},
    }
