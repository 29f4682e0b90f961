"""Why this answer: for every token how much it attends to each slot, and what changes where the slot is missing.

Attention is a hint, the ablation is the proof: a slot that much attention goes to may change nothing, and one with
little may carry the answer.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from cedkv.lm import LanguageModel, iter_log_probs, log_probs, reading_of, record_tail
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


@torch.no_grad()
def why_answer(lm: LanguageModel, query: Sequence[int], answer: Sequence[int], prefix: KVPrefix) -> Why:
    """Each slot's part in an answer: log p of its tokens with the state, and with each slot switched off.

    query, answer : token ids; the answer has one at least.
    """
    said = torch.tensor(answer, device=lm.device)
    return _why(
        lm, "answer", [*query, *answer[:-1]], answer, prefix,
        lambda rows: rows.gather(-1, said.expand(len(rows), -1)[..., None])[..., 0],
    )  # fmt: skip


@torch.no_grad()
def why_text(lm: LanguageModel, text: Sequence[int], prefix: KVPrefix) -> Why:
    """Each slot's part in what the state does to a text: `Delta = KL(student || base)` behind every token."""
    shown = text[:_MOST_TOKENS]
    base = log_probs(lm, [shown], None, [len(shown)])
    cut = len(text) if len(shown) < len(text) else 0
    return _why(lm, "text", shown, shown, prefix, lambda rows: kl(rows, base.expand_as(rows)), cut)


def _why(
    lm: LanguageModel,
    kind: str,
    text: Sequence[int],
    told: Sequence[int],
    prefix: KVPrefix,
    measure: Callable[[Float[Tensor, "views tokens vocab"]], Float[Tensor, "views tokens"]],
    cut: int = 0,
) -> Why:
    """`told` are the tokens that the last positions of the text say something about.

    The state and all its ablations share one pack as long as they fit into one, and the attention is seen in it.
    """
    views, reads = [prefix, *(prefix.without([slot]) for slot in range(prefix.slots))], len(told)
    recorder = record_tail(lm, text, prefix, reads)
    packs = iter_log_probs(lm, [text] * len(views), views, [reads] * len(views), recorder)
    values = torch.cat([measure(rows.view(-1, reads, rows.shape[-1])) for _, rows in packs])
    attention = reading_of(lm, [recorder], prefix.query_start).to_slots()
    return Why(
        kind,
        tuple(lm.decode([token]) for token in told),
        values[0].tolist(),
        values[1:].tolist(),
        attention.permute(2, 3, 0, 1).tolist(),
        slot_map(prefix) if prefix.mixture else None,
        cut,
    )
