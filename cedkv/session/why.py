"""Why this answer: for every token how much it attends to each slot, and what changes where the slot is missing.

Attention is a hint, the ablation is the proof: a slot that much attention goes to may change nothing, and one with
little may carry the answer.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from cedkv.lm import LanguageModel, iter_log_probs, log_probs, read_attention
from cedkv.metrics import kl
from cedkv.session.slots import slot_map
from cedkv.session.views import Comparison, Why
from cedkv.state import KVPrefix

# A text's positions are all read behind every ablation, which for longer ones takes seconds.
_MOST_TOKENS = 128


def why_compared(lm: LanguageModel, comparison: Comparison, prefix: KVPrefix, student: str, plain: bool) -> Why | None:
    """The student's column of a finished comparison explained; None where it said nothing."""
    query = lm.encode(comparison.query)
    if plain:
        return why_text(lm, query, prefix)
    said = comparison.view(student).said
    return why_answer(lm, query, said, prefix) if said else None


def why_answer(lm: LanguageModel, query: Sequence[int], answer: Sequence[int], prefix: KVPrefix) -> Why:
    """Each slot's part in an answer: log p of its tokens with the state, and with each slot switched off.

    The state and all its ablations share one pack as long as they fit into one.

    query, answer : token ids; the answer has one at least.
    """
    text, reads = [*query, *answer[:-1]], len(answer)
    views = _with_ablations(prefix)
    rows = log_probs(lm, [text] * len(views), views, [reads] * len(views)).view(len(views), reads, -1)
    said = torch.tensor(answer, device=rows.device)
    values = rows.gather(-1, said.expand(len(views), -1)[..., None])[..., 0]
    return _why(lm, "answer", text, answer, prefix, values)


@torch.no_grad()
def why_text(lm: LanguageModel, text: Sequence[int], prefix: KVPrefix) -> Why:
    """Each slot's part in what the state does to a text: `Delta = KL(student || base)` behind every token."""
    shown = text[:_MOST_TOKENS]
    base = log_probs(lm, [shown], None, [len(shown)])
    views = _with_ablations(prefix)
    packs = iter_log_probs(lm, [shown] * len(views), views, [len(shown)] * len(views))
    values = [kl(rows, base.repeat(len(views[part]), 1)).view(-1, len(shown)) for part, rows in packs]
    return _why(lm, "text", shown, shown, prefix, torch.cat(values), cut=len(text) if len(shown) < len(text) else 0)


def _with_ablations(prefix: KVPrefix) -> list[KVPrefix]:
    """The state, then the state without each of its slots."""
    return [prefix, *(prefix.without([slot]) for slot in range(prefix.slots))]


def _why(
    lm: LanguageModel,
    kind: str,
    text: Sequence[int],
    told: Sequence[int],
    prefix: KVPrefix,
    values: Float[Tensor, "views tokens"],
    cut: int = 0,
) -> Why:
    """`told` are the tokens that the last positions of the text say something about."""
    attention = read_attention(lm, [text], prefix, tail=len(told)).to_slots()
    return Why(
        kind,
        tuple(lm.decode([token]) for token in told),
        values[0].tolist(),
        values[1:].tolist(),
        attention.permute(2, 3, 0, 1).tolist(),
        slot_map(prefix) if prefix.mixture else None,
        cut,
    )
